/* traced.h: what a test program knows of the library: nothing where it is not loaded. */

#ifndef TRACED_H
#define TRACED_H

#include <stddef.h>
#include <stdint.h>

int tm_is_tracing(void) __attribute__((weak));
void tm_get_traced_memory(size_t *current, size_t *peak) __attribute__((weak));
int tm_get_object_traceback(const void *ptr, void **frames, int max) __attribute__((weak));
int tm_track(unsigned domain, uintptr_t ptr, size_t size) __attribute__((weak));
int tm_untrack(unsigned domain, uintptr_t ptr) __attribute__((weak));

static inline int is_traced(void)
{
    return tm_is_tracing && tm_is_tracing();
}

/* Bytes that are traced now. */
static inline size_t traced_now(void)
{
    size_t current = 0, peak = 0;
    if (is_traced())
        tm_get_traced_memory(&current, &peak);
    return current;
}

/* How many frames are known of BLOCK. */
static inline int frames_of(const void *block)
{
    return is_traced() ? tm_get_object_traceback(block, NULL, 0) : 0;
}

#endif
