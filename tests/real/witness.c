/* witness.c: to be preloaded behind the library: libc's malloc with books of its own, the oracle of a whole process.

   Every block that the library takes from malloc for the program is in these books, with its size and whether the
   library traced at that time. A report, at the program's end or when a debugger asks, holds the library's tables
   against them block by block, and the books against glibc's mallinfo2. */

#define _GNU_SOURCE
#include "tables.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HOOK __attribute__((visibility("default"), used))

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *ptr, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *ptr);

#pragma weak tm_is_tracing
int tm_is_tracing(void);

/* A block in the books. */
struct block {
    uintptr_t address; /* 0: none */
    size_t size;
    bool is_traced; /* the library traced when it was allocated */
    bool is_seen;   /* by the report under way: the library knows it */
};

/* Open addressing, at most half full. By `owner`. */
static struct block *books;
static size_t books_room, books_used;

/* The lock: whose pthread_self() it is. The owner may take it again, for it may allocate in a fork handler. */
static pthread_t owner;
static unsigned depth;

static void acquire(void)
{
    pthread_t self = pthread_self();
    while (__atomic_load_n(&owner, __ATOMIC_RELAXED) != self) {
        pthread_t nobody = 0;
        if (__atomic_compare_exchange_n(&owner, &nobody, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            break;
        sched_yield();
    }
    depth++;
}

static void release(void)
{
    if (--depth == 0)
        __atomic_store_n(&owner, 0, __ATOMIC_RELEASE);
}

static size_t home_of(uintptr_t address)
{
    return (size_t)((address >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (books_room - 1);
}

static struct block *find(uintptr_t address)
{
    size_t at = home_of(address);
    while (books[at].address && books[at].address != address)
        at = (at + 1) & (books_room - 1);
    return &books[at];
}

static void grow(void)
{
    struct block *old = books;
    size_t old_room = books_room;
    books_room = old_room ? old_room * 2 : 1 << 14;
    books = mmap(NULL, books_room * sizeof *books, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (books == MAP_FAILED)
        abort();
    for (size_t i = 0; i < old_room; i++)
        if (old[i].address)
            *find(old[i].address) = old[i];
    if (old)
        munmap(old, old_room * sizeof *old);
}

static void add(void *ptr, size_t size)
{
    if (!ptr)
        return;
    if (books_used * 2 >= books_room)
        grow();
    bool is_traced = tm_is_tracing && tm_is_tracing();
    *find((uintptr_t)ptr) = (struct block){.address = (uintptr_t)ptr, .size = size, .is_traced = is_traced};
    books_used++;
}

/* What probed past the freed place moves up. */
static void take_out(void *ptr)
{
    struct block *hole = books ? find((uintptr_t)ptr) : NULL;
    if (!ptr || !hole || !hole->address)
        return;
    books_used--;
    size_t at = (size_t)(hole - books);
    for (size_t next = (at + 1) & (books_room - 1); books[next].address; next = (next + 1) & (books_room - 1)) {
        size_t home = home_of(books[next].address);
        if (((next - home) & (books_room - 1)) < ((next - at) & (books_room - 1)))
            continue;
        books[at] = books[next];
        at = next;
    }
    books[at].address = 0;
}

/* The end of every allocation: RESULT, in the books. */
static void *finish(void *result, size_t size)
{
    add(result, size);
    release();
    return result;
}

HOOK void *malloc(size_t size)
{
    acquire();
    return finish(__libc_malloc(size), size);
}

HOOK void *calloc(size_t count, size_t size)
{
    acquire();
    return finish(__libc_calloc(count, size), count * size);
}

HOOK void *realloc(void *ptr, size_t size)
{
    acquire();
    void *result = __libc_realloc(ptr, size);
    if (result || size == 0)
        take_out(ptr);
    return finish(result, size);
}

HOOK void *memalign(size_t alignment, size_t size)
{
    acquire();
    return finish(__libc_memalign(alignment, size), size);
}

HOOK void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

HOOK int posix_memalign(void **ptr, size_t alignment, size_t size)
{
    if (alignment % sizeof(void *) || alignment & (alignment - 1) || alignment == 0)
        return EINVAL;
    int error = errno;
    void *result = memalign(alignment, size);
    errno = error;
    if (!result)
        return ENOMEM;
    *ptr = result;
    return 0;
}

HOOK void *valloc(size_t size)
{
    return memalign((size_t)getpagesize(), size);
}

HOOK void *pvalloc(size_t size)
{
    size_t page = (size_t)getpagesize();
    return memalign(page, (size + page - 1) & ~(page - 1));
}

HOOK void free(void *ptr)
{
    acquire();
    take_out(ptr);
    __libc_free(ptr);
    release();
}

struct sums {
    size_t count;
    uint64_t bytes;
};

static void count(struct sums *sums, uint64_t size)
{
    sums->count++;
    sums->bytes += size;
}

/* What the tables and the books have in common, and what not. */
struct comparison {
    struct sums agreed;
    struct sums ghosts;  /* only the tables have it */
    struct sums resized; /* with another size in the books */
    struct sums missing; /* allocated while the library traced, and only the books have it */
    struct sums early;   /* from before: only the books have it, as it should be */
    struct sums chunks;  /* glibc's chunks of all blocks in the books */
    char examples[512];
};

static void give_example(struct comparison *comparison, const char *what, uintptr_t address, uint64_t size)
{
    size_t used = strlen(comparison->examples);
    snprintf(comparison->examples + used, sizeof comparison->examples - used, " %s:%#lx+%lu", what, address, size);
}

static void compare_traced(uintptr_t address, uint64_t size, const struct tm_site *site, void *context)
{
    (void)site;
    struct comparison *comparison = context;
    struct block *block = find(address);
    if (!block->address) {
        count(&comparison->ghosts, size);
        give_example(comparison, "ghost", address, size);
        return;
    }
    block->is_seen = true;
    if (block->size == size) {
        count(&comparison->agreed, size);
    } else {
        count(&comparison->resized, size);
        give_example(comparison, "resized", address, size);
    }
}

/* As glibc accounts for it: with its header, and where it is a mapping of its own with what alignment left in front. */
static uint64_t chunk_size(uintptr_t address)
{
    const size_t *header = (const size_t *)address - 2;
    bool is_mapping = header[1] & 2;
    return (header[1] & ~(size_t)7) + (is_mapping ? header[0] : 0);
}

static void compare(struct comparison *comparison)
{
    tables_walk(compare_traced, comparison);
    for (struct block *block = books; block < books + books_room; block++) {
        if (!block->address)
            continue;
        count(&comparison->chunks, chunk_size(block->address));
        if (!block->is_seen && block->is_traced) {
            count(&comparison->missing, block->size);
            give_example(comparison, "missing", block->address, block->size);
        } else if (!block->is_seen) {
            count(&comparison->early, block->size);
        }
        block->is_seen = false;
    }
}

static int write_all(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0)
        return -1;
    ssize_t written = write(file, text, strlen(text));
    close(file);
    return written < 0 ? -1 : 0;
}

/* From the program's start: WITNESS, the directory of the reports, and the name, which programs write over later. */
static char directory[512];
static char program[64];

/* The 18th word after the name, which may hold anything. */
static long count_threads(void)
{
    char text[1024];
    int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = '\0';
    char *word = strrchr(text, ')');
    for (int i = 0; word && i < 18; i++)
        word = strchr(word + 1, ' ');
    return word ? strtol(word, NULL, 10) : -1;
}

/* Writes the comparison to PATH, a line for each fact. Returns 0, or -1. */
static int witness_report(const char *path)
{
    static struct comparison comparison;
    static char text[2048];
    acquire();
    struct mallinfo2 info = mallinfo2();
    comparison = (struct comparison){.agreed.count = 0};
    if (books)
        compare(&comparison);
    bool is_tracing = tm_is_tracing && tm_is_tracing();
    uint64_t lost = is_tracing ? tm_layout.state->lost : 0;
    snprintf(text, sizeof text,
             "program %s\nthreads %ld\ntracing %d\nlost %lu\nagreed %zu %lu\nghosts %zu %lu\nresized %zu %lu\nmissing "
             "%zu %lu\n"
             "early %zu %lu\nchunks %zu %lu\nuordblks %zu\nhblkhd %zu\nexamples%s\n",
             program, count_threads(), is_tracing, lost, comparison.agreed.count, comparison.agreed.bytes,
             comparison.ghosts.count, comparison.ghosts.bytes, comparison.resized.count, comparison.resized.bytes,
             comparison.missing.count, comparison.missing.bytes, comparison.early.count, comparison.early.bytes,
             comparison.chunks.count, comparison.chunks.bytes, info.uordblks, info.hblkhd, comparison.examples);
    int status = write_all(path, text);
    release();
    return status;
}

__attribute__((constructor)) static void begin(void)
{
    const char *value = getenv("WITNESS");
    if (value && strlen(value) < sizeof directory)
        strcpy(directory, value);
    strncpy(program, program_invocation_short_name, sizeof program - 1);
    pthread_atfork(acquire, release, release);
}

static void report_as(const char *suffix)
{
    char path[sizeof directory + 32];
    if (!*directory)
        return;
    snprintf(path, sizeof path, "%s/%d%s", directory, (int)getpid(), suffix);
    int error = errno;
    witness_report(path);
    errno = error;
}

/* For debuggers, which would allocate a text that they pass. */
HOOK void witness_report_now(void)
{
    report_as(".now");
}

__attribute__((destructor)) static void end(void)
{
    report_as("");
}
