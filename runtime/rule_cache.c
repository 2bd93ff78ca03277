/* rule_cache.c: packs rules, and fills the cache when a key is new. */

#define _GNU_SOURCE
#include "rule_cache.h"

#include "arena.h"
#include "modules.h"

#include <dlfcn.h>
#include <stddef.h>

#define FIRST_RULES 4096

static struct rule_cache empty = {.rules = {{.key = 0}}};
STATE_OFTEN_READ struct rule_cache *rule_cache = &empty; /* replaced by grow_lock */
static struct lock grow_lock;

static bool fits(int64_t value, int64_t low, int64_t high, int64_t unit)
{
    return value % unit == 0 && value >= low && value <= high;
}

static uint64_t pack(const struct unwind_rule *rule)
{
    bool by_register = rule->kind == UNWIND_RSP || rule->kind == UNWIND_RBP;
    bool leads_up = rule->kind != UNWIND_RSP || rule->cfa_offset > 0;
    int64_t rbp_offset = rule->rbp_offset + (by_register ? 8 : 0);
    int64_t lowest = by_register ? -rule->cfa_offset + 8 : INT16_MIN * 8;
    int64_t highest = by_register ? -8 : INT16_MAX * 8;
    if (!fits(rule->cfa_offset, -(int64_t)RULE_FRAME_MOST, RULE_FRAME_MOST, 8) || !leads_up)
        return RULE_SLOW;
    if (rule->rbp_saved &&
        (!fits(rbp_offset, lowest, highest, 8) || !fits(rbp_offset, INT16_MIN * 8, INT16_MAX * 8, 8)))
        return RULE_SLOW;
    uint64_t words = rule->rbp_saved ? (uint16_t)(rbp_offset / 8) : 0;
    return (uint64_t)rule->cfa_offset << 32 | words << 16 | (rule->kind == UNWIND_RSP ? RULE_BY_RSP : 0) |
           (rule->rbp_saved ? RULE_RBP_SAVED : 0) | rule->kind;
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
    uint64_t rules = rule_cache->mask ? (rule_cache->mask + 1) * 2 : FIRST_RULES;
    struct rule_cache *larger = arena_take_table(sizeof(struct rule_cache) + rules * sizeof(struct rule));
    if (!larger)
        return false;
    larger->mask = rules - 1;
    for (uint64_t i = 0; i <= rule_cache->mask; i++)
        if (rule_cache->rules[i].key)
            *look_up(larger, rule_cache->rules[i].key) = rule_cache->rules[i];
    larger->used = rule_cache->used;
    state_publish(rule_cache, larger);
    return true;
}

/* Half full at the most; fuller for want of memory. */
static void keep(uint64_t key, uint64_t packed)
{
    state_acquire(&grow_lock);
    if ((rule_cache->used + 1) * 2 <= rule_cache->mask || grow() || rule_cache->used + 1 < rule_cache->mask) {
        struct rule *rule = look_up(rule_cache, key);
        state_publish(rule->packed, packed);
        if (rule->key == 0) {
            state_publish(rule->key, key);
            rule_cache->used++;
        }
    }
    lock_release(&grow_lock);
}

uint64_t rule_cache_peek(const struct rule_cache *in, uint64_t key)
{
    for (uint64_t at = rule_cache_start(in, key);; at = (at + 1) & in->mask) {
        uint64_t seen = state_load(in->rules[at].key);
        if (seen == 0) /* first, for a walk may come to 0: another thread may be filling the cell */
            return UNWIND_NONE;
        if (seen == key)
            return state_peek(in->rules[at].packed);
    }
}

uint64_t rule_cache_find(uint64_t key)
{
    uint64_t known = rule_cache_peek(state_load(rule_cache), key);
    if (state_likely(known != UNWIND_NONE))
        return known;
    modules_notice_unloads(); /* what is new may lie where something else was */
    struct unwind_rule rule = rule_cache_decode(key);
    uint64_t packed = pack(&rule);
    /* What is unknown may become known: code without a module today, a module's tomorrow. */
    if (rule.kind != UNWIND_CUT)
        keep(key, packed);
    return packed;
}

void rule_cache_forget(uintptr_t start, uintptr_t end)
{
    state_acquire(&grow_lock);
    for (uint64_t i = 0; i <= rule_cache->mask; i++) {
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
    for (uint64_t i = 0; i <= rule_cache->mask; i++) {
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
