/* lane.h: a thread's share of the tracer: what it counts, and what it knows of stack walks.

   A thread claims a lane for as long as it records or forgets one block, and has the lane's fields to itself for
   that time, so that threads meet on no line of memory. The first threads get a lane each, for good; all later
   ones share the last few, and pass over one that is taken.

   `current` is exact. `peak` is exact while one thread allocates; with n of them it is off by up to
   (n - 1) * TM_LANE_STEP bytes, since a lane looks at the sum of all only when it has moved by TM_LANE_STEP. */

#ifndef TM_LANE_H
#define TM_LANE_H

#include "state.h"

#include <stddef.h>

/* For a thread without a lane of its own. */
struct tm_lane *lane_find(void);

static inline struct tm_lane *lane_claim(void)
{
    struct tm_lane *lane = state_thread.lane;
    if (state_unlikely(!lane))
        lane = lane_find();
    /* The thread's own claim is known as such before it is seen: a signal handler may fork in between. */
    state_thread.claim = &lane->claimed;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    state_publish(lane->claimed, TM_CLAIM_TAKEN);
    return lane;
}

static inline void lane_release(struct tm_lane *lane)
{
    state_publish(lane->claimed, TM_CLAIM_FREE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    state_thread.claim = NULL;
}

/* The lane that the thread has claimed. */
static inline struct tm_lane *lane_claimed(void)
{
    return (struct tm_lane *)(void *)((char *)state_thread.claim - offsetof(struct tm_lane, claimed));
}

/* What lane_count does now and then: the peak is counted anew; the sum of all lanes may be a new one. */
void lane_start_anew(struct tm_lane *lane, uint32_t resets);
void lane_look_at_peak(struct tm_lane *lane);

/* Counts BYTES in BLOCKS more, or less: their signs agree, where BLOCKS is not 0. The lane is claimed. `high` is not
   below `bytes`, and below looked + TM_LANE_STEP. */
static inline void lane_count(struct tm_lane *lane, int64_t bytes, int64_t blocks)
{
    __atomic_store_n(&lane->blocks, lane->blocks + blocks, __ATOMIC_RELAXED);
    uint32_t resets = (uint32_t)state_peek(tm_state.resets);
    if (state_unlikely(lane->resets != resets))
        lane_start_anew(lane, resets);
    int64_t sum = lane->bytes + bytes;
    __atomic_store_n(&lane->bytes, sum, __ATOMIC_RELAXED);
    bool look = blocks <= 0 && lane->looked - sum >= TM_LANE_STEP;
    if (blocks >= 0 && state_unlikely(sum > lane->high)) {
        __atomic_store_n(&lane->high, sum, __ATOMIC_RELAXED);
        look = sum - lane->looked >= TM_LANE_STEP;
    }
    if (state_unlikely(look))
        lane_look_at_peak(lane);
}

/* The sums over all lanes. */
void lane_read(size_t *current, size_t *peak);

/* From now on the peak is counted anew, from the current. */
void lane_reset_peak(void);

/* With the mode at FORKING: returns once every claim is free or waits for the fork; gives up after some seconds,
   since a thread may hold a claim while it waits for something that the forking thread holds.
   `_reset_claims` is the child's. */
void lane_quiesce(void);
void lane_reset_claims(void);

/* In the child, before `_reset_claims`: whether another thread of the parent was moving blocks. */
bool lane_was_moving(void);

#endif
