/* usable.c: to be preloaded into redis-server: what the program's own allocator says of the blocks in the library's
   tables. Redis counts the usable size of each block that its z functions take. */

#define _GNU_SOURCE
#include "tables.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdbool.h>

#define API __attribute__((visibility("default"), used))

struct sums {
    uint64_t count;
    uint64_t bytes;  /* as the program asked for them */
    uint64_t usable; /* as its allocator gave them */
};

/* Read by debuggers after usable_sum: blocks of redis's own counting, and all others. */
API struct sums usable_counted, usable_others;

static bool is_counted(const struct tm_site *site)
{
    Dl_info info;
    if (site->nframe == 0 || !dladdr((void *)(tables_frame(site, 0) - 1), &info) || !info.dli_sname)
        return false;
    return info.dli_sname[0] == 'z';
}

static void add(uintptr_t address, uint64_t size, const struct tm_site *site, void *context)
{
    (void)context;
    struct sums *sums = is_counted(site) ? &usable_counted : &usable_others;
    sums->count++;
    sums->bytes += size;
    sums->usable += malloc_usable_size((void *)address);
}

API void usable_sum(void)
{
    usable_counted = usable_others = (struct sums){0};
    tables_walk(add, NULL);
}
