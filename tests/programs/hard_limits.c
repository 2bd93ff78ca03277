/* hard_limits.c: programs to which the kernel gives little. Each prints the same whether it is traced or not.

   hard_limits memory    no more address space: what has no room in the tables is lost, and counted
   hard_limits closed    no file descriptors
   hard_limits calls     system calls forbidden, but those that the library needs; with own_heap.c preloaded
   hard_limits tables    whether the tables lie where the program might free or unmap them by mistake
   hard_limits secure    whether the environment counts in a setuid program */

#define _GNU_SOURCE
#include "layout.h"
#include "traced.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern const struct tm_layout tm_layout __attribute__((weak));

static uint64_t lost_now(void)
{
    return &tm_layout ? __atomic_load_n(&tm_layout.state->lost, __ATOMIC_RELAXED) : 0;
}

static size_t address_space(void)
{
    size_t pages = 0;
    FILE *stream = fopen("/proc/self/statm", "r");
    if (!stream || fscanf(stream, "%zu", &pages) != 1)
        abort();
    fclose(stream);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

#define BLOCKS 200000

static void *blocks[BLOCKS];

/* Many call paths, so that sites find no room either. */
static __attribute__((noinline)) void *allocate_by(unsigned path, size_t size)
{
    void *result = path == 0 ? malloc(size) : path % 2 ? allocate_by(path / 2, size) : allocate_by(path / 2, size);
    __asm__ volatile("" ::: "memory");
    return result;
}

static void memory(void)
{
    size_t size = 24;
    int failed = 0;
    puts("memory"); /* stdout's buffer is there from now on */
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    void *volatile room = malloc(16 << 20);
    free(room);
    size_t space = address_space() + (100 << 10);
    struct rlimit limit = {space, space};
    size_t before = traced_now();
    uint64_t lost_before = lost_now();
    setrlimit(RLIMIT_AS, &limit);
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = allocate_by(i / 16, size);
        failed += blocks[i] == NULL;
    }
    printf("%d failed\n", failed);
    size_t known = 0;
    for (int i = 0; i < BLOCKS; i++)
        known += frames_of(blocks[i]) > 0;
    uint64_t lost = lost_now() - lost_before;
    if (is_traced() && (known + lost != BLOCKS || lost == 0 || traced_now() - before != known * size))
        printf("%zu known and %zu lost of %d, %zu bytes\n", known, (size_t)lost, BLOCKS, traced_now() - before);
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    if (traced_now() != before)
        printf("%zd bytes are left\n", (ssize_t)(traced_now() - before));
}

static int closed(void)
{
    int out = fcntl(STDOUT_FILENO, F_DUPFD, 200);
    for (int fd = 0; fd < 200; fd++)
        close(fd);
    for (size_t i = 0; i < 10000; i++)
        free(malloc(i));
    for (int fd = 0; fd < 3; fd++)
        if (open("/dev/null", O_RDWR) != fd)
            return 1;
    return write(out, "closed\n", 7) != 7;
}

#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* The library's own are mmap and futex; the others are this program's. */
static void forbid(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_mmap),
        ALLOW(SYS_futex),
        ALLOW(SYS_write),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) {
        puts("no filter can be set here");
        fflush(stdout);
        _exit(77);
    }
}

static int threads_started, may_go, threads_done; /* atomic, futexes */

static void wait_for(int *count, int most)
{
    for (int seen; (seen = __atomic_load_n(count, __ATOMIC_SEQ_CST)) < most;)
        syscall(SYS_futex, count, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void add_to(int *count)
{
    __atomic_fetch_add(count, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, count, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0);
}

/* They meet on the same pages; more threads than have a lane of their own. */
static void *allocate_much(void *number)
{
    void *held[32] = {0};
    add_to(&threads_started);
    wait_for(&may_go, 1);
    for (size_t i = 0; i < 5000; i++) {
        free(held[i % 32]);
        held[i % 32] = allocate_by((unsigned)(i % 4096), (size_t)number);
    }
    for (int i = 0; i < 32; i++)
        free(held[i]);
    add_to(&threads_done);
    wait_for(&threads_done, 1 << 30);
    return NULL;
}

static void calls(void)
{
    for (size_t i = 0; i < 70; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, allocate_much, (void *)i);
    }
    wait_for(&threads_started, 70);
    forbid();
    add_to(&may_go);
    wait_for(&threads_done, 70);
    static const char text[] = "not killed\n";
    syscall(SYS_exit_group, write(STDOUT_FILENO, text, sizeof text - 1) < 0);
}

/* START and END receive where the maps have NAME. */
static void find_map(const char *name, uintptr_t *start, uintptr_t *end)
{
    char line[1000];
    FILE *stream = fopen("/proc/self/maps", "r");
    *start = *end = 0;
    while (fgets(line, sizeof line, stream))
        if (strstr(line, name))
            sscanf(line, "%lx-%lx", start, end);
    fclose(stream);
}

/* Freeing what is no block ends a program. It is not to matter that it is the library's. */
static int frees(void *no_block)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(STDERR_FILENO);
        free(no_block);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static int is_ours(uintptr_t address, const struct tm_slab *slab)
{
    return address - (uintptr_t)slab < slab->size;
}

/* No block that the program gets may lie in a slab, nor a slab in the heap. */
static void check_slabs(void)
{
    uintptr_t heap, end;
    unsigned count = 0;
    find_map("[heap]", &heap, &end);
    for (const struct tm_slab *slab = tm_layout.state->slabs; slab; slab = slab->next) {
        if ((uintptr_t)slab < end && (uintptr_t)slab + slab->size > heap)
            puts("a slab lies in the heap");
        for (int i = 0; i < BLOCKS; i++)
            if (is_ours((uintptr_t)blocks[i], slab))
                puts("a block lies in a slab");
        count++;
    }
    if (count < 3)
        printf("only %u slabs\n", count);
}

static void tables(void)
{
    static char mine[4096];
    for (unsigned i = 0; i < BLOCKS; i++)
        blocks[i] = allocate_by(i / 16, i % 16 == 0 ? 10000 : i % 100);
    if (is_traced())
        check_slabs();
    void *no_block = is_traced() ? (char *)tm_layout.state->slabs + 1024 : mine + 1024;
    printf("freed what is no block: signal %d\n", frees(no_block));
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

static int secure(void)
{
    printf("secure %lu, tracing %d\n", getauxval(AT_SECURE), is_traced());
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "memory") == 0)
        memory();
    else if (strcmp(what, "closed") == 0)
        return closed();
    else if (strcmp(what, "calls") == 0)
        calls();
    else if (strcmp(what, "tables") == 0)
        tables();
    else if (strcmp(what, "secure") == 0)
        return secure();
    return 0;
}
