/* record.c: claims a lane, walks the stack in it, adds the trace. */

#include "record.h"

#include "lane.h"
#include "state.h"

enum trace_result record_block(uint32_t domain, uintptr_t address, size_t size, struct call_point caller)
{
    struct tm_lane *lane = lane_claim();
    struct traceback traceback;
    enum trace_result result;
    if (state_likely(capture_walk(lane, caller, state_peek(tm_state.frame_limit), &traceback)))
        result = trace_add(lane, domain, address, size, &traceback);
    else
        result = trace_lose(lane, domain, address);
    lane_release(lane);
    state_thread.is_busy = false;
    return result;
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
    struct tm_lane *lane = lane_claim();
    trace_restore(lane, domain, address, removed);
    lane_release(lane);
}
