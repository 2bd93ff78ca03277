/* directory.c: a radix tree of three levels, 12 bits each, over the page number. A leaf is 32 KiB and covers
   16 MiB of the program, so that a forked child's sweep over all cells reads little. */

#include "directory.h"

#include "arena.h"
#include "state.h"

#define LEVEL_BITS 12
#define LEVEL_CELLS (1u << LEVEL_BITS)
#define LOCK_BIT ((uintptr_t)1)

struct leaf {
    directory_cell cells[LEVEL_CELLS];
};

struct branch {
    struct leaf *leaves[LEVEL_CELLS];
};

static struct branch *root[LEVEL_CELLS]; /* published; made by grow_lock */
static struct lock grow_lock;

static unsigned index_at(uintptr_t address, int level)
{
    return (uint64_t)address >> (TM_PAGE_SHIFT + level * LEVEL_BITS) & (LEVEL_CELLS - 1);
}

directory_cell *directory_find(uintptr_t address)
{
    struct branch *branch = state_load(root[index_at(address, 2)]);
    struct leaf *leaf = branch ? state_load(branch->leaves[index_at(address, 1)]) : NULL;
    return leaf ? &leaf->cells[index_at(address, 0)] : NULL;
}

static void *grow(void **cell, size_t size)
{
    if (!*cell) {
        void *made = arena_take(TM_SLAB_OTHER, size);
        state_publish(*cell, made);
    }
    return *cell;
}

directory_cell *directory_make(uintptr_t address)
{
    directory_cell *cell = directory_find(address);
    if (state_likely(cell != NULL))
        return cell;
    state_acquire(&grow_lock);
    struct branch *branch = grow((void **)&root[index_at(address, 2)], sizeof(struct branch));
    if (branch)
        grow((void **)&branch->leaves[index_at(address, 1)], sizeof(struct leaf));
    lock_release(&grow_lock);
    return directory_find(address);
}

bool directory_try_lock(directory_cell *cell, struct tm_node **node)
{
    uintptr_t seen = __atomic_fetch_or(cell, LOCK_BIT, __ATOMIC_SEQ_CST);
    *node = (struct tm_node *)(seen & ~LOCK_BIT);
    return !(seen & LOCK_BIT);
}

struct tm_node *directory_lock_within(directory_cell *cell)
{
    struct tm_node *node;
    for (unsigned turn = 0; state_unlikely(!directory_try_lock(cell, &node)); turn++)
        lock_pause(turn);
    return node;
}

struct tm_node *directory_lock(directory_cell *cell)
{
    struct tm_node *node = directory_lock_within(cell);
    while (!state_may_change()) {
        directory_unlock(cell, node);
        state_wait_for_fork();
        node = directory_lock_within(cell);
    }
    return node;
}

void directory_unlock(directory_cell *cell, struct tm_node *node)
{
    __atomic_store_n(cell, (uintptr_t)node, __ATOMIC_RELEASE);
}

static void reset_leaf(struct leaf *leaf)
{
    for (unsigned i = 0; leaf && i < LEVEL_CELLS; i++)
        if (leaf->cells[i] & LOCK_BIT)
            leaf->cells[i] &= ~LOCK_BIT;
}

void directory_reset_locks(void)
{
    for (unsigned i = 0; i < LEVEL_CELLS; i++)
        for (unsigned j = 0; root[i] && j < LEVEL_CELLS; j++)
            reset_leaf(root[i]->leaves[j]);
    lock_reset(&grow_lock);
}
