/* directory.h: from a page of the program to its tm_page, with the page's node, its lock and its lines.

   Serves domain 0, phase 0 and addresses below 1 << DIRECTORY_BITS; all others go through the skiplist's
   own search. A tm_page never moves and never goes away. Thread safe. */

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

struct directory_leaf {
    struct tm_page pages[DIRECTORY_LEVEL_CELLS];
};

struct directory_branch {
    struct directory_leaf *leaves[DIRECTORY_LEVEL_CELLS];
};

extern struct directory_branch *directory_root[DIRECTORY_LEVEL_CELLS]; /* published; made under a lock */

static inline unsigned directory_index(uintptr_t address, int level)
{
    return (uint64_t)address >> (TM_PAGE_SHIFT + level * DIRECTORY_LEVEL_BITS) & (DIRECTORY_LEVEL_CELLS - 1);
}

/* The page that holds ADDRESS. `_find`: NULL when no block was ever there. `_make`: NULL for
   want of memory. */
struct tm_page *directory_make(uintptr_t address);

static inline struct tm_page *directory_find(uintptr_t address)
{
    struct directory_branch *branch = state_load(directory_root[directory_index(address, 2)]);
    struct directory_leaf *leaf = branch ? state_load(branch->leaves[directory_index(address, 1)]) : NULL;
    return leaf ? &leaf->pages[directory_index(address, 0)] : NULL;
}

/* Whether nobody else can be at the pages: the bus then need not be locked, which costs more than all the rest of it.
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
static inline bool directory_try_lock(struct tm_page *page, struct tm_node **node)
{
    struct tm_node *seen = state_peek(page->node);
    struct tm_node *locked = (struct tm_node *)((uintptr_t)seen | DIRECTORY_LOCK_BIT);
    if (state_unlikely(seen == locked))
        return false;
    *node = seen;
    if (directory_is_private()) {
        __atomic_store_n(&page->node, locked, __ATOMIC_RELAXED);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        return true;
    }
    return __atomic_compare_exchange_n(&page->node, &seen, locked, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* Locks the page for a caller who holds a lock that a forking thread waits for: does not wait for the fork. */
struct tm_node *directory_lock_within(struct tm_page *page);

/* The same for everybody else, once directory_try_lock failed or another thread forks. */
struct tm_node *directory_lock_patiently(struct tm_page *page, bool is_locked, struct tm_node *node);

/* Locks the page and returns its node, NULL if it has none. Waits while another thread forks. */
static inline struct tm_node *directory_lock(struct tm_page *page)
{
    struct tm_node *node = NULL;
    bool is_locked = directory_try_lock(page, &node);
    if (state_unlikely(!is_locked || !state_may_change()))
        node = directory_lock_patiently(page, is_locked, node);
    return node;
}

/* Unlocks the page; NODE is its node from now on. */
static inline void directory_unlock(struct tm_page *page, struct tm_node *node)
{
    state_publish(page->node, node);
}

/* In a forked child: no page is locked. */
void directory_reset_locks(void);

#endif
