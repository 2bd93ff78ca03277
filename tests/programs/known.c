/* known.c: blocks of known number, size and origin, from every function that allocates.

   known [wait|abort]: at the end it waits to be attached to, or dies of SIGABRT for a core. */

#define _GNU_SOURCE
#define CHECKPOINT_COUNTERS
#include "checkpoint.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LEAKS = 1000 };
struct pair {
    int first, second;
};
char *leaks[LEAKS];
char *grown;
void *aligned;
void *deep;
struct pair *pairs;

static void leak(int number)
{
    leaks[number] = malloc(100 + number); /* line: leak */
    expect(1, 100 + number);
}

static void grow(void)
{
    for (size_t size = 1; size <= 1 << 20; size *= 2)
        grown = realloc(grown, size); /* line: grow */
    expect(1, 1 << 20);
}

static void forget(void)
{
    void *gone[100];
    for (int i = 0; i < 100; i++)
        gone[i] = malloc(64);
    for (int i = 0; i < 100; i++)
        free(gone[i]);
}

static void *recurse(int depth)
{
    void *block = depth ? recurse(depth - 1) : malloc(77); /* line: recurse */
    __asm__ volatile("" ::: "memory");
    return block;
}

int main(int argc, char **argv)
{
    for (int i = 0; i < LEAKS; i++)
        leak(i); /* line: main leak */
    grow();
    forget();
    pairs = calloc(50, sizeof *pairs); /* line: calloc */
    expect(1, 50 * (long)sizeof *pairs);
    aligned = aligned_alloc(4096, 8192); /* line: aligned */
    expect(1, 8192);
    deep = recurse(40);
    expect(1, 77);
    free(leaks[0]);
    expect(-1, -100);
    leaks[0] = NULL;
    checkpoint();
    for (int i = 1; i <= 10; i++)
        leak(LEAKS - i); /* line: second leak */
    checkpoint();
    if (argc > 1 && strcmp(argv[1], "wait") == 0) {
        write(1, "ready\n", 6);
        pause();
    }
    if (argc > 1 && strcmp(argv[1], "abort") == 0)
        abort();
    return 0;
}
