/* real.c: looks the allocator up: the next one in the loader's order.

   That is done at the first call. The loader may itself allocate for it; a small static heap serves it, and is never
   recorded. */

#define _GNU_SOURCE
#include "real.h"

#include "fork.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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

static void *first_reallocarray(void *ptr, size_t count, size_t size)
{
    size_t bytes;
    if (resolve())
        return real.reallocarray(ptr, count, size);
    return __builtin_mul_overflow(count, size, &bytes) ? NULL : first_realloc(ptr, bytes);
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

struct real real = {
    .malloc = first_malloc,
    .calloc = first_calloc,
    .realloc = first_realloc,
    .reallocarray = first_reallocarray,
    .free = first_free,
    .posix_memalign = first_posix_memalign,
    .aligned_alloc = first_aligned_alloc,
    .memalign = first_memalign,
    .valloc = first_valloc,
    .pvalloc = first_pvalloc,
    .is_covered = true, /* until that is known, libc's reallocarray calls what the program would */
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

static int absent_posix_memalign(void **ptr, size_t alignment, size_t size)
{
    (void)ptr, (void)alignment, (void)size;
    return ENOMEM;
}

/* A lookup that fails would allocate, and show in the program's dlerror: only what every libc has is looked up. */
static void *next(const char *name, void *otherwise)
{
    void *function = dlsym(RTLD_NEXT, name);
    return function ? function : otherwise;
}

static bool is_covered(void)
{
    void *(*volatile programs)(void *, size_t) = realloc;
    return programs != real_own_realloc;
}

/* False while it runs, in calls that the lookup itself makes. */
static bool resolve(void)
{
    static bool resolving;
    if (resolving)
        return false;
    resolving = true;
    int error = errno;
    void *absent = (void *)absent_allocator;
    found = (struct real){
        .malloc = next("malloc", absent),
        .calloc = next("calloc", absent),
        .realloc = next("realloc", absent),
        .reallocarray = next("reallocarray", absent),
        .free = next("free", absent),
        .posix_memalign = next("posix_memalign", (void *)absent_posix_memalign),
        .aligned_alloc = next("aligned_alloc", absent),
        .memalign = next("memalign", absent),
        .valloc = next("valloc", absent),
        .pvalloc = next("pvalloc", absent),
        .is_covered = is_covered(),
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
