/* schedule.c: who writes the snapshots that the environment asks for, and when.

   At exit: a handler of on_exit. Registered before libc's start-up code registers the loader's own, it runs after it,
   when the destructors of the program and of all libraries have freed what they free. _exit, quick_exit, exec and
   fatal signals run no handlers: they write nothing.

   On a signal and at intervals: one thread, the only one that the library ever starts, and only if it is asked for. A
   signal handler could not write: it may have interrupted malloc or the library itself. A timer would send signals
   that interrupt system calls. A look at the clock in malloc would cost every malloc, and an idle program would never
   look. The thread takes no signals, has descriptors of its own, so that it can neither keep a pipe of the program's
   open nor be hurt by a program that closes what it does not know, and what it allocates is not recorded. libc knows
   it, so that setuid and its kin reach it, too.

   A program whose main thread leaves the others by pthread_exit loses that thread with it: libc ends a process with its
   last thread, and this one never ends by itself.

   After fork the child has no such thread, and a fork handler is no place to start one, for other libraries' handlers
   may still be to come. The child's next malloc starts it, by taking malloc's place once. A vfork'ed child, and one of
   clone, is none of ours until it executes a program, which reads the environment again. */

#define _GNU_SOURCE
#include "schedule.h"

#include "lock.h"
#include "message.h"
#include "real.h"
#include "record.h"
#include "state.h"
#include "tracemalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Beside the thread's own static TLS, which libc takes from it. */
#define STACK_SIZE (256 << 10)

#define NS_PER_S UINT64_C(1000000000)

static struct pattern pattern;       /* set once, before there is another thread */
static uint32_t interval;            /* seconds, 0: never; likewise */
static bool has_signal;              /* likewise */
static pthread_t thread;             /* set by who starts it */
static bool has_thread;              /* likewise; and by the main thread at its end */
static bool is_ending;               /* the thread is to return; by the main thread */
static pthread_key_t main_thread;    /* its destructor tells that the main thread leaves the others behind */
static uint32_t requests;            /* how many signals came; a futex */
static uint32_t answered;            /* of these; by the thread, before a snapshot. A forked child goes on from there */
static struct lock writing;          /* one snapshot at a time; held for good once the process exits */
static unsigned long number;         /* of the last snapshot in this process; by `writing` */
static char path[SNAPFILE_PATH_MAX]; /* by `writing` */

/* With `writing` held. Returns what went wrong, 0 for nothing. */
static int write_snapshot(void)
{
    if (!tm_is_tracing() || !pattern_is_ours(&pattern))
        return 0;
    if (!pattern_expand(&pattern, ++number, path))
        return ENAMETOOLONG;
    return tm_take_snapshot(path) == 0 ? 0 : errno;
}

static void complain(int fd, int error)
{
    const char *const pieces[] = {"snapshot ", path, ": ", message_of(error), "; it is not written", NULL};
    message_write(fd, pieces);
}

static void write_at_exit(int status, void *unused)
{
    (void)status, (void)unused;
    if (!tm_is_tracing() || !pattern_is_ours(&pattern))
        return;
    /* A signal handler that interrupted malloc may call exit: nobody releases what the thread holds. */
    if (state_thread.is_busy || state_thread.claim) {
        const char *const pieces[] = {"exit was called by a signal handler inside malloc; no snapshot is written",
                                      NULL};
        message_write(STDERR_FILENO, pieces);
        return;
    }
    int kept = errno;
    lock_acquire(&writing);
    int error = write_snapshot();
    if (error)
        complain(STDERR_FILENO, error);
    errno = kept;
}

/* The thread's table of descriptors is a copy: no pipe or socket of the program's stays open by it. Before Linux 5.9
   the two share one. */
static void leave_descriptors(void)
{
#ifdef SYS_close_range
    const unsigned unshare_first = 2;
    syscall(SYS_close_range, 0, UINT_MAX, unshare_first);
#endif
}

