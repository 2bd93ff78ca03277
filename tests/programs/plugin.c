/* plugin.c: a module that leaves a block behind when it is unloaded. */

#include <stdlib.h>

__attribute__((noinline)) static void *helper(size_t size)
{
    void *block = malloc(size);
    __asm__ volatile("" ::: "memory");
    return block;
}

void *plugin_make(size_t size)
{
    void *block = helper(size);
    __asm__ volatile("" ::: "memory");
    return block;
}
