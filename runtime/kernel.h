/* kernel.h: what is asked of the kernel itself: memory, past any mmap that the program may have put in libc's
   place, and the time. */

#ifndef TM_KERNEL_H
#define TM_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* SIZE bytes of private anonymous memory, zeroed; a multiple of the page size. NULL when there is none. Keeps errno. */
void *kernel_map(size_t size);

/* Nanoseconds since 1970. */
uint64_t kernel_now(void);

#endif
