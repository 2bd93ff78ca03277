/* hooks.c: malloc, free and their kin, and dlclose: decide, call the real one, record or forget.

   The real ones are those that the program would have had: the next in the loader's order. They are looked up
   at the first call. The loader may itself allocate for that; a small static heap serves it, and is never
   recorded. The thread is busy while the library or a real allocator works for it: what these allocate or
   free between themselves is not the program's, and nothing is counted twice. */

#define _GNU_SOURCE
#include "fork.h"
#include "modules.h"
#include "record.h"
#include "state.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#define HOOK __attribute__((visibility("default"), used))

struct real {
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *ptr, size_t size);
    void (*free)(void *ptr);
    int (*posix_memalign)(void **ptr, size_t alignment, size_t size);
    void *(*aligned_alloc)(size_t alignment, size_t size);
    void *(*memalign)(size_t alignment, size_t size);
    void *(*valloc)(size_t size);
    void *(*pvalloc)(size_t size);
};

static bool resolve(void);

/* The static heap. A block is preceded by its size; nothing in it is ever used again. */
static _Alignas(16) char early_heap[32 << 10];
static size_t early_used;

static void *early_take(size_t alignment, size_t size)
{
    uintptr_t base = (uintptr_t)early_heap;
    size_t start = ((base + early_used + 16 + alignment - 1) & ~(uintptr_t)(alignment - 1)) - base;
    if (size > sizeof early_heap || start > sizeof early_heap - size) {
        errno = ENOMEM;
        return NULL;
    }
    early_used = (start + size + 15) & ~(size_t)15;
    memcpy(early_heap + start - sizeof(size_t), &size, sizeof size);
    return early_heap + start;
}

static bool is_early(const void *ptr)
{
    return (uintptr_t)ptr - (uintptr_t)early_heap < sizeof early_heap;
}

static struct real real;
static struct real found; /* what the loader gave, behind `real` where that minds the static heap */

static void *first_malloc(size_t size)
{
    return resolve() ? real.malloc(size) : early_take(16, size);
}

static void *first_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (resolve())
        return real.calloc(count, size);
    return __builtin_mul_overflow(count, size, &bytes) ? NULL : early_take(16, bytes);
}

static void *move_early(void *ptr, size_t size)
{
    size_t had;
    memcpy(&had, (char *)ptr - sizeof had, sizeof had);
    void *moved = found.malloc ? found.malloc(size) : early_take(16, size);
    if (moved)
        memcpy(moved, ptr, had < size ? had : size);
    return moved;
}

static void *first_realloc(void *ptr, size_t size)
{
    if (resolve())
        return real.realloc(ptr, size);
    return ptr ? move_early(ptr, size) : early_take(16, size);
}

static void first_free(void *ptr)
{
    if (!is_early(ptr) && resolve())
        real.free(ptr);
}

static int first_posix_memalign(void **ptr, size_t alignment, size_t size)
{
    if (resolve())
        return real.posix_memalign(ptr, alignment, size);
    *ptr = early_take(alignment, size);
    return *ptr ? 0 : ENOMEM;
}

static void *first_aligned_alloc(size_t alignment, size_t size)
{
    return resolve() ? real.aligned_alloc(alignment, size) : early_take(alignment, size);
}

static void *first_memalign(size_t alignment, size_t size)
{
    return resolve() ? real.memalign(alignment, size) : early_take(alignment, size);
}

static void *first_valloc(size_t size)
{
    return resolve() ? real.valloc(size) : NULL;
}

static void *first_pvalloc(size_t size)
{
    return resolve() ? real.pvalloc(size) : NULL;
}

static struct real real = {
    first_malloc,        first_calloc,   first_realloc, first_free,    first_posix_memalign,
    first_aligned_alloc, first_memalign, first_valloc,  first_pvalloc,
};

/* Behind `real` where the static heap was used: its blocks must not reach the real allocator. */
static void *mindful_realloc(void *ptr, size_t size)
{
    return is_early(ptr) ? move_early(ptr, size) : found.realloc(ptr, size);
}

static void mindful_free(void *ptr)
{
    if (!is_early(ptr))
        found.free(ptr);
}

/* What the libc does not have. */
static void *absent_allocator(void)
{
    errno = ENOMEM;
    return NULL;
}

static void *next(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    return function ? function : (void *)absent_allocator;
}

