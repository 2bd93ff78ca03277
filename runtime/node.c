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

uint64_t *node_entry(struct tm_node *node, int slot)
{
    if (slot < TM_NODE_INLINE)
        return &node->entries[slot];
    unsigned chunk = chunk_of(slot);
    return &node->chunks[chunk].entries[slot - (TM_NODE_INLINE << chunk)];
}

static int find_inline(const struct tm_node *node, uint8_t offset)
{
    for (int slot = 0; slot < TM_NODE_INLINE; slot++)
        if (node->offsets[slot] == offset && node->occupied >> slot & 1)
            return slot;
    return -1;
}

/* Which of the 16 offsets from BASE on are OFFSET. Reads 16 bytes: past a capacity of 8 these are the
   occupancy word's. */
static unsigned match16(const struct tm_index *index, uint32_t base, uint8_t offset)
{
#ifdef __SSE2__
    __m128i group = _mm_loadu_si128((const __m128i *)(const void *)(index->offsets + base));
    return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(group, _mm_set1_epi8((char)offset)));
#else
    unsigned mask = 0;
    for (unsigned i = 0; i < 16; i++)
        mask |= (unsigned)(index->offsets[base + i] == offset) << i;
    return mask;
#endif
}

int node_find(const struct tm_node *node, uint8_t offset)
{
    const struct tm_index *index = node->index;
    if (!index)
        return find_inline(node, offset);
    const uint64_t *occupied = index_occupied(index);
    for (uint32_t base = 0; base < index->capacity; base += 16) {
        unsigned hit = match16(index, base, offset) & (unsigned)(occupied[base / 64] >> base % 64) & 0xffff;
        if (hit)
            return (int)(base + (unsigned)__builtin_ctz(hit));
    }
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

static bool make_room(struct tm_node *node, int *slot)
{
    *slot = first_free(node);
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

static void mark(struct tm_node *node, int slot, bool occupied)
{
    uint64_t bit = UINT64_C(1) << slot % 64;
    if (!node->index)
        node->occupied = (uint8_t)(occupied ? node->occupied | bit : node->occupied & ~bit);
    else if (occupied)
        index_occupied(node->index)[slot / 64] |= bit;
    else
        index_occupied(node->index)[slot / 64] &= ~bit;
    node->live = (uint16_t)(occupied ? node->live + 1 : node->live - 1);
}

bool node_put(struct tm_node *node, uint8_t offset, uint64_t entry)
{
    int slot;
    if (!make_room(node, &slot))
        return false;
    uint8_t *offsets = node->index ? node->index->offsets : node->offsets;
    offsets[slot] = offset;
    state_publish(*node_entry(node, slot), entry);
    mark(node, slot, true);
    return true;
}

uint64_t node_take(struct tm_node *node, int slot)
{
    uint64_t *cell = node_entry(node, slot);
    uint64_t entry = *cell;
    state_publish(*cell, 0);
    mark(node, slot, false);
    return entry;
}

int node_next(struct tm_node *node, int slot)
{
    int slots = node->index ? (int)node->index->capacity : TM_NODE_INLINE;
    for (; slot < slots; slot++) {
        bool exists = slot < TM_NODE_INLINE || node->chunks[chunk_of(slot)].entries;
        if (exists && *node_entry(node, slot) >> TM_SIZE_BITS != 0)
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
    for (unsigned chunk = 0; chunk < TM_NODE_CHUNKS; chunk++)
        if (node->chunks[chunk].entries)
            arena_give(TM_SLAB_ENTRY, node->chunks[chunk].entries, chunk_size(chunk));
    if (node->index)
        arena_give(TM_SLAB_OTHER, node->index, index_size(node->index->capacity));
    if (node->tower)
        arena_give(TM_SLAB_OTHER, node->tower, tower_size(node->height));
    arena_give(TM_SLAB_NODE, node, sizeof(struct tm_node));
}
