/* wrappers.c: blocks that functions allocate on behalf of their callers: libc's, and the program's own. */

#define _GNU_SOURCE
#define CHECKPOINT_COUNTERS
#include "checkpoint.h"

#include <stdio.h>
#include <string.h>

void *volatile kept[16];

__attribute__((noipa)) static void *xmalloc(size_t size)
{
    void *block = malloc(size); /* line: xmalloc */
    if (!block)
        abort();
    return block;
}

__attribute__((noipa)) static void *pool_get(size_t size)
{
    void *block = xmalloc(size); /* line: pool_get */
    __asm__ volatile("" ::: "memory");
    return block;
}

__attribute__((noipa)) static void plain(void)
{
    kept[0] = malloc(11); /* line: plain */
}

__attribute__((noipa)) static void wrapped(void)
{
    kept[1] = xmalloc(2200); /* line: wrapped */
    kept[2] = xmalloc(2201); /* line: wrapped again */
    kept[3] = pool_get(3300); /* line: pooled */
}

__attribute__((noipa)) static void from_libc(void)
{
    char *text = NULL;
    kept[4] = strdup("four thousand"); /* line: strdup */
    asprintf(&text, "%0999d", 7);      /* line: asprintf */
    kept[5] = text;
}

int main(void)
{
    plain();
    wrapped();
    from_libc();
    checkpoint();
    return 0;
}
