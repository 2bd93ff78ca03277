/* churn.c: malloc/free pairs from many call paths, for measuring what the tracer adds to one.

   usage: churn DEPTH LIVE THREADS PAIRS
   Each thread keeps LIVE blocks and replaces a random one PAIRS times. The allocation is made DEPTH calls
   below the loop; which functions the five innermost calls go through says one of 1024 paths, and a path takes
   blocks of four sizes. Prints the nanoseconds a pair took: wall time of all threads, divided by the pairs of one.
   Taking the first LIVE blocks and giving back the last is not counted. */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PATHS 1024

static int depth;
static size_t live;
static long pairs;
static pthread_barrier_t filled;

struct thread {
    pthread_t id;
    double start, end; /* nanoseconds */
};

static struct thread threads[64];

typedef void *step(unsigned path, int left, size_t size);

static step step0, step1, step2, step3;
static step *const steps[4] = {step0, step1, step2, step3};

static inline void *go(unsigned path, int left, size_t size)
{
    if (left <= 0)
        return malloc(size);
    return left <= 5 ? steps[path >> (2 * (left - 1)) & 3](path, left - 1, size) : step0(path, left - 1, size);
}

/* What follows the call keeps it from becoming a jump. */
#define STEP(name)                                                                                                     \
    static __attribute__((noinline, noclone)) void *name(unsigned path, int left, size_t size)                         \
    {                                                                                                                  \
        void *block = go(path, left, size);                                                                            \
        __asm__ volatile("" ::: "memory");                                                                             \
        return block;                                                                                                  \
    }                                                                                                                  \
    static step name

STEP(step0);
STEP(step1);
STEP(step2);
STEP(step3);

static void *take(unsigned path, unsigned which)
{
    return go(path, depth, 16 + path % 200 + which % 4 * 16);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void *churn(void *argument)
{
    struct thread *thread = argument;
    void **blocks = calloc(live, sizeof *blocks);
    uint64_t random = 0x9e3779b97f4a7c15u * (uint64_t)(thread - threads + 1);
    for (size_t i = 0; i < live; i++)
        blocks[i] = take((unsigned)i % PATHS, (unsigned)(i / PATHS));
    pthread_barrier_wait(&filled);
    thread->start = now();
    for (long i = 0; i < pairs; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        size_t at = (size_t)(random >> 32) % live;
        free(blocks[at]);
        blocks[at] = take((unsigned)random % PATHS, (unsigned)(random >> 10));
    }
    thread->end = now();
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
    int count = atoi(argv[3]);
    pairs = atol(argv[4]);
    pthread_barrier_init(&filled, NULL, (unsigned)count);
    for (int i = 0; i < count; i++)
        pthread_create(&threads[i].id, NULL, churn, &threads[i]);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i].id, NULL);
    double start = threads[0].start, end = threads[0].end;
    for (int i = 1; i < count; i++) {
        start = threads[i].start < start ? threads[i].start : start;
        end = threads[i].end > end ? threads[i].end : end;
    }
    printf("%.1f\n", (end - start) / (double)pairs);
    return 0;
}
