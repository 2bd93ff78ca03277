/* hooks.c: malloc, free and their kin: decide, call the real one, record or forget.

   The thread is busy while the library or a real allocator works for it: what these allocate or free between
   themselves is not the program's, and nothing is counted twice. wrap.c builds the same hooks under other names. */

#define _GNU_SOURCE
#include "environment.h"
#include "real.h"
#include "record.h"
#include "state.h"

#include <stdlib.h>

#define HOOK __attribute__((visibility("default"), used))
#ifndef HOOK_NAME
#define HOOK_NAME(name) name
extern __typeof__(realloc) real_own_realloc __attribute__((alias("realloc"), visibility("hidden"), nothrow, leaf));
#endif

/* Brings environment.c along where the linker takes from an archive only what is asked for. */
static void (*const start)(void) __attribute__((used)) = environment_start;

/* Under a claim only a signal handler comes by here: the tables are not to be entered twice. */
static inline bool records_now(void)
{
    if (state_likely(!state_is_tracing()))
        return false;
    if (state_likely(!state_thread.is_busy))
        return true;
    if (state_thread.claim && !capture_may_allocate())
        state_add(tm_state.lost, 1);
    return false;
}

/* A function of its own, or every hook would keep the variable's address for it in a register. */
static __attribute__((noinline, cold)) void give_up(void)
{
    state_thread.is_busy = false;
}

/* The end of every allocation of the program: RESULT, recorded if there is one. */
static inline void *finish(void *result, size_t size, struct call_point caller)
{
    if (state_likely(result != NULL))
        record_block(0, (uintptr_t)result, size, caller);
    else
        give_up();
    return result;
}

HOOK void *HOOK_NAME(malloc)(size_t size)
{
    if (!records_now())
        return real.malloc(size);
    state_thread.is_busy = true;
    void *result = real.malloc(size);
    return finish(result, size, CAPTURE_CALLER());
}

HOOK void *HOOK_NAME(calloc)(size_t count, size_t size)
{
    if (!records_now())
        return real.calloc(count, size);
    state_thread.is_busy = true;
    void *result = real.calloc(count, size);
    return finish(result, count * size, CAPTURE_CALLER());
}

HOOK void HOOK_NAME(free)(void *ptr)
{
    if (records_now() && ptr)
        record_remove(0, (uintptr_t)ptr, false);
    real.free(ptr);
}

/* C23 lets these be free; glibc's call the program's free, and so do ours. */
HOOK void HOOK_NAME(free_sized)(void *ptr, size_t size)
{
    (void)size;
    HOOK_NAME(free)(ptr);
}

HOOK void HOOK_NAME(free_aligned_sized)(void *ptr, size_t alignment, size_t size)
{
    (void)alignment, (void)size;
    HOOK_NAME(free)(ptr);
}

/* The record goes before the real call: afterwards another thread may own the address. */
static inline void *traced_realloc(void *ptr, size_t size, struct call_point caller)
{
    state_thread.is_busy = true;
    uint64_t removed = ptr ? record_remove(0, (uintptr_t)ptr, true) : 0;
    void *result = real.realloc(ptr, size);
    /* A null result for size 0 means that PTR was freed. */
    if (!result && size != 0)
        record_restore(0, (uintptr_t)ptr, removed);
    return finish(result, size, caller);
}

HOOK void *HOOK_NAME(realloc)(void *ptr, size_t size)
{
    if (!records_now())
        return real.realloc(ptr, size);
    return traced_realloc(ptr, size, CAPTURE_CALLER());
}

/* libc's calls the program's realloc: while that is ours the thread is busy, so nothing is counted twice. */
HOOK void *HOOK_NAME(reallocarray)(void *ptr, size_t count, size_t size)
{
    if (!records_now() || real.is_covered)
        return real.reallocarray(ptr, count, size);
    state_thread.is_busy = true;
    uint64_t removed = ptr ? record_remove(0, (uintptr_t)ptr, true) : 0;
    void *result = real.reallocarray(ptr, count, size);
    if (!result && count != 0 && size != 0)
        record_restore(0, (uintptr_t)ptr, removed);
    return finish(result, count * size, CAPTURE_CALLER());
}

HOOK int HOOK_NAME(posix_memalign)(void **ptr, size_t alignment, size_t size)
{
    if (!records_now())
        return real.posix_memalign(ptr, alignment, size);
    state_thread.is_busy = true;
    int status = real.posix_memalign(ptr, alignment, size);
    finish(status == 0 ? *ptr : NULL, size, CAPTURE_CALLER());
    return status;
}

HOOK void *HOOK_NAME(aligned_alloc)(size_t alignment, size_t size)
{
    if (!records_now())
        return real.aligned_alloc(alignment, size);
    state_thread.is_busy = true;
    return finish(real.aligned_alloc(alignment, size), size, CAPTURE_CALLER());
}

HOOK void *HOOK_NAME(memalign)(size_t alignment, size_t size)
{
    if (!records_now())
        return real.memalign(alignment, size);
    state_thread.is_busy = true;
    return finish(real.memalign(alignment, size), size, CAPTURE_CALLER());
}

HOOK void *HOOK_NAME(valloc)(size_t size)
{
    if (!records_now())
        return real.valloc(size);
    state_thread.is_busy = true;
    return finish(real.valloc(size), size, CAPTURE_CALLER());
}

HOOK void *HOOK_NAME(pvalloc)(size_t size)
{
    if (!records_now())
        return real.pvalloc(size);
    state_thread.is_busy = true;
    return finish(real.pvalloc(size), size, CAPTURE_CALLER());
}
