/* capture_x86_64.c: walks the stack by cached rules, and reuses the lane's last walk.

   Between two allocations a program leaves most of its stack as it was. Once a frame of the new walk has the same
   program counter and the same place on the stack as one of the last walk, all its callers are the same if the words
   that a walk would read of each still hold what they held: its return address and, where its callee is left by rbp,
   what rbp was loaded from. These are compared from the inside out, stopping at the first difference: exactly the
   reads of a full walk, so this is as exact, and as safe on a stack that was switched or unmapped meanwhile.

   The last walk is a chain of frames that may reach further out than the limit: what lies beyond was right once and
   is held against the stack again when a later walk gets there. New frames go to arrays of their own first, then before
   the rest of the chain, and are packed for their site (packing.h) once.

   Before all that, a walk that begins like a past one is held against the words that that one read
   (past_walks_x86_64.h).

   A chain's hashes are a potential: hash[i] = pc[i] + FACTOR * hash[i + 1], from any value at its end. That of the
   frames [a, b) alone is hash[a] - FACTOR^(b - a) * hash[b]. */

#define _GNU_SOURCE
#include "capture.h"

#include "arena.h"
#include "lane.h"
#include "past_walks_x86_64.h"
#include "step_x86_64.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#define FACTOR UINT64_C(0x9e3779b97f4a7c15)

/* How far in a walk meets the last one is mostly at random, and a branch that is mispredicted costs as much as GAMBLE
   frames, once in the walk and at what follows. One walk in SAMPLE_EVERY is looked at for where it might have met. */
#define GAMBLE 5
#define MEETINGS 64
#define SAMPLE_EVERY 16
#define SAMPLES 64

enum chain_end {
    CHAIN_OPEN,      /* the limit, or something that may not happen again */
    CHAIN_CUT,       /* code without unwind data, or none at all: a call through a null pointer that raised a signal */
    CHAIN_OUTERMOST, /* nothing called the last frame */
};

/* The last walk's frames in arrays, the innermost first. */
struct chain {
    void **pcs;
    uintptr_t *slots; /* one more than frames, higher than any */
    uint64_t *hashes; /* one more than frames */
    uint32_t *packed;
    uint32_t *marked; /* one more than frames: the first one from here on whose slot is marked, or the walk's room */
    struct by_rbp *by_rbps;
};

/* What is looked at for each block lies in the first line. */
struct walk {
    size_t limit;       /* that the last walk was made with */
    uint64_t forgotten; /* the last walk, `past` and `rules` are of the time when this was so */
    struct frame *found;
    size_t room;  /* frames that `known` holds */
    size_t first; /* the last walk is [first, room) of `known` */
    size_t blind; /* so many frames are walked before the last walk is looked at */
    struct past_walks past;
    enum chain_end end_kind;
    bool ends_in_zero; /* the chain's last frame is none: a return address of 0 made its callee the outermost */
    bool is_wide;      /* some frame of `known` may be one that cannot be packed */
    size_t sure;       /* from here on, what was loaded below `doubt` may have been loaded from elsewhere since */
    uintptr_t doubt;
    struct chain known;
    uint64_t *powers; /* of FACTOR */
    uint32_t turn;
    int32_t meetings[MEETINGS + 1]; /* how many samples met the last walk after so many frames, or later */
    struct step_recent rules;
    struct site_recent sites;
};
_Static_assert(offsetof(struct walk, past.units) % PAST_UNIT == 0, "a short past walk is in one line or two");

/* How often rules were forgotten: what lanes keep of them, and of walks, is then too old. */
static STATE_OFTEN_READ uint64_t forgotten;

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

static void forget_walk(struct walk *walk)
{
    walk->first = walk->room;
    walk->sure = walk->room;
    walk->known.hashes[walk->room] = 0;
    walk->known.marked[walk->room] = (uint32_t)walk->room;
    walk->end_kind = CHAIN_OPEN;
    walk->ends_in_zero = false;
    walk->is_wide = false;
}

/* Memory that shares no line, nor a pair of them, with what other threads write. */
static char *take_apart(size_t size)
{
    const size_t apart = 128;
    size_t rounded = (size + apart - 1) & ~(apart - 1);
    char *memory = arena_take(TM_SLAB_OTHER, rounded + apart);
    return memory ? memory + (-(uintptr_t)memory & (apart - 1)) : NULL;
}

