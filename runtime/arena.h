/* arena.h: the only memory the runtime ever takes: slabs of anonymous pages, one kind of content each.

   Thread safe, keeps errno. Nothing goes back to the kernel; what is given back serves later takes of its kind and
   size. Behind every piece ARENA_SLACK bytes can be read. */

#ifndef TM_ARENA_H
#define TM_ARENA_H

#include "layout.h"

#include <stdbool.h>
#include <stddef.h>

/* SIZE bytes, zeroed, aligned to 8 (to 64 where SIZE is a multiple of 64 and the kind holds nothing else).
   NULL when the kernel gives no memory. SIZE is a multiple of 8. */
void *arena_take(enum tm_slab_kind kind, size_t size);

/* The same of kind OTHER for a table that will soon be written everywhere: it has its pages, if the kernel gives them
   at once. SIZE is more than ARENA_GIVE_MAX. */
void *arena_take_table(size_t size);

/* Takes back what arena_take gave, with the same KIND and SIZE, 16 to ARENA_GIVE_MAX bytes; a multiple of 64 if it is
   more than ARENA_GIVE_FINE.
   Of kinds ENTRY and WIDE every entry in it must be zero, so that readers find no block there. */
#define ARENA_GIVE_FINE 256
#define ARENA_GIVE_MAX 2560
#define ARENA_SLACK 64
void arena_give(enum tm_slab_kind kind, void *memory, size_t size);

/* The NUMBERth segment for sites: a whole slab of kind SITE, header included. NULL when the kernel gives no
   memory. */
struct tm_slab *arena_take_segment(uint64_t number);

/* Before the bytes up to USED of a segment's payload are touched, under a lock of the caller's: whether they may be.
   False at most once. */
bool arena_fill(struct tm_slab *slab, uint64_t used);

/* Around fork: nobody is inside between the two; `_reset` is the child's. */
void arena_quiesce(void);
void arena_reset_lock(void);

#endif
