/* capture_x86_64.c: walks the stack by cached rules, and reuses the lane's last walk.

   Between two allocations a program leaves most of its stack as it was. Once a frame of the new walk has the same
   program counter and the same place on the stack as one of the last walk, all its callers are the same if the words
   that a walk would read of each still hold what they held: its return address and, where its callee is left by rbp,
   what rbp was loaded from. These are compared from the inside out, stopping at the first difference: exactly the
   reads of a full walk, so this is as exact, and as safe on a stack that was switched or unmapped meanwhile.

   The last walk is a chain of frames that may reach further out than the limit: what lies beyond was right once and
   is held against the stack again when a later walk gets there. New frames go to arrays of their own, and before the
   rest of the chain at the next walk: by then nothing waits for words that were only just stored. Of a frame's
   registers only rsp and rbp are followed, which is all that compilers' code needs.

   A chain's hashes are a potential: hash[i] = pc[i] + FACTOR * hash[i + 1], from any value at its end. That of the
   frames [a, b) alone is hash[a] - FACTOR^(b - a) * hash[b]. */

#define _GNU_SOURCE
#include "capture.h"

#include "arena.h"
#include "rule_cache.h"
#include "state.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#define FACTOR UINT64_C(0x9e3779b97f4a7c15)

/* Where the ucontext that rsp points to in a signal trampoline holds the interrupted registers. */
enum { UCONTEXT_RBP = 120, UCONTEXT_RSP = 160, UCONTEXT_RIP = 168 };

/* Where more than one walk in LOSS_WEIGHT leaves the last one again, the innermost frames change at random. One walk
   in FORGET_EVERY looks one frame further in again. */
#define LOSS_WEIGHT 8
#define MANY_LOSSES 32
#define FORGET_EVERY 16

/* A slot is the address that a frame's return address was read from, just below its rsp; in its low bits: */
enum slot_mark {
    SLOT_BY_RBP = 1, /* the callee was left by rbp, see struct by_rbp */
    SLOT_REREAD = 2, /* the callee was left by more than two words: a reused walk ends before this frame */
    SLOT_EXACT = 4,  /* it stopped at its program counter, it did not call from there */
    SLOT_MARKS = 7,
};

/* The rbp by which a frame's callee was left. */
struct by_rbp {
    uintptr_t rbp;
    uintptr_t loaded_from; /* 0 or any address inside of the frames that are known: not from a frame further out */
};

enum chain_end {
    CHAIN_OPEN,      /* the limit, or something that may not happen again */
    CHAIN_CUT,       /* code without unwind data */
    CHAIN_OUTERMOST, /* nothing called the last frame */
};

/* Frames in arrays, the innermost first. */
struct chain {
    void **pcs;
    uintptr_t *slots;
    uint64_t *words;        /* of `known`: the hashes; of `found`: the packed rules by which the frames were left */
    struct by_rbp *by_rbps; /* where the slot is marked so */
};

struct walk {
    uint32_t room;  /* frames that `known` holds */
    uint32_t fresh; /* frames of the last walk in `found` */
    uint32_t first; /* the others are [first, room) of `known` */
    uint32_t turn;
    uint32_t losses;    /* LOSS_WEIGHT for each, less one for every other walk */
    uint32_t blind;     /* so many frames are walked before the last walk is looked at */
    uint64_t forgotten; /* the last walk is of the time when this was so */
    enum chain_end end_kind;
    bool ends_in_zero; /* the chain's last frame is none: a return address of 0 made its callee the outermost */
    uint32_t sure;     /* from here on, what was loaded below `doubt` may have been loaded from elsewhere since */
    uintptr_t doubt;
    struct chain known; /* one more of its words holds the hash at its end */
    struct chain found;
    uint64_t *powers; /* of FACTOR */
};

/* The frame that a walk has come to. rbp is followed only where it is asked for: `rbp` is that of frame number
   `rbp_at`, since when it may have been loaded again. */
