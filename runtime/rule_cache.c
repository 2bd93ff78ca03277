/* rule_cache.c: packs rules, and fills the cache when a key is new. */

#define _GNU_SOURCE
#include "rule_cache.h"

#include "arena.h"

#include <dlfcn.h>
#include <stddef.h>

#define FIRST_RULES 4096

/* The packed form: kind in 3 bits, rbp_saved in 1, cfa_offset in 15 and rbp_offset in 13, both in units of 8. */
#define CFA_UNITS_MAX ((1 << 14) - 1)
#define RBP_UNITS_MAX ((1 << 12) - 1)

struct rule_cache *rule_cache; /* replaced by grow_lock */
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
static struct rule *look_up(struct rule_cache *in, uint64_t key)
{
    for (uint64_t at = rule_cache_start(in, key);; at = (at + 1) & in->mask) {
        uint64_t seen = state_load(in->rules[at].key);
        if (seen == key || seen == 0)
            return &in->rules[at];
    }
}

static bool grow(void)
{
    uint64_t rules = rule_cache ? (rule_cache->mask + 1) * 2 : FIRST_RULES;
    struct rule_cache *larger = arena_take(TM_SLAB_OTHER, sizeof(struct rule_cache) + rules * sizeof(struct rule));
    if (!larger)
        return false;
    larger->mask = rules - 1;
    for (uint64_t i = 0; rule_cache && i <= rule_cache->mask; i++)
        if (rule_cache->rules[i].key)
            *look_up(larger, rule_cache->rules[i].key) = rule_cache->rules[i];
    larger->used = rule_cache ? rule_cache->used : 0;
    state_publish(rule_cache, larger);
    return true;
}

/* A quarter full at the most, so that few keys lie elsewhere than their hash points; fuller for want of memory. */
static void keep(uint64_t key, uint32_t packed)
{
    state_acquire(&grow_lock);
    if ((rule_cache && rule_cache->used * 4 <= rule_cache->mask) || grow() ||
        (rule_cache && rule_cache->used < rule_cache->mask)) {
        struct rule *rule = look_up(rule_cache, key);
        state_publish(rule->packed, packed);
        if (rule->key == 0) {
            state_publish(rule->key, key);
            rule_cache->used++;
        }
    }
    lock_release(&grow_lock);
}

uint32_t rule_cache_find(uint64_t key)
{
    struct rule_cache *in = state_load(rule_cache);
    const struct rule *at = in ? look_up(in, key) : NULL;
    if (at && state_load(at->key) == key && state_peek(at->packed) != UNWIND_NONE)
        return state_peek(at->packed);
    struct unwind_rule rule = rule_cache_decode(key);
    uint32_t packed = pack(&rule);
    /* What is unknown may become known: code without a module today, a module's tomorrow. */
    if (rule.kind != UNWIND_CUT)
        keep(key, packed);
    return packed;
}

void rule_cache_forget(uintptr_t start, uintptr_t end)
{
    state_acquire(&grow_lock);
    for (uint64_t i = 0; rule_cache && i <= rule_cache->mask; i++) {
        uintptr_t pc = (uintptr_t)(rule_cache->rules[i].key & ~RULE_EXACT);
        if (pc - 1 >= start && pc - 1 < end)
            state_publish(rule_cache->rules[i].packed, UNWIND_NONE);
    }
    lock_release(&grow_lock);
}

bool rule_cache_forget_gone(void)
{
    struct dl_find_object object;
    bool found = false;
    state_acquire(&grow_lock);
    for (uint64_t i = 0; rule_cache && i <= rule_cache->mask; i++) {
        struct rule *rule = &rule_cache->rules[i];
        uintptr_t pc = (uintptr_t)(rule->key & ~RULE_EXACT);
        if (rule->packed != UNWIND_NONE && _dl_find_object((void *)(pc - 1), &object) != 0) {
            state_publish(rule->packed, UNWIND_NONE);
            found = true;
        }
    }
    lock_release(&grow_lock);
    return found;
}

void rule_cache_quiesce(void)
{
    lock_await(&grow_lock);
}

void rule_cache_reset_lock(void)
{
    lock_reset(&grow_lock);
}
