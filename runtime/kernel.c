/* kernel.c: mmap as a system call, and the clock. */

#define _GNU_SOURCE
#include "kernel.h"

#include <errno.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* 32-bit processors have the call that counts the offset in pages. */
#ifdef SYS_mmap2
#define MMAP SYS_mmap2
#else
#define MMAP SYS_mmap
#endif

static void *map(void *at, size_t size, int flags)
{
    int error = errno;
    long memory = syscall(MMAP, at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    errno = error;
    return memory == -1 ? NULL : (void *)memory;
}

void *kernel_map(size_t size)
{
    return map(NULL, size, 0);
}

/* A new mapping in place of the old one: programs that let the kernel forbid them calls allow this one. */
bool kernel_fill(void *memory, size_t size)
{
    if (((uintptr_t)memory | size) & (getauxval(AT_PAGESZ) - 1))
        return true;
    return map(memory, size, MAP_FIXED | MAP_POPULATE) != NULL;
}

uint64_t kernel_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}
