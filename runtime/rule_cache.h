/* rule_cache.h: unwind rules by program counter, packed into eight bytes, found without a lock. */

#ifndef TM_RULE_CACHE_H
#define TM_RULE_CACHE_H

#include "state.h"
#include "unwind_rule.h"

#include <stddef.h>

/* In a key: the frame stopped at the program counter, it did not call from there. */
#define RULE_EXACT (UINT64_C(1) << 63)

/* A packed rule. From the low end: kind in 3 bits, whether rbp was saved, whether the kind is UNWIND_RSP; from bit 16
   on, where rbp was saved: so many words from the return address (from rbp with UNWIND_DRAP), signed, 0 where it was
   not; from bit 32 on cfa_offset in bytes, signed. A packed UNWIND_RSP or UNWIND_RBP leads upward, and has saved rbp
   between rsp and the return address: nobody needs to check that again. */
#define RULE_KIND 7u
#define RULE_RBP_SAVED 8u
#define RULE_BY_RSP 16u

/* No frame has as many bytes. */
#define RULE_FRAME_MOST ((uintptr_t)64 << 20)

/* The kind of a packed rule that does not fit: decode it anew. */
#define RULE_SLOW 7u

static inline int64_t rule_cfa_offset(uint64_t packed)
{
    return (int64_t)packed >> 32;
}

static inline int64_t rule_rbp_offset(uint64_t packed)
{
    return (int64_t)(int16_t)(packed >> 16) * 8;
}

struct rule {
    uint64_t key;    /* published last; 0: free */
    uint64_t packed; /* one store, so that forgetting needs no lock on the reader's side */
};

/* Open addressing. Rules are never moved or overwritten by another program counter's, so a reader takes no lock.
   Growing publishes a larger copy; the old one stays for readers that are still in it. */
struct rule_cache {
    uint64_t mask;
    uint64_t used;
    struct rule rules[];
};

extern struct rule_cache *rule_cache; /* published; never NULL */

static inline uint64_t rule_cache_hash(uint64_t key)
{
    return key >> 2 ^ key >> 17;
}

static inline uint64_t rule_cache_start(const struct rule_cache *in, uint64_t key)
{
    return rule_cache_hash(key) & in->mask;
}

/* The packed rule of KEY if it is known, else UNWIND_NONE. IN: the cache, or what it was a moment ago. */
uint64_t rule_cache_peek(const struct rule_cache *in, uint64_t key);

/* The same; decoded, and kept, if it is new. */
uint64_t rule_cache_find(uint64_t key);

/* The rule of KEY, straight from the unwind data. */
struct unwind_rule rule_cache_decode(uint64_t key);

/* Forgets the rules of code in [START, END). */
void rule_cache_forget(uintptr_t start, uintptr_t end);

/* Forgets the rules of code that is in no module now. True if there were any. */
bool rule_cache_forget_gone(void);

/* Around fork, as in arena.h. */
void rule_cache_quiesce(void);
void rule_cache_reset_lock(void);

#endif