static size_t room_for(uint32_t limit)
{
    return 2 * (size_t)limit + 64;
}

static struct walk *make_walk(uint32_t limit)
{
    const size_t frame =
        sizeof(void *) + sizeof(uintptr_t) + sizeof(uint64_t) + 2 * sizeof(uint32_t) + sizeof(struct by_rbp);
    const size_t room = room_for(limit), found = (size_t)limit + 2, powers = (size_t)limit + 2;
    char *memory =
        take_apart(sizeof(struct walk) + (room + 1) * frame + found * sizeof(struct frame) + powers * sizeof(uint64_t));
    if (!memory)
        return NULL;
    struct walk *walk = cut_off(&memory, sizeof *walk);
    walk->room = room;
    walk->known = (struct chain){
        .pcs = cut_off(&memory, (room + 1) * sizeof(void *)),
        .slots = cut_off(&memory, (room + 1) * sizeof(uintptr_t)),
        .hashes = cut_off(&memory, (room + 1) * sizeof(uint64_t)),
        .by_rbps = cut_off(&memory, (room + 1) * sizeof(struct by_rbp)),
    };
    walk->found = cut_off(&memory, found * sizeof(struct frame));
    walk->powers = cut_off(&memory, powers * sizeof(uint64_t));
    walk->known.marked = cut_off(&memory, (room + 1) * sizeof(uint32_t));
    walk->known.packed = cut_off(&memory, (room + 1) * sizeof(uint32_t));
    walk->powers[0] = 1;
    for (size_t i = 1; i < powers; i++)
        walk->powers[i] = walk->powers[i - 1] * FACTOR;
    walk->known.slots[room] = UINTPTR_MAX;
    return walk;
}

/* Makes the lane's walk one for LIMIT. What it has too little room for is left behind. */
static __attribute__((noinline, cold)) struct walk *change_limit(struct tm_lane *lane, uint32_t limit)
{
    struct walk *walk = lane->walk;
    if (!walk || walk->room < room_for(limit)) {
        walk = make_walk(limit);
        if (!walk)
            return NULL;
        lane->walk = walk;
    }
    walk->limit = limit;
    past_walks_forget(&walk->past);
    forget_walk(walk);
    return walk;
}

static inline struct walk *walk_of(struct tm_lane *lane, uint32_t limit)
{
    struct walk *walk = lane->walk;
    if (state_unlikely(!walk || walk->limit != limit)) {
        walk = change_limit(lane, limit);
        if (!walk)
            return NULL;
    }
    if (state_unlikely(walk->forgotten != state_load(forgotten))) {
        walk->forgotten = state_load(forgotten);
        memset(&walk->rules, 0, sizeof walk->rules);
        past_walks_forget(&walk->past);
        forget_walk(walk);
    }
    return walk;
}

/* Moves what is left of the last walk, from frame AT on, to where as many new frames as there may be fit before it.
   Returns where it is then. */
static __attribute__((noinline, cold)) size_t move_to_end(struct walk *walk, size_t at)
{
    size_t count = walk->room - at, most = (walk->room - 2) / 2;
    if (count > most) {
        count = most;
        walk->end_kind = CHAIN_OPEN;
        walk->ends_in_zero = false;
    }
    const struct chain *known = &walk->known;
    size_t to = walk->room - count;
    memmove(known->pcs + to, known->pcs + at, count * sizeof *known->pcs);
    memmove(known->packed + to, known->packed + at, count * sizeof *known->packed);
    memmove(known->slots + to, known->slots + at, count * sizeof *known->slots);
    memmove(known->hashes + to, known->hashes + at, (count + 1) * sizeof *known->hashes);
    memmove(known->by_rbps + to, known->by_rbps + at, count * sizeof *known->by_rbps);
    for (size_t i = walk->room; i-- > to;)
        known->marked[i] = known->slots[i] & SLOT_MARKS ? (uint32_t)i : known->marked[i + 1];
    walk->sure += to - at;
    return to;
}

