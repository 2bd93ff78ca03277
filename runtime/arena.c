/* arena.c: slabs. Each kind grows by doubling slabs; a bump pointer hands out, lists by size take back. A slab's pages
   are asked for some at a time, ahead of the pointer.

   Two threads that write to one line of memory, each to its own piece, cost each other more than all the rest of
   recording a block. So a thread with a lane of its own cuts small pieces from runs of its own, and takes first what it
   gave back itself. */

#include "arena.h"

#include "kernel.h"
#include "lock.h"
#include "state.h"

#include <string.h>

#define FIRST_SLAB ((size_t)64 << 10)
#define LARGEST_SLAB ((size_t)4 << 20)
#define PAGE ((size_t)1 << TM_PAGE_SHIFT)
#define SEGMENT_SIZE ((size_t)TM_SITE_UNIT << TM_SEGMENT_SHIFT)
#define KINDS 6
#define LINE ((size_t)64)
#define FILL_MOST ((size_t)64 << 10)

/* A free piece's first two words. A reader takes them for the offsets of a narrow line, or the second for an entry of a
   wide one: each stays below 1 << TM_SIZE_BITS, so that it sees site 0. */
struct free_piece {
    uint64_t next_low;
    uint64_t next_high;
};

#define LISTS (ARENA_GIVE_FINE / 8 + (ARENA_GIVE_MAX - ARENA_GIVE_FINE) / 64 + 1)

/* The number of the list for pieces of SIZE bytes. */
static size_t list_of(size_t size)
{
    return size <= ARENA_GIVE_FINE ? size / 8 : ARENA_GIVE_FINE / 8 + (size - ARENA_GIVE_FINE + 63) / 64;
}

/* The part of a slab that a pool has not handed out yet. */
struct run {
    char *start;
    size_t left;
};

struct pool {
    _Alignas(128) struct free_piece *free_pieces[KINDS][LISTS];
    struct run runs[KINDS];
    size_t kept; /* bytes of free pieces */
};

#define RUN_SIZE ((size_t)4 << 10)
#define CUT_MOST ((size_t)256)       /* larger pieces leave too much of a run unused, and hardly share lines */
#define KEPT_MOST ((size_t)64 << 10) /* what a thread gives back beyond that is for all */

static struct lock arena_lock;
static struct tm_slab *newest[KINDS];        /* by arena_lock */
static struct pool pool_of_all;              /* by arena_lock; its runs are unused */
static struct pool pools_of_lanes[TM_LANES]; /* each by its lane's claim */
static bool filling = true;                  /* atomic, ends once: the kernel may be at a limit that touching is not */

/* NULL unless the thread has claimed a lane of its own. */
static struct pool *own_pool(void)
{
    struct tm_lane *lane = state_thread.lane;
    return lane && state_thread.claim == &lane->claimed ? &pools_of_lanes[lane - tm_state.lanes] : NULL;
}

static struct tm_slab *map_slab(enum tm_slab_kind kind, size_t size, uint64_t number)
{
    struct tm_slab *slab = kernel_map(size);
    if (!slab)
        return NULL;
    slab->magic = TM_SLAB_MAGIC;
    slab->kind = kind;
    slab->size = size;
    slab->number = number;
    slab->filled = PAGE;
    slab->next = tm_state.slabs;
    state_publish(tm_state.slabs, slab);
    state_add(tm_state.arena_bytes, size);
    return slab;
}

static size_t slab_room(const struct tm_slab *slab)
{
    const uint64_t unusable = TM_SLAB_HEADER + ARENA_SLACK + LINE;
    return slab && slab->size > unusable + slab->used ? slab->size - unusable - slab->used : 0;
}

static struct tm_slab *slab_with_room(enum tm_slab_kind kind, size_t size)
{
    struct tm_slab *slab = newest[kind];
    if (slab_room(slab) >= size)
        return slab;
    size_t next = slab ? slab->size * 2 : FIRST_SLAB;
    if (next > LARGEST_SLAB)
        next = LARGEST_SLAB;
    size_t needed = (size + TM_SLAB_HEADER + ARENA_SLACK + LINE + PAGE - 1) & ~(PAGE - 1);
    struct tm_slab *larger = map_slab(kind, needed > next ? needed : next, 0);
    if (!larger && needed < next)
        larger = map_slab(kind, needed, 0);
    /* A slab made for one large piece does not end the use of the current one. */
    if (larger && slab_room(larger) - size >= slab_room(slab))
        newest[kind] = larger;
    return larger;
}

static bool fill(void *memory, size_t size)
{
    bool done = kernel_fill(memory, size);
    if (!done)
        state_publish(filling, false);
    return done;
}

static uint64_t smaller_of(uint64_t one, uint64_t other)
{
    return one < other ? one : other;
}

/* At least as much again as is filled. What is as large as a leaf of the directory may be meant to stay empty for the
   most part. */
