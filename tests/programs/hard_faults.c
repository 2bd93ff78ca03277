/* hard_faults.c: the library gets no memory the Nth time it asks, and all but the Nth time; for every N. It runs itself
   once for each, with the work that makes every table grow. What it knows and what it lost are all the blocks there
   are. Argument: a build of hard_module.c. Prints the same whether it is traced or not. */

#define _GNU_SOURCE
#include "layout.h"
#include "traced.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCKS 8000

extern const struct tm_layout tm_layout __attribute__((weak));
int tm_start(int nframe) __attribute__((weak));
void tm_stop(void) __attribute__((weak));
int tm_domain_name(unsigned domain, const char *name) __attribute__((weak));
int tm_take_snapshot(const char *filename) __attribute__((weak));

/* In libc's place: the library asks the kernel for memory by it. */
static int maps;

static int fails(int number)
{
    const char *once = getenv("FAIL_ONCE"), *from = getenv("FAIL_FROM");
    return (once && number == atoi(once)) || (from && number >= atoi(from));
}

long syscall(long number, ...)
{
    long words[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        words[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_mmap && fails(__atomic_fetch_add(&maps, 1, __ATOMIC_RELAXED))) {
        errno = ENOMEM;
        return -1;
    }
    register long fourth __asm__("r10") = words[3];
    register long fifth __asm__("r8") = words[4];
    register long sixth __asm__("r9") = words[5];
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(words[0]), "S"(words[1]), "d"(words[2]), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

static uint64_t lost_now(void)
{
    return &tm_layout ? __atomic_load_n(&tm_layout.state->lost, __ATOMIC_RELAXED) : 0;
}

static __attribute__((noinline)) void *allocate_by(unsigned path, size_t size)
{
    void *result = path == 0 ? malloc(size) : path % 2 ? allocate_by(path / 2, size) : allocate_by(path / 2, size);
    __asm__ volatile("" ::: "memory");
    return result;
}

static void *blocks[2][BLOCKS];

static void *allocate_all(void *argument)
{
    void **mine = argument;
    for (unsigned i = 0; i < BLOCKS; i++) {
        errno = 4711;
        mine[i] = allocate_by(i, i % 64 + 1);
        if (!mine[i] || errno != 4711)
            abort();
    }
    return NULL;
}

/* 0 if KNOWN of the program's blocks and those lost since LOST_BEFORE are all. */
static int is_short(uint64_t lost_before)
{
    size_t known = 0;
    for (int i = 0; i < BLOCKS; i++)
        known += (frames_of(blocks[0][i]) > 0) + (frames_of(blocks[1][i]) > 0);
    uint64_t lost = lost_now() - lost_before;
    if (!is_traced() || known + lost == 2 * BLOCKS)
        return 0;
    fprintf(stderr, "%zu known, %zu lost\n", known, (size_t)lost);
    return 1;
}

static int bad;

static void check(int is_right, const char *what)
{
    if (!is_right) {
        fprintf(stderr, "%s\n", what);
        bad++;
    }
}

static void open_and_close(const char *module)
{
    void *opened = dlopen(module, RTLD_NOW);
    void *(*make)(size_t) = (void *(*)(size_t))dlsym(opened, "module_allocate");
    free(make(100));
    check(dlclose(opened) == 0, "dlclose");
}

static void grow_what_is_left(const char *module)
{
    for (int i = 0; i < 5; i++)
        open_and_close(module);
    if (!is_traced())
        return;
    for (unsigned i = 0; i < 40; i++)
        check(tm_domain_name(i, "name") <= 0, "tm_domain_name");
    for (uintptr_t i = 0; i < 5000; i++) {
        uint64_t lost = lost_now();
        int status = tm_track(1, i << 20, 1);
        check((status == 0 && lost_now() == lost) || (status == -1 && lost_now() == lost + 1), "tm_track");
        check(tm_untrack(1, i << 20) == 0, "tm_untrack");
    }
    errno = 0;
    check(tm_take_snapshot("/nowhere/at/all") == -1 && (errno == ENOENT || errno == ENOMEM), "tm_take_snapshot");
    tm_stop();
    check(tm_start(200) == 0, "tm_start");
    free(allocate_by(1 << 30, 100));
}

/* The thread itself has a block or two: they are there before anything is counted. */
static int work(const char *module)
{
    pthread_t thread;
    pthread_create(&thread, NULL, allocate_all, blocks[1]);
    pthread_join(thread, NULL);
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[1][i]);
    uint64_t lost = lost_now();
    pthread_create(&thread, NULL, allocate_all, blocks[1]);
    allocate_all(blocks[0]);
    pthread_join(thread, NULL);
    check(!is_short(lost), "blocks are neither known nor lost");
    for (int i = 0; i < BLOCKS; i++) {
        free(blocks[0][i]);
        free(blocks[1][i]);
    }
    grow_what_is_left(module);
    return bad;
}

static int run_itself(char **argv, const char *how, int number)
{
    pid_t child = fork();
    if (child == 0) {
        char text[12];
        snprintf(text, sizeof text, "%d", number);
        setenv(how, text, 1);
        alarm(60);
        execl("/proc/self/exe", argv[0], argv[1], "once", (char *)NULL);
        _exit(99);
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (status != 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 2))
        printf("%s=%d: status %d\n", how, number, status);
    return WIFEXITED(status) && WEXITSTATUS(status) == 2;
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        work(argv[1]);
        const char *number = getenv("FAIL_ONCE") ? getenv("FAIL_ONCE") : getenv("FAIL_FROM");
        return bad ? 1 : maps <= atoi(number) ? 2 : 0; /* 2: it did not ask that often */
    }
    int number = 0;
    while (!run_itself(argv, "FAIL_ONCE", number) && number < 200)
        number++;
    for (int i = 0; i < number; i++)
        run_itself(argv, "FAIL_FROM", i);
    if (is_traced() && number < 10)
        printf("only %d failures\n", number);
    puts("done");
    return 0;
}
