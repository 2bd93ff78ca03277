/* node.h: the blocks of one node: which slot an offset has, and what a slot's entry says.

   The caller holds the node's lock: its page's in the directory, or the skiplist's. */

#ifndef TM_NODE_H
#define TM_NODE_H

#include "state.h"

#include <stddef.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

static inline uint64_t node_key(uintptr_t address)
{
    return ((uint64_t)address >> TM_PAGE_SHIFT << TM_PAGE_SHIFT) | (address & TM_PHASE_MASK);
}

static inline uint8_t node_offset(uintptr_t address)
{
    return (uint8_t)((address & ((1u << TM_PAGE_SHIFT) - 1)) >> TM_OFFSET_SHIFT);
}

/* Which of 64 offsets are OFFSET. Reads them all, however few the index has: a branch for each sixteen of them would
   be a gamble. What lies behind is another piece of the slab or its slack, and does not count. */
static inline uint64_t node_match(const uint8_t *offsets, uint8_t offset)
{
#ifdef __SSE2__
    const __m128i *groups = (const void *)offsets;
    __m128i wanted = _mm_shuffle_epi32(_mm_cvtsi32_si128((int)(offset * 0x01010101u)), 0);
    unsigned first = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(groups), wanted));
    unsigned second = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(groups + 1), wanted));
    unsigned third = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(groups + 2), wanted));
    unsigned fourth = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(groups + 3), wanted));
    return (uint64_t)(third | fourth << 16) << 32 | (first | second << 16);
#else
    uint64_t mask = 0;
    for (int i = 0; i < 64; i++)
        mask |= (uint64_t)(offsets[i] == offset) << i;
    return mask;
#endif
}

/* Which slots hold a block, where there is an index of at most 64: the word lies where the node's own offsets were. */
static inline uint64_t *node_occupied(struct tm_node *node)
{
    return (uint64_t *)(void *)node->offsets;
}

/* The highest bit of SLOT: 2 + k in chunk k. That of an inline slot is as the first chunk's. */
static inline unsigned node_top(unsigned slot)
{
    return (unsigned)__builtin_clz(slot | TM_NODE_INLINE) ^ 31;
}

/* The entries of the chunk that holds SLOT: of the first chunk for a slot that is inline. */
static inline uint64_t *node_chunk(const struct tm_node *node, unsigned slot)
{
    return node->chunks[(size_t)node_top(slot) - 2].entries;
}

/* Where the entry of SLOT is, in CHUNK or inline. A branch would be a gamble: the compiler takes none where it must
   have computed both. */
static inline uint64_t *node_cell(struct tm_node *node, unsigned slot, uint64_t *chunk)
{
    uintptr_t in_node = (uintptr_t)node->entries + slot * sizeof(uint64_t);
    uintptr_t in_chunk = (uintptr_t)chunk + (slot ^ (size_t)1 << node_top(slot)) * sizeof(uint64_t);
    __asm__("" : "+r"(in_node), "+r"(in_chunk));
    return (uint64_t *)(slot < TM_NODE_INLINE ? in_node : in_chunk);
}

/* For nodes of any size. */
bool node_put_any(struct tm_node *node, uint8_t offset, uint64_t entry, uint64_t *old);
uint64_t node_take_any(struct tm_node *node, uint8_t offset);

/* Whether the node has an index, and all its slots are in one word of node_occupied. */
static inline bool node_is_usual(const struct tm_node *node)
{
    return state_likely(node->index != NULL) && state_likely(node->index->capacity <= 64);
}

/* Puts a block at OFFSET (in units of 16 bytes). OLD receives the entry of the one that it replaces, if there is one.
   False for want of memory. */
static inline bool node_put(struct tm_node *node, uint8_t offset, uint64_t entry, uint64_t *old)
{
    if (!node_is_usual(node))
        return node_put_any(node, offset, entry, old);
    struct tm_index *index = node->index;
    uint64_t occupied = *node_occupied(node);
    if (state_unlikely(occupied == UINT64_MAX || node_match(index->offsets, offset) & occupied))
        return node_put_any(node, offset, entry, old);
    /* No index has a slot without a chunk of its size: that of the slot behind the last is missing. */
    unsigned slot = (unsigned)__builtin_ctzll(~occupied);
    uint64_t *chunk = node_chunk(node, slot);
    if (state_unlikely(!chunk))
        return node_put_any(node, offset, entry, old);
    index->offsets[slot] = offset;
    state_publish(*node_cell(node, slot, chunk), entry);
    *node_occupied(node) = occupied | (occupied + 1);
    return true;
}

/* The entry at OFFSET, 0 if there is none. `_take` removes it. */
uint64_t node_get(struct tm_node *node, uint8_t offset);

static inline uint64_t node_take(struct tm_node *node, uint8_t offset)
{
    if (!node_is_usual(node))
        return node_take_any(node, offset);
    uint64_t occupied = *node_occupied(node);
    uint64_t hit = node_match(node->index->offsets, offset) & occupied;
    if (state_unlikely(!hit))
        return 0;
    unsigned slot = (unsigned)__builtin_ctzll(hit);
    uint64_t *cell = node_cell(node, slot, node_chunk(node, slot));
    uint64_t entry = *cell;
    state_publish(*cell, 0);
    *node_occupied(node) = occupied ^ hit;
    return entry;
}

/* Whether the node has no blocks. */
bool node_is_empty(struct tm_node *node);

/* The first slot from SLOT on that holds a block, or -1. */
int node_next(struct tm_node *node, int slot);

/* The entry in a slot that node_next gave. `_empty` removes it. */
uint64_t node_entry(struct tm_node *node, int slot);
uint64_t node_empty(struct tm_node *node, int slot);

/* The address of the block in SLOT. */
uintptr_t node_address(const struct tm_node *node, int slot);

/* A node without blocks and without links; NULL for want of memory. HEIGHT: 1..TM_LEVELS. */
struct tm_node *node_create(uint32_t domain, uint64_t key, unsigned height);

/* NODE has no blocks and nobody holds it. */
void node_destroy(struct tm_node *node);

#endif
