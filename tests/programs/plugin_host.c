/* plugin_host.c: loads ./libplugin.so, lets it allocate, unloads it; then the same with ./libother.so, which stays. */

#define CHECKPOINT_COUNTERS
#include "checkpoint.h"

#include <dlfcn.h>
#include <stdio.h>

void *from_gone;
void *from_other;

static void *use(const char *path, size_t size, int unload)
{
    void *module = dlopen(path, RTLD_NOW); /* line: dlopen */
    if (!module) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    void *(*make)(size_t) = (void *(*)(size_t))dlsym(module, "plugin_make");
    void *block = make(size); /* line: make */
    if (unload)
        dlclose(module);
    return block;
}

int main(void)
{
    from_gone = use("./libplugin.so", 1111, 1);
    from_other = use("./libother.so", 2222, 0);
    checkpoint();
    return 0;
}
