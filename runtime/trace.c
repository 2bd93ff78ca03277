/* trace.c: packs size and site into an entry, keeps the counters in step with the skiplist. */

#include "trace.h"

#include "lane.h"
#include "skiplist.h"
#include "state.h"

#define SIZE_MASK ((UINT64_C(1) << TM_SIZE_BITS) - 1)

static __attribute__((noinline, cold)) int64_t large_entry_size(uint64_t entry)
{
    return (int64_t)((uint64_t)site_get(trace_site_number(entry))->size_high << TM_SIZE_BITS | (entry & SIZE_MASK));
}

static inline int64_t entry_size(uint64_t entry)
{
    return state_unlikely(state_peek(site_any_high)) ? large_entry_size(entry) : (int64_t)(entry & SIZE_MASK);
}

static inline uint64_t take(struct tm_lane *lane, uint32_t domain, uintptr_t address)
{
    uint64_t entry = skiplist_take(domain, address);
    if (state_likely(entry != 0))
        lane_count(lane, -entry_size(entry), -1);
    return entry;
}

uint64_t trace_entry(uint32_t domain, size_t size, const struct traceback *traceback)
{
    uint32_t site = site_intern(domain, (uint32_t)((uint64_t)size >> TM_SIZE_BITS), traceback);
    return state_likely(site != 0) ? trace_pack(site, (size_t)((uint64_t)size & SIZE_MASK)) : 0;
}

enum trace_result trace_add(struct tm_lane *lane, uint32_t domain, uintptr_t address, struct tm_page *expected,
                            uint64_t entry)
{
    uint64_t old;
    enum skiplist_result result = skiplist_put(domain, address, expected, entry, &old);
    if (state_likely(result == SKIPLIST_DONE)) {
        if (state_likely(old == 0))
            lane_count(lane, entry_size(entry), 1);
        else
            lane_count(lane, entry_size(entry) - entry_size(old), 0);
        return TRACE_DONE;
    }
    return result == SKIPLIST_OFF ? TRACE_OFF : trace_lose(lane, domain, address);
}

__attribute__((noinline, cold)) enum trace_result trace_lose(struct tm_lane *lane, uint32_t domain, uintptr_t address)
{
    take(lane, domain, address);
    state_add(tm_state.lost, 1);
    return TRACE_LOST;
}

uint64_t trace_remove(struct tm_lane *lane, uint32_t domain, uintptr_t address)
{
    return take(lane, domain, address);
}

const struct tm_site *trace_site(uint32_t domain, uintptr_t address)
{
    struct tm_lane *lane = lane_claim();
    uint64_t entry = skiplist_get(domain, address);
    lane_release(lane);
    return entry ? site_get(trace_site_number(entry)) : NULL;
}

static void drop(void *lane, uint64_t entry)
{
    lane_count(lane, -entry_size(entry), -1);
}

void trace_clear(void)
{
    struct tm_lane *lane = lane_claim();
    skiplist_clear(drop, lane);
    lane_release(lane);
    lane_reset_peak();
}
