/* record.c: claims a lane, in it recalls a walk of the stack or makes one, adds the trace. */

#include "record.h"

#include "lane.h"
#include "skiplist.h"
#include "state.h"

static __attribute__((noinline)) uint64_t walk(struct tm_lane *lane, uint32_t domain, size_t size,
                                               struct call_point caller, uint32_t limit)
{
    struct traceback traceback;
    if (state_unlikely(!capture_walk(lane, caller, limit, &traceback)))
        return 0;
    uint64_t entry = trace_entry(domain, size, &traceback);
    if (state_likely(entry != 0) && trace_is_common(domain, size))
        capture_keep(lane, limit, trace_site_number(entry));
    return entry;
}

static inline uint64_t make_entry(struct tm_lane *lane, uint32_t domain, size_t size, struct call_point caller)
{
    uint32_t limit = state_peek(tm_state.frame_limit);
    uint32_t site = state_likely(trace_is_common(domain, size)) ? capture_recall(lane, caller, limit) : 0;
    return state_likely(site != 0) ? trace_pack(site, size) : walk(lane, domain, size, caller, limit);
}

/* One for both that put an entry: all of what that takes is then this function's, or called from it. */
static enum trace_result record(uint32_t domain, uintptr_t address, size_t size, struct call_point caller,
                                uint64_t removed)
{
    struct tm_page *expected = skiplist_expect(domain, address);
    struct tm_lane *lane = lane_claim();
    uint64_t entry = state_likely(removed == 0) ? make_entry(lane, domain, size, caller) : removed;
    enum trace_result result = state_likely(entry != 0) ? trace_add(lane, domain, address, expected, entry)
                                                        : trace_lose(lane, domain, address);
    lane_release(lane);
    state_thread.is_busy = false;
    return result;
}

enum trace_result record_block(uint32_t domain, uintptr_t address, size_t size, struct call_point caller)
{
    return record(domain, address, size, caller, 0);
}

uint64_t record_remove(uint32_t domain, uintptr_t address, bool stays_busy)
{
    state_thread.is_busy = true;
    struct tm_lane *lane = lane_claim();
    uint64_t removed = trace_remove(lane, domain, address);
    lane_release(lane);
    state_thread.is_busy = stays_busy;
    return removed;
}

void record_restore(uint32_t domain, uintptr_t address, uint64_t removed)
{
    if (removed)
        record(domain, address, 0, (struct call_point){NULL, NULL}, removed);
    state_thread.is_busy = true;
}