struct place {
    uintptr_t pc;
    uintptr_t slot; /* with its marks */
    uintptr_t rbp;
    uintptr_t rbp_loaded_from;
    uint32_t rbp_at;
};

enum step {
    STEP_ON,
    STEP_END,  /* it was the outermost frame */
    STEP_CUT,  /* its code has no unwind data */
    STEP_LOST, /* the rules do not fit the stack */
};

static uint64_t forgotten; /* how often capture_forget_range was called */

bool capture_init(void)
{
    return true;
}

static void *cut_off(char **memory, size_t size)
{
    void *piece = *memory;
    *memory += size;
    return piece;
}

static void cut_chain(char **memory, size_t frames, struct chain *chain)
{
    chain->by_rbps = cut_off(memory, frames * sizeof *chain->by_rbps);
    chain->words = cut_off(memory, (frames + 1) * sizeof *chain->words);
    chain->slots = cut_off(memory, frames * sizeof *chain->slots);
    chain->pcs = cut_off(memory, frames * sizeof *chain->pcs);
}

static void forget_walk(struct walk *walk)
{
    walk->first = walk->room;
    walk->fresh = 0;
    walk->known.words[walk->room] = 0;
    walk->end_kind = CHAIN_OPEN;
    walk->ends_in_zero = false;
}

static struct walk *make_walk(uint32_t limit)
{
    const size_t frame = sizeof(void *) + sizeof(uintptr_t) + sizeof(uint64_t) + sizeof(struct by_rbp);
    const uint32_t room = 2 * limit + 64, found = limit + 2;
    size_t size = sizeof(struct walk) + (room + found) * frame + (2 + limit + 2) * sizeof(uint64_t);
    char *memory = arena_take(TM_SLAB_OTHER, size);
    if (!memory)
        return NULL;
    struct walk *walk = cut_off(&memory, sizeof *walk);
    walk->room = room;
    cut_chain(&memory, room, &walk->known);
    cut_chain(&memory, found, &walk->found);
    walk->powers = cut_off(&memory, (limit + 2) * sizeof(uint64_t));
    walk->powers[0] = 1;
    for (uint32_t i = 1; i <= limit + 1; i++)
        walk->powers[i] = walk->powers[i - 1] * FACTOR;
    forget_walk(walk);
    return walk;
}

/* The lane's walk with room for LIMIT; a smaller one, from before a restart with a higher limit, is left behind. */
static struct walk *walk_of(struct tm_lane *lane, uint32_t limit)
{
    struct walk *walk = lane->walk;
    if (state_unlikely(!walk || walk->room < 2 * limit + 64)) {
        walk = make_walk(limit);
        if (!walk)
            return NULL;
        lane->walk = walk;
    }
    if (state_unlikely(walk->forgotten != state_load(forgotten))) {
        walk->forgotten = state_load(forgotten);
        forget_walk(walk);
    }
    return walk;
}

static inline uintptr_t word_at(uintptr_t address)
{
    return *(const uintptr_t *)address;
}

static inline uintptr_t rsp_of(uintptr_t slot)
{
    return (slot & ~(uintptr_t)SLOT_MARKS) + 8;
}

/* Brings the rbp of PLACE, frame number COUNT, up to date: the last frame further in that saved it tells. */
static void follow_rbp(const struct chain *found, uint32_t count, struct place *place)
{
    uintptr_t slot = place->slot;
    for (uint32_t at = count; at > place->rbp_at; slot = found->slots[--at]) {
        uint64_t rule = found->words[at - 1];
        if (rule & RULE_RBP_SAVED) {
            place->rbp_loaded_from = rsp_of(slot) - 8 + (uintptr_t)rule_rbp_offset(rule);
            place->rbp = word_at(place->rbp_loaded_from);
            break;
        }
    }
    place->rbp_at = count;
}

