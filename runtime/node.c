/* node.c: a node starts with four inline slots. Then an index of offsets takes over, replaced by a copy of
   twice the capacity as the page fills; entries lie in chunks that are added and never move, so a reader
   finds each block exactly once at any moment. */

#include "node.h"

#include "arena.h"

#include <string.h>

_Static_assert(offsetof(struct tm_node, offsets) % 8 == 0 &&
                   offsetof(struct tm_node, chunks) - offsetof(struct tm_node, offsets) == 8,
               "the occupancy word has the place of the offsets and of what is reserved behind them");

/* The occupancy words behind the offsets; of up to 64 slots, the node has the word. */
static size_t index_words(uint32_t capacity)
{
    return capacity <= 64 ? 0 : capacity / 64;
}

static size_t index_size(uint32_t capacity)
{
    return sizeof(struct tm_index) + capacity + index_words(capacity) * sizeof(uint64_t);
}

static uint64_t *index_occupied(struct tm_index *index)
{
    return (uint64_t *)(void *)(index->offsets + index->capacity);
}

static size_t tower_size(unsigned height)
{
    size_t size = (height - 1) * sizeof(struct tm_level);
    return size && size < 16 ? 16 : size;
}

static unsigned chunk_of(unsigned slot)
{
    return 29 - (unsigned)__builtin_clz(slot);
}

static size_t chunk_size(unsigned chunk)
{
    return ((size_t)TM_NODE_INLINE << chunk) * sizeof(uint64_t);
}

static uint64_t *entry_of(struct tm_node *node, int slot)
{
    return node_cell(node, (unsigned)slot, node_chunk(node, (unsigned)slot));
}

static unsigned capacity_of(const struct tm_node *node)
{
    return node->index ? node->index->capacity : TM_NODE_INLINE;
}

/* Which slots hold a block, in a node of at most 64. */
static uint64_t occupied_few(struct tm_node *node)
{
    return node->index ? *node_occupied(node) : node->occupied;
}

/* The first bit that is set in 128, of which one is. Either word may hold it: a branch would be a gamble. */
static int first_bit(uint64_t low, uint64_t high)
{
    uint64_t is_high = -(uint64_t)(low == 0);
    return __builtin_ctzll(low | (high & is_high)) + (int)(is_high & 64);
}

static int find_in_many(struct tm_index *index, uint8_t offset)
{
    const uint64_t *occupied = index_occupied(index);
    for (unsigned base = 0; base < index->capacity; base += 128, occupied += 2) {
        uint64_t low = node_match(index->offsets + base, offset) & occupied[0];
        uint64_t high = node_match(index->offsets + base + 64, offset) & occupied[1];
        if (low | high)
            return (int)base + first_bit(low, high);
    }
    return -1;
}

static int free_in_many(struct tm_index *index)
{
    const uint64_t *occupied = index_occupied(index);
    for (unsigned base = 0; base < index->capacity; base += 128, occupied += 2)
        if (~(occupied[0] & occupied[1]))
            return (int)base + first_bit(~occupied[0], ~occupied[1]);
    return -1;
}

/* The slot of the block at OFFSET, or -1. */
static int find(struct tm_node *node, uint8_t offset)
{
    if (capacity_of(node) > 64)
        return find_in_many(node->index, offset);
    const uint8_t *offsets = node->index ? node->index->offsets : node->offsets;
    uint64_t hit = node_match(offsets, offset) & occupied_few(node);
    return hit ? __builtin_ctzll(hit) : -1;
}

static int first_free(struct tm_node *node)
{
    if (capacity_of(node) > 64)
        return free_in_many(node->index);
    uint64_t occupied = occupied_few(node);
    if (occupied == UINT64_MAX)
        return -1;
    int slot = __builtin_ctzll(~occupied);
    return slot < (int)capacity_of(node) ? slot : -1;
}

/* The slot's bit is to say the contrary. */
static void flip(struct tm_node *node, int slot)
{
    uint64_t bit = UINT64_C(1) << (unsigned)slot % 64;
    if (!node->index)
        node->occupied = (uint8_t)(node->occupied ^ bit);
    else if (node->index->capacity <= 64)
        *node_occupied(node) ^= bit;
    else
        index_occupied(node->index)[(unsigned)slot / 64] ^= bit;
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
    memcpy(larger->offsets, old ? old->offsets : node->offsets, capacity / 2);
    if (capacity > 128)
        memcpy(index_occupied(larger), index_occupied(old), index_words(capacity / 2) * sizeof(uint64_t));
    else if (capacity == 128)
        *index_occupied(larger) = *node_occupied(node);
    state_publish(node->index, larger);
    if (old)
        arena_give(TM_SLAB_OTHER, old, index_size(capacity / 2));
    else
        state_publish(*node_occupied(node), node->occupied);
    return true;
}

/* For a slot that there is no memory for yet. */
static bool make_room(struct tm_node *node, int *slot)
{
    if (*slot < 0) {
        if (!grow_index(node))
            return false;
        *slot = first_free(node);
    }
    if (*slot < TM_NODE_INLINE || node->chunks[chunk_of((unsigned)*slot)].entries)
        return true;
    uint64_t *entries = arena_take(TM_SLAB_ENTRY, chunk_size(chunk_of((unsigned)*slot)));
    state_publish(node->chunks[chunk_of((unsigned)*slot)].entries, entries);
    return entries != NULL;
}

static bool has_room(const struct tm_node *node, int slot)
{
    return slot >= 0 && (slot < TM_NODE_INLINE || node->chunks[chunk_of((unsigned)slot)].entries);
}

static bool put(struct tm_node *node, uint8_t offset, uint64_t entry)
{
    int slot = first_free(node);
    if (state_unlikely(!has_room(node, slot)) && !make_room(node, &slot))
        return false;
    if (node->index)
        node->index->offsets[slot] = offset;
    else
        node->offsets[slot & (TM_NODE_INLINE - 1)] = offset; /* which the compiler cannot know */
    state_publish(*entry_of(node, slot), entry);
    flip(node, slot);
    return true;
}

bool node_put_any(struct tm_node *node, uint8_t offset, uint64_t entry, uint64_t *old)
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
    flip(node, slot);
    return entry;
}

uint64_t node_take_any(struct tm_node *node, uint8_t offset)
{
    int slot = find(node, offset);
    return slot < 0 ? 0 : node_empty(node, slot);
}

bool node_is_empty(struct tm_node *node)
{
    if (capacity_of(node) <= 64)
        return occupied_few(node) == 0;
    uint64_t any = 0;
    for (unsigned word = 0; word < index_words(node->index->capacity); word++)
        any |= index_occupied(node->index)[word];
    return any == 0;
}

uint64_t node_entry(struct tm_node *node, int slot)
{
    return *entry_of(node, slot);
}

int node_next(struct tm_node *node, int slot)
{
    for (; slot < (int)capacity_of(node); slot++) {
        bool exists = slot < TM_NODE_INLINE || node->chunks[chunk_of((unsigned)slot)].entries;
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
