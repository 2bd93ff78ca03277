/* unload.c: dlclose, and __cxa_finalize, which every module calls when its destructors run: also one that libc unloads
   by itself. What they take away is entered into the table of unloaded modules. */

#define _GNU_SOURCE
#include "modules.h"
#include "record.h"
#include "state.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>

#define HOOK __attribute__((visibility("default"), used))

/* glibc's, where no loader tells the next one: in a program that is linked with -static. */
extern int __dlclose(void *handle) __attribute__((weak));

static int (*real_dlclose)(void *handle);
static void (*real_finalize)(void *module);

/* Early: a lookup waits for the loader. */
__attribute__((constructor(101))) static void resolve(void)
{
    real_dlclose = (int (*)(void *))dlsym(RTLD_NEXT, "dlclose");
    if (!real_dlclose)
        real_dlclose = __dlclose;
    real_finalize = (void (*)(void *))dlsym(RTLD_NEXT, "__cxa_finalize");
}

/* Not while busy: dlinfo frees what dlerror gave the program. */
static void *map_elsewhere(void *handle)
{
    Lmid_t id;
    struct link_map *map;
    bool is_elsewhere = handle && dlinfo(handle, RTLD_DI_LMID, &id) == 0 && id != LM_ID_BASE &&
                        dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0;
    return is_elsewhere ? map : NULL;
}

HOOK int dlclose(void *handle)
{
    if (!real_dlclose)
        resolve();
    /* Never started: nothing was learned of any module. Busy: a signal handler that interrupted the library. */
    if (state_thread.is_busy || !state_load(tm_state.head))
        return real_dlclose(handle);
    int error = errno;
    void *map = map_elsewhere(handle);
    state_thread.is_busy = true; /* a signal handler that allocates must not want the same locks */
    modules_before_unload(map);
    state_thread.is_busy = false;
    errno = error;
    int status = real_dlclose(handle);
    error = errno;
    state_thread.is_busy = true;
    modules_after_unload();
    state_thread.is_busy = false;
    errno = error;
    return status;
}

/* MODULE is an address in the module, or NULL at exit. */
HOOK void __cxa_finalize(void *module)
{
    if (!real_finalize)
        resolve();
    if (module && !state_thread.is_busy && state_load(tm_state.head)) {
        int error = errno;
        state_thread.is_busy = true;
        modules_expect_unload((uintptr_t)module);
        state_thread.is_busy = false;
        errno = error;
    }
    if (real_finalize)
        real_finalize(module);
}
