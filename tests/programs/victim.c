/* victim.c: a few blocks of every shape that the tables know, in a core that tests damage.

   Usage: victim PLUGIN [abort]: the path of a module to load and unload; whether to die of SIGABRT for a core. */

#define CHECKPOINT_COUNTERS
#include "checkpoint.h"

#include <dlfcn.h>
#include <stdint.h>
#include <tracemalloc.h>

enum { SMALL = 40, LARGE = 8 };
void *small[SMALL], *large[LARGE], *from_plugin;

static void *use_plugin(const char *path)
{
    void *module = dlopen(path, RTLD_NOW);
    if (!module)
        abort();
    void *(*make)(size_t) = (void *(*)(size_t))dlsym(module, "plugin_make");
    void *block = make(1111);
    dlclose(module);
    return block;
}

int main(int count, char **arguments)
{
    if (count < 2 || tm_start(25) != 0)
        return 2;
    for (int i = 0; i < SMALL; i++)
        small[i] = malloc(16 + (size_t)i);
    for (int i = 0; i < LARGE; i++)
        large[i] = malloc(5000 + (size_t)i);
    from_plugin = use_plugin(arguments[1]);
    for (uintptr_t i = 0; i < 60; i++)
        tm_track(3, 0x600000000000 + i * 48, i);
    for (uintptr_t i = 0; i < 6; i++)
        tm_track(7, 0x600000000003 + i * 5000, (size_t)1 << 40);
    tm_domain_name(3, "textures");
    tm_domain_name(7, "files");
    free(small[3]);
    small[3] = NULL;
    checkpoint();
    if (count > 2)
        abort();
    return 0;
}
