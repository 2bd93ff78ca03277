/* kernel_limits.h: a kernel that gives no more memory, for a test that is linked with --wrap for both functions. */

#ifndef TM_TEST_KERNEL_LIMITS_H
#define TM_TEST_KERNEL_LIMITS_H

#include "kernel.h"

#include <sys/mman.h>

/* How many calls succeed from now on; -1: all. */
static int maps_left = -1;
static int fills_left = -1;

void *__real_kernel_map(size_t size);
void *__wrap_kernel_map(size_t size);
bool __real_kernel_fill(void *memory, size_t size);
bool __wrap_kernel_fill(void *memory, size_t size);

static inline bool takes_one(int *left)
{
    if (*left > 0)
        --*left;
    else if (*left == 0)
        return false;
    return true;
}

void *__wrap_kernel_map(size_t size)
{
    return takes_one(&maps_left) ? __real_kernel_map(size) : NULL;
}

/* What could not be filled is gone: to touch it is the test's end. */
bool __wrap_kernel_fill(void *memory, size_t size)
{
    if (takes_one(&fills_left))
        return __real_kernel_fill(memory, size);
    munmap(memory, size);
    return false;
}

#endif
