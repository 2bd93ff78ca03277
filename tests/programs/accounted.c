/* accounted.c: each function of malloc's family, and what the library counts of it. With the argument `untouched` that
   must be nothing: the program has another allocator before the library. Prints the same whether it is loaded or not.
 */

#define _GNU_SOURCE
#include "traced.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void free_sized(void *ptr, size_t size) __attribute__((weak));
void free_aligned_sized(void *ptr, size_t alignment, size_t size) __attribute__((weak));

static int is_untouched;
static int wrong;
static void *volatile block; /* volatile: the compiler would leave unused blocks out */

static void expect(const char *what, size_t before, size_t size)
{
    size_t counted = traced_now() - before;
    size_t right = is_traced() && !is_untouched ? size : 0;
    if (counted != right || (counted > 0) != (frames_of(block) > 0)) {
        printf("%s: %zu counted, not %zu; %d frames\n", what, counted, right, frames_of(block));
        wrong++;
    }
}

#define ACCOUNT(allocation, size, deallocation)                                                                        \
    do {                                                                                                               \
        size_t before = traced_now();                                                                                  \
        block = (allocation);                                                                                          \
        expect(#allocation, before, size);                                                                             \
        deallocation;                                                                                                  \
        expect(#deallocation " after " #allocation, before, 0);                                                        \
    } while (0)

static void *by_posix_memalign(size_t alignment, size_t size)
{
    void *result = NULL;
    return posix_memalign(&result, alignment, size) == 0 ? result : NULL;
}

static size_t room_of_line;

static void *by_getline(void)
{
    char *line = NULL;
    size_t room = 0;
    FILE *stream = fopen("/proc/self/cmdline", "r");
    if (getline(&line, &room, stream) < 0)
        abort();
    fclose(stream);
    room_of_line = room;
    return line;
}

int main(int argc, char **argv)
{
    is_untouched = argc > 1 && strcmp(argv[1], "untouched") == 0;
    printf("%d\n", 1); /* stdout's buffer is there from now on */
    ACCOUNT(malloc(100), 100, free(block));
    ACCOUNT(malloc(3 << 20), 3 << 20, free(block));
    ACCOUNT(calloc(7, 11), 77, free(block));
    ACCOUNT(realloc(NULL, 33), 33, free(block));
    ACCOUNT(realloc(malloc(10), 2000), 2000, block = realloc(block, 20); free(block));
    ACCOUNT(reallocarray(NULL, 5, 9), 45, free(block));
    ACCOUNT(reallocarray(malloc(10), 5, 900), 4500, free(block));
    ACCOUNT(aligned_alloc(64, 128), 128, free(block));
    ACCOUNT(memalign(64, 50), 50, free(block));
    ACCOUNT(by_posix_memalign(4096, 100), 100, free(block));
    ACCOUNT(strdup("twelve chars"), 13, free(block));
    ACCOUNT(by_getline(), room_of_line, free(block));
    if (free_sized)
        ACCOUNT(malloc(70), 70, free_sized(block, 70));
    if (free_aligned_sized)
        ACCOUNT(aligned_alloc(64, 192), 192, free_aligned_sized(block, 64, 192));
    printf("%d wrong\n", wrong);
    return wrong > 0;
}
