/* api.c: the public functions. */

#define _GNU_SOURCE
#include "tracemalloc.h"

#include "domains.h"
#include "fork.h"
#include "kernel.h"
#include "lane.h"
#include "record.h"
#include "skiplist.h"
#include "state.h"

#include <errno.h>
#include <limits.h>

#define FRAMES_MAX 65535

/* Once. What it needs stays for good. */
static bool prepare(void)
{
    static bool prepared;
    if (prepared)
        return true;
    skiplist_init();
    prepared = capture_init() && fork_init();
    return prepared;
}

static int start(uint32_t nframe)
{
    if (state_is_tracing())
        return 0;
    if (state_load(tm_state.mode) & TM_MODE_ABANDONED || !prepare()) {
        errno = ENOMEM;
        return -1;
    }
    tm_state.frame_limit = nframe;
    tm_state.started = kernel_now();
    lane_reset_peak();
    __atomic_fetch_or(&tm_state.mode, TM_MODE_TRACING, __ATOMIC_SEQ_CST);
    return 0;
}

TM_API int tm_start(int nframe)
{
    if (nframe < 1 || nframe > FRAMES_MAX) {
        errno = EINVAL;
        return -1;
    }
    bool was_busy = state_thread.is_busy;
    state_thread.is_busy = true;
    if (state_load(tm_state.head))
        capture_forget_gone();
    lock_acquire(&state_control_lock);
    int status = start((uint32_t)nframe);
    lock_release(&state_control_lock);
    state_thread.is_busy = was_busy;
    return status;
}

/* A signal handler that allocates meanwhile must not enter the tables, too. */
static void clear(void)
{
    bool was_busy = state_thread.is_busy;
    state_thread.is_busy = true;
    if (state_load(tm_state.head))
        trace_clear();
    state_thread.is_busy = was_busy;
}

TM_API void tm_stop(void)
{
    lock_acquire(&state_control_lock);
    __atomic_fetch_and(&tm_state.mode, ~(uint32_t)TM_MODE_TRACING, __ATOMIC_SEQ_CST);
    clear();
    lock_release(&state_control_lock);
}

TM_API void tm_clear_traces(void)
{
    clear();
    if (state_load(tm_state.head))
        state_publish(tm_state.started, kernel_now());
}

TM_API void tm_reset_peak(void)
{
    lane_reset_peak();
}

TM_API int tm_is_tracing(void)
{
    return state_is_tracing();
}

TM_API int tm_get_traceback_limit(void)
{
    return (int)state_peek(tm_state.frame_limit);
}

TM_API void tm_get_traced_memory(size_t *current, size_t *peak)
{
    *current = *peak = 0;
    if (state_is_tracing())
        lane_read(current, peak);
}

TM_API size_t tm_get_tracemalloc_memory(void)
{
    return (size_t)state_peek(tm_state.arena_bytes);
}

TM_API int tm_get_object_traceback(const void *ptr, void **frames, int max)
{
    if (state_thread.claim || !state_is_tracing())
        return 0;
    bool was_busy = state_thread.is_busy;
    state_thread.is_busy = true;
    const struct tm_site *site = trace_site(0, (uintptr_t)ptr);
    state_thread.is_busy = was_busy;
    if (!site)
        return 0;
    for (int i = 0; i < max && i < (int)site->nframe; i++)
        frames[i] = (void *)site_frame(site, (uint32_t)i);
    return (int)site->nframe;
}

/* A signal handler that interrupted the library: its tables are not to be entered twice. */
static int refuse_inside(void)
{
    state_add(tm_state.lost, 1);
    return -1;
}

TM_API int tm_track(unsigned domain, uintptr_t ptr, size_t size)
{
    if (!state_is_tracing())
        return -2;
    if (state_thread.claim)
        return refuse_inside();
    bool was_busy = state_thread.is_busy;
    state_thread.is_busy = true;
    enum trace_result result = record_block(domain, ptr, size, CAPTURE_CALLER());
    state_thread.is_busy = was_busy;
    return result == TRACE_DONE ? 0 : result == TRACE_OFF ? -2 : -1;
}

TM_API int tm_untrack(unsigned domain, uintptr_t ptr)
{
    if (!state_is_tracing())
        return -2;
    if (state_thread.claim)
        return refuse_inside();
    record_remove(domain, ptr, state_thread.is_busy);
    return 0;
}

TM_API int tm_domain_name(unsigned domain, const char *name)
{
    bool was_busy = state_thread.is_busy;
    state_thread.is_busy = true;
    bool done = domains_name(domain, name);
    state_thread.is_busy = was_busy;
    return done ? 0 : -1;
}
