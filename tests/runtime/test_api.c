/* test_api.c: the public functions in a program that is linked with the library. */

#include "tap_cunit.h"
#include "tracemalloc.h"

#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static size_t current, peak;

/* volatile: the compiler knows what no allocator grants. */
static volatile size_t too_much = (size_t)-1 - 4095;

static size_t traced_now(void)
{
    tm_get_traced_memory(&current, &peak);
    return current;
}

static void starts_and_stops(void)
{
    CU_ASSERT_EQUAL(tm_is_tracing(), 0);
    CU_ASSERT_EQUAL(tm_get_traceback_limit(), 1);
    void *before = malloc(100);
    CU_ASSERT_EQUAL(tm_start(7), 0);
    CU_ASSERT_EQUAL(tm_is_tracing(), 1);
    CU_ASSERT_EQUAL(tm_get_traceback_limit(), 7);
    CU_ASSERT_EQUAL(tm_start(9), 0);
    CU_ASSERT_EQUAL(tm_get_traceback_limit(), 7);
    CU_ASSERT_EQUAL(tm_get_object_traceback(before, NULL, 0), 0);
    size_t start = traced_now();
    free(before);
    CU_ASSERT_EQUAL(traced_now(), start);
    void *after = malloc(100);
    CU_ASSERT_EQUAL(traced_now(), start + 100);
    tm_stop();
    CU_ASSERT_EQUAL(traced_now(), 0);
    CU_ASSERT_EQUAL(peak, 0);
    CU_ASSERT_EQUAL(tm_is_tracing(), 0);
    CU_ASSERT_EQUAL(tm_get_traceback_limit(), 7);
    tm_start(25);
    free(after);
    CU_ASSERT_EQUAL(traced_now(), 0);
}

static void refuses_bad_limits(void)
{
    static const int bad[] = {0, -1, 65536, 1 << 30};
    for (int i = 0; i < 4; i++) {
        errno = 0;
        CU_ASSERT_EQUAL(tm_start(bad[i]), -1);
        CU_ASSERT_EQUAL(errno, EINVAL);
    }
}

/* volatile: the compiler knows malloc and would leave unused blocks out. */
static void *volatile block;

#define EXPECT_TRACED(expression, size)                                                                                \
    do {                                                                                                               \
        size_t before_ = traced_now();                                                                                 \
        block = (expression);                                                                                          \
        CU_ASSERT_PTR_NOT_NULL(block);                                                                                 \
        CU_ASSERT_EQUAL(traced_now() - before_, (size_t)(size));                                                       \
        CU_ASSERT(tm_get_object_traceback(block, NULL, 0) > 0);                                                        \
        free(block);                                                                                                   \
        CU_ASSERT_EQUAL(traced_now(), before_);                                                                        \
    } while (0)

static void *by_posix_memalign(size_t alignment, size_t size)
{
    void *result = NULL;
    return posix_memalign(&result, alignment, size) == 0 ? result : NULL;
}

static void traces_every_way_to_allocate(void)
{
    EXPECT_TRACED(malloc(1), 1);
    EXPECT_TRACED(malloc(0), 0);
    EXPECT_TRACED(malloc(100 << 20), 100 << 20);
    EXPECT_TRACED(calloc(7, 11), 77);
    EXPECT_TRACED(realloc(NULL, 33), 33);
    EXPECT_TRACED(reallocarray(NULL, 5, 9), 45);
    EXPECT_TRACED(by_posix_memalign(4096, 100), 100);
    EXPECT_TRACED(aligned_alloc(64, 128), 128);
    EXPECT_TRACED(memalign(32, 50), 50);
    EXPECT_TRACED(valloc(60), 60);
    EXPECT_TRACED(pvalloc(70), 70);
    EXPECT_TRACED(strdup("twelve chars"), 13);
}

