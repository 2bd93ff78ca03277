/* release.c: what a free takes of a block that the thread allocated itself, or that another one did.

   usage: release DEPTH own|other BLOCKS
   One thread allocates BATCH blocks, DEPTH calls below its loop, and when it is done, either the same thread or another
   one frees them all, in the order of their allocation; until it was BLOCKS of them. Only the frees are timed: prints
   the nanoseconds that one took. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 100000 };

static void *blocks[BATCH];
static pthread_barrier_t turn;
static int depth;
static int is_other;
static long rounds;
static double freeing; /* nanoseconds; by whose turn it is */

static __attribute__((noinline)) void *take(size_t size, int left)
{
    void *block = left > 1 ? take(size, left - 1) : malloc(size);
    __asm__ volatile("" ::: "memory");
    return block;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void release(void)
{
    double start = now();
    for (size_t i = 0; i < BATCH; i++)
        free(blocks[i]);
    freeing += now() - start;
}

static void *produce(void *unused)
{
    for (long round = 0; round < rounds; round++) {
        for (size_t i = 0; i < BATCH; i++)
            blocks[i] = take(16 + i * 31 % 200, depth);
        if (!is_other)
            release();
        pthread_barrier_wait(&turn);
        pthread_barrier_wait(&turn);
    }
    return unused;
}

int main(int argc, char **argv)
{
    if (argc != 4 || (strcmp(argv[2], "own") && strcmp(argv[2], "other"))) {
        fprintf(stderr, "usage: release DEPTH own|other BLOCKS\n");
        return 2;
    }
    depth = atoi(argv[1]);
    is_other = strcmp(argv[2], "other") == 0;
    rounds = (atol(argv[3]) + BATCH - 1) / BATCH;
    pthread_barrier_init(&turn, NULL, 2);
    pthread_t producer;
    pthread_create(&producer, NULL, produce, NULL);
    for (long round = 0; round < rounds; round++) {
        pthread_barrier_wait(&turn);
        if (is_other)
            release();
        pthread_barrier_wait(&turn);
    }
    pthread_join(producer, NULL);
    printf("%.1f\n", freeing / ((double)rounds * BATCH));
    return 0;
}
