/* rule_cache.h: unwind rules by program counter, packed into four bytes, found without a lock. */

#ifndef TM_RULE_CACHE_H
#define TM_RULE_CACHE_H

#include "state.h"
#include "unwind_rule.h"

#include <stddef.h>

/* In a key: the frame stopped at the program counter, it did not call from there. */
#define RULE_EXACT (UINT64_C(1) << 63)

/* The packed form of a rule that does not fit: decode it anew. */
#define RULE_SLOW 7u

struct rule {
    uint64_t key;    /* published last; 0: free */
    uint32_t packed; /* one store, so that forgetting needs no lock on the reader's side */
    uint32_t reserved;
};

/* Open addressing. Rules are never moved or overwritten by another program counter's, so a reader takes no lock.
   Growing publishes a larger copy; the old one stays for readers that are still in it. */
struct rule_cache {
    uint64_t mask;
    uint64_t used;
    struct rule rules[];
};

extern struct rule_cache *rule_cache; /* published */

static inline uint64_t rule_cache_start(const struct rule_cache *in, uint64_t key)
{
    return key * UINT64_C(0x9e3779b97f4a7c15) >> 32 & in->mask;
}

/* The packed rule of KEY, found by probing or decoded, and kept if it is new. */
uint32_t rule_cache_find(uint64_t key);

/* The same; most keys lie where their hash points. */
static inline uint32_t rule_cache_get(uint64_t key)
{
    const struct rule_cache *in = state_load(rule_cache);
    if (state_likely(in != NULL)) {
        const struct rule *rule = &in->rules[rule_cache_start(in, key)];
        if (state_likely(state_load(rule->key) == key)) {
            uint32_t packed = state_peek(rule->packed);
            if (state_likely(packed != UNWIND_NONE))
                return packed;
        }
    }
    return rule_cache_find(key);
}

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

/* Forgets the rules of code that is in no module now. True if there were any. */
bool rule_cache_forget_gone(void);

/* Around fork, as in arena.h. */
void rule_cache_quiesce(void);
void rule_cache_reset_lock(void);

#endif