/* The program's standard error is opened anew for each line: it may be a pipe whose end somebody waits for. */
static void complain_from_thread(int error)
{
    int fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    complain(fd, error);
    close(fd);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

/* Returns once there are other requests than those SEEN, or it is WHEN. */
static void wait_until(uint32_t seen, uint64_t when)
{
    const struct timespec time = {.tv_sec = (time_t)(when / NS_PER_S), .tv_nsec = (long)(when % NS_PER_S)};
    while (state_load(requests) == seen && !state_load(is_ending) && (!interval || now() < when))
        syscall(SYS_futex, &requests, FUTEX_WAIT_BITSET_PRIVATE, seen, interval ? &time : NULL, NULL,
                FUTEX_BITSET_MATCH_ANY);
}

static void *serve(void *unused)
{
    bool has_complained = false;
    uint64_t next = now() + interval * NS_PER_S;
    state_thread.is_busy = true;
    leave_descriptors();
    prctl(PR_SET_NAME, "tracemalloc");
    for (;;) {
        wait_until(answered, next);
        if (state_load(is_ending))
            return unused;
        answered = state_load(requests);
        lock_acquire(&writing);
        int error = write_snapshot();
        if (error && !has_complained)
            complain_from_thread(error);
        has_complained = has_complained || error;
        lock_release(&writing);
        while (interval && next <= now())
            next += interval * NS_PER_S;
    }
}

/* STACK 0: as large as libc makes them, where static TLS leaves no room in a small one. */
static int create_thread(size_t stack)
{
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error)
        return error;
    if (stack)
        pthread_attr_setstacksize(&attributes, stack);
    error = pthread_create(&thread, &attributes, serve, NULL);
    has_thread = error == 0;
    pthread_attr_destroy(&attributes);
    return error;
}

/* What libc allocates for the thread is not the program's. */
static void start_thread(void)
{
    bool was_busy = state_thread.is_busy;
    int kept = errno;
    sigset_t all, before;
    state_thread.is_busy = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = create_thread(STACK_SIZE);
    if (error == EINVAL)
        error = create_thread(0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        const char *const pieces[] = {"no thread for snapshots: ", message_of(error), "; only exit writes one", NULL};
        message_write(STDERR_FILENO, pieces);
    }
    errno = kept;
    state_thread.is_busy = was_busy;
}

static void *(*displaced_malloc)(size_t size);
static bool is_thread_wanted;

/* In malloc's place for one call, where any function of libc may be called. Two threads may come by at once. */
static void *starting_malloc(size_t size)
{
    state_publish(real.malloc, displaced_malloc);
    if (__atomic_exchange_n(&is_thread_wanted, false, __ATOMIC_ACQ_REL))
        start_thread();
    return displaced_malloc(size);
}

static void start_thread_at_next_malloc(void)
{
    state_publish(is_thread_wanted, true);
    if (real.malloc == starting_malloc)
        return;
    displaced_malloc = real.malloc;
    state_publish(real.malloc, starting_malloc);
}

static void ask(int signal)
{
    (void)signal;
    int kept = errno;
    __atomic_fetch_add(&requests, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &requests, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = kept;
}

/* A process ends with its last thread: ours must not be that one where the main thread left by pthread_exit. */
static void end_thread(void *unused)
{
    (void)unused;
    state_publish(is_thread_wanted, false);
    if (!has_thread)
        return;
    has_thread = false;
    state_publish(is_ending, true);
    ask(0);
    pthread_join(thread, NULL);
}

static bool needs_thread(void)
{
    return (has_signal || interval) && pattern_is_ours(&pattern);
}

static void begin_in_child(void)
{
    lock_reset(&writing);
    number = 0;
    has_thread = is_ending = false;
    if (needs_thread()) {
        pthread_setspecific(main_thread, &main_thread);
        start_thread_at_next_malloc();
    }
}

void schedule_init(const struct pattern *wanted)
{
    pattern = *wanted;
    on_exit(write_at_exit, NULL);
    pthread_atfork(NULL, NULL, begin_in_child);
}

int schedule_on_signal(int signal)
{
    struct sigaction action;
    if (sigaction(signal, NULL, &action) != 0 || action.sa_flags & SA_SIGINFO || action.sa_handler != SIG_DFL)
        return -1;
    /* On the program's alternate stack, if it has one: its threads' stacks may be small. */
    action = (struct sigaction){.sa_handler = ask, .sa_flags = SA_RESTART | SA_ONSTACK};
    has_signal = sigaction(signal, &action, NULL) == 0;
    return has_signal ? 0 : -1;
}

void schedule_start(uint32_t seconds)
{
    interval = seconds;
    if (!needs_thread() || pthread_key_create(&main_thread, end_thread) != 0)
        return;
    pthread_setspecific(main_thread, &main_thread);
    start_thread();
}
