/* moments.c: every change of the tracer's tables, one act at a time, each announced; for tests that step through them.

   Usage: moments DIRECTORY, which holds p0.so, p1.so, ...: modules to load and unload.
   before() stops with `act` filled; after() stops with its result. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <tracemalloc.h>

enum kind {
    OTHER,   /* no block comes or goes */
    ADD,     /* RESULT, if there is one, of SIZE bytes */
    REMOVE,  /* the block at ADDRESS, if there is one */
    MOVE,    /* the block at ADDRESS to RESULT, if there is one, with SIZE bytes */
    CLEAR,   /* all blocks */
    LIBRARY, /* the loader's own blocks come and go */
};

struct act {
    const char *name;
    uint64_t kind, domain, address, size, result;
};
struct act act;
void *layout;

__attribute__((noipa)) void before(void)
{
    __asm__ volatile("int3");
}

__attribute__((noipa)) void after(void)
{
    __asm__ volatile("int3");
}

static void announce(const char *name, enum kind kind, unsigned domain, uintptr_t address, size_t size)
{
    act = (struct act){name, kind, domain, address, size, 0};
    before();
}

static void *done(void *result)
{
    act.result = (uintptr_t)result;
    after();
    return result;
}

/* The noipa wrappers below keep GCC from seeing that a block is used after it moved, or never. */
__attribute__((noipa)) static void *as_new(void *block)
{
    return block;
}

static void *add(const char *name, size_t size)
{
    announce(name, ADD, 0, 0, size);
    return done(malloc(size));
}

static void release(const char *name, void *block)
{
    announce(name, REMOVE, 0, (uintptr_t)block, 0);
    free(as_new(block));
    done(NULL);
}

static void *resize(const char *name, void *block, size_t size)
{
    announce(name, MOVE, 0, (uintptr_t)block, size);
    return done(realloc(as_new(block), size));
}

static void track(const char *name, unsigned domain, uintptr_t address, size_t size)
{
    announce(name, ADD, domain, address, size);
    done(tm_track(domain, address, size) == 0 ? (void *)address : NULL);
}

static void untrack(const char *name, unsigned domain, uintptr_t address)
{
    announce(name, REMOVE, domain, address, 0);
    tm_untrack(domain, address);
    done(NULL);
}

static void start(const char *name, int limit)
{
    announce(name, OTHER, 0, 0, 0);
    tm_start(limit);
    done(NULL);
}

enum { KEPT = 24 };
static void *kept[KEPT];

static void keep(size_t size)
{
    for (int i = 0; i < KEPT; i++)
        kept[i] = add("malloc", size + (size_t)i % 3);
}

static void drop(void)
{
    for (int i = 0; i < KEPT; i++)
        release("free", kept[i * 5 % KEPT]);
}

static void every_function(void)
{
    announce("calloc", ADD, 0, 0, 60);
    void *zeroed = done(calloc(5, 12));
    announce("aligned_alloc", ADD, 0, 0, 8192);
    void *aligned = done(aligned_alloc(4096, 8192));
    announce("posix_memalign", ADD, 0, 0, 100);
    void *memalign = NULL;
    if (posix_memalign(&memalign, 64, 100) != 0)
        abort();
    done(memalign);
    void *block = resize("realloc of nothing", NULL, 40);
    block = resize("realloc in place", block, 41);
    block = resize("realloc to more", block, 5000);
    block = resize("realloc to a mapping", block, 200000);
    resize("realloc that fails", block, (size_t)PTRDIFF_MAX - 4096);
    block = resize("realloc to less", block, 3);
    resize("realloc to nothing", block, 0);
    release("free of nothing", NULL);
    release("free of aligned", aligned);
    release("free", zeroed);
    release("free", memalign);
}

/* A page from its first block to the last there is room for: 256 slots. Then replaced, then gone. */
static void fill_page(unsigned domain, uintptr_t page)
{
    for (int i = 0; i < 13; i++)
        track("tm_track far apart", domain, page + 4096 + (uintptr_t)i * 288, (size_t)i);
    track("tm_track too much for narrow lines", domain, page + 4096, 1 << 20);
    track("tm_track in wide lines", domain, page + 4096 + 16, 1);
    for (int i = 0; i < 13; i++)
        untrack(i == 0 ? "tm_untrack from wide lines" : "", domain, page + 4096 + (uintptr_t)i * 288);
    untrack("", domain, page + 4096 + 16);
    for (int i = 0; i < 256; i++)
        track(i < 20 ? "tm_track" : "", domain, page + (uintptr_t)i * 48 % 4096, (size_t)i);
    track("tm_track again", domain, page + 48, 1000);
    track("tm_track of much", domain, page + 96, (size_t)5 << 40);
    track("tm_track too much in a full page", domain, page + 144, 1 << 20);
    untrack("tm_untrack of nothing", domain, page + 3);
    for (int i = 0; i < 256; i++)
        untrack(i % 64 ? "" : "tm_untrack", domain, page + (uintptr_t)i * 48 % 4096);
}

