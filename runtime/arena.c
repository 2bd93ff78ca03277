/* arena.c: slabs. Each kind grows by doubling slabs; a bump pointer hands out, lists by size take back. */

#include "arena.h"

#include "kernel.h"
#include "lock.h"
#include "state.h"

#include <string.h>

#define FIRST_SLAB ((size_t)64 << 10)
#define LARGEST_SLAB ((size_t)4 << 20)
#define PAGE ((size_t)1 << TM_PAGE_SHIFT)
#define SEGMENT_SIZE ((size_t)TM_SITE_UNIT << TM_SEGMENT_SHIFT)
#define KINDS 4

/* A free piece's first two words. Each stays below 1 << TM_SIZE_BITS, so that a reader who takes them for
   entries sees site 0. */
struct free_piece {
    uint64_t next_low;
    uint64_t next_high;
};

static struct lock arena_lock;
static struct tm_slab *newest[KINDS];                                 /* by arena_lock */
static struct free_piece *free_pieces[KINDS][ARENA_GIVE_MAX / 8 + 1]; /* by arena_lock */

static struct tm_slab *map_slab(enum tm_slab_kind kind, size_t size, uint64_t number)
{
    struct tm_slab *slab = kernel_map(size);
    if (!slab)
        return NULL;
    slab->magic = TM_SLAB_MAGIC;
    slab->kind = kind;
    slab->size = size;
    slab->number = number;
    slab->next = tm_state.slabs;
    state_publish(tm_state.slabs, slab);
    state_add(tm_state.arena_bytes, size);
    return slab;
}

static size_t slab_room(const struct tm_slab *slab)
{
    return slab ? slab->size - TM_SLAB_HEADER - ARENA_SLACK - slab->used : 0;
}

static struct tm_slab *slab_with_room(enum tm_slab_kind kind, size_t size)
{
    struct tm_slab *slab = newest[kind];
    if (slab_room(slab) >= size)
        return slab;
    size_t next = slab ? slab->size * 2 : FIRST_SLAB;
    if (next > LARGEST_SLAB)
        next = LARGEST_SLAB;
    size_t needed = (size + TM_SLAB_HEADER + ARENA_SLACK + PAGE - 1) & ~(PAGE - 1);
    struct tm_slab *larger = map_slab(kind, needed > next ? needed : next, 0);
    if (!larger && needed < next)
        larger = map_slab(kind, needed, 0);
    /* A slab made for one large piece does not end the use of the current one. */
    if (larger && slab_room(larger) - size >= slab_room(slab))
        newest[kind] = larger;
    return larger;
}

static void *take_fresh(enum tm_slab_kind kind, size_t size)
{
    struct tm_slab *slab = slab_with_room(kind, size);
    if (!slab)
        return NULL;
    void *memory = (char *)slab + TM_SLAB_HEADER + slab->used;
    state_publish(slab->used, slab->used + size);
    return memory;
}

static void *take_free(enum tm_slab_kind kind, size_t size)
{
    struct free_piece **list = &free_pieces[kind][size / 8];
    struct free_piece *piece = *list;
    if (!piece)
        return NULL;
    *list = (struct free_piece *)(uintptr_t)(piece->next_high << 32 | piece->next_low);
    memset(piece, 0, size);
    return piece;
}

void *arena_take(enum tm_slab_kind kind, size_t size)
{
    void *memory = NULL;
    lock_acquire(&arena_lock);
    if (size <= ARENA_GIVE_MAX)
        memory = take_free(kind, size);
    if (!memory)
        memory = take_fresh(kind, size);
    lock_release(&arena_lock);
    return memory;
}

void arena_give(enum tm_slab_kind kind, void *memory, size_t size)
{
    struct free_piece *piece = memory;
    lock_acquire(&arena_lock);
    struct free_piece **list = &free_pieces[kind][size / 8];
    piece->next_low = (uintptr_t)*list & UINT32_MAX;
    piece->next_high = (uint64_t)(uintptr_t)*list >> 32;
    *list = piece;
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