/* Puts the COUNT new frames before frame AT of the last walk: the chain is then that of the new one. */
static inline void settle(struct walk *walk, size_t at, size_t count)
{
    if (state_unlikely(count > at))
        at = move_to_end(walk, at);
    const struct chain known = walk->known;
    const struct frame *found = walk->found;
    size_t first = at - count;
    uint64_t hash = known.hashes[at];
    uint32_t marked = known.marked[at];
    for (size_t i = count; i-- > 0;) {
        uintptr_t slot = found[i].slot;
        uint32_t packed = packing_pack((uintptr_t)found[i].pc);
        if (state_unlikely(packed == PACKING_NONE))
            walk->is_wide = true;
        known.packed[first + i] = packed;
        hash = hash * FACTOR + (uintptr_t)found[i].pc;
        known.pcs[first + i] = found[i].pc;
        known.slots[first + i] = slot;
        known.hashes[first + i] = hash;
        if (state_unlikely(slot & SLOT_MARKS)) {
            known.by_rbps[first + i] = found[i].left_by;
            marked = (uint32_t)(first + i);
        }
        known.marked[first + i] = marked;
    }
    walk->first = first;
}

/* Whether the callee of frame AT is still left by the same rbp. The walk is at MET, its frame number COUNT. */
static __attribute__((noinline)) bool is_left_by_same_rbp(const struct walk *walk, size_t at, size_t count,
                                                          struct place met)
{
    struct by_rbp *by_rbp = &walk->known.by_rbps[at];
    if (at >= walk->sure && by_rbp->loaded_from < walk->doubt)
        return false;
    if (by_rbp->loaded_from >= step_rsp_of(met.slot))
        return step_word_at(by_rbp->loaded_from) == by_rbp->rbp;
    step_follow_rbp(walk->found + count, &met);
    by_rbp->loaded_from = met.rbp_loaded_from;
    return met.rbp == by_rbp->rbp;
}

/* AT holds now what the walk is at, as its frame number COUNT. The first frame outward that is no longer what it was,
   or BOUND. */
static inline size_t confirm(const struct walk *walk, size_t at, size_t bound, size_t count, const struct place *met)
{
    const uintptr_t *slots = walk->known.slots;
    void *const *pcs = walk->known.pcs;
    for (at++;; at++) {
        size_t marked = walk->known.marked[at], end = marked < bound ? marked : bound;
        while (at < end && step_word_at(slots[at]) == (uintptr_t)pcs[at])
            at++;
        if (state_likely(at < end || at == bound))
            return at;
        uintptr_t slot = slots[at];
        if (slot & SLOT_REREAD || !is_left_by_same_rbp(walk, at, count, *met) ||
            step_word_at(slot & ~(uintptr_t)SLOT_MARKS) != (uintptr_t)pcs[at])
            return at;
    }
}

/* A look one frame later costs a frame where a walk could have met the last one before, and saves a gamble where it
   meets it just then. */
static __attribute__((noinline, cold)) void choose_blind(struct walk *walk)
{
    int32_t cost = 0, least = 0, met_before = 0;
    walk->blind = 0;
    for (int32_t blind = 1; blind < MEETINGS; blind++) {
        met_before += walk->meetings[blind - 1];
        cost += met_before - GAMBLE * walk->meetings[blind];
        if (cost < least) {
            least = cost;
            walk->blind = (size_t)blind;
        }
    }
    for (int met = 0; met <= MEETINGS; met++)
        walk->meetings[met] /= 2;
}

static inline bool is_sample(struct walk *walk)
{
    return ++walk->turn % SAMPLE_EVERY == 0;
}

static void count_meeting(struct walk *walk, size_t count)
{
    walk->meetings[count < MEETINGS ? count : MEETINGS]++;
    if (walk->turn % (SAMPLE_EVERY * SAMPLES) == 0)
        choose_blind(walk);
}

/* The walk met frame AT of the last one after COUNT frames: after how many could it have? */
static __attribute__((noinline)) void take_sample(struct walk *walk, size_t at, size_t count)
{
    const struct chain *known = &walk->known;
    const struct frame *found = walk->found;
    for (; count > 0 && at > walk->first && known->slots[at - 1] == found[count - 1].slot &&
           known->pcs[at - 1] == found[count - 1].pc;
         count--)
        at--;
    count_meeting(walk, count);
}

