/* threads.c: eight threads, each keeping ten thousand blocks from a site of its own call path. */

#define CHECKPOINT_COUNTERS
#include "checkpoint.h"

#include <pthread.h>

enum { THREADS = 8, BLOCKS = 10000 };
void *kept[THREADS][BLOCKS];
static pthread_barrier_t filled, seen;

static size_t size_of(int thread, int block)
{
    return (size_t)(16 * (thread + 1) + block % 50);
}

static void fill(int thread)
{
    for (int i = 0; i < BLOCKS; i++) {
        void *passing = malloc(32);
        kept[thread][i] = malloc(size_of(thread, i)); /* line: keep */
        free(passing);
    }
}

static void *thread_start(void *number)
{
    fill((int)(long)number); /* line: work */
    pthread_barrier_wait(&filled);
    pthread_barrier_wait(&seen);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    pthread_barrier_init(&filled, NULL, THREADS + 1);
    pthread_barrier_init(&seen, NULL, THREADS + 1);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, thread_start, (void *)i);
    pthread_barrier_wait(&filled);
    for (int thread = 0; thread < THREADS; thread++)
        for (int i = 0; i < BLOCKS; i++)
            expect(1, (long)size_of(thread, i));
    checkpoint();
    pthread_barrier_wait(&seen);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
