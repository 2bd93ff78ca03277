/* lock.h: a mutual exclusion lock of one word that needs no libc state and survives fork by a plain store.

   Waiters sleep in the kernel, so a high-priority waiter cannot starve the owner. Not recursive.
   The calls may change errno; the entry points of the library keep the program's. */

#ifndef TM_LOCK_H
#define TM_LOCK_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct lock {
    _Atomic uint32_t word; /* 0 free, 1 held, 2 held and waited for */
};

static inline void lock_acquire(struct lock *lock)
{
    uint32_t seen = 0;
    if (atomic_compare_exchange_strong(&lock->word, &seen, 1))
        return;
    if (seen != 2)
        seen = atomic_exchange(&lock->word, 2);
    while (seen != 0) {
        syscall(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
        seen = atomic_exchange(&lock->word, 2);
    }
}

static inline void lock_release(struct lock *lock)
{
    if (atomic_exchange(&lock->word, 0) == 2)
        syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* One step of waiting for something that another thread does soon; TURN counts the steps from 0. */
static inline void lock_pause(unsigned turn)
{
    if (turn < 64) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
        return;
    }
    const struct timespec moment = {.tv_nsec = 50 * 1000};
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &moment, NULL);
}

#endif
