/* raw.c: takes a snapshot of itself: frames from inlined functions, an unloaded module, a signal handler, a thread.

   Usage: raw FILE, where ./libplugin.so lies. Prints the bytes that are traced at the snapshot. */

#define CHECKPOINT_COUNTERS
#include "checkpoint.h"
#include "inlined.h"

#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <tracemalloc.h>

void *volatile kept[6];
static sigjmp_buf back;

static void handler(int number)
{
    (void)number;
    kept[0] = malloc(123); /* line: handler */
    siglongjmp(back, 1);
}

__attribute__((noipa)) static void fault(volatile int *nowhere)
{
    *nowhere = 1; /* line: fault */
}

static void *work(void *unused)
{
    (void)unused;
    kept[1] = malloc(77); /* line: work */
    return NULL;
}

static void *use_plugin(size_t size)
{
    void *module = dlopen("./libplugin.so", RTLD_NOW);
    if (!module)
        return NULL;
    void *(*make)(size_t) = (void *(*)(size_t))dlsym(module, "plugin_make");
    void *block = make(size); /* line: plugin */
    dlclose(module);
    return block;
}

int main(int count, char **arguments)
{
    if (count != 2)
        return 2;
    signal(SIGSEGV, handler);
    if (sigsetjmp(back, 1) == 0)
        fault(NULL); /* line: main faults */
    pthread_t thread;
    pthread_create(&thread, NULL, work, NULL);
    pthread_join(thread, NULL);
    kept[2] = use_plugin(1111);
    kept[3] = outer(30); /* line: main inlined */
    kept[4] = strdup("from libc"); /* line: main strdup */
    for (int i = 0; i < 100; i++)
        kept[5] = memset(malloc(1000), i, 1000); /* line: main loop */
    size_t current, peak;
    tm_get_traced_memory(&current, &peak);
    if (tm_take_snapshot(arguments[1]) != 0)
        return 1;
    dprintf(1, "%zu\n", current);
    checkpoint();
    return 0;
}
