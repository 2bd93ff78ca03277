/* node.h: makes and unmakes the skiplist's elements, each with its page's lines. */

#ifndef TM_NODE_H
#define TM_NODE_H

#include "page.h"

static inline uint64_t node_key(uintptr_t address)
{
    return ((uint64_t)address >> TM_PAGE_SHIFT << TM_PAGE_SHIFT) | (address & TM_PHASE_MASK);
}

/* The address of the block at OFFSET. */
static inline uintptr_t node_address(const struct tm_node *node, uint8_t offset)
{
    return (uintptr_t)(node->key + ((uint64_t)offset << TM_OFFSET_SHIFT));
}

/* A node without blocks and without links; NULL for want of memory. HEIGHT: 1..TM_LEVELS. PAGE: where its lines are to
   hang, without any so far; NULL: in a tm_page of its own. SHAPE: of the lines that it begins with. */
struct tm_node *node_create(uint32_t domain, uint64_t key, unsigned height, struct tm_page *page, unsigned shape);

/* NODE has no blocks and nobody else holds it. */
void node_destroy(struct tm_node *node);

#endif
