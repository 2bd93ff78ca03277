/* directory.c: a radix tree of three levels, 12 bits each, over the page number. A leaf is 64 KiB and covers
   16 MiB of the program, so that a forked child's sweep over all pages reads little. */

#include "directory.h"

#include "arena.h"

struct directory_branch *directory_root[DIRECTORY_LEVEL_CELLS];
static struct lock grow_lock;

static void *grow(void **cell, enum tm_slab_kind kind, size_t size)
{
    if (!*cell) {
        void *made = arena_take(kind, size);
        state_publish(*cell, made);
    }
    return *cell;
}

struct tm_page *directory_make(uintptr_t address)
{
    struct tm_page *page = directory_find(address);
    if (state_likely(page != NULL))
        return page;
    state_acquire(&grow_lock);
    struct directory_branch *branch =
        grow((void **)&directory_root[directory_index(address, 2)], TM_SLAB_OTHER, sizeof(struct directory_branch));
    if (branch)
        grow((void **)&branch->leaves[directory_index(address, 1)], TM_SLAB_PAGE, sizeof(struct directory_leaf));
    lock_release(&grow_lock);
    return directory_find(address);
}

struct tm_node *directory_lock_within(struct tm_page *page)
{
    struct tm_node *node;
    for (unsigned turn = 0; state_unlikely(!directory_try_lock(page, &node)); turn++)
        lock_pause(turn);
    return node;
}

struct tm_node *directory_lock_patiently(struct tm_page *page, bool is_locked, struct tm_node *node)
{
    if (!is_locked)
        node = directory_lock_within(page);
    while (!state_may_change()) {
        directory_unlock(page, node);
        state_wait_for_fork();
        node = directory_lock_within(page);
    }
    return node;
}

static void reset_leaf(struct directory_leaf *leaf)
{
    for (unsigned i = 0; leaf && i < DIRECTORY_LEVEL_CELLS; i++)
        if ((uintptr_t)leaf->pages[i].node & DIRECTORY_LOCK_BIT)
            leaf->pages[i].node = (struct tm_node *)((uintptr_t)leaf->pages[i].node & ~DIRECTORY_LOCK_BIT);
}

void directory_reset_locks(void)
{
    for (unsigned i = 0; i < DIRECTORY_LEVEL_CELLS; i++)
        for (unsigned j = 0; directory_root[i] && j < DIRECTORY_LEVEL_CELLS; j++)
            reset_leaf(directory_root[i]->leaves[j]);
    lock_reset(&grow_lock);
}