static void realloc_moves_the_trace(void)
{
    void *ours[1], *theirs[1];
    size_t before = traced_now();
    block = malloc(10);
    tm_get_object_traceback(block, ours, 1);
    void *volatile grown = realloc(block, 200000);
    tm_get_object_traceback(grown, theirs, 1);
    CU_ASSERT_PTR_NOT_EQUAL(ours[0], theirs[0]);
    CU_ASSERT_EQUAL(traced_now(), before + 200000);
    errno = 0;
    void *volatile failed = realloc(grown, too_much);
    CU_ASSERT_PTR_NULL(failed);
    CU_ASSERT_EQUAL(errno, ENOMEM);
    CU_ASSERT_EQUAL(traced_now(), before + 200000);
    tm_get_object_traceback(grown, ours, 1);
    CU_ASSERT_PTR_EQUAL(ours[0], theirs[0]);
    block = realloc(grown, 0);
    CU_ASSERT_PTR_NULL(block);
    CU_ASSERT_EQUAL(traced_now(), before);
}

static void failures_are_libcs(void)
{
    errno = 0;
    CU_ASSERT_PTR_NULL(block = malloc(too_much));
    CU_ASSERT_EQUAL(errno, ENOMEM);
    errno = 0;
    CU_ASSERT_PTR_NULL(block = calloc(too_much, 16));
    CU_ASSERT_EQUAL(errno, ENOMEM);
    errno = 0;
    CU_ASSERT_PTR_NULL(block = reallocarray(NULL, too_much, 16));
    CU_ASSERT_EQUAL(errno, ENOMEM);
    void *result = &current;
    CU_ASSERT_EQUAL(posix_memalign(&result, 3, 10), EINVAL);
    CU_ASSERT_PTR_EQUAL(result, &current);
}

static void keeps_errno(void)
{
    errno = 4711;
    for (int i = 0; i < 1000; i++) {
        block = malloc((size_t)i * 100);
        block = realloc(block, (size_t)i * 200 + 1);
        free(block);
    }
    CU_ASSERT_EQUAL(errno, 4711);
    tm_clear_traces();
    tm_track(3, 0x1234, 5);
    tm_untrack(3, 0x1234);
    CU_ASSERT_EQUAL(errno, 4711);
}

static void peak_and_reset(void)
{
    size_t before = traced_now();
    tm_reset_peak();
    block = malloc(1000000);
    free(block);
    CU_ASSERT_EQUAL(traced_now(), before);
    CU_ASSERT_EQUAL(peak, before + 1000000);
    tm_reset_peak();
    traced_now();
    CU_ASSERT_EQUAL(peak, before);
}

static void clear_forgets(void)
{
    block = malloc(5000);
    tm_clear_traces();
    CU_ASSERT_EQUAL(traced_now(), 0);
    CU_ASSERT_EQUAL(peak, 0);
    CU_ASSERT_EQUAL(tm_get_object_traceback(block, NULL, 0), 0);
    free(block);
    CU_ASSERT_EQUAL(traced_now(), 0);
}

static void tracks_domains(void)
{
    size_t before = traced_now();
    for (unsigned domain = 1; domain < 4; domain++)
        CU_ASSERT_EQUAL(tm_track(domain, 0x1003, 100), 0);
    CU_ASSERT_EQUAL(traced_now(), before + 300);
    CU_ASSERT_EQUAL(tm_track(1, 0x1003, 7), 0);
    CU_ASSERT_EQUAL(traced_now(), before + 207);
    CU_ASSERT_EQUAL(tm_track(1, 0x9000, (size_t)1 << 45), 0);
    CU_ASSERT_EQUAL(traced_now(), before + 207 + ((size_t)1 << 45));
    CU_ASSERT_EQUAL(tm_untrack(1, 0x9000), 0);
    CU_ASSERT_EQUAL(tm_untrack(1, 0x9000), 0);
    for (unsigned domain = 1; domain < 4; domain++)
        CU_ASSERT_EQUAL(tm_untrack(domain, 0x1003), 0);
    CU_ASSERT_EQUAL(traced_now(), before);
    tm_stop();
    CU_ASSERT_EQUAL(tm_track(1, 1, 1), -2);
    CU_ASSERT_EQUAL(tm_untrack(1, 1), -2);
    tm_start(25);
}

static __attribute__((noinline)) void *allocate_deep(int depth)
{
    void *result = depth > 0 ? allocate_deep(depth - 1) : malloc(10);
    __asm__ volatile("" ::: "memory");
    return result;
}