static enum step leave_signal_frame(struct place *place)
{
    uintptr_t context = rsp_of(place->slot);
    uintptr_t rsp = word_at(context + UCONTEXT_RSP);
    if (rsp % 8)
        return STEP_LOST;
    place->pc = word_at(context + UCONTEXT_RIP);
    place->rbp = word_at(context + UCONTEXT_RBP);
    place->slot = (rsp - 8) | SLOT_EXACT | SLOT_REREAD;
    return STEP_ON;
}

/* By a rule of any kind. A frame that would not lie below its caller's, or be larger than any, means that the rules do
   not fit. They are then not followed to where nothing may be read. */
static enum step leave_by(struct unwind_rule rule, struct place *place)
{
    uintptr_t rsp = rsp_of(place->slot);
    uintptr_t base = rule.kind == UNWIND_RSP ? rsp : place->rbp;
    uintptr_t cfa = base + (uintptr_t)rule.cfa_offset;
    if (rule.kind != UNWIND_RSP && (base - rsp >= RULE_FRAME_MOST || base % 8))
        return STEP_LOST;
    if (rule.kind == UNWIND_DRAP)
        cfa = word_at(cfa);
    if (cfa - rsp - 1 >= RULE_FRAME_MOST || cfa % 8)
        return STEP_LOST;
    if (rule.rbp_saved)
        place->rbp = word_at((rule.kind == UNWIND_DRAP ? base : cfa) + (uintptr_t)rule.rbp_offset);
    place->slot = (cfa - 8) | SLOT_REREAD;
    place->pc = word_at(cfa - 8);
    return STEP_ON;
}

/* What is rare: frames that are left by neither rsp nor rbp alone. */
static __attribute__((noinline, cold)) enum step leave_otherwise(uint64_t key, uint64_t packed, struct place *place)
{
    struct unwind_rule rule = {
        .kind = packed & RULE_KIND,
        .rbp_saved = packed & RULE_RBP_SAVED,
        .cfa_offset = rule_cfa_offset(packed),
        .rbp_offset = rule_rbp_offset(packed),
    };
    if ((packed & RULE_KIND) == RULE_SLOW)
        rule = rule_cache_decode(key);
    switch (rule.kind) {
    case UNWIND_SIGNAL:
        return leave_signal_frame(place);
    case UNWIND_END:
        return STEP_END;
    case UNWIND_RSP:
    case UNWIND_RBP:
    case UNWIND_DRAP:
        return leave_by(rule, place);
    default:
        return STEP_CUT;
    }
}

static enum step leave_by_rbp(uint64_t rule, struct place *place, struct by_rbp *by_rbp)
{
    uintptr_t rsp = rsp_of(place->slot);
    uintptr_t slot = place->rbp + (uintptr_t)rule_cfa_offset(rule) - 8;
    if (place->rbp - rsp >= RULE_FRAME_MOST || place->rbp % 8 || slot - rsp >= RULE_FRAME_MOST)
        return STEP_LOST;
    *by_rbp = (struct by_rbp){place->rbp, place->rbp_loaded_from};
    place->pc = word_at(slot);
    place->slot = slot | SLOT_BY_RBP;
    return STEP_ON;
}

static inline void leave_by_rsp(uint64_t rule, uintptr_t *pc, uintptr_t *slot)
{
    *slot = (*slot & ~(uintptr_t)SLOT_MARKS) + (uintptr_t)rule_cfa_offset(rule);
    *pc = word_at(*slot);
}

/* Steps from PLACE, frame number COUNT, to its caller, whatever that takes. */
static __attribute__((noinline)) enum step leave(const struct chain *found, uint32_t count, struct place *place)
{
    uint64_t key = place->slot & SLOT_EXACT ? place->pc | RULE_EXACT : place->pc;
    uint64_t rule = rule_cache_get(state_load(rule_cache), key);
    found->words[count] = rule;
    if ((rule & RULE_KIND) == UNWIND_RSP) {
        leave_by_rsp(rule, &place->pc, &place->slot);
        return STEP_ON;
    }
    follow_rbp(found, count, place);
    if ((rule & RULE_KIND) == UNWIND_RBP)
        return leave_by_rbp(rule, place, &found->by_rbps[count + 1]);
    enum step step = leave_otherwise(key, rule, place);
    /* Where rbp came from matters no more: a reused walk ends before the frame. */
    place->rbp_loaded_from = 0;
    place->rbp_at = count + 1;
    return step;
}

