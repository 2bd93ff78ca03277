/* directory.h: from a page of the program to its cell: the page's node and, in bit 0, the page's lock.

   Serves domain 0, phase 0 and addresses below 1 << DIRECTORY_BITS; all others go through the skiplist's
   own search. Cells never move and never go away. Thread safe. */

#ifndef TM_DIRECTORY_H
#define TM_DIRECTORY_H

#include "layout.h"

#include <stdbool.h>

#define DIRECTORY_BITS 48

typedef uintptr_t directory_cell;

/* The cell of the page that holds ADDRESS. `_find`: NULL when no block was ever there. `_make`: NULL for
   want of memory. */
directory_cell *directory_find(uintptr_t address);
directory_cell *directory_make(uintptr_t address);

/* Locks the page and returns its node, NULL if it has none. Waits while another thread forks. */
struct tm_node *directory_lock(directory_cell *cell);

/* The same for a caller who holds a lock that a forking thread waits for: does not wait for the fork. */
struct tm_node *directory_lock_within(directory_cell *cell);

/* Locks the page if that takes no wait. */
bool directory_try_lock(directory_cell *cell, struct tm_node **node);

/* Unlocks the page; NODE is its node from now on. */
void directory_unlock(directory_cell *cell, struct tm_node *node);

/* In a forked child: no page is locked. */
void directory_reset_locks(void);

#endif
