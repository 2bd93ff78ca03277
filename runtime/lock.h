/* lock.h: a mutual exclusion lock of one word that needs no libc state and survives fork by a plain store.

   Waiters sleep in the kernel, so a high-priority waiter cannot starve the owner. Not recursive. Keeps errno. */

#ifndef TM_LOCK_H
#define TM_LOCK_H

#include <stdatomic.h>
#include <stdint.h>

struct lock {
    _Atomic uint32_t word; /* 0 free, 1 held, 2 held and waited for */
};

/* What lock_acquire and lock_release do when there is contention. */
void lock_wait(struct lock *lock);
void lock_wake(struct lock *lock);

/* One step of waiting for something that another thread does soon; TURN counts the steps from 0. Keeps errno. */
void lock_pause(unsigned turn);

/* Returns once the lock is free, or after some tenths of a second: the caller itself may hold it. */
void lock_await(struct lock *lock);

/* In a forked child: nobody holds it. */
static inline void lock_reset(struct lock *lock)
{
    atomic_store(&lock->word, 0);
}

static inline void lock_acquire(struct lock *lock)
{
    uint32_t expected = 0;
    if (!atomic_compare_exchange_strong(&lock->word, &expected, 1))
        lock_wait(lock);
}

static inline void lock_release(struct lock *lock)
{
    if (atomic_exchange(&lock->word, 0) == 2)
        lock_wake(lock);
}

#endif
