/* site.h: sites, the interned (domain, traceback) records that entries name by a number.

   A site is made once and never changes or goes away; looking up a known one takes no lock. Thread safe. */

#ifndef TM_SITE_H
#define TM_SITE_H

#include "packing.h"

#include <stdbool.h>
#include <stddef.h>

/* The sites that a lane found last, by their hash: most are found there again, and need no look into the table, whose
   lines are in no cache. By the lane's claim; empty is all zero. */
#define SITE_RECENT 2048
struct site_recent {
    uint64_t cells[SITE_RECENT]; /* upper half of the hash | number */
};

/* A traceback as the program has it in hand: return addresses, most recent call first. */
struct traceback {
    uint32_t nframe;
    bool cut; /* the walk ended before the outermost frame */
    void *const *frames;
    const uint32_t *packed; /* the same; NULL where they were not packed */
    uint64_t hash;          /* of the frames: any function of them that the stack walk prefers, always the same one */
    struct site_recent *recent; /* of the lane that walked; NULL: none */
};

/* A hash of frames for a stack walk that has no cheaper one. */
uint64_t site_hash_frames(void *const *frames, uint32_t nframe);

/* The number of the site, made if it is new. SIZE_HIGH: the bits of the block's size above TM_SIZE_BITS.
   0 when there is no memory for it or no number left. */
uint32_t site_intern(uint32_t domain, uint32_t size_high, const struct traceback *traceback);

/* Whether any site has a size_high: without one, nobody needs to look at a site for it. Atomic, rises once. */
extern bool site_any_high;

/* The site of a number that site_intern gave. */
const struct tm_site *site_get(uint32_t number);

/* Its frame number I. */
static inline uintptr_t site_frame(const struct tm_site *site, uint32_t i)
{
    if (state_peek(site->flags) & TM_SITE_PACKED)
        return (uintptr_t)packing_unpack(((const uint32_t *)site->frames)[i]);
    return (uintptr_t)site->frames[i];
}

/* The sites in the order in which they were made, those that there are at the first call; NULL at the end. */
struct site_cursor {
    uint32_t number; /* 0 before the first call */
    uint64_t left;
};
const struct tm_site *site_next(struct site_cursor *cursor);

/* No site made so far that has a frame in [START, END) is found again: another module's code may come there. */
void site_retire_range(uintptr_t start, uintptr_t end);

void site_quiesce(void);
void site_reset_lock(void);

#endif
