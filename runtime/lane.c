/* lane.c: claims, and under a claim plain stores, which others may read at any time.

   The claim of a lane of one's own is a plain store too. A forking thread sets the mode and then looks at the
   claims; a recording thread stores its claim, locks a page and then looks at the mode (state_may_change). Locking
   is a full barrier, so one of the two sees the other. */

#include "lane.h"

#include "lock.h"
#include "state.h"

static uint32_t lanes_given;
static _Thread_local struct tm_lane *shared_lane __attribute__((tls_model("initial-exec"))); /* the one to try first */

/* The last lane is the forking thread's: all shared ones may be held by threads that wait for it. */
#define FORK_LANE (TM_LANES - 1)
#define SHARED_LANES 7
#define OWN_LANES (FORK_LANE - SHARED_LANES)

static void assign_lane(void)
{
    uint32_t number = __atomic_fetch_add(&lanes_given, 1, __ATOMIC_RELAXED);
    if (number >= 2 * TM_LANES)
        state_publish(lanes_given, TM_LANES); /* it must not come round to 0 */
    if (number < OWN_LANES)
        state_thread.lane = &tm_state.lanes[number];
    else
        shared_lane = &tm_state.lanes[OWN_LANES + number % SHARED_LANES];
}

static bool try_claim(struct tm_lane *lane)
{
    uint32_t free = TM_CLAIM_FREE;
    return __atomic_compare_exchange_n(&lane->claimed, &free, TM_CLAIM_TAKEN, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

static struct tm_lane *claim_shared(struct tm_lane *lane)
{
    for (unsigned turn = 0; !try_claim(lane); turn++) {
        lane = lane + 1 < tm_state.lanes + FORK_LANE ? lane + 1 : tm_state.lanes + OWN_LANES;
        lock_pause(turn);
    }
    return lane;
}

__attribute__((noinline, cold)) struct tm_lane *lane_find(void)
{
    if (!shared_lane)
        assign_lane();
    if (state_thread.lane)
        return state_thread.lane;
    return state_thread.is_forking ? &tm_state.lanes[FORK_LANE] : claim_shared(shared_lane);
}

static void raise_peak(int64_t bytes)
{
    int64_t seen = (int64_t)state_peek(tm_state.peak);
    while (bytes > seen && !__atomic_compare_exchange_n((int64_t *)&tm_state.peak, &seen, bytes, true, __ATOMIC_RELAXED,
                                                        __ATOMIC_RELAXED))
        ;
}

static unsigned lanes_in_use(void)
{
    uint32_t given = state_peek(lanes_given);
    return given < OWN_LANES ? given : TM_LANES;
}

static int64_t sum_of_lanes(void)
{
    int64_t sum = 0;
    for (unsigned i = 0; i < lanes_in_use(); i++)
        sum += state_peek(tm_state.lanes[i].bytes);
    return sum;
}

/* What the sum was when LANE was at its highest, as far as the other lanes have not moved since. */
static int64_t highest_sum(const struct tm_lane *lane)
{
    return sum_of_lanes() - state_peek(lane->bytes) + state_peek(lane->high);
}

__attribute__((noinline, cold)) void lane_look_at_peak(struct tm_lane *lane)
{
    raise_peak(highest_sum(lane));
    __atomic_store_n(&lane->high, lane->bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&lane->looked, lane->bytes, __ATOMIC_RELAXED);
}

__attribute__((noinline, cold)) void lane_start_anew(struct tm_lane *lane, uint32_t resets)
{
    __atomic_store_n(&lane->high, lane->bytes, __ATOMIC_RELAXED);
    state_publish(lane->resets, resets);
}

/* Another thread may have removed a block's trace before the thread that put it could count it: never below 0. */
static uint64_t at_least_none(int64_t bytes)
{
    return bytes > 0 ? (uint64_t)bytes : 0;
}

void lane_read(size_t *current, size_t *peak)
{
    for (unsigned i = 0; i < lanes_in_use(); i++)
        if (state_peek(tm_state.lanes[i].resets) == (uint32_t)state_peek(tm_state.resets))
            raise_peak(highest_sum(&tm_state.lanes[i]));
    int64_t sum = sum_of_lanes();
    raise_peak(sum);
    *current = (size_t)at_least_none(sum);
    *peak = (size_t)state_peek(tm_state.peak);
}

void lane_reset_peak(void)
{
    state_add(tm_state.resets, 1);
    state_publish(tm_state.peak, at_least_none(sum_of_lanes()));
}

void lane_quiesce(void)
{
    const unsigned enough = 40000;
    for (int i = 0; i < TM_LANES; i++) {
        const uint32_t *claimed = &tm_state.lanes[i].claimed;
        for (unsigned turn = 0; claimed != state_thread.claim && turn < enough; turn++) {
            if (__atomic_load_n(claimed, __ATOMIC_SEQ_CST) != TM_CLAIM_TAKEN)
                break;
            lock_pause(turn);
        }
    }
}

bool lane_was_moving(void)
{
    for (int i = 0; i < TM_LANES; i++)
        if (state_thread.claim != &tm_state.lanes[i].claimed && tm_state.lanes[i].growing)
            return true;
    return false;
}

void lane_reset_claims(void)
{
    for (int i = 0; i < TM_LANES; i++)
        if (state_thread.claim != &tm_state.lanes[i].claimed)
            state_publish(tm_state.lanes[i].claimed, TM_CLAIM_FREE);
}
