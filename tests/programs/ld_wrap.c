/* ld_wrap.c: linked into a program with -Wl,--wrap=malloc and so on, as test doubles are. */

#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_realloc(void *ptr, size_t size);
void __real_free(void *ptr);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *ptr, size_t size);
void __wrap_free(void *ptr);

static volatile long calls;

void *__wrap_malloc(size_t size)
{
    calls++;
    return __real_malloc(size);
}

void *__wrap_realloc(void *ptr, size_t size)
{
    calls++;
    return __real_realloc(ptr, size);
}

void __wrap_free(void *ptr)
{
    calls++;
    __real_free(ptr);
}
