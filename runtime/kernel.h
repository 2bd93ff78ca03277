/* kernel.h: memory straight from the kernel, past any mmap that the program may have put in libc's place. */

#ifndef TM_KERNEL_H
#define TM_KERNEL_H

#include <stddef.h>

/* SIZE bytes of private anonymous memory, zeroed; a multiple of the page size. NULL when there is none. Keeps errno. */
void *kernel_map(size_t size);

#endif