/* The frames from `sure` on were last loaded from what lay further in than MET. */
static inline void doubt_from(struct walk *walk, size_t at, const struct place *met)
{
    uintptr_t doubt = walk->sure < walk->room ? walk->doubt : 0;
    walk->sure = at;
    walk->doubt = doubt > step_rsp_of(met->slot) ? doubt : step_rsp_of(met->slot);
}

/* Tries to go on from frame AT of the last walk, which the walk has come to as its frame number COUNT. True if
   it reaches to the end or to LIMIT, and one frame on to tell whether that was the end; then all of the new walk is
   known. Else REACHED says how far it is as before. */
static inline bool reuse(struct walk *walk, size_t at, size_t count, size_t limit, const struct place *place,
                         size_t *reached)
{
    size_t room = walk->room;
    size_t bound = limit - count < room - at ? at + limit - count + 1 : room;
    *reached = confirm(walk, at, bound, count, place);
    if (*reached != bound || (walk->end_kind == CHAIN_OPEN && bound == room && bound - at <= limit - count))
        return false;
    if (state_unlikely(place->slot & SLOT_BY_RBP))
        walk->known.by_rbps[at] = walk->found[count].left_by;
    if (state_unlikely(bound < room))
        doubt_from(walk, bound, place);
    else
        walk->sure = room;
    return true;
}

/* Nothing of the last walk was of use to one that STEP, or else the limit, ended after COUNT frames. In `found` is one
   more where there is one. */
static __attribute__((noinline)) void start_anew(struct walk *walk, enum step step, size_t count)
{
    if (is_sample(walk))
        count_meeting(walk, MEETINGS);
    forget_walk(walk);
    bool is_call_to_zero = step == STEP_ZERO && walk->found[count].slot & SLOT_EXACT;
    if (step == STEP_ZERO)
        walk->ends_in_zero = true;
    if (step == STEP_CUT || is_call_to_zero)
        walk->end_kind = CHAIN_CUT;
    else if (step == STEP_ZERO || step == STEP_END)
        walk->end_kind = CHAIN_OUTERMOST;
    settle(walk, walk->room, count + (step == STEP_ZERO || step == STEP_ON));
}

/* The walk met frame AT of the last one after COUNT frames, and knows it to be the same from there on. */
static inline void meet(struct walk *walk, size_t at, size_t count)
{
    if (state_unlikely(is_sample(walk)))
        take_sample(walk, at, count);
    settle(walk, at, count);
}

/* Walks on to the first frame that the last walk has too and that is still the same outward as far as it matters;
   or to the outermost frame or LIMIT frames, then nothing of the last walk stays. The first BLIND frames are not held
   against the last walk: the branch would be a gamble. */
static inline void walk_on(struct walk *walk, struct place *place, size_t limit)
{
    const struct rule_cache *in = state_load(rule_cache);
    struct frame *found = walk->found;
    void *const *pcs = walk->known.pcs;
    const uintptr_t *slots = walk->known.slots;
    size_t at = walk->first, count = 0, blind = walk->blind;
    blind = blind < limit ? blind : limit;
    blind = blind < walk->room - at ? blind : walk->room - at;
    uintptr_t pc = place->pc, slot = place->slot;
    enum step step = STEP_ON;
    while (state_likely(step == STEP_ON) && count < blind) {
        step = step_on(in, &walk->rules, &found[count], &slots[at + count + 1], place, &pc, &slot);
        count += step != STEP_ZERO;
    }
    if (state_likely(slots[at + count] == slot))
        at += count;
    size_t look_from = count;
    while (step == STEP_ON && count < limit) {
        if (count >= look_from) {
            while (slots[at] < slot)
                at++;
            if (slots[at] == slot && (uintptr_t)pcs[at] == pc) {
                size_t reached;
                place->pc = pc;
                place->slot = slot;
                if (reuse(walk, at, count, limit, place, &reached)) {
                    meet(walk, at, count);
                    return;
                }
                look_from = count + reached - at;
                at = reached;
            }
        }
        step = step_on(in, &walk->rules, &found[count], NULL, place, &pc, &slot);
        count += step != STEP_ZERO;
    }
    if (step == STEP_ON) {
        found[count].pc = (void *)pc;
        found[count].slot = slot;
        step = pc ? STEP_ON : STEP_ZERO;
    }
    start_anew(walk, step, count);
}

