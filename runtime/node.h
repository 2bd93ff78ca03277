/* node.h: the blocks of one node: which slot an offset has, and what a slot's entry says.

   The caller holds the node's lock: its page's in the directory, or the skiplist's. */

#ifndef TM_NODE_H
#define TM_NODE_H

#include "layout.h"

#include <stdbool.h>

static inline uint64_t node_key(uintptr_t address)
{
    return ((uint64_t)address >> TM_PAGE_SHIFT << TM_PAGE_SHIFT) | (address & TM_PHASE_MASK);
}

static inline uint8_t node_offset(uintptr_t address)
{
    return (uint8_t)((address & ((1u << TM_PAGE_SHIFT) - 1)) >> TM_OFFSET_SHIFT);
}

/* Puts a block at OFFSET (in units of 16 bytes). OLD receives the entry of the one that it replaces, if there is one.
   False for want of memory. */
bool node_put(struct tm_node *node, uint8_t offset, uint64_t entry, uint64_t *old);

/* The entry at OFFSET, 0 if there is none. `_take` removes it. */
uint64_t node_get(struct tm_node *node, uint8_t offset);
uint64_t node_take(struct tm_node *node, uint8_t offset);

/* Whether the node has no blocks. */
bool node_is_empty(const struct tm_node *node);

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
