/* past_walks_x86_64.h: walks that a lane made before, each as the words of the stack that it read and the site that it
   led to. A walk that begins like one of them reads these words again, in the same order, as far as they are the same;
   if all are, so is all else that it would find.

   By the lane's claim. Calls no malloc, keeps errno, reads nothing of the stack but what a walk would read. */

#ifndef TM_PAST_WALKS_X86_64_H
#define TM_PAST_WALKS_X86_64_H

#include "state.h"

#include <stddef.h>
#include <string.h>

struct past_word {
    uintptr_t place;
    uintptr_t value;
};

/* One more word than COUNT, which is never the same, ends them. */
struct past_walk {
    uint32_t count;
    uint32_t site; /* in domain 0 */
    struct past_word words[];
};

#define PAST_UNIT 64
#define PAST_UNITS 2048
#define PAST_CELLS 1024

/* Past walks lie one behind the other; the newest overwrites the oldest. Empty is all zero. */
struct past_walks {
    int64_t calls;   /* since the last 0; below 0: nothing is looked for until it is 0, for it was not worth it */
    uint32_t next;   /* the unit that the next one is written to, counted on and on */
    uint16_t misses; /* in these calls */
    uint16_t pause;  /* for how many calls it was paused last; 0: it was worth it since, or never paused */
    uint64_t cells[PAST_CELLS]; /* in its upper half some of the hash, in the lower the unit; 0: none. By twos, the
                                   newer one first */
    char units[PAST_UNITS][PAST_UNIT];
};

/* Forgets all. */
static inline void past_walks_forget(struct past_walks *past)
{
    memset(past->cells, 0, sizeof past->cells);
    past->calls = 0;
    past->pause = 0;
    past->misses = 0;
}

/* Whether it is worth to look for a walk now: asked once before each walk. */
static inline bool past_walks_begin(struct past_walks *past)
{
    return ++past->calls >= 0;
}

/* From how a walk begins: its first slot and its first two program counters. */
static inline uint64_t past_walks_hash(uintptr_t slot, uintptr_t pc, uintptr_t caller)
{
    return (slot + pc * UINT64_C(0x9e3779b97f4a7c15) + (caller ^ caller << 23)) * UINT64_C(0xd6e8feb86659fd93);
}

static inline uint64_t *past_walks_cells(struct past_walks *past, uint64_t hash)
{
    return &past->cells[hash >> 32 & (PAST_CELLS - 2)];
}

static inline bool past_walk_is_still(const struct past_walk *walk)
{
    const struct past_word *word = walk->words;
    while (*(const uintptr_t *)word->place == word->value)
        word++;
    return word == walk->words + walk->count;
}

/* The site of the walk that begins at SLOT and has HASH; 0 if no past one shows it. */
static inline uint32_t past_walks_find(struct past_walks *past, uint64_t hash, uintptr_t slot)
{
    const uint64_t *cells = past_walks_cells(past, hash);
    for (int i = 0; i < 2; i++) {
        uint32_t unit = (uint32_t)cells[i];
        if ((cells[i] ^ hash) >> 32 == 0 && past->next - unit <= PAST_UNITS) {
            const struct past_walk *walk = (const void *)past->units[unit % PAST_UNITS];
            if (walk->words[0].place == slot && past_walk_is_still(walk))
                return walk->site;
        }
    }
    return 0;
}

/* Keeps the walk that found COUNT frames, 2 at least, and led to SITE, if it can be kept: their program counters and
   their slots, the innermost first. Those from UNMARKED on may have marks (step_x86_64.h). To be called where
   past_walks_find found nothing. */
void past_walks_keep(struct past_walks *past, void *const *pcs, const uintptr_t *slots, size_t count, size_t unmarked,
                     uint32_t site);

#endif