static void any_place(void)
{
    for (unsigned i = 0; i < 8; i++)
        track("tm_track at any phase", i % 2 * 3, 0x700000000000 + i * 4099, 10 + i);
    for (uintptr_t i = 1; i < 4; i++)
        track("tm_track far away", 0, i << 38, 64);
    for (uintptr_t i = 1; i < 4; i++)
        track("tm_track near by", 0, ((uintptr_t)1 << 38) + (i << 25), 64);
}

static void *by_path(unsigned path, unsigned depth)
{
    void *block;
    if (depth == 0)
        return add(path % 64 == 2 ? "malloc from a new site" : "", 16);
    if (path & 1)
        block = by_path(path >> 1, depth - 1);
    else
        block = by_path(path >> 1, depth - 1);
    __asm__ volatile("" ::: "memory");
    return block;
}

enum { SITES = 800, DEPTH = 440, PAGES = 1700, FULL_PAGES = 36 };

static void many_sites(void)
{
    static void *blocks[SITES];
    for (unsigned i = 0; i < SITES; i++)
        blocks[i] = by_path(i, DEPTH);
    for (unsigned i = 0; i < SITES; i++)
        release("", blocks[i]);
}

/* Blocks at each end of a page, by turns. */
static uintptr_t at_an_end(uintptr_t page, int i)
{
    return page + (uintptr_t)(i % 2 ? 4080 - i / 2 * 16 : i / 2 * 16);
}

/* A page with two lines of SLOTS, of which the first gets more blocks than it has room for. */
static void spill(unsigned domain, uintptr_t page, int slots, size_t size)
{
    for (int i = 0; i <= slots; i++)
        track("", domain, at_an_end(page, i), size);
    for (int i = 0; i <= slots; i++)
        untrack("", domain, at_an_end(page, i));
    for (int i = 0; i < slots + 2; i++)
        track(i < slots - 1 ? "" : "tm_track spilled", domain, page + (uintptr_t)i * 16, size + (size_t)i);
    track("tm_track spilled again", domain, page + (uintptr_t)(slots + 1) * 16, size + 1000);
    for (int i = 0; i < slots + 2; i++)
        untrack(i < slots - 1 ? "" : "tm_untrack spilled", domain, page + (uintptr_t)i * 16);
}

static void many_pages(void)
{
    for (uintptr_t i = 0; i < PAGES; i++)
        track("", 0, ((uintptr_t)1 << 38) + 4096 * i, i % 2 ? 8192 + 16 * i : i);
    for (uintptr_t i = 0; i < PAGES; i++)
        untrack("", 0, ((uintptr_t)1 << 38) + 4096 * i);
}

static void many_entries(void)
{
    for (uintptr_t i = 0; i < FULL_PAGES * 256; i++)
        track("", 4, ((uintptr_t)1 << 38) + 16 * i, 2 * i);
    announce("", CLEAR, 0, 0, 0);
    tm_clear_traces();
    done(NULL);
}

static void many_modules(const char *directory)
{
    for (int i = 0; i < 36; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/p%d.so", directory, i);
        announce("", LIBRARY, 0, 0, 0);
        void *module = dlopen(path, RTLD_NOW);
        if (!module)
            abort();
        done(NULL);
        announce(i < 2 ? "dlclose" : "", LIBRARY, 0, 0, 0);
        dlclose(module);
        done(NULL);
    }
}

static void names(void)
{
    for (unsigned i = 0; i < 20; i++) {
        announce("tm_domain_name", OTHER, 0, 0, 0);
        tm_domain_name(i, i % 2 ? "odd" : "even");
        done(NULL);
    }
}

int main(int count, char **arguments)
{
    layout = dlsym(RTLD_DEFAULT, "tm_layout");
    if (count != 2 || !layout)
        return 2;
    start("tm_start", 500);
    keep(24);
    every_function();
    names();
    announce("tm_reset_peak", OTHER, 0, 0, 0);
    tm_reset_peak();
    done(NULL);
    any_place();
    announce("tm_clear_traces", CLEAR, 0, 0, 0);
    tm_clear_traces();
    done(NULL);
    drop();
    keep(2000);
    drop();
    announce("tm_stop", CLEAR, 0, 0, 0);
    tm_stop();
    done(NULL);
    start("tm_start again", 600);
    fill_page(0, (uintptr_t)7 << 38);
    fill_page(9, (uintptr_t)7 << 38);
    for (unsigned domain = 0; domain < 10; domain += 9) {
        spill(domain, (uintptr_t)5 << 38, 12, 1);
        spill(domain, (uintptr_t)6 << 38, 7, 10000);
    }
    many_modules(arguments[1]);
    many_sites();
    many_pages();
    many_entries();
    keep(500);
    drop();
    return 0;
}
