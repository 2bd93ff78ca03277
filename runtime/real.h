/* real.h: the allocator that the program would have without the library. */

#ifndef TM_REAL_H
#define TM_REAL_H

#include <stdbool.h>
#include <stddef.h>

struct real {
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *ptr, size_t size);
    void *(*reallocarray)(void *ptr, size_t count, size_t size);
    void (*free)(void *ptr);
    int (*posix_memalign)(void **ptr, size_t alignment, size_t size);
    void *(*aligned_alloc)(size_t alignment, size_t size);
    void *(*memalign)(size_t alignment, size_t size);
    void *(*valloc)(size_t size);
    void *(*pvalloc)(size_t size);
    bool is_covered; /* another realloc stands before ours: libc's functions that reallocate call that one */
};

/* Set by the first call of any of its functions. */
extern struct real real;

/* The library's realloc, by a name that nothing can come before. */
void *real_own_realloc(void *ptr, size_t size);

#endif
