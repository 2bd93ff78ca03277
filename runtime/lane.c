/* lane.c: claims by one atomic exchange; under a claim plain stores, which others may read at any time. */

#include "lane.h"

#include "lock.h"
#include "state.h"

static uint32_t lanes_given;
static _Thread_local struct tm_lane *own_lane __attribute__((tls_model("initial-exec")));

static struct tm_lane *lane_of_thread(void)
{
    if (state_unlikely(!own_lane))
        own_lane = &tm_state.lanes[__atomic_fetch_add(&lanes_given, 1, __ATOMIC_RELAXED) % TM_LANES];
    return own_lane;
}

static bool try_claim(struct tm_lane *lane)
{
    uint32_t free = TM_CLAIM_FREE;
    return __atomic_compare_exchange_n(&lane->claimed, &free, TM_CLAIM_TAKEN, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

struct tm_lane *lane_claim(void)
{
    struct tm_lane *lane = lane_of_thread();
    for (unsigned turn = 0; state_unlikely(!try_claim(lane)); turn++) {
        lane = lane + 1 < tm_state.lanes + TM_LANES ? lane + 1 : tm_state.lanes;
        if (turn >= TM_LANES)
            lock_pause(turn);
    }
    state_claim = &lane->claimed;
    return lane;
}

void lane_release(struct tm_lane *lane)
{
    state_claim = NULL;
    state_publish(lane->claimed, TM_CLAIM_FREE);
}

static void raise_peak(int64_t bytes)
{
    int64_t seen = (int64_t)state_peek(tm_state.peak);
    while (bytes > seen && !__atomic_compare_exchange_n((int64_t *)&tm_state.peak, &seen, bytes, true, __ATOMIC_RELAXED,
                                                        __ATOMIC_RELAXED))
        ;
}

/* The shared sum first: a moment's stop then shows the change twice rather than not at all. */
static void flush(struct tm_lane *lane)
{
    int64_t change = lane->change;
    int64_t before = (int64_t)state_add(tm_state.current, (uint64_t)change) - change;
    raise_peak(before + lane->high);
    __atomic_store_n(&lane->change, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&lane->high, 0, __ATOMIC_RELAXED);
}

void lane_count(struct tm_lane *lane, int64_t bytes)
{
    int64_t change = lane->change + bytes;
    __atomic_store_n(&lane->change, change, __ATOMIC_RELAXED);
    if (change > lane->high)
        __atomic_store_n(&lane->high, change, __ATOMIC_RELAXED);
    if (state_unlikely(change >= LANE_STEP || change <= -LANE_STEP))
        flush(lane);
}

void lane_read(size_t *current, size_t *peak)
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

/* A lane whose thread stays inside for long keeps its change, which the peak's bound allows. */
static void flush_unless_held(struct tm_lane *lane)
{
    for (unsigned turn = 0; turn < 128; turn++) {
        if (try_claim(lane)) {
            flush(lane);
            state_publish(lane->claimed, TM_CLAIM_FREE);
            return;
        }
        lock_pause(turn);
    }
}

void lane_reset_peak(void)
{
    for (int i = 0; i < TM_LANES; i++)
        flush_unless_held(&tm_state.lanes[i]);
    /* Another thread may have removed a block's trace before the thread that put it could count it. */
    int64_t current = (int64_t)state_peek(tm_state.current);
    state_publish(tm_state.peak, current > 0 ? (uint64_t)current : 0);
}

void lane_quiesce(void)
{
    const unsigned enough = 40000;
    for (int i = 0; i < TM_LANES; i++)
        for (unsigned turn = 0; turn < enough; turn++) {
            if (__atomic_load_n(&tm_state.lanes[i].claimed, __ATOMIC_SEQ_CST) != TM_CLAIM_TAKEN)
                break;
            lock_pause(turn);
        }
}

void lane_reset_claims(void)
{
    for (int i = 0; i < TM_LANES; i++)
        if (state_claim != &tm_state.lanes[i].claimed)
            state_publish(tm_state.lanes[i].claimed, TM_CLAIM_FREE);
}