/* Moves what is left of the last walk to where as many new frames as there may be fit before it. */
static __attribute__((noinline, cold)) void move_to_end(struct walk *walk, uint32_t most)
{
    uint32_t count = walk->room - walk->first;
    if (count > most) {
        count = most;
        walk->end_kind = CHAIN_OPEN;
        walk->ends_in_zero = false;
    }
    const struct chain *known = &walk->known;
    uint32_t to = walk->room - count;
    memmove(known->pcs + to, known->pcs + walk->first, count * sizeof *known->pcs);
    memmove(known->slots + to, known->slots + walk->first, count * sizeof *known->slots);
    memmove(known->words + to, known->words + walk->first, (count + 1) * sizeof *known->words);
    memmove(known->by_rbps + to, known->by_rbps + walk->first, count * sizeof *known->by_rbps);
    walk->sure += to - walk->first;
    walk->first = to;
}

/* Puts the frames that the last walk found before the others. */
static inline void settle(struct walk *walk)
{
    if (state_unlikely(walk->fresh > walk->first))
        move_to_end(walk, (walk->room - 2) / 2);
    const struct chain known = walk->known, found = walk->found;
    size_t first = walk->first - walk->fresh;
    uint64_t hash = known.words[walk->first];
    for (size_t i = walk->fresh; i-- > 0;) {
        uintptr_t slot = found.slots[i];
        hash = hash * FACTOR + (uintptr_t)found.pcs[i];
        known.pcs[first + i] = found.pcs[i];
        known.slots[first + i] = slot;
        known.words[first + i] = hash;
        if (state_unlikely(slot & SLOT_BY_RBP))
            known.by_rbps[first + i] = found.by_rbps[i];
    }
    walk->first = (uint32_t)first;
    walk->fresh = 0;
}

/* The first frame from AT on that is not further in than SLOT, or END. */
static inline uint32_t skip_to(const struct chain *chain, size_t at, size_t end, uintptr_t slot)
{
    const uintptr_t *slots = chain->slots;
    uintptr_t address = slot & ~(uintptr_t)SLOT_MARKS;
    while (at < end && slots[at] < address)
        at++;
    return (uint32_t)at;
}

static inline bool is_same_frame(const struct chain *chain, uint32_t at, const struct place *place)
{
    return ((chain->slots[at] ^ place->slot) & ~(uintptr_t)(SLOT_BY_RBP | SLOT_REREAD)) == 0 &&
           (uintptr_t)chain->pcs[at] == place->pc;
}

/* Whether the callee of frame AT is still left by the same rbp. The walk is at MET, its frame number COUNT. */
static __attribute__((noinline)) bool is_left_by_same_rbp(const struct walk *walk, size_t at, uint32_t count,
                                                          struct place met)
{
    struct by_rbp *by_rbp = &walk->known.by_rbps[at];
    if (at >= walk->sure && by_rbp->loaded_from < walk->doubt)
        return false;
    if (by_rbp->loaded_from >= rsp_of(met.slot))
        return word_at(by_rbp->loaded_from) == by_rbp->rbp;
    follow_rbp(&walk->found, count, &met);
    by_rbp->loaded_from = met.rbp_loaded_from;
    return met.rbp == by_rbp->rbp;
}

/* AT holds now what the walk is at, as its frame number COUNT. The first frame outward that is no longer what it was,
   or BOUND. A function of its own, so that the loop has the registers to itself. */
