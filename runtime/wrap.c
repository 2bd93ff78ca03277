/* wrap.c: the hooks under the names that ld's --wrap gives them, for programs that are linked with -static: there is
   no loader's order in them, and libc's malloc comes with the rest of libc. The real functions go by the names that
   glibc gives them beside the usual ones: for those the linker would come back to this archive. Only the archive has
   this file. */

#ifndef PIC

#define HOOK_NAME(name) __wrap_##name
#include "hooks.c"

#include <errno.h>
#include <features.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *ptr, size_t size);
void __libc_free(void *ptr);
int __posix_memalign(void **ptr, size_t alignment, size_t size)
    __attribute__((weak)); /* only the static libc shows it */
void *__libc_memalign(size_t alignment, size_t size);
void *__libc_valloc(size_t size);
void *__libc_pvalloc(size_t size);

/* These have no second name, or none that every libc shows. */
static void *real_reallocarray(void *ptr, size_t count, size_t size)
{
    size_t bytes;
    if (!__builtin_mul_overflow(count, size, &bytes))
        return __libc_realloc(ptr, bytes);
    errno = ENOMEM;
    return NULL;
}

static void *real_aligned_alloc(size_t alignment, size_t size)
{
#if __GLIBC_PREREQ(2, 38)
    if (alignment == 0 || alignment & (alignment - 1)) {
        errno = EINVAL;
        return NULL;
    }
#endif
    return __libc_memalign(alignment, size);
}

/* Weak: a program with a loader that takes all of the archive has the one that is looked up, too. */
struct real real __attribute__((weak)) = {
    .malloc = __libc_malloc,
    .calloc = __libc_calloc,
    .realloc = __libc_realloc,
    .reallocarray = real_reallocarray,
    .free = __libc_free,
    .posix_memalign = __posix_memalign,
    .aligned_alloc = real_aligned_alloc,
    .memalign = __libc_memalign,
    .valloc = __libc_valloc,
    .pvalloc = __libc_pvalloc,
};

#endif