/* Each from the same frames as the one before it. */
static void every_limit_has_its_own_tracebacks(void)
{
    static const int limits[] = {300, 2, 1, 3, 300, 4};
    int wrong = 0;
    for (int i = 0; i < 6; i++) {
        void *frames[300];
        tm_stop();
        tm_start(limits[i]);
        block = allocate_deep(300);
        wrong += tm_get_object_traceback(block, frames, 300) != limits[i];
        free(block);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    tm_stop();
    tm_start(25);
}

static void long_tracebacks(void)
{
    static void *frames[5000];
    tm_stop();
    tm_start(5000);
    block = allocate_deep(3000);
    int n = tm_get_object_traceback(block, frames, 5000);
    CU_ASSERT(n > 3000 && n < 3100);
    CU_ASSERT_PTR_EQUAL(frames[10], frames[2000]);
    free(block);
    tm_stop();
    tm_start(25);
    block = allocate_deep(3000);
    CU_ASSERT_EQUAL(tm_get_object_traceback(block, frames, 5000), 25);
    free(block);
}

static void *keep_blocks(void *argument)
{
    void **kept = argument;
    for (size_t i = 0; i < 10000; i++)
        kept[i] = malloc(i % 500);
    return NULL;
}

/* 8 threads keep 10,000 blocks each; others' frees come from this one. */
static void threads_sum_up(void)
{
    static void *kept[8][10000];
    pthread_t threads[8];
    size_t sizes = 0;
    for (size_t i = 0; i < 10000; i++)
        sizes += i % 500;
    size_t before = traced_now();
    for (int t = 0; t < 8; t++)
        pthread_create(&threads[t], NULL, keep_blocks, kept[t]);
    for (int t = 0; t < 8; t++)
        pthread_join(threads[t], NULL);
    /* glibc keeps the stacks' thread structures: a few blocks of its own. */
    size_t own = traced_now() - before - 8 * sizes;
    CU_ASSERT(own < 8 * 1000);
    for (int t = 0; t < 8; t++)
        for (int i = 0; i < 10000; i++)
            free(kept[t][i]);
    CU_ASSERT(traced_now() - before <= own);
}

static volatile int stop_churning;

static void *churn(void *argument)
{
    void *held[64] = {0};
    unsigned seed = (unsigned)(uintptr_t)argument;
    while (!stop_churning) {
        seed = seed * 1103515245u + 12345u;
        unsigned i = seed >> 16 & 63;
        held[i] = realloc(held[i], seed >> 8 & 0xfff);
    }
    for (int i = 0; i < 64; i++)
        free(held[i]);
    return NULL;
}

/* Fork from a busy program: each child allocates, frees and reads its own tables. */
static void forks_while_threads_allocate(void)
{
    pthread_t threads[4];
    int bad = 0;
    stop_churning = 0;
    for (uintptr_t t = 0; t < 4; t++)
        pthread_create(&threads[t], NULL, churn, (void *)(t + 1));
    for (int round = 0; round < 100; round++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            size_t before = traced_now();
            void *kept[100];
            for (int i = 0; i < 100; i++)
                kept[i] = malloc(1000);
            int right = traced_now() == before + 100000;
            for (int i = 0; i < 100; i++)
                free(kept[i]);
            _exit(right && traced_now() == before ? 0 : 1);
        }
        int status = -1;
        waitpid(child, &status, 0);
        bad += status != 0;
    }
    stop_churning = 1;
    for (int t = 0; t < 4; t++)
        pthread_join(threads[t], NULL);
    CU_ASSERT_EQUAL(bad, 0);
}

/* stop and clear race with allocations: no crash, no ghost, no negative sum. */
static void stops_and_clears_while_threads_allocate(void)
{
    pthread_t threads[4];
    stop_churning = 0;
    for (uintptr_t t = 0; t < 4; t++)
        pthread_create(&threads[t], NULL, churn, (void *)(t + 1));
    for (int round = 0; round < 300; round++) {
        tm_start(25);
        usleep(100);
        tm_clear_traces();
        CU_ASSERT(traced_now() < (size_t)100 << 20);
        usleep(100);
        tm_stop();
        CU_ASSERT_EQUAL(traced_now(), 0);
    }
    tm_start(25);
    usleep(1000);
    stop_churning = 1;
    for (int t = 0; t < 4; t++)
        pthread_join(threads[t], NULL);
    /* What they allocated since the last start they freed; what is left is no block at all. */
    CU_ASSERT_EQUAL(traced_now(), 0);
}

