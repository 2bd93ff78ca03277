/* own_heap.c: linked into a program, the whole of malloc's family on a heap of its own, which is never reused. As in
   many programs there is no reallocarray: libc's calls the realloc below. */

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static _Alignas(4096) char heap[64 << 20];
static _Atomic size_t used;

/* Its size lies before each block. */
void *memalign(size_t alignment, size_t size)
{
    size_t most = alignment + size + 32;
    size_t start = size > sizeof heap ? sizeof heap : atomic_fetch_add(&used, most);
    if (start > sizeof heap - most) {
        errno = ENOMEM;
        return NULL;
    }
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
    return malloc(bytes);
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
