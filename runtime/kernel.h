/* kernel.h: what is asked of the kernel itself: memory, past any mmap that the program may have put in libc's
   place, and the time. */

#ifndef TM_KERNEL_H
#define TM_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* SIZE bytes of private anonymous memory, zeroed; a multiple of the page size. NULL when there is none. Keeps errno. */
void *kernel_map(size_t size);

/* Gives SIZE bytes from MEMORY on, of what kernel_map gave and nobody has written to, their pages at once: one by one
   each would take a fault, and two on a virtual machine. Does nothing where they are no whole pages. False: none of it
   may be touched any more. Keeps errno. */
bool kernel_fill(void *memory, size_t size);

/* Nanoseconds since 1970. */
uint64_t kernel_now(void);

#endif
