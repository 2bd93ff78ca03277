/* unload.c: dlclose, and __cxa_finalize, which every module calls when its destructors run: also one that libc unloads
   by itself. What they take away is entered into the table of unloaded modules. */

#define _GNU_SOURCE
#include "modules.h"
#include "record.h"
#include "state.h"

#include <dlfcn.h>
#include <errno.h>

#define HOOK __attribute__((visibility("default"), used))

static int (*real_dlclose)(void *handle);
static void (*real_finalize)(void *module);

/* Early: a lookup waits for the loader. */
__attribute__((constructor(101))) static void resolve(void)
{
    real_dlclose = (int (*)(void *))dlsym(RTLD_NEXT, "dlclose");
    real_finalize = (void (*)(void *))dlsym(RTLD_NEXT, "__cxa_finalize");
}

HOOK int dlclose(void *handle)
{
    if (!real_dlclose)
        resolve();
    if (!state_load(tm_state.head)) /* never started: nothing was learned of any module */
        return real_dlclose(handle);
    int error = errno;
    bool was_busy = record_is_busy; /* a signal handler that allocates must not want the same locks */
    record_is_busy = true;
    modules_before_unload(handle);
    record_is_busy = was_busy;
    errno = error;
    int status = real_dlclose(handle);
    error = errno;
    record_is_busy = true;
    modules_after_unload();
    record_is_busy = was_busy;
    errno = error;
    return status;
}

/* MODULE is an address in the module, or NULL at exit. */
HOOK void __cxa_finalize(void *module)
{
    if (!real_finalize)
        resolve();
    if (module && state_load(tm_state.head)) {
        int error = errno;
        bool was_busy = record_is_busy;
        record_is_busy = true;
        modules_expect_unload((uintptr_t)module);
        record_is_busy = was_busy;
        errno = error;
    }
    real_finalize(module);
}
