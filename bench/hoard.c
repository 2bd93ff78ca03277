/* hoard.c: keeps many small blocks, for measuring what the tracer costs and how fast they are read.

   usage: hoard BLOCKS [THREADS [SECONDS]]   (each thread keeps BLOCKS / THREADS)
   Prints the seconds it took and the resident size before and after, in KiB; then calls hoard_kept, where a
   debugger may stop, and stays for SECONDS, where one may attach. Sizes are mixed as in real programs: most from 16 to
   128 bytes, a few larger. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void **kept;
static size_t each;

static __attribute__((noinline)) void *take(size_t size, int depth)
{
    void *block = depth ? take(size, depth - 1) : malloc(size);
    __asm__ volatile("" ::: "memory");
    return block;
}

static __attribute__((noinline)) size_t mixed_size(unsigned random)
{
    return random % 16 == 0 ? 16 + random / 16 % 1000 : 16 + random / 16 % 113;
}

static void *fill(void *part)
{
    void **blocks = part;
    unsigned random = 1;
    for (size_t i = 0; i < each; i++) {
        random = random * 1103515245u + 12345u;
        blocks[i] = take(mixed_size(random >> 8), (int)(random >> 28));
        *(size_t *)blocks[i] = i; /* an allocator that writes nothing there has no less resident */
    }
    return NULL;
}

static long resident(void)
{
    long pages = 0, ignored;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &ignored, &pages) != 2)
        pages = 0;
    if (file)
        fclose(file);
    return pages * 4;
}

void hoard_kept(void);
__attribute__((noinline)) void hoard_kept(void)
{
    __asm__ volatile("");
}

int main(int argc, char **argv)
{
    size_t blocks = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    pthread_t ids[64];
    struct timespec start, end;
    each = blocks / (size_t)threads;
    kept = malloc(blocks * sizeof *kept);
    memset(kept, 0, blocks * sizeof *kept);
    long before = resident();
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < threads; i++)
        pthread_create(&ids[i], NULL, fill, kept + (size_t)i * each);
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.4f %ld %ld\n", (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9, before,
           resident());
    fflush(stdout);
    hoard_kept();
    if (argc > 3)
        sleep((unsigned)atoi(argv[3]));
    return 0;
}
