/* own_malloc.c: linked into a program, wraps the allocator that comes next, as allocation counters do. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

static void *(*next_malloc)(size_t size);
static void *(*next_calloc)(size_t count, size_t size);
static void *(*next_realloc)(void *ptr, size_t size);
static void (*next_free)(void *ptr);
static long calls;

static void *find(void **next, const char *name)
{
    if (!*next)
        *next = dlsym(RTLD_NEXT, name);
    calls++;
    return *next;
}

void *malloc(size_t size)
{
    find((void **)&next_malloc, "malloc");
    void *result = next_malloc(size);
    return result;
}

void *calloc(size_t count, size_t size)
{
    find((void **)&next_calloc, "calloc");
    void *result = next_calloc(count, size);
    return result;
}

void *realloc(void *ptr, size_t size)
{
    find((void **)&next_realloc, "realloc");
    void *result = next_realloc(ptr, size);
    return result;
}

void free(void *ptr)
{
    find((void **)&next_free, "free");
    next_free(ptr);
}
