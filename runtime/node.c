/* node.c: a node starts with four inline slots. Then an index of offsets takes over, replaced by a copy of
   twice the capacity as the page fills; entries lie in chunks that are added and never move, so a reader
   finds each block exactly once at any moment. */

#include "node.h"

#include "arena.h"
#include "state.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <string.h>

#define ALL_INLINE ((1u << TM_NODE_INLINE) - 1)

static size_t index_words(uint32_t capacity)
{
    return capacity < 64 ? 1 : capacity / 64;
}

static size_t index_size(uint32_t capacity)
{
    return sizeof(struct tm_index) + capacity + index_words(capacity) * sizeof(uint64_t);
}

static uint64_t *index_occupied(const struct tm_index *index)
{
    return (uint64_t *)(index->offsets + index->capacity);
}

static size_t tower_size(unsigned height)
{
    size_t size = (height - 1) * sizeof(struct tm_level);
    return size && size < 16 ? 16 : size;
}

static unsigned chunk_of(int slot)
{
    return 29 - (unsigned)__builtin_clz((unsigned)slot);
}

static size_t chunk_size(unsigned chunk)
{
    return ((size_t)TM_NODE_INLINE << chunk) * sizeof(uint64_t);
}

static uint64_t *entry_of(struct tm_node *node, int slot)
{
    if (slot < TM_NODE_INLINE)
        return &node->entries[slot];
    unsigned chunk = chunk_of(slot);
    return &node->chunks[chunk].entries[slot - (TM_NODE_INLINE << chunk)];
}

/* Which of 64 offsets are OFFSET. Reads them all, however few the index has: a branch for each sixteen of them would
   be a gamble. What lies behind is another piece of the slab or its slack, and does not count. */
static uint64_t match64(const uint8_t *offsets, uint8_t offset)
{
    uint64_t mask = 0;
#ifdef __SSE2__
    __m128i wanted = _mm_set1_epi8((char)offset);
    for (int i = 0; i < 4; i++) {
        __m128i group = _mm_loadu_si128((const __m128i *)(const void *)(offsets + 16 * i));
        mask |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(group, wanted)) << 16 * i;
    }
#else
    for (int i = 0; i < 64; i++)
        mask |= (uint64_t)(offsets[i] == offset) << i;
#endif
    return mask;
}

static int find_inline(const struct tm_node *node, uint8_t offset)
{
    unsigned mask = 0;
    for (int slot = 0; slot < TM_NODE_INLINE; slot++)
        mask |= (unsigned)(node->offsets[slot] == offset) << slot;
    mask &= node->occupied;
    return mask ? __builtin_ctz(mask) : -1;
}

/* The slot of the block at OFFSET, or -1. */
static int find(const struct tm_node *node, uint8_t offset)
{
    const struct tm_index *index = node->index;
    if (!index)
        return find_inline(node, offset);
    const uint64_t *occupied = index_occupied(index);
    uint32_t base = 0;
    do {
        uint64_t hit = match64(index->offsets + base, offset) & occupied[base / 64];
        if (hit)
            return (int)base + __builtin_ctzll(hit);
        base += 64;
    } while (base < index->capacity);
    return -1;
}

static int first_free(const struct tm_node *node)
{
    const struct tm_index *index = node->index;
    if (!index)
        return node->occupied == ALL_INLINE ? -1 : __builtin_ctz(~(unsigned)node->occupied);
    const uint64_t *occupied = index_occupied(index);
    for (uint32_t word = 0; word < index_words(index->capacity); word++) {
        if (occupied[word] == UINT64_MAX)
            continue;
        int slot = (int)(word * 64 + (unsigned)__builtin_ctzll(~occupied[word]));
        return slot < (int)index->capacity ? slot : -1;
    }
    return -1;
}

/* A larger index; the old one goes back only after the switch. */
static bool grow_index(struct tm_node *node)
{
    struct tm_index *old = node->index;
    uint32_t capacity = old ? old->capacity * 2 : TM_NODE_INLINE * 2;
    struct tm_index *larger = arena_take(TM_SLAB_OTHER, index_size(capacity));
    if (!larger)
        return false;
    larger->capacity = capacity;
    if (old) {
        memcpy(larger->offsets, old->offsets, old->capacity);
        memcpy(index_occupied(larger), index_occupied(old), index_words(old->capacity) * sizeof(uint64_t));
    } else {
        memcpy(larger->offsets, node->offsets, TM_NODE_INLINE);
        *index_occupied(larger) = node->occupied;
    }
    state_publish(node->index, larger);
    if (old)
        arena_give(TM_SLAB_OTHER, old, index_size(old->capacity));
    return true;
}