/* The walk's first NFRAME frames as they are packed; NULL if one cannot be. */
static __attribute__((noinline, cold)) const uint32_t *look_for_wide(struct walk *walk, uint32_t nframe)
{
    const uint32_t *packed = walk->known.packed;
    size_t at = walk->first;
    while (at < walk->room && packed[at] != PACKING_NONE)
        at++;
    walk->is_wide = at < walk->room;
    return at < walk->first + nframe ? NULL : packed + walk->first;
}

static inline struct place place_of(struct call_point caller, const struct walk *walk)
{
    const uintptr_t *frame = caller.frame;
    return (struct place){.pc = (uintptr_t)caller.return_address,
                          .slot = (uintptr_t)(frame + 1),
                          .rbp = *frame,
                          .rbp_loaded_from = 0,
                          .rbp_at = walk->found};
}

bool capture_walk(struct tm_lane *lane, struct call_point caller, uint32_t limit, struct traceback *traceback)
{
    struct walk *walk = walk_of(lane, limit);
    if (state_unlikely(!walk))
        return false;
    struct place place = place_of(caller, walk);
    walk_on(walk, &place, limit);
    size_t all = walk->room - walk->first - walk->ends_in_zero;
    uint32_t nframe = (uint32_t)(all < limit ? all : limit);
    const uint64_t *hashes = walk->known.hashes + walk->first;
    traceback->nframe = nframe;
    traceback->recent = &walk->sites;
    traceback->frames = walk->known.pcs + walk->first;
    traceback->packed = state_likely(!walk->is_wide) ? walk->known.packed + walk->first : look_for_wide(walk, nframe);
    traceback->hash = hashes[0] - walk->powers[nframe] * hashes[nframe];
    traceback->cut = all > limit || walk->end_kind != CHAIN_OUTERMOST;
    return true;
}

uint32_t capture_recall(struct tm_lane *lane, struct call_point caller, uint32_t limit)
{
    struct walk *walk = walk_of(lane, limit);
    if (state_unlikely(!walk) || !past_walks_begin(&walk->past))
        return 0;
    struct place place = place_of(caller, walk);
    const uintptr_t first_slot = place.slot, first_pc = place.pc;
    uintptr_t pc = first_pc, slot = first_slot;
    enum step step = step_on(state_load(rule_cache), &walk->rules, walk->found, NULL, &place, &pc, &slot);
    if (state_unlikely(step != STEP_ON))
        return 0;
    return past_walks_find(&walk->past, past_walks_hash(first_slot, first_pc, pc), first_slot);
}

/* What the walk read is its frames, one beyond LIMIT included that told whether they are all. */
void capture_keep(struct tm_lane *lane, uint32_t limit, uint32_t site)
{
    struct walk *walk = lane->walk;
    size_t all = walk->room - walk->first, count = all <= limit ? all : (size_t)limit + 1;
    if (state_unlikely(count < 2 || (all <= limit && walk->end_kind == CHAIN_OPEN)))
        return;
    const struct chain *known = &walk->known;
    past_walks_keep(&walk->past, known->pcs + walk->first, known->slots + walk->first, count,
                    known->marked[walk->first] - walk->first, site);
}

/* After the rules themselves: whoever sees the new count must not find them again. A walk that noticed goes on. */
static void forget_what_lanes_keep(void)
{
    __atomic_add_fetch(&forgotten, 1, __ATOMIC_RELEASE);
    struct walk *walk = state_thread.claim ? lane_claimed()->walk : NULL;
    if (!walk)
        return;
    memset(&walk->rules, 0, sizeof walk->rules);
    past_walks_forget(&walk->past);
}

void capture_forget_range(uintptr_t start, uintptr_t end)
{
    rule_cache_forget(start, end);
    forget_what_lanes_keep();
}

void capture_forget_gone(void)
{
    if (rule_cache_forget_gone())
        forget_what_lanes_keep();
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
    state_add(forgotten, 1); /* a walk that another thread was in has no end in the child */
    rule_cache_reset_lock();
}
