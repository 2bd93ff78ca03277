/* hard_module.c: what hard_modules.c loads: it allocates when it is loaded, called and unloaded. */

#include <stdlib.h>
#include <string.h>

#ifndef ROOM
#define ROOM 100
#endif

static void *held;

__attribute__((constructor)) static void load(void)
{
    held = malloc(ROOM);
}

__attribute__((destructor)) static void unload(void)
{
    free(held);
    free(malloc(10));
}

void *module_allocate(size_t size);
void module_call(void (*call)(void *), void *argument);

void *module_allocate(size_t size)
{
    volatile char room[ROOM];
    room[0] = 1;
    void *result = malloc(size);
    room[ROOM - 1] = room[0];
    return result;
}

void module_call(void (*call)(void *), void *argument)
{
    volatile char room[ROOM * 2];
    room[0] = 1;
    call(argument);
    room[ROOM - 1] = room[0];
}
