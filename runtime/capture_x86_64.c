/* capture_x86_64.c: walks the stack by cached rules, two loads and a compare a frame.

   The cache maps a program counter to a packed rule. A rule also predicts where in the cache the caller's
   rule lies, so that the loaded return address only has to confirm it. Rules are never moved or overwritten
   by another program counter's: a reader takes no lock. Growing publishes a larger copy; the old one stays
   for readers that are still in it.

   Registers: of a frame's callers only rsp and rbp are followed, which is all that compilers' code needs. */

#include "capture.h"

#include "arena.h"
#include "state.h"
#include "unwind_rule.h"

#include <stddef.h>

#define FIRST_RULES 4096
#define EXACT_BIT (UINT64_C(1) << 63) /* in a key: the frame stopped there, it did not call from there */

/* The packed form: kind in 3 bits, rbp_saved in 1, cfa_offset in 15 and rbp_offset in 13, both in units of 8.
   What does not fit is decoded anew each time. */
#define KIND_SLOW 7
#define CFA_UNITS_MAX ((1 << 14) - 1)
#define RBP_UNITS_MAX ((1 << 12) - 1)

/* Where the ucontext that rsp points to in a signal trampoline holds the interrupted registers. */
enum { UCONTEXT_RBP = 120, UCONTEXT_RSP = 160, UCONTEXT_RIP = 168 };

struct rule {
    uint64_t key;    /* published last; 0: free */
    uint32_t packed; /* one store, so that forgetting needs no lock on the reader's side */
    uint32_t caller; /* the predicted caller's place in the same cache; any value is safe */
};

struct cache {
    uint32_t mask;
    uint32_t used;
    struct rule rules[];
};

struct registers {
    uint64_t key;
    uintptr_t rsp;
    uintptr_t rbp;
};

static struct cache *cache; /* published; replaced by grow_lock */
static struct lock grow_lock;

bool capture_init(const char **reason)
{
    (void)reason;
    return true;
}

static uint32_t pack(const struct unwind_rule *rule)
{
    int64_t cfa = rule->cfa_offset / 8, rbp = rule->rbp_offset / 8;
    if (rule->cfa_offset % 8 || rule->rbp_offset % 8 || cfa > CFA_UNITS_MAX || cfa < -CFA_UNITS_MAX ||
        rbp > RBP_UNITS_MAX || rbp < -RBP_UNITS_MAX)
        return KIND_SLOW;
    return (uint32_t)rule->kind | (uint32_t)rule->rbp_saved << 3 | ((uint32_t)cfa & 0x7fff) << 4 | (uint32_t)rbp << 19;
}

static struct unwind_rule unpack(uint32_t packed)
{
    return (struct unwind_rule){
        .kind = packed & 7,
        .rbp_saved = packed >> 3 & 1,
        .cfa_offset = (int64_t)((int32_t)(packed << 13) >> 17) * 8,
        .rbp_offset = (int64_t)((int32_t)packed >> 19) * 8,
    };
}

static struct unwind_rule find_rule(uint64_t key)
{
    return unwind_rule_find((uintptr_t)(key & ~EXACT_BIT), key & EXACT_BIT);
}