static __attribute__((noinline)) size_t confirm(const struct walk *walk, size_t at, size_t bound, uint32_t count,
                                                const struct place *met)
{
    const uintptr_t *slots = walk->known.slots;
    void *const *pcs = walk->known.pcs;
    while (++at < bound) {
        uintptr_t slot = slots[at];
        if (state_unlikely(slot & SLOT_MARKS)) {
            if (slot & SLOT_REREAD || !is_left_by_same_rbp(walk, at, count, *met))
                break;
            slot &= ~(uintptr_t)SLOT_MARKS;
        }
        if (state_unlikely(word_at(slot) != (uintptr_t)pcs[at]))
            break;
    }
    return at;
}

/* Keeps `blind` at about the most of LOST_AT, the count of frames after which a walk left the last one again, where
   that happens often: a look that fails costs more than walking a frame. */
static inline void adapt(struct walk *walk, uint32_t lost_at)
{
    if (state_unlikely(lost_at)) {
        if (walk->losses < 2 * MANY_LOSSES)
            walk->losses += LOSS_WEIGHT;
        if (walk->losses > MANY_LOSSES && lost_at > walk->blind)
            walk->blind = lost_at;
        return;
    }
    walk->losses -= walk->losses > 0;
    if (walk->blind > 0 && ++walk->turn % FORGET_EVERY == 0)
        walk->blind--;
}

/* The frames from `sure` on were last loaded from what lay further in than MET. */
static inline void doubt_from(struct walk *walk, uint32_t at, const struct place *met)
{
    uintptr_t doubt = walk->sure < walk->room ? walk->doubt : 0;
    walk->sure = at;
    walk->doubt = doubt > rsp_of(met->slot) ? doubt : rsp_of(met->slot);
}

/* Tries to go on from frame AT of the last walk, which the walk has come to as its frame number COUNT. True if
   it reaches to the end or to LIMIT, and one frame on to tell whether that was the end; then all of the new walk is
   known. Else REACHED says how far it is as before. */
static inline bool reuse(struct walk *walk, uint32_t at, uint32_t count, uint32_t limit, const struct place *place,
                         uint32_t *reached)
{
    uint32_t bound = limit - count < walk->room - at ? at + limit - count + 1 : walk->room;
    *reached = (uint32_t)confirm(walk, at, bound, count, place);
    if (*reached != bound || (bound == walk->room && walk->end_kind == CHAIN_OPEN && bound - at < limit - count))
        return false;
    walk->known.slots[at] = place->slot;
    if (place->slot & SLOT_BY_RBP)
        walk->known.by_rbps[at] = walk->found.by_rbps[count];
    if (bound < walk->room)
        doubt_from(walk, bound, place);
    else
        walk->sure = walk->room;
    walk->first = at;
    return true;
}

/* Puts PLACE down as frame number COUNT and steps on, at least once and until COUNT is UNTIL. HASH receives what
   these frames add to it. */
static inline __attribute__((always_inline)) enum step walk_frames(const struct walk *walk, uint32_t until,
                                                                   uint32_t *count, struct place *place, uint64_t *hash)
{
    const struct rule_cache *in = state_load(rule_cache);
    const struct chain found = walk->found;
    size_t at = *count;
    uint64_t sum = *hash;
    uintptr_t pc = place->pc, slot = place->slot;
    enum step step = STEP_ON;
    do {
        found.pcs[at] = (void *)pc;
        found.slots[at] = slot;
        sum += pc * walk->powers[at];
        const struct rule *rule = &in->rules[rule_cache_start(in, pc)];
        uint64_t packed = state_likely(state_load(rule->key) == pc) ? state_peek(rule->packed) : UNWIND_NONE;
        if (state_likely((packed & RULE_KIND) == UNWIND_RSP && !(slot & SLOT_EXACT))) {
            found.words[at] = packed;
            leave_by_rsp(packed, &pc, &slot);
        } else {
            struct place other = {pc, slot, place->rbp, place->rbp_loaded_from, place->rbp_at};
            step = leave(&walk->found, (uint32_t)at, &other);
            pc = other.pc;
            slot = other.slot;
            *place = other;
        }
        at++;
    } while (at < until && pc != 0 && step == STEP_ON);
    place->pc = pc;
    place->slot = slot;
    *count = (uint32_t)at;
    *hash = sum;
    return step;
}