/* False while it runs, in calls that the lookup itself makes. */
static bool resolve(void)
{
    static bool resolving;
    if (resolving)
        return false;
    resolving = true;
    int error = errno;
    found = (struct real){
        next("malloc"),        next("calloc"),   next("realloc"), next("free"),    next("posix_memalign"),
        next("aligned_alloc"), next("memalign"), next("valloc"),  next("pvalloc"),
    };
    real = found;
    if (early_used) {
        real.realloc = mindful_realloc;
        real.free = mindful_free;
    }
    fork_init();
    errno = error;
    resolving = false;
    return true;
}

static inline bool records_now(void)
{
    return state_unlikely(state_is_tracing()) && !record_is_busy;
}

/* The end of every allocation of the program: RESULT, recorded if there is one. */
static inline void *finish(void *result, size_t size, struct call_point caller)
{
    if (state_likely(result != NULL))
        record_block(0, (uintptr_t)result, size, caller);
    record_is_busy = false;
    return result;
}

HOOK void *malloc(size_t size)
{
    if (!records_now())
        return real.malloc(size);
    record_is_busy = true;
    return finish(real.malloc(size), size, CAPTURE_CALLER());
}

HOOK void *calloc(size_t count, size_t size)
{
    if (!records_now())
        return real.calloc(count, size);
    record_is_busy = true;
    return finish(real.calloc(count, size), count * size, CAPTURE_CALLER());
}

HOOK void free(void *ptr)
{
    if (records_now() && ptr) {
        record_is_busy = true;
        record_remove(0, (uintptr_t)ptr);
        record_is_busy = false;
    }
    real.free(ptr);
}

/* The record goes before the real call: afterwards another thread may own the address. */
static inline void *traced_realloc(void *ptr, size_t size, struct call_point caller)
{
    record_is_busy = true;
    uint64_t removed = ptr ? record_remove(0, (uintptr_t)ptr) : 0;
    void *result = real.realloc(ptr, size);
    /* A null result for size 0 means that PTR was freed. */
    if (!result && size != 0)
        record_restore(0, (uintptr_t)ptr, removed);
    return finish(result, size, caller);
}

HOOK void *realloc(void *ptr, size_t size)
{
    if (!records_now())
        return real.realloc(ptr, size);
    return traced_realloc(ptr, size, CAPTURE_CALLER());
}

HOOK void *reallocarray(void *ptr, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    if (!records_now())
        return real.realloc(ptr, bytes);
    return traced_realloc(ptr, bytes, CAPTURE_CALLER());
}

HOOK int posix_memalign(void **ptr, size_t alignment, size_t size)
{
    if (!records_now())
        return real.posix_memalign(ptr, alignment, size);
    record_is_busy = true;
    int status = real.posix_memalign(ptr, alignment, size);
    finish(status == 0 ? *ptr : NULL, size, CAPTURE_CALLER());
    return status;
}

HOOK void *aligned_alloc(size_t alignment, size_t size)
{
    if (!records_now())
        return real.aligned_alloc(alignment, size);
    record_is_busy = true;
    return finish(real.aligned_alloc(alignment, size), size, CAPTURE_CALLER());
}

HOOK void *memalign(size_t alignment, size_t size)
{
    if (!records_now())
        return real.memalign(alignment, size);
    record_is_busy = true;
    return finish(real.memalign(alignment, size), size, CAPTURE_CALLER());
}

HOOK void *valloc(size_t size)
{
    if (!records_now())
        return real.valloc(size);
    record_is_busy = true;
    return finish(real.valloc(size), size, CAPTURE_CALLER());
}

HOOK void *pvalloc(size_t size)
{
    if (!records_now())
        return real.pvalloc(size);
    record_is_busy = true;
    return finish(real.pvalloc(size), size, CAPTURE_CALLER());
}

HOOK int dlclose(void *handle)
{
    static int (*real_dlclose)(void *handle);
    if (!state_load(real_dlclose))
        state_publish(real_dlclose, (int (*)(void *))dlsym(RTLD_NEXT, "dlclose"));
    if (!state_load(tm_state.head)) /* never started: nothing was learned of any module */
        return real_dlclose(handle);
    int error = errno;
    modules_before_unload();
    errno = error;
    int status = real_dlclose(handle);
    error = errno;
    modules_after_unload();
    errno = error;
    return status;
}
