/* state.h: the runtime's one piece of shared state, and the few questions that every layer asks of it. */

#ifndef TM_STATE_H
#define TM_STATE_H

#include "layout.h"
#include "lock.h"

#include <stdbool.h>

extern struct tm_state tm_state;

/* Reads and writes of shared fields are atomic builtins on layout.h's plain types: a debugger's view of the
   struct then needs no knowledge of C's atomics. */
#define state_load(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)
#define state_peek(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define state_publish(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)
#define state_add(field, value) __atomic_add_fetch(&(field), (value), __ATOMIC_RELAXED)

#define state_likely(condition) __builtin_expect(!!(condition), 1)
#define state_unlikely(condition) __builtin_expect(!!(condition), 0)

/* For variables that are read at each block, and hardly ever written: linked as one, they share a line. */
#define STATE_OFTEN_READ __attribute__((section(".data.often_read")))

static inline bool state_is_tracing(void)
{
    return state_peek(tm_state.mode) & TM_MODE_TRACING;
}

/* What each thread has for itself. One variable: where it lies is to be looked up. */
struct state_thread {
    /* Inside the library or inside a real allocator that the library called: what the thread allocates then is not the
       program's. */
    bool is_busy;
    bool is_forking;      /* from its prepare to its parent or child handler */
    uint32_t *claim;      /* the claim word of the lane that it holds, NULL if none: a wait for a fork shows in it */
    struct tm_lane *lane; /* its own lane; NULL before its first claim, and in a thread that shares */
};
extern _Thread_local struct state_thread state_thread __attribute__((tls_model("initial-exec")));

/* Asked while holding the lock of what is to be changed: false during another thread's fork. Then release,
   state_wait_for_fork, and try again, so that a child never inherits a lock or half a change. The order
   against the forking thread needs sequential consistency: it sets the mode, then looks at the locks. */
static inline bool state_may_change(void)
{
    uint32_t mode = __atomic_load_n(&tm_state.mode, __ATOMIC_SEQ_CST);
    return state_likely(!(mode & TM_MODE_FORKING)) || mode & TM_MODE_OVERTAKEN || state_thread.is_forking;
}

/* The same question and whether we trace, with one look. False decides nothing. */
static inline bool state_surely_traces(void)
{
    uint32_t mode = __atomic_load_n(&tm_state.mode, __ATOMIC_SEQ_CST);
    return (mode & (TM_MODE_TRACING | TM_MODE_FORKING)) == TM_MODE_TRACING;
}

/* Waits for the fork to end, but not for ever: the forking thread may itself wait, in another library's fork handler,
   for a mutex that the caller's program holds. Then the fork is overtaken. */
void state_wait_for_fork(void);

/* Starts and stops, one at a time. */
extern struct lock state_control_lock;

/* Acquires an outermost lock; waits while another thread forks. */
void state_acquire(struct lock *lock);

#endif