static int files_in(const char *folder)
{
    int count = -2; /* without . and .. */
    DIR *open_folder = opendir(folder);
    while (readdir(open_folder))
        count++;
    closedir(open_folder);
    return count;
}

/* tests/model/test_raw.py reads what is in them. */
static void takes_snapshots_while_threads_allocate(void)
{
    char folder[] = "/tmp/test_api.XXXXXX", path[64], missing[64];
    pthread_t threads[2];
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.snap", folder);
    snprintf(missing, sizeof missing, "%s/missing/a.snap", folder);
    stop_churning = 0;
    for (uintptr_t t = 0; t < 2; t++)
        pthread_create(&threads[t], NULL, churn, (void *)(t + 1));
    size_t before = tm_get_tracemalloc_memory();
    for (int i = 0; i < 20; i++)
        CU_ASSERT_EQUAL(tm_take_snapshot(path), 0);
    CU_ASSERT_EQUAL(files_in(folder), 1);
    errno = 0;
    CU_ASSERT_EQUAL(tm_take_snapshot(missing), -1);
    CU_ASSERT_EQUAL(errno, ENOENT);
    errno = 0;
    CU_ASSERT_EQUAL(tm_take_snapshot(folder), -1);
    CU_ASSERT_EQUAL(errno, EISDIR);
    unlink(path);
    CU_ASSERT_EQUAL_FATAL(mkfifo(path, 0600), 0);
    errno = 0;
    CU_ASSERT_EQUAL(tm_take_snapshot(path), -1);
    CU_ASSERT_EQUAL(errno, EOPNOTSUPP);
    struct stat status;
    CU_ASSERT(stat(path, &status) == 0 && S_ISFIFO(status.st_mode));
    CU_ASSERT_EQUAL(files_in(folder), 1);
    CU_ASSERT(tm_get_tracemalloc_memory() - before < (size_t)16 << 20);
    stop_churning = 1;
    for (int t = 0; t < 2; t++)
        pthread_join(threads[t], NULL);
    tm_stop();
    errno = 0;
    CU_ASSERT_EQUAL(tm_take_snapshot(path), -1);
    CU_ASSERT_EQUAL(errno, EINVAL);
    tm_start(25);
    unlink(path);
    char leftover[96];
    snprintf(leftover, sizeof leftover, "%s.%d.tmp", folder, (int)getpid());
    CU_ASSERT_NOT_EQUAL(access(leftover, F_OK), 0);
    rmdir(folder);
}

static void names_domains(void)
{
    for (unsigned i = 0; i < 100; i++)
        CU_ASSERT_EQUAL(tm_domain_name(i, "a name that is rather long, longer than what a debugger wants to show"), 0);
    CU_ASSERT_EQUAL(tm_domain_name(3, ""), 0);
}

int main(void)
{
    static const struct tap_test tests[] = {
        {"starts and stops", starts_and_stops},
        {"refuses bad limits", refuses_bad_limits},
        {"traces every way to allocate", traces_every_way_to_allocate},
        {"realloc moves the trace", realloc_moves_the_trace},
        {"failures are libc's", failures_are_libcs},
        {"keeps errno", keeps_errno},
        {"peak and reset", peak_and_reset},
        {"clear forgets", clear_forgets},
        {"tracks domains", tracks_domains},
        {"every limit has its own tracebacks", every_limit_has_its_own_tracebacks},
        {"long tracebacks", long_tracebacks},
        {"threads sum up", threads_sum_up},
        {"forks while threads allocate", forks_while_threads_allocate},
        {"stops and clears while threads allocate", stops_and_clears_while_threads_allocate},
        {"takes snapshots while threads allocate", takes_snapshots_while_threads_allocate},
        {"names domains", names_domains},
        {NULL, NULL},
    };
    setvbuf(stdout, NULL, _IONBF, 0);
    return tap_run("api", tests);
}