/* Walks on to the first frame that the last walk has too and that is still the same outward as far as it matters;
   or to the outermost frame or LIMIT frames, then nothing of the last walk stays. The first BLIND frames are not held
   against the last walk: the branch would be a gamble. Returns what the new frames add to the hash. */
static inline uint64_t walk_new(struct walk *walk, struct place place, uint32_t limit)
{
    uint64_t hash = 0;
    uint32_t count = 0;
    uint32_t at = walk->first, end = walk->room;
    uint32_t look_from = walk->blind;
    uint32_t lost_at = 0;
    enum step step = STEP_ON;
    while (step == STEP_ON && place.pc != 0 && count < limit) {
        if (count >= look_from) {
            at = skip_to(&walk->known, at, end, place.slot);
            if (at < end && is_same_frame(&walk->known, at, &place)) {
                uint32_t reached;
                if (reuse(walk, at, count, limit, &place, &reached)) {
                    walk->fresh = count;
                    adapt(walk, lost_at);
                    return hash;
                }
                look_from = count + reached - at;
                lost_at = reached < end ? look_from : lost_at;
                at = reached;
            }
        }
        step = walk_frames(walk, look_from < limit ? look_from : limit, &count, &place, &hash);
    }
    adapt(walk, lost_at);
    forget_walk(walk);
    if (step == STEP_ON && place.pc == 0) {
        walk->ends_in_zero = true;
        walk->found.pcs[count] = NULL;
        walk->found.slots[count++] = place.slot;
    }
    if (walk->ends_in_zero || step == STEP_END)
        walk->end_kind = CHAIN_OUTERMOST;
    else if (step == STEP_CUT)
        walk->end_kind = CHAIN_CUT;
    walk->fresh = count;
    walk->sure = walk->room;
    return hash;
}

bool capture_walk(struct tm_lane *lane, struct call_point caller, uint32_t limit, struct traceback *traceback)
{
    struct walk *walk = walk_of(lane, limit);
    if (state_unlikely(!walk))
        return false;
    const uintptr_t *frame = caller.frame;
    struct place place = {
        .pc = (uintptr_t)caller.return_address, .slot = (uintptr_t)(frame + 1), .rbp = *frame, .rbp_loaded_from = 0};
    settle(walk);
    uint64_t hash = walk_new(walk, place, limit);
    uint32_t all = walk->fresh + walk->room - walk->first - walk->ends_in_zero;
    uint32_t nframe = all < limit ? all : limit;
    uint32_t outer = nframe > walk->fresh ? nframe - walk->fresh : 0;
    const uint64_t *hashes = walk->known.words + walk->first;
    traceback->nframe = nframe;
    traceback->outer_count = outer;
    traceback->frames = walk->found.pcs;
    traceback->outer = walk->known.pcs + walk->first;
    traceback->hash = hash + walk->powers[walk->fresh] * hashes[0] - walk->powers[walk->fresh + outer] * hashes[outer];
    traceback->cut = all > limit || walk->end_kind != CHAIN_OUTERMOST;
    return true;
}

void capture_forget_range(uintptr_t start, uintptr_t end)
{
    rule_cache_forget(start, end);
    state_add(forgotten, 1);
}

void capture_forget_gone(void)
{
    if (rule_cache_forget_gone())
        state_add(forgotten, 1);
}

bool capture_is_loaded(uintptr_t start, uintptr_t end)
{
    struct dl_find_object object;
    return _dl_find_object((void *)start, &object) == 0 && (uintptr_t)object.dlfo_map_end == end;
}

bool capture_may_allocate(void)
{
    return false;
}

void capture_quiesce(void)
{
    rule_cache_quiesce();
}

void capture_reset_lock(void)
{
    rule_cache_reset_lock();
}
