/* contract.c: calls every function of malloc's family with good and bad arguments and prints what came of it: NULL or
   not, how it is aligned, what is in it, errno. The output must be the same with the library and without. No address
   and no capacity is printed, they differ from run to run. With an argument, only what every allocator can do. */

#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNSET 4711

/* volatile: the compiler knows malloc, and what no allocator grants. */
static void *volatile block;
static volatile size_t sizes[] = {0, 1, 7, 16, 24, 100, 4095, 4096, 100000, (size_t)1 << 20, (size_t)20 << 20};
static volatile size_t huge[] = {PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX - 4095, SIZE_MAX};
static volatile size_t four_gigabytes = (size_t)1 << 32;
static volatile size_t alignments[] = {0, 1, 2, 3, 4, 8, 12, 16, 24, 32, 64, 100, 4096, 65536, (size_t)1 << 22};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *error_name(int error)
{
    return error == UNSET ? "kept" : error == ENOMEM ? "ENOMEM" : error == EINVAL ? "EINVAL" : "another";
}

/* The block is written to, its first and last byte, and freed. */
static void report(const char *call, size_t a, size_t b, void *result, size_t size, size_t alignment)
{
    int error = errno;
    printf("%s(%zu, %zu): %s, errno %s", call, a, b, result ? "a block" : "NULL", error_name(error));
    if (result) {
        printf(", alignment %s, room %s", (uintptr_t)result % (alignment ? alignment : 1) == 0 ? "right" : "wrong",
               malloc_usable_size(result) >= size ? "enough" : "too little");
        if (size > 0)
            ((char *)result)[0] = ((char *)result)[size - 1] = 1;
    }
    errno = UNSET;
    free(result);
    printf(", after free %s\n", error_name(errno));
    errno = UNSET;
}

static int is_zero(const char *memory, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (memory[i])
            return 0;
    return 1;
}

static void malloc_and_calloc(void)
{
    for (size_t i = 0; i < COUNT(sizes); i++) {
        report("malloc", sizes[i], 0, malloc(sizes[i]), sizes[i], sizes[i] < 16 ? 8 : 16);
        block = calloc(sizes[i], 1);
        printf("zero: %d\n", !block || is_zero(block, sizes[i]));
        report("calloc", sizes[i], 1, block, sizes[i], sizes[i] < 16 ? 8 : 16);
        report("calloc", 3, sizes[i], calloc(3, sizes[i]), 3 * sizes[i], 8);
    }
    for (size_t i = 0; i < COUNT(huge); i++) {
        report("malloc", huge[i], 0, malloc(huge[i]), 0, 1);
        report("calloc", huge[i], 1, calloc(huge[i], 1), 0, 1);
        report("calloc", huge[i], 3, calloc(huge[i], 3), 0, 1);
        report("calloc", 3, huge[i], calloc(3, huge[i]), 0, 1);
        report("calloc", 0, huge[i], calloc(0, huge[i]), 0, 1);
        report("calloc", huge[i], 0, calloc(huge[i], 0), 0, 1);
    }
    report("calloc", four_gigabytes, four_gigabytes, calloc(four_gigabytes, four_gigabytes), 0, 1);
}

/* Whether the first COUNT bytes are still the letter x. */
static int has_content(const char *memory, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (memory[i] != 'x')
            return 0;
    return 1;
}

static void realloc_by(const char *name, void *(*resize)(void *, size_t))
{
    for (size_t from = 0; from < COUNT(sizes); from++)
        for (size_t to = 0; to < COUNT(sizes); to++) {
            char *old = malloc(sizes[from]);
            memset(old, 'x', sizes[from]);
            errno = UNSET;
            char *volatile new = resize(old, sizes[to]);
            int error = errno;
            size_t both = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
            printf("%zu -> %zu: content %d, ", sizes[from], sizes[to], !new || has_content(new, both));
            errno = error;
            report(name, sizes[from], sizes[to], new, sizes[to], 8);
        }
    for (size_t i = 0; i < COUNT(sizes); i++)
        report(name, 0, sizes[i], resize(NULL, sizes[i]), sizes[i], 8);
    for (size_t i = 0; i < COUNT(huge); i++) {
        char *old = malloc(100);
        memset(old, 'x', 100);
        errno = UNSET;
        block = resize(old, huge[i]);
        report(name, 100, huge[i], block, 0, 1);
        printf("the old one: %d\n", has_content(old, 100));
        free(old);
        errno = UNSET;
        report(name, 0, huge[i], resize(NULL, huge[i]), 0, 1);
    }
}

static void *by_reallocarray(void *ptr, size_t size)
{
    return size % 4 == 0 ? reallocarray(ptr, size / 4, 4) : reallocarray(ptr, 1, size);
}

static void reallocarray_overflows(void)
{
    for (size_t i = 0; i < COUNT(huge); i++) {
        report("reallocarray", huge[i], 3, reallocarray(NULL, huge[i], 3), 0, 1);
        char *old = malloc(50);
        memset(old, 'x', 50);
        errno = UNSET;
        block = reallocarray(old, huge[i], 2);
        report("reallocarray", huge[i], 2, block, 0, 1);
        printf("the old one: %d\n", has_content(old, 50));
        free(old);
        errno = UNSET;
    }
}

static char untouched;

