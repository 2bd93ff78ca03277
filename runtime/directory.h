/* directory.h: from a page of the program to its cell: the page's node and, in bit 0, the page's lock.

   Serves domain 0, phase 0 and addresses below 1 << DIRECTORY_BITS; all others go through the skiplist's
   own search. Cells never move and never go away. Thread safe. */

#ifndef TM_DIRECTORY_H
#define TM_DIRECTORY_H

#include "state.h"

#include <stddef.h>
#ifdef HAVE_SYS_SINGLE_THREADED_H
#include <sys/single_threaded.h>
#endif

#define DIRECTORY_BITS 48
#define DIRECTORY_LEVEL_BITS 12
#define DIRECTORY_LEVEL_CELLS (1u << DIRECTORY_LEVEL_BITS)
#define DIRECTORY_LOCK_BIT ((uintptr_t)1)

typedef uintptr_t directory_cell;

struct directory_leaf {
    directory_cell cells[DIRECTORY_LEVEL_CELLS];
};

struct directory_branch {
    struct directory_leaf *leaves[DIRECTORY_LEVEL_CELLS];
};

extern struct directory_branch *directory_root[DIRECTORY_LEVEL_CELLS]; /* published; made under a lock */

static inline unsigned directory_index(uintptr_t address, int level)
{
    return (uint64_t)address >> (TM_PAGE_SHIFT + level * DIRECTORY_LEVEL_BITS) & (DIRECTORY_LEVEL_CELLS - 1);
}

/* The cell of the page that holds ADDRESS. `_find`: NULL when no block was ever there. `_make`: NULL for
   want of memory. */
directory_cell *directory_make(uintptr_t address);

static inline directory_cell *directory_find(uintptr_t address)
{
    struct directory_branch *branch = state_load(directory_root[directory_index(address, 2)]);
    struct directory_leaf *leaf = branch ? state_load(branch->leaves[directory_index(address, 1)]) : NULL;
    return leaf ? &leaf->cells[directory_index(address, 0)] : NULL;
}

/* Whether nobody else can be at the cells: the bus then need not be locked, which costs more than all the rest of it.
 */
static inline bool directory_is_private(void)
{
#ifdef HAVE_SYS_SINGLE_THREADED_H
    return __libc_single_threaded;
#else
    return false;
#endif
}

/* Locks the page if that takes no wait; then NODE receives its node, NULL if it has none. The node is the one that was
   seen before the exchange: what follows need not wait for it. */
static inline bool directory_try_lock(directory_cell *cell, struct tm_node **node)
{
    uintptr_t seen = state_peek(*cell), locked = seen | DIRECTORY_LOCK_BIT;
    if (state_unlikely(seen == locked))
        return false;
    *node = (struct tm_node *)seen;
    if (directory_is_private()) {
        __atomic_store_n(cell, locked, __ATOMIC_RELAXED);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        return true;
    }
    return __atomic_compare_exchange_n(cell, &seen, locked, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* Locks the page for a caller who holds a lock that a forking thread waits for: does not wait for the fork. */
struct tm_node *directory_lock_within(directory_cell *cell);

/* The same for everybody else, once directory_try_lock failed or another thread forks. */
struct tm_node *directory_lock_patiently(directory_cell *cell, bool is_locked, struct tm_node *node);

/* Locks the page and returns its node, NULL if it has none. Waits while another thread forks. */
static inline struct tm_node *directory_lock(directory_cell *cell)
{
    struct tm_node *node = NULL;
    bool is_locked = directory_try_lock(cell, &node);
    if (state_unlikely(!is_locked || !state_may_change()))
        node = directory_lock_patiently(cell, is_locked, node);
    return node;
}

/* Unlocks the page; NODE is its node from now on. */
static inline void directory_unlock(directory_cell *cell, struct tm_node *node)
{
    __atomic_store_n(cell, (uintptr_t)node, __ATOMIC_RELEASE);
}

/* In a forked child: no page is locked. */
void directory_reset_locks(void);

#endif
