/* directory.c: a radix tree of three levels, 12 bits each, over the page number. A leaf is 32 KiB and covers
   16 MiB of the program, so that a forked child's sweep over all cells reads little. */

#include "directory.h"

#include "arena.h"

struct directory_branch *directory_root[DIRECTORY_LEVEL_CELLS];
static struct lock grow_lock;

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
    struct directory_branch *branch =
        grow((void **)&directory_root[directory_index(address, 2)], sizeof(struct directory_branch));
    if (branch)
        grow((void **)&branch->leaves[directory_index(address, 1)], sizeof(struct directory_leaf));
    lock_release(&grow_lock);
    return directory_find(address);
}

struct tm_node *directory_lock_within(directory_cell *cell)
{
    struct tm_node *node;
    for (unsigned turn = 0; state_unlikely(!directory_try_lock(cell, &node)); turn++)
        lock_pause(turn);
    return node;
}

struct tm_node *directory_lock_patiently(directory_cell *cell, bool is_locked, struct tm_node *node)
{
    if (!is_locked)
        node = directory_lock_within(cell);
    while (!state_may_change()) {
        directory_unlock(cell, node);
        state_wait_for_fork();
        node = directory_lock_within(cell);
    }
    return node;
}

static void reset_leaf(struct directory_leaf *leaf)
{
    for (unsigned i = 0; leaf && i < DIRECTORY_LEVEL_CELLS; i++)
        if (leaf->cells[i] & DIRECTORY_LOCK_BIT)
            leaf->cells[i] &= ~DIRECTORY_LOCK_BIT;
}

void directory_reset_locks(void)
{
    for (unsigned i = 0; i < DIRECTORY_LEVEL_CELLS; i++)
        for (unsigned j = 0; directory_root[i] && j < DIRECTORY_LEVEL_CELLS; j++)
            reset_leaf(directory_root[i]->leaves[j]);
    lock_reset(&grow_lock);
}
