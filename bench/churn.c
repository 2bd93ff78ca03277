/* churn.c: malloc/free pairs from many call paths, for measuring what the tracer adds to one.

   usage: churn DEPTH LIVE THREADS PAIRS
   Each thread keeps LIVE blocks and replaces a random one PAIRS times. The allocation is made DEPTH calls
   below the loop; which functions the five innermost calls go through says one of 1024 paths.
   Prints the nanoseconds a pair took: wall time of all threads, divided by the pairs of one. */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int depth;
static size_t live;
static long pairs;

typedef void *step(unsigned path, int left, size_t size);

#define STEP(name) static void *name(unsigned path, int left, size_t size);
STEP(step0)
STEP(step1) STEP(step2) STEP(step3)

    static step *const steps[4] = {step0, step1, step2, step3};

static inline void *go(unsigned path, int left, size_t size)
{
    if (left <= 0)
        return malloc(size);
    return left <= 5 ? steps[path >> (2 * (left - 1)) & 3](path, left - 1, size) : step0(path, left - 1, size);
}

#undef STEP
#define STEP(name)                                                                                                     \
    static __attribute__((noinline, noclone)) void *name(unsigned path, int left, size_t size)                         \
    {                                                                                                                  \
        void *block = go(path, left, size);                                                                            \
        __asm__ volatile("" ::: "memory");                                                                             \
        return block;                                                                                                  \
    }
STEP(step0)
STEP(step1) STEP(step2) STEP(step3)

    static void *churn(void *seed)
{
    void **blocks = calloc(live, sizeof *blocks);
    uint64_t random = 0x9e3779b97f4a7c15u * ((uintptr_t)seed + 1);
    for (size_t i = 0; i < live; i++)
        blocks[i] = go((unsigned)(i & 1023), depth, 16 + i % 200);
    for (long i = 0; i < pairs; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        size_t at = (size_t)(random >> 32) % live;
        free(blocks[at]);
        blocks[at] = go((unsigned)random & 1023, depth, 16 + (random >> 10) % 200);
    }
    for (size_t i = 0; i < live; i++)
        free(blocks[i]);
    free(blocks);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: churn DEPTH LIVE THREADS PAIRS\n");
        return 2;
    }
    depth = atoi(argv[1]);
    live = strtoull(argv[2], NULL, 10);
    int threads = atoi(argv[3]);
    pairs = atol(argv[4]);
    pthread_t ids[64];
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < threads; i++)
        pthread_create(&ids[i], NULL, churn, (void *)(uintptr_t)i);
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.1f\n",
           ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / (double)pairs);
    return 0;
}
