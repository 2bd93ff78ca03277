/* late_free.c: a library that frees its block when it is unloaded, as late as a library can. */

#include <stdlib.h>

static void *volatile block;

__attribute__((constructor)) static void take(void)
{
    block = malloc(6666);
}

__attribute__((destructor)) static void give(void)
{
    free(block);
}