static uint32_t start_of(const struct cache *in, uint64_t key)
{
    return (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & in->mask;
}

/* The rule of KEY, or the free one where it would go. The cache always has a free one. */
static struct rule *look_up(struct cache *in, uint64_t key)
{
    uint32_t at = start_of(in, key);
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

static struct rule *learn(uint64_t key, uint32_t packed)
{
    struct rule *rule = NULL;
    state_acquire(&grow_lock);
    if (cache && cache->used * 2 <= cache->mask)
        rule = look_up(cache, key);
    else if (grow() || (cache && cache->used < cache->mask))
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

/* The packed rule of KEY, decoded and kept if it is new. AT receives its place in the cache, NULL if it has
   none for want of memory. */
static uint32_t packed_rule(uint64_t key, struct rule **at)
{
    struct cache *in = state_load(cache);
    *at = in ? look_up(in, key) : NULL;
    if (state_likely(*at && state_load((*at)->key) == key)) {
        uint32_t packed = state_peek((*at)->packed);
        if (state_likely(packed != UNWIND_NONE))
            return packed;
    }
    struct unwind_rule rule = find_rule(key);
    uint32_t packed = pack(&rule);
    /* What is unknown may become known: code without a module today, a module's tomorrow. */
    *at = rule.kind == UNWIND_CUT ? NULL : learn(key, packed);
    return packed;
}

static uint64_t word_at(uintptr_t address)
{
    return *(const uint64_t *)address;
}

static bool leave_signal_frame(struct registers *registers)
{
    uintptr_t context = registers->rsp;
    registers->key = word_at(context + UCONTEXT_RIP) | EXACT_BIT;
    registers->rbp = word_at(context + UCONTEXT_RBP);
    registers->rsp = word_at(context + UCONTEXT_RSP);
    return true;
}

/* Steps to the caller. A frame that would not lie below its caller's means that the rules do not fit. */
static bool leave_frame(const struct unwind_rule *rule, struct registers *registers)
{
    uintptr_t base = rule->kind == UNWIND_RSP ? registers->rsp : registers->rbp;
    uintptr_t cfa = base + (uintptr_t)rule->cfa_offset;
    if (rule->kind != UNWIND_RSP && (base < registers->rsp || base % 8))
        return false;
    if (rule->kind == UNWIND_DRAP)
        cfa = word_at(cfa);
    if (cfa <= registers->rsp || cfa % 8)
        return false;
    uintptr_t saved = (rule->kind == UNWIND_DRAP ? base : cfa) + (uintptr_t)rule->rbp_offset;
    if (rule->rbp_saved)
        registers->rbp = word_at(saved);
    registers->key = word_at(cfa - 8);
    registers->rsp = cfa;
    return true;
}

/* True if there is a caller to go on with; ENDED: there is none because this is the outermost frame. */
static bool leave(uint32_t packed, struct registers *registers, bool *ended)
{
    struct unwind_rule rule = unpack(packed);
    if (state_unlikely(packed == KIND_SLOW))
        rule = find_rule(registers->key);
    switch (rule.kind) {
    case UNWIND_RSP:
    case UNWIND_RBP:
    case UNWIND_DRAP:
        return leave_frame(&rule, registers);
    case UNWIND_SIGNAL:
        return leave_signal_frame(registers);
    default:
        *ended = rule.kind == UNWIND_END;
        return false;
    }
}

/* The packed rule of KEY; RULE goes in as the callee's place in the cache and comes out as this one's. */
static uint32_t next_rule(uint64_t key, struct rule **rule)
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
    uint32_t packed = packed_rule(key, rule);
    in = state_load(cache);
    if (callee && *rule && *rule >= in->rules && *rule <= in->rules + in->mask)
        __atomic_store_n(&callee->caller, (uint32_t)(*rule - in->rules), __ATOMIC_RELAXED);
    return packed;
}

void capture_walk(struct call_point caller, uint32_t limit, struct traceback *traceback)
{
    const uintptr_t *frame = caller.frame;
    struct registers registers = {
        .key = (uintptr_t)caller.return_address, .rsp = (uintptr_t)(frame + 2), .rbp = *frame};
    struct rule *rule = NULL;
    bool more = true;
    bool ended = false;
    uint32_t nframe = 0;
    while (more && nframe < limit) {
        uint64_t key = registers.key;
        traceback->frames[nframe++] = (void *)(uintptr_t)(key & ~EXACT_BIT);
        more = leave(next_rule(key, &rule), &registers, &ended);
        if (more && registers.key == 0) {
            more = false;
            ended = true;
        }
    }
    traceback->nframe = nframe;
    traceback->cut = !ended;
}

void capture_quiesce(void)
{
    lock_acquire(&grow_lock);
    lock_release(&grow_lock);
}

void capture_reset_lock(void)
{
    atomic_store(&grow_lock.word, 0);
}

void capture_forget_range(uintptr_t start, uintptr_t end)
{
    state_acquire(&grow_lock);
    for (uint32_t i = 0; cache && i <= cache->mask; i++) {
        uintptr_t pc = (uintptr_t)(cache->rules[i].key & ~EXACT_BIT);
        if (pc - 1 >= start && pc - 1 < end)
            state_publish(cache->rules[i].packed, UNWIND_NONE);
    }
    lock_release(&grow_lock);
}
