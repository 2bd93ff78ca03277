/* skiplist.h: the live blocks by (domain, address).

   Thread safe. Blocks of domain 0 at malloc's alignment are found through the directory under their page's
   lock; all others under the skiplist's own. */

#ifndef TM_SKIPLIST_H
#define TM_SKIPLIST_H

#include "layout.h"

#include <stdbool.h>

/* Once, before any other call. */
void skiplist_init(void);

enum skiplist_result {
    SKIPLIST_DONE,
    SKIPLIST_OFF,       /* not tracing: nothing was changed */
    SKIPLIST_NO_MEMORY, /* nothing was changed */
};

/* A block will be put at the address: says where, NULL if that is not known, and fetches it, for a walk of the stack
   takes as long. */
struct tm_page *skiplist_expect(uint32_t domain, uintptr_t address);

/* Puts ENTRY (its site is not 0) at the address, for which skiplist_expect said EXPECTED. OLD receives the entry that
   was there, 0 if none. */
enum skiplist_result skiplist_put(uint32_t domain, uintptr_t address, struct tm_page *expected, uint64_t entry,
                                  uint64_t *old);

/* Removes and returns the entry at the address, 0 if there is none. */
uint64_t skiplist_take(uint32_t domain, uintptr_t address);

/* The entry at the address, 0 if there is none. */
uint64_t skiplist_get(uint32_t domain, uintptr_t address);

/* Reads the blocks node by node, in order; the caller has claimed no lane. False at the end. BLOCKS has room for
   TM_PAGE_OFFSETS; COUNT may be 0. Each node is read as it is at one moment; blocks come and go between two calls. */
struct skiplist_block {
    uintptr_t address;
    uint64_t entry;
};
struct skiplist_cursor {
    bool started;
    uint32_t domain; /* of the last node */
    uint64_t key;
};
bool skiplist_read_node(struct skiplist_cursor *cursor, struct skiplist_block *blocks, unsigned *count);

/* Removes every block and calls DROPPED with ARGUMENT and each one's entry. Blocks put meanwhile by other threads stay
   unless tracing is off. */
void skiplist_clear(void (*dropped)(void *argument, uint64_t entry), void *argument);

/* With the mode at FORKING and all lanes quiet: returns once no thread is inside. `_reset_locks` is the child's. */
void skiplist_quiesce(void);
void skiplist_reset_locks(void);

#endif
