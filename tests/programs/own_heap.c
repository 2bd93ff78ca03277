/* own_heap.c: linked into a program or preloaded, the whole of malloc's family on a heap of its own. It may be entered
   at any moment, in signal handlers too: it hands out its memory in turn, whoever holds a block for long loses it. As
   in many programs there is no reallocarray: libc's calls the realloc below. */

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HEAP ((size_t)64 << 20)
#define KEPT ((size_t)8 << 20) /* the first blocks stay */

static _Alignas(4096) char heap[HEAP];
static _Atomic size_t used;

static size_t place(size_t size)
{
    size_t start, at;
    do {
        start = atomic_fetch_add(&used, size);
        at = start < KEPT ? start : KEPT + (start - KEPT) % (HEAP - KEPT);
    } while (at + size > HEAP);
    return at;
}

/* Its size lies before each block. */
void *memalign(size_t alignment, size_t size)
{
    if (size > HEAP / 4 || alignment > HEAP / 4) {
        errno = ENOMEM;
        return NULL;
    }
    size_t start = place(alignment + size + 32);
    char *result = (char *)(((uintptr_t)heap + start + 16 + alignment - 1) & ~(uintptr_t)(alignment - 1));
    memcpy(result - sizeof size, &size, sizeof size);
    return result;
}

size_t malloc_usable_size(void *ptr)
{
    size_t size = 0;
    if (ptr)
        memcpy(&size, (char *)ptr - sizeof size, sizeof size);
    return size;
}

void *malloc(size_t size)
{
    return memalign(16, size);
}

void *calloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    void *result = malloc(bytes);
    return result ? memset(result, 0, bytes) : NULL;
}

void free(void *ptr)
{
    if (ptr && (uintptr_t)ptr - (uintptr_t)heap >= sizeof heap)
        abort(); /* not ours: two heaps got mixed */
}

void *realloc(void *ptr, size_t size)
{
    void *result = malloc(size);
    size_t had = malloc_usable_size(ptr);
    if (result && ptr)
        memcpy(result, ptr, had < size ? had : size);
    if (result)
        free(ptr);
    return result;
}

int posix_memalign(void **ptr, size_t alignment, size_t size)
{
    void *result = memalign(alignment, size);
    if (!result)
        return ENOMEM;
    *ptr = result;
    return 0;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}