/* For a slot that there is no memory for yet. */
static __attribute__((noinline)) bool make_room(struct tm_node *node, int *slot)
{
    if (*slot < 0) {
        if (!grow_index(node))
            return false;
        *slot = first_free(node);
    }
    if (*slot < TM_NODE_INLINE || node->chunks[chunk_of(*slot)].entries)
        return true;
    uint64_t *entries = arena_take(TM_SLAB_ENTRY, chunk_size(chunk_of(*slot)));
    state_publish(node->chunks[chunk_of(*slot)].entries, entries);
    return entries != NULL;
}

static bool has_room(const struct tm_node *node, int slot)
{
    return slot >= 0 && (slot < TM_NODE_INLINE || node->chunks[chunk_of(slot)].entries);
}

static bool put(struct tm_node *node, uint8_t offset, uint64_t entry)
{
    int slot = first_free(node);
    if (state_unlikely(!has_room(node, slot)) && !make_room(node, &slot))
        return false;
    if (node->index) {
        node->index->offsets[slot] = offset;
        state_publish(*entry_of(node, slot), entry);
        uint64_t *occupied = &index_occupied(node->index)[slot / 64];
        *occupied |= UINT64_C(1) << (unsigned)slot % 64;
    } else {
        slot &= TM_NODE_INLINE - 1; /* as it is, which the compiler cannot know */
        node->offsets[slot] = offset;
        state_publish(node->entries[slot], entry);
        node->occupied = (uint8_t)(node->occupied | 1u << slot);
    }
    return true;
}

bool node_put(struct tm_node *node, uint8_t offset, uint64_t entry, uint64_t *old)
{
    int slot = find(node, offset);
    if (state_likely(slot < 0))
        return put(node, offset, entry);
    *old = *entry_of(node, slot);
    state_publish(*entry_of(node, slot), entry);
    return true;
}

uint64_t node_get(struct tm_node *node, uint8_t offset)
{
    int slot = find(node, offset);
    return slot < 0 ? 0 : *entry_of(node, slot);
}

uint64_t node_empty(struct tm_node *node, int slot)
{
    uint64_t *cell = entry_of(node, slot);
    uint64_t entry = *cell;
    state_publish(*cell, 0);
    if (node->index) {
        uint64_t *occupied = &index_occupied(node->index)[slot / 64];
        *occupied &= ~(UINT64_C(1) << (unsigned)slot % 64);
    } else {
        node->occupied = (uint8_t)(node->occupied & ~(1u << slot));
    }
    return entry;
}

uint64_t node_take(struct tm_node *node, uint8_t offset)
{
    int slot = find(node, offset);
    return slot < 0 ? 0 : node_empty(node, slot);
}

bool node_is_empty(const struct tm_node *node)
{
    const struct tm_index *index = node->index;
    if (!index)
        return node->occupied == 0;
    uint64_t any = 0;
    for (uint32_t word = 0; word < index_words(index->capacity); word++)
        any |= index_occupied(index)[word];
    return any == 0;
}

uint64_t node_entry(struct tm_node *node, int slot)
{
    return *entry_of(node, slot);
}

int node_next(struct tm_node *node, int slot)
{
    int slots = node->index ? (int)node->index->capacity : TM_NODE_INLINE;
    for (; slot < slots; slot++) {
        bool exists = slot < TM_NODE_INLINE || node->chunks[chunk_of(slot)].entries;
        if (exists && *entry_of(node, slot) >> TM_SIZE_BITS != 0)
            return slot;
    }
    return -1;
}

uintptr_t node_address(const struct tm_node *node, int slot)
{
    uint8_t offset = node->index ? node->index->offsets[slot] : node->offsets[slot];
    return (uintptr_t)(node->key + ((uint64_t)offset << TM_OFFSET_SHIFT));
}

struct tm_node *node_create(uint32_t domain, uint64_t key, unsigned height)
{
    struct tm_node *node = arena_take(TM_SLAB_NODE, sizeof(struct tm_node));
    if (!node)
        return NULL;
    node->domain = domain;
    node->key = key;
    node->height = (uint8_t)height;
    if (height > 1)
        node->tower = arena_take(TM_SLAB_OTHER, tower_size(height));
    if (height > 1 && !node->tower)
        node->height = 1;
    return node;
}

void node_destroy(struct tm_node *node)
{
    for (unsigned chunk = 0; chunk < TM_NODE_CHUNKS; chunk++) {
        uint64_t *entries = node->chunks[chunk].entries;
        if (!entries)
            continue;
        /* A reader that scans the slab for nodes must not find another node's blocks through this one. */
        state_publish(node->chunks[chunk].entries, NULL);
        arena_give(TM_SLAB_ENTRY, entries, chunk_size(chunk));
    }
    if (node->index)
        arena_give(TM_SLAB_OTHER, node->index, index_size(node->index->capacity));
    if (node->tower)
        arena_give(TM_SLAB_OTHER, node->tower, tower_size(node->height));
    arena_give(TM_SLAB_NODE, node, sizeof(struct tm_node));
}
