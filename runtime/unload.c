/* unload.c: dlclose: what it takes away is entered into the table of unloaded modules. */

#define _GNU_SOURCE
#include "modules.h"
#include "state.h"

#include <dlfcn.h>
#include <errno.h>

__attribute__((visibility("default"), used)) int dlclose(void *handle)
{
    static int (*real_dlclose)(void *handle);
    if (!state_load(real_dlclose))
        state_publish(real_dlclose, (int (*)(void *))dlsym(RTLD_NEXT, "dlclose"));
    if (!state_load(tm_state.head)) /* never started: nothing was learned of any module */
        return real_dlclose(handle);
    int error = errno;
    modules_before_unload();
    errno = error;
    int status = real_dlclose(handle);
    error = errno;
    modules_after_unload();
    errno = error;
    return status;
}
