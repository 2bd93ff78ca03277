/* counters.c: lanes. A lane is shared once there are more threads than lanes, so all is done by atomic adds. */

#include "counters.h"

#include "state.h"

static uint32_t lanes_given;
static _Thread_local struct tm_lane *own_lane __attribute__((tls_model("initial-exec")));

static struct tm_lane *lane_of_thread(void)
{
    if (state_unlikely(!own_lane))
        own_lane = &tm_state.lanes[__atomic_fetch_add(&lanes_given, 1, __ATOMIC_RELAXED) % TM_LANES];
    return own_lane;
}

static void raise_peak(int64_t bytes)
{
    uint64_t seen = state_peek(tm_state.peak);
    while (bytes > (int64_t)seen && !__atomic_compare_exchange_n(&tm_state.peak, &seen, (uint64_t)bytes, true,
                                                                 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

/* The shared sum first: a moment's stop then shows the change twice rather than not at all. */
static void flush(struct tm_lane *lane)
{
    int64_t change = state_peek(lane->change);
    int64_t high = __atomic_exchange_n(&lane->high, 0, __ATOMIC_RELAXED);
    int64_t before = (int64_t)state_add(tm_state.current, (uint64_t)change) - change;
    state_add(lane->change, -change);
    raise_peak(before + high);
}

void counters_add(int64_t bytes)
{
    struct tm_lane *lane = lane_of_thread();
    int64_t change = state_add(lane->change, bytes);
    if (change > state_peek(lane->high))
        __atomic_store_n(&lane->high, change, __ATOMIC_RELAXED);
    if (state_unlikely(change >= COUNTERS_STEP || change <= -COUNTERS_STEP))
        flush(lane);
}

void counters_read(size_t *current, size_t *peak)
{
    int64_t shared = (int64_t)state_peek(tm_state.current);
    int64_t sum = shared;
    int64_t high = 0;
    for (int i = 0; i < TM_LANES; i++) {
        sum += state_peek(tm_state.lanes[i].change);
        if (state_peek(tm_state.lanes[i].high) > high)
            high = state_peek(tm_state.lanes[i].high);
    }
    raise_peak(shared + high);
    raise_peak(sum);
    *current = sum > 0 ? (size_t)sum : 0;
    *peak = (size_t)state_peek(tm_state.peak);
}

void counters_reset_peak(void)
{
    for (int i = 0; i < TM_LANES; i++)
        flush(&tm_state.lanes[i]);
    /* Another thread may have removed a block's trace before the thread that put it could count it. */
    int64_t current = (int64_t)state_peek(tm_state.current);
    state_publish(tm_state.peak, current > 0 ? (uint64_t)current : 0);
}
