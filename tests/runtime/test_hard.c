/* test_hard.c: what programs do to a preloaded library: forks at bad moments, threads that are cancelled, allocators
   and handlers of their own. Each test ends by itself or by the alarm. */

#include "tap_cunit.h"
#include "tracemalloc.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAPPINGS 9u /* the domain that our mmap tracks in */

static void allocate(size_t size)
{
    free(malloc(size));
}

/* A program that tracks its mappings; the library must not come by here for its own. */
void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *memory = (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
    if (memory != MAP_FAILED)
        tm_track(MAPPINGS, (uintptr_t)memory, size);
    return memory;
}

static void tracks_in_its_own_mmap(void)
{
    size_t before, after, peak;
    tm_get_traced_memory(&before, &peak);
    void *memory = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (uintptr_t i = 0; i < 100000; i++)
        tm_track(1, i * 4096, 1);
    for (uintptr_t i = 0; i < 100000; i++)
        tm_untrack(1, i * 4096);
    tm_get_traced_memory(&after, &peak);
    CU_ASSERT_EQUAL(after - before, 1 << 20);
    tm_untrack(MAPPINGS, (uintptr_t)memory);
    munmap(memory, 1 << 20);
}

static volatile int stop;
static int handlers_allocate;
static pthread_mutex_t handlers_mutex = PTHREAD_MUTEX_INITIALIZER;

static void before_fork(void)
{
    pthread_mutex_lock(&handlers_mutex);
    if (handlers_allocate)
        allocate(100);
}

static void after_fork(void)
{
    if (handlers_allocate)
        allocate(100);
    pthread_mutex_unlock(&handlers_mutex);
}

static void *allocate_under_the_mutex(void *unused)
{
    while (!stop) {
        pthread_mutex_lock(&handlers_mutex);
        allocate(64);
        pthread_mutex_unlock(&handlers_mutex);
    }
    return unused;
}

static void *allocate_freely(void *unused)
{
    while (!stop)
        allocate(64);
    return unused;
}

static void *start_and_stop(void *unused)
{
    while (!stop) {
        tm_stop();
        tm_start(25);
    }
    return unused;
}

static void child_works(void)
{
    tm_stop();
    tm_start(25);
    for (int i = 0; i < 100; i++)
        allocate(1000);
    _exit(tm_is_tracing() ? 0 : 1);
}

/* Forks COUNT times while THREADS run MAIN; how many children did not come to their end. */
static int fork_amid(int threads, void *(*main)(void *), int count)
{
    pthread_t ids[100];
    int bad = 0;
    stop = 0;
    for (int i = 0; i < threads; i++)
        pthread_create(&ids[i], NULL, main, NULL);
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            child_works();
        }
        int status = -1;
        waitpid(child, &status, 0);
        bad += status != 0;
    }
    stop = 1;
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    return bad;
}

static void forks_beside_a_mutex_in_a_fork_handler(void)
{
    CU_ASSERT_EQUAL(fork_amid(2, allocate_under_the_mutex, 30), 0);
}

static void forks_with_more_threads_than_lanes(void)
{
    handlers_allocate = 1;
    CU_ASSERT_EQUAL(fork_amid(90, allocate_freely, 3), 0);
    handlers_allocate = 0;
}

static void forks_while_others_start_and_stop(void)
{
    CU_ASSERT_EQUAL(fork_amid(2, start_and_stop, 50), 0);
    tm_start(25);
}

static volatile int forks_left;

static void fork_here(int number)
{
    (void)number;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    int status;
    waitpid(child, &status, 0);
    forks_left--;
}

/* The handler interrupts the library as often as not. */
static void forks_in_signal_handlers(void)
{
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = fork_here}, previous;
    forks_left = 100;
    sigaction(SIGVTALRM, &action, &previous);
    setitimer(ITIMER_VIRTUAL, &often, NULL);
    for (uintptr_t i = 0; forks_left > 0; i++) {
        tm_track(2, i * 16, i);
        tm_untrack(2, i * 16);
    }
    setitimer(ITIMER_VIRTUAL, &never, NULL);
    sigaction(SIGVTALRM, &previous, NULL);
    CU_ASSERT(forks_left <= 0);
}

static char snapshot[] = "/tmp/test_hard.XXXXXX";

static void *take_snapshots(void *unused)
{
    for (;;) {
        tm_take_snapshot(snapshot);
        pthread_testcancel();
    }
    return unused;
}

static void snapshots_survive_cancellation(void)
{
    close(mkstemp(snapshot));
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, take_snapshots, NULL);
        usleep(2000);
        pthread_cancel(thread);
        pthread_join(thread, NULL);
        CU_ASSERT_EQUAL(tm_take_snapshot(snapshot), 0);
    }
    unlink(snapshot);
}

int main(void)
{
    static const struct tap_test tests[] = {
        {"tracks in its own mmap", tracks_in_its_own_mmap},
        {"forks beside a mutex in a fork handler", forks_beside_a_mutex_in_a_fork_handler},
        {"forks with more threads than lanes", forks_with_more_threads_than_lanes},
        {"forks while others start and stop", forks_while_others_start_and_stop},
        {"forks in signal handlers", forks_in_signal_handlers},
        {"snapshots survive cancellation", snapshots_survive_cancellation},
        {NULL, NULL},
    };
    setvbuf(stdout, NULL, _IONBF, 0);
    alarm(120);
    pthread_atfork(before_fork, after_fork, after_fork);
    tm_start(25);
    return tap_run("hard", tests);
}
