/* lock.c: the waiting. */

#include "lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void lock_wait(struct lock *lock)
{
    int error = errno;
    while (atomic_exchange(&lock->word, 2) != 0)
        syscall(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
    errno = error;
}

void lock_wake(struct lock *lock)
{
    int error = errno;
    syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = error;
}

void lock_pause(unsigned turn)
{
    if (turn < 64) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
        return;
    }
    /* A futex that nobody wakes: programs that let the kernel forbid them calls allow this one, malloc needs it. */
    static const uint32_t never = 0;
    int error = errno;
    const struct timespec moment = {.tv_nsec = 50 * 1000};
    syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, never, &moment, NULL, 0);
    errno = error;
}

void lock_await(struct lock *lock)
{
    for (unsigned turn = 0; atomic_load(&lock->word) != 0 && turn < 2000; turn++)
        lock_pause(turn);
}