bool arena_fill(struct tm_slab *slab, uint64_t used)
{
    uint64_t end = (TM_SLAB_HEADER + used + ARENA_SLACK + PAGE - 1) & ~(PAGE - 1), filled = slab->filled;
    end = smaller_of(end, slab->size);
    if (state_likely(end <= filled))
        return true;
    slab->filled = end;
    if (end - filled >= FILL_MOST || !state_peek(filling))
        return true;
    uint64_t more = filled + smaller_of(filled, FILL_MOST);
    if (more > end)
        slab->filled = smaller_of(more, slab->size);
    return fill((char *)slab + filled, slab->filled - filled);
}

static void *take_fresh(enum tm_slab_kind kind, size_t size)
{
    struct tm_slab *slab = slab_with_room(kind, size);
    if (!slab)
        return NULL;
    size_t start = size % LINE == 0 ? (slab->used + LINE - 1) & ~(LINE - 1) : slab->used;
    if (!arena_fill(slab, start + size)) {
        newest[kind] = NULL;
        return take_fresh(kind, size);
    }
    state_publish(slab->used, start + size);
    return (char *)slab + TM_SLAB_HEADER + start;
}

static void *take_free(struct pool *pool, enum tm_slab_kind kind, size_t size)
{
    struct free_piece **list = &pool->free_pieces[kind][list_of(size)];
    struct free_piece *piece = *list;
    if (!piece)
        return NULL;
    state_publish(*list, (struct free_piece *)(uintptr_t)(piece->next_high << 32 | piece->next_low));
    pool->kept -= size;
    memset(piece, 0, size);
    return piece;
}

static void give(struct pool *pool, enum tm_slab_kind kind, void *memory, size_t size)
{
    struct free_piece *piece = memory, **list = &pool->free_pieces[kind][list_of(size)];
    piece->next_low = (uintptr_t)*list & UINT32_MAX;
    piece->next_high = (uint64_t)(uintptr_t)*list >> 32;
    state_publish(*list, piece);
    pool->kept += size;
}

static void *take_shared(enum tm_slab_kind kind, size_t size)
{
    void *memory = NULL;
    lock_acquire(&arena_lock);
    if (size <= ARENA_GIVE_MAX)
        memory = take_free(&pool_of_all, kind, size);
    if (!memory)
        memory = take_fresh(kind, size);
    lock_release(&arena_lock);
    return memory;
}

/* What is left of a run goes to the lists in pieces of sizes that are taken again: low towers have 16 bytes, lines a
   multiple of 64. */
static void give_rest(struct pool *pool, enum tm_slab_kind kind)
{
    struct run *run = &pool->runs[kind];
    size_t size = kind == TM_SLAB_OTHER ? sizeof(struct free_piece) : CUT_MOST;
    for (; size >= sizeof(struct free_piece); size /= 2)
        while (run->left >= size) {
            run->left -= size;
            give(pool, kind, run->start + run->left, size);
        }
}

/* From the pool's own run, a new one if it has too little left. */
static void *cut(struct pool *pool, enum tm_slab_kind kind, size_t size)
{
    struct run *run = &pool->runs[kind];
    if (run->left < size) {
        /* Nodes lie one after the other, without a rest between them. */
        size_t length = kind == TM_SLAB_NODE ? RUN_SIZE / size * size : RUN_SIZE;
        lock_acquire(&arena_lock);
        char *fresh = take_fresh(kind, length);
        lock_release(&arena_lock);
        if (!fresh)
            return NULL;
        give_rest(pool, kind);
        *run = (struct run){fresh, length};
    }
    void *memory = run->start;
    run->start += size;
    run->left -= size;
    return memory;
}

void *arena_take(enum tm_slab_kind kind, size_t size)
{
    struct pool *pool = size <= CUT_MOST ? own_pool() : NULL;
    void *memory = pool ? take_free(pool, kind, size) : NULL;
    if (pool && !memory && !state_peek(pool_of_all.free_pieces[kind][list_of(size)]))
        memory = cut(pool, kind, size);
    return memory ? memory : take_shared(kind, size);
}

void *arena_take_table(size_t size)
{
    char *memory = arena_take(TM_SLAB_OTHER, size);
    if (!memory)
        return NULL;
    /* The slack of the piece before stays. */
    uintptr_t start = ((uintptr_t)memory + ARENA_SLACK + PAGE - 1) & ~(PAGE - 1);
    uintptr_t end = ((uintptr_t)memory + size) & ~(PAGE - 1);
    if (end <= start + FILL_MOST || !state_peek(filling) || fill((void *)start, end - start))
        return memory;
    return arena_take(TM_SLAB_OTHER, size);
}

void arena_give(enum tm_slab_kind kind, void *memory, size_t size)
{
    struct pool *pool = size <= CUT_MOST ? own_pool() : NULL;
    if (pool && pool->kept + size <= KEPT_MOST) {
        give(pool, kind, memory, size);
        return;
    }
    lock_acquire(&arena_lock);
    give(&pool_of_all, kind, memory, size);
    lock_release(&arena_lock);
}

struct tm_slab *arena_take_segment(uint64_t number)
{
    lock_acquire(&arena_lock);
    struct tm_slab *slab = map_slab(TM_SLAB_SITE, SEGMENT_SIZE, number);
    lock_release(&arena_lock);
    return slab;
}

void arena_quiesce(void)
{
    lock_await(&arena_lock);
}

void arena_reset_lock(void)
{
    lock_reset(&arena_lock);
}
