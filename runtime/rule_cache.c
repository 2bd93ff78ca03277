/* rule_cache.c: open addressing. Rules are never moved or overwritten by another program counter's, so a reader
   takes no lock. Growing publishes a larger copy; the old one stays for readers that are still in it. */

#include "rule_cache.h"

#include "arena.h"
#include "state.h"

#include <stddef.h>

#define FIRST_RULES 4096

/* The packed form: kind in 3 bits, rbp_saved in 1, cfa_offset in 15 and rbp_offset in 13, both in units of 8. */
#define CFA_UNITS_MAX ((1 << 14) - 1)
#define RBP_UNITS_MAX ((1 << 12) - 1)

struct cache {
    uint32_t mask;
    uint32_t used;
    struct rule rules[];
};

static struct cache *cache; /* published; replaced by grow_lock */
static struct lock grow_lock;

static uint32_t pack(const struct unwind_rule *rule)
{
    int64_t cfa = rule->cfa_offset / 8, rbp = rule->rbp_offset / 8;
    if (rule->cfa_offset % 8 || rule->rbp_offset % 8 || cfa > CFA_UNITS_MAX || cfa < -CFA_UNITS_MAX ||
        rbp > RBP_UNITS_MAX || rbp < -RBP_UNITS_MAX)
        return RULE_SLOW;
    return (uint32_t)rule->kind | (uint32_t)rule->rbp_saved << 3 | ((uint32_t)cfa & 0x7fff) << 4 | (uint32_t)rbp << 19;
}

struct unwind_rule rule_cache_decode(uint64_t key)
{
    return unwind_rule_find((uintptr_t)(key & ~RULE_EXACT), key & RULE_EXACT);
}

/* The rule of KEY, or the free one where it would go. The cache always has a free one. */
static struct rule *look_up(struct cache *in, uint64_t key)
{
    uint32_t at = (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & in->mask;
    for (;; at = (at + 1) & in->mask) {
        uint64_t seen = state_load(in->rules[at].key);
        if (seen == key || seen == 0)
            return &in->rules[at];
    }
}

static bool grow(void)
{
    uint32_t rules = cache ? (cache->mask + 1) * 2 : FIRST_RULES;
    struct cache *larger = arena_take(TM_SLAB_OTHER, sizeof(struct cache) + rules * sizeof(struct rule));
    if (!larger)
        return false;
    larger->mask = rules - 1;
    for (uint32_t i = 0; cache && i <= cache->mask; i++)
        if (cache->rules[i].key) {
            struct rule *rule = look_up(larger, cache->rules[i].key);
            *rule = cache->rules[i];
            rule->caller = 0;
            larger->used++;
        }
    state_publish(cache, larger);
    return true;
}

/* The rule's place in the cache, NULL if there is no memory for it. */
static struct rule *keep(uint64_t key, uint32_t packed)
{
    struct rule *rule = NULL;
    state_acquire(&grow_lock);
    if ((cache && cache->used * 2 <= cache->mask) || grow() || (cache && cache->used < cache->mask))
        rule = look_up(cache, key);
    if (rule) {
        state_publish(rule->packed, packed);
        if (rule->key == 0) {
            state_publish(rule->key, key);
            cache->used++;
        }
    }
    lock_release(&grow_lock);
    return rule;
}

static uint32_t find_or_decode(uint64_t key, struct rule **at)
{
    struct cache *in = state_load(cache);
    *at = in ? look_up(in, key) : NULL;
    if (state_likely(*at && state_load((*at)->key) == key)) {
        uint32_t packed = state_peek((*at)->packed);
        if (state_likely(packed != UNWIND_NONE))
            return packed;
    }
    struct unwind_rule rule = rule_cache_decode(key);
    uint32_t packed = pack(&rule);
    /* What is unknown may become known: code without a module today, a module's tomorrow. */
    *at = rule.kind == UNWIND_CUT ? NULL : keep(key, packed);
    return packed;
}

uint32_t rule_cache_next(uint64_t key, bool learn, struct rule **rule)
{
    struct cache *in = state_load(cache);
    struct rule *callee = *rule;
    if (state_likely(callee != NULL)) {
        struct rule *predicted = &in->rules[state_peek(callee->caller) & in->mask];
        uint32_t packed = state_peek(predicted->packed);
        if (state_likely(state_load(predicted->key) == key && packed != UNWIND_NONE)) {
            *rule = predicted;
            return packed;
        }
    }
    uint32_t packed = find_or_decode(key, rule);
    in = state_load(cache);
    if (learn && callee && *rule >= in->rules && *rule <= in->rules + in->mask)
        __atomic_store_n(&callee->caller, (uint32_t)(*rule - in->rules), __ATOMIC_RELAXED);
    return packed;
}

void rule_cache_forget(uintptr_t start, uintptr_t end)
{
    state_acquire(&grow_lock);
    for (uint32_t i = 0; cache && i <= cache->mask; i++) {
        uintptr_t pc = (uintptr_t)(cache->rules[i].key & ~RULE_EXACT);
        if (pc - 1 >= start && pc - 1 < end)
            state_publish(cache->rules[i].packed, UNWIND_NONE);
    }
    lock_release(&grow_lock);
}

void rule_cache_quiesce(void)
{
    lock_acquire(&grow_lock);
    lock_release(&grow_lock);
}

void rule_cache_reset_lock(void)
{
    atomic_store(&grow_lock.word, 0);
}
