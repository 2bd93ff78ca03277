/* handover.c: blocks that one thread allocates and another frees, for measuring what the tracer adds to one.

   usage: handover DEPTH BLOCKS
   The allocation is made DEPTH calls below the loop. The blocks go over in batches through a ring; a thread that
   finds it full or empty yields. Prints the nanoseconds a block took: wall time divided by the blocks. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH = 256, SLOTS = 64 };

struct batch {
    void *blocks[BATCH];
};

static struct batch ring[SLOTS];
static _Alignas(64) atomic_long sent;
static _Alignas(64) atomic_long received;
static int depth;
static long batches;

static __attribute__((noinline)) void *take(size_t size, int left)
{
    void *block = left > 1 ? take(size, left - 1) : malloc(size);
    __asm__ volatile("" ::: "memory");
    return block;
}

static void *produce(void *ignored)
{
    (void)ignored;
    for (long i = 0; i < batches; i++) {
        while (i - atomic_load_explicit(&received, memory_order_acquire) == SLOTS)
            sched_yield();
        for (int b = 0; b < BATCH; b++)
            ring[i % SLOTS].blocks[b] = take(16 + (size_t)(i * 31 + b * 17) % 200, depth);
        atomic_store_explicit(&sent, i + 1, memory_order_release);
    }
    return NULL;
}

static void consume(void)
{
    for (long i = 0; i < batches; i++) {
        while (atomic_load_explicit(&sent, memory_order_acquire) == i)
            sched_yield();
        for (int b = 0; b < BATCH; b++)
            free(ring[i % SLOTS].blocks[b]);
        atomic_store_explicit(&received, i + 1, memory_order_release);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: handover DEPTH BLOCKS\n");
        return 2;
    }
    depth = atoi(argv[1]);
    batches = (atol(argv[2]) + BATCH - 1) / BATCH;
    pthread_t producer;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pthread_create(&producer, NULL, produce, NULL);
    consume();
    pthread_join(producer, NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.1f\n", ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) /
                         (double)(batches * BATCH));
    return 0;
}
