/* regrow.c: buffers that grow by realloc, for measuring what the tracer adds to one.

   usage: regrow DEPTH REALLOCS
   Grows 1000 buffers in turn, each by half from 16 bytes to some 4 KiB and then again from the start; the
   realloc is made DEPTH calls below the loop. Prints the nanoseconds a realloc took. */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BUFFERS = 1000, SMALLEST = 16, LARGEST = 4000 };

struct buffer {
    void *memory;
    size_t size;
};

static __attribute__((noinline)) void *grow(void *memory, size_t size, int depth)
{
    void *block = depth > 1 ? grow(memory, size, depth - 1) : realloc(memory, size);
    __asm__ volatile("" ::: "memory");
    return block;
}

static void grow_once(struct buffer *buffer, int depth)
{
    if (buffer->size > LARGEST) {
        free(buffer->memory);
        *buffer = (struct buffer){NULL, 0};
    }
    buffer->size = buffer->size ? buffer->size + buffer->size / 2 : SMALLEST;
    buffer->memory = grow(buffer->memory, buffer->size, depth);
}

int main(int argc, char **argv)
{
    static struct buffer buffers[BUFFERS];
    if (argc != 3) {
        fprintf(stderr, "usage: regrow DEPTH REALLOCS\n");
        return 2;
    }
    int depth = atoi(argv[1]);
    long reallocs = atol(argv[2]);
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long i = 0; i < reallocs; i++)
        grow_once(&buffers[i % BUFFERS], depth);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.1f\n",
           ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / (double)reallocs);
    return 0;
}