static void aligned(void)
{
    for (size_t a = 0; a < COUNT(alignments); a++)
        for (size_t s = 0; s < COUNT(sizes) - 1; s++) {
            void *result = &untouched;
            int status = posix_memalign(&result, alignments[a], sizes[s]);
            printf("status %s, %s: ", status == 0 ? "0" : error_name(status),
                   result == &untouched ? "untouched" : "set");
            report("posix_memalign", alignments[a], sizes[s], status == 0 ? result : NULL, sizes[s], alignments[a]);
            /* A request for a strange alignment has no defined result: aligned to the next power of two, if at all. */
            size_t power = alignments[a] & (alignments[a] - 1) ? 1 : alignments[a];
            report("aligned_alloc", alignments[a], sizes[s], aligned_alloc(alignments[a], sizes[s]), sizes[s], power);
            report("memalign", alignments[a], sizes[s], memalign(alignments[a], sizes[s]), sizes[s], power);
        }
    for (size_t i = 0; i < COUNT(huge); i++) {
        void *result = &untouched;
        int status = posix_memalign(&result, 64, huge[i]);
        printf("posix_memalign(64, %zu): %s, %s, errno %s\n", huge[i], error_name(status),
               result == &untouched ? "untouched" : "set", error_name(errno));
        errno = UNSET;
        report("aligned_alloc", 64, huge[i], aligned_alloc(64, huge[i]), 0, 1);
        report("memalign", 64, huge[i], memalign(64, huge[i]), 0, 1);
        report("memalign", huge[i], 64, memalign(huge[i], 64), 0, 1);
    }
}

static void aligned_to_pages(void)
{
    for (size_t i = 0; i < COUNT(sizes); i++) {
        report("valloc", sizes[i], 0, valloc(sizes[i]), sizes[i], 4096);
        report("pvalloc", sizes[i], 0, pvalloc(sizes[i]), (sizes[i] + 4095) & ~(size_t)4095, 4096);
    }
    for (size_t i = 0; i < COUNT(huge); i++) {
        report("valloc", huge[i], 0, valloc(huge[i]), 0, 1);
        report("pvalloc", huge[i], 0, pvalloc(huge[i]), 0, 1);
    }
}

static void aligned_sanely(void)
{
    for (size_t alignment = 16; alignment <= 65536; alignment *= 4)
        for (size_t size = alignment; size < (size_t)1 << 20; size *= 3) {
            void *result = NULL;
            int status = posix_memalign(&result, alignment, size);
            printf("status %d: ", status);
            report("posix_memalign", alignment, size, result, size, alignment);
            size_t multiple = size / alignment * alignment;
            report("aligned_alloc", alignment, multiple, aligned_alloc(alignment, multiple), multiple, alignment);
            report("memalign", alignment, size, memalign(alignment, size), size, alignment);
        }
}

/* C23's, where the libc or the library has them. */
void free_sized(void *ptr, size_t size) __attribute__((weak));
void free_aligned_sized(void *ptr, size_t alignment, size_t size) __attribute__((weak));

static void sized_free(void)
{
    errno = UNSET;
    if (free_sized) {
        free_sized(NULL, 0);
        free_sized(malloc(100), 100);
    }
    if (free_aligned_sized) {
        free_aligned_sized(NULL, 16, 0);
        free_aligned_sized(aligned_alloc(64, 128), 64, 128);
    }
    printf("freed by size: errno %s\n", error_name(errno));
}

static void statistics(void)
{
    printf("malloc_usable_size(NULL): %zu\n", malloc_usable_size(NULL));
    printf("mallopt: %d %d %d\n", mallopt(M_MMAP_THRESHOLD, 256 << 10), mallopt(M_TRIM_THRESHOLD, 1 << 20),
           mallopt(4711, 1));
    malloc_trim(0);
    struct mallinfo2 before = mallinfo2();
    block = malloc(100 << 10);
    void *volatile mapped = malloc(64 << 20);
    struct mallinfo2 after = mallinfo2();
    printf("mallinfo2: %zd in the heap, %zd mapped\n", (after.uordblks - before.uordblks) >> 10,
           (after.hblkhd - before.hblkhd) >> 12);
    free(block);
    free(mapped);
    int trimmed = malloc_trim(0);
    printf("malloc_trim: %d\n", trimmed == 0 || trimmed == 1);
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    int status = malloc_info(0, stream), bad = malloc_info(1, stream);
    fclose(stream);
    printf("malloc_info: %d %d, %s\n", status, bad,
           strncmp(text, "<malloc version", 15) == 0 ? "XML" : "something else");
    free(text);
}

static void errno_over_free(void)
{
    for (size_t i = 0; i < COUNT(sizes); i++) {
        block = malloc(sizes[i]);
        errno = UNSET;
        free(block);
        printf("free(%zu): errno %s\n", sizes[i], error_name(errno));
    }
    free(NULL);
    printf("free(NULL): errno %s\n", error_name(errno));
}

/* What libc allocates for its callers. */
static void through_libc(void)
{
    char *line = NULL, *made = NULL;
    size_t room = 0;
    FILE *stream = fmemopen((char[]){"one\ntwo and more\n"}, 17, "r");
    while (getline(&line, &room, stream) > 0)
        printf("%s", line);
    fclose(stream);
    free(line);
    printf("%d ", asprintf(&made, "%0500d", 1));
    free(made);
    made = realpath("/", NULL);
    printf("%s\n", made);
    free(made);
}

int main(int argc, char **argv)
{
    static char buffer[1 << 16];
    (void)argv;
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    /* Some allocators set errno while they start. */
    for (size_t i = 0; i < COUNT(sizes); i++) {
        free(malloc(sizes[i]));
        free(memalign(4096, sizes[i]));
    }
    errno = UNSET;
    malloc_and_calloc();
    realloc_by("realloc", realloc);
    realloc_by("reallocarray", by_reallocarray);
    reallocarray_overflows();
    sized_free();
    errno_over_free();
    through_libc();
    aligned_sanely();
    if (argc > 1)
        return 0;
    aligned();
    aligned_to_pages();
    statistics();
    return 0;
}
