/* rule_cache.h: unwind rules by program counter, packed into four bytes, found without a lock.

   A rule also predicts where in the cache its frame's caller's rule lies, so that most steps of a walk need no
   search: the program counter found there only has to be the one looked for. */

#ifndef TM_RULE_CACHE_H
#define TM_RULE_CACHE_H

#include "unwind_rule.h"

#include <stdbool.h>

/* A frame's program counter; with RULE_EXACT, the frame stopped there and did not call from there. */
#define RULE_EXACT (UINT64_C(1) << 63)

/* The packed form of a rule that does not fit: decode it anew. */
#define RULE_SLOW 7u

struct rule {
    uint64_t key;    /* published last; 0: free */
    uint32_t packed; /* one store, so that forgetting needs no lock on the reader's side */
    uint32_t caller; /* the predicted caller's place in the same cache; any value is safe */
};

/* The packed rule of KEY, decoded and kept if it is new. RULE goes in as the callee's (NULL: none) and comes out
   as this one's (NULL: it could not be kept). LEARN: store what was found as the callee's prediction. */
uint32_t rule_cache_next(uint64_t key, bool learn, struct rule **rule);

/* The rule of KEY, straight from the unwind data. */
struct unwind_rule rule_cache_decode(uint64_t key);

static inline struct unwind_rule rule_unpack(uint32_t packed)
{
    return (struct unwind_rule){
        .kind = packed & 7,
        .rbp_saved = packed >> 3 & 1,
        .cfa_offset = (int64_t)((int32_t)(packed << 13) >> 17) * 8,
        .rbp_offset = (int64_t)((int32_t)packed >> 19) * 8,
    };
}

/* Forgets the rules of code in [START, END). */
void rule_cache_forget(uintptr_t start, uintptr_t end);

/* Around fork, as in arena.h. */
void rule_cache_quiesce(void);
void rule_cache_reset_lock(void);

#endif
