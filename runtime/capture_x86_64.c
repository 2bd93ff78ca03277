/* capture_x86_64.c: walks the stack by cached rules, and reuses the lane's last walk.

   Between two allocations a program leaves most of its stack as it was. Once a frame of the new walk has the same
   program counter, rsp and rbp as one of the last walk, all its callers are the same if the words that a walk
   would read of each (its return address, the rbp saved for it) still hold what they held. These are compared
   from the inside out, stopping at the first difference: exactly the reads of a full walk, so this is as
   exact, and as safe on a stack that was switched or unmapped meanwhile. rbp counts only where a frame further
   out is found by it before it is loaded again: compilers use it as any other register too.

   The last walk lies in arrays with its innermost frame at `first`; what is reused stays in place, new frames
   are put before it. Of a frame's registers only rsp and rbp are followed, which is all that compilers' code
   needs. */

#include "capture.h"

#include "arena.h"
#include "rule_cache.h"
#include "state.h"

#include <stddef.h>
#include <string.h>

/* Where the ucontext that rsp points to in a signal trampoline holds the interrupted registers. */
enum { UCONTEXT_RBP = 120, UCONTEXT_RSP = 160, UCONTEXT_RIP = 168 };

/* One walk in so many stores the callers it found as predictions: threads then seldom write to shared lines. */
#define LEARN_EVERY 16

enum frame_flag {
    FRAME_EXACT = 1,     /* it stopped at its program counter, it did not call from there */
    FRAME_REREAD = 2,    /* more than two words led to it: a reused walk ends before it */
    FRAME_USES_RBP = 4,  /* its caller is found by rbp */
    FRAME_NEEDS_RBP = 8, /* its caller, or one further out, is found by the value that rbp has here */
};

struct frame {
    uintptr_t rsp;
    uintptr_t rbp;             /* without FRAME_NEEDS_RBP it may be an older walk's */
    const uintptr_t *pc_slot;  /* where the program counter was read */
    const uintptr_t *rbp_slot; /* where rbp was read; NULL: it is the callee's */
    uint64_t hash;             /* of this frame's program counter and all its callers' */
    uint64_t flags;
};

struct walk {
    uint32_t room;  /* frames in each array */
    uint32_t first; /* the last walk is [first, end) */
    uint32_t end;
    uint32_t turn;
    uint64_t forgotten; /* the last walk is of the time when this was so */
    bool ended;         /* it reached the outermost frame */
    void **pcs;
    struct frame *frames;
    void **new_pcs; /* those of the walk under way, until it meets the last one */
    struct frame *new_frames;
};

/* The frame that a walk has come to. */
struct place {
    uintptr_t pc;
    struct frame frame;
    struct rule *rule;
    bool learn;
    bool came_by_rbp; /* the frame before was left by its rbp */
};

static uint64_t forgotten; /* how often capture_forget_range was called */

bool capture_init(void)
{
    return true;
}

static struct walk *make_walk(uint32_t limit)
{
    uint32_t room = 2 * limit + 64;
    size_t one = sizeof(void *) + sizeof(struct frame);
    char *memory = arena_take(TM_SLAB_OTHER, sizeof(struct walk) + (room + limit) * one);
    if (!memory)
        return NULL;
    struct walk *walk = (struct walk *)(void *)memory;
    walk->frames = (struct frame *)(void *)(memory + sizeof(struct walk));
    walk->new_frames = walk->frames + room;
    walk->pcs = (void **)(walk->new_frames + limit);
    walk->new_pcs = walk->pcs + room;
    walk->room = room;
    walk->first = walk->end = room;
    return walk;
}

/* The lane's walk with room for LIMIT; a smaller one, from before a restart with a higher limit, is left behind. */
static struct walk *walk_of(struct tm_lane *lane, uint32_t limit)
{
    struct walk *walk = lane->walk;
    if (state_unlikely(!walk || walk->room < 2 * limit + 64))
        walk = lane->walk = make_walk(limit);
    if (walk && state_unlikely(walk->forgotten != state_load(forgotten))) {
        walk->forgotten = state_load(forgotten);
        walk->first = walk->end = walk->room;
    }
    return walk;
}

static uint64_t chain(uint64_t hash, uintptr_t pc)
{
    hash = (hash ^ pc) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

static bool leave_signal_frame(struct place *place)
{
    uintptr_t context = place->frame.rsp;
    place->frame.pc_slot = (const uintptr_t *)(context + UCONTEXT_RIP);
    place->frame.rbp_slot = (const uintptr_t *)(context + UCONTEXT_RBP);
    place->frame.rsp = *(const uintptr_t *)(context + UCONTEXT_RSP);
    place->frame.flags = FRAME_EXACT | FRAME_REREAD;
    return true;
}

/* A frame that would not lie below its caller's means that the rules do not fit: false. */
static bool leave_frame(const struct unwind_rule *rule, struct place *place)
{
    uintptr_t rsp = place->frame.rsp;
    uintptr_t base = rule->kind == UNWIND_RSP ? rsp : place->frame.rbp;
    uintptr_t cfa = base + (uintptr_t)rule->cfa_offset;
    if (rule->kind != UNWIND_RSP && (base < rsp || base % 8))
        return false;
    if (state_unlikely(rule->kind == UNWIND_DRAP))
        cfa = *(const uintptr_t *)cfa;
    if (cfa <= rsp || cfa % 8)
        return false;
    uintptr_t saved = (rule->kind == UNWIND_DRAP ? base : cfa) + (uintptr_t)rule->rbp_offset;
    place->frame.pc_slot = (const uintptr_t *)(cfa - 8);
    place->frame.rbp_slot = rule->rbp_saved ? (const uintptr_t *)saved : NULL;
    place->frame.rsp = cfa;
    place->frame.flags = rule->kind == UNWIND_DRAP ? FRAME_REREAD : 0;
    return true;
}

/* Steps to the caller. False if there is none to go on with; ENDED: because this is the outermost frame. */
static bool leave(struct place *place, bool *ended)
{
    uint64_t key = place->pc | (place->frame.flags & FRAME_EXACT ? RULE_EXACT : 0);
    uint32_t packed = rule_cache_next(key, place->learn, &place->rule);
    struct unwind_rule rule = rule_unpack(packed);
    if (state_unlikely(packed == RULE_SLOW))
        rule = rule_cache_decode(key);
    place->came_by_rbp = rule.kind == UNWIND_RBP || rule.kind == UNWIND_DRAP;
    bool more = rule.kind == UNWIND_RSP || place->came_by_rbp ? leave_frame(&rule, place)
                                                              : rule.kind == UNWIND_SIGNAL && leave_signal_frame(place);
    if (!more) {
        *ended = rule.kind == UNWIND_END;
        return false;
    }
    place->pc = *place->frame.pc_slot;
    if (place->frame.rbp_slot)
        place->frame.rbp = *place->frame.rbp_slot;
    *ended = place->pc == 0;
    return !*ended;
}

static bool needs_rbp(const struct frame *frame)
{
    return frame->flags & FRAME_NEEDS_RBP;
}

static bool is_same_frame(const struct walk *walk, uint32_t at, const struct place *place)
{
    const struct frame *frame = &walk->frames[at];
    return frame->rsp == place->frame.rsp && (uintptr_t)walk->pcs[at] == place->pc &&
           (frame->rbp == place->frame.rbp || !needs_rbp(frame)) &&
           !((frame->flags ^ place->frame.flags) & FRAME_EXACT);
}

/* The same frame, come to by another way: what its callee tells of it is new. */
static void renew(struct frame *frame, const struct frame *now)
{
    const uint64_t by_callee = FRAME_EXACT | FRAME_REREAD;
    frame->rbp = now->rbp;
    frame->pc_slot = now->pc_slot;
    frame->rbp_slot = now->rbp_slot;
    frame->flags = (frame->flags & ~by_callee) | (now->flags & by_callee);
}

/* AT holds now what the walk is at. The first frame outward that is no longer what it was, or the end. */
static uint32_t confirm(const struct walk *walk, uint32_t at)
{
    for (at++; at < walk->end; at++) {
        const struct frame *frame = &walk->frames[at];
        if (frame->flags & FRAME_REREAD || *frame->pc_slot != (uintptr_t)walk->pcs[at] ||
            (needs_rbp(frame) && frame->rbp_slot && *frame->rbp_slot != frame->rbp))
            break;
    }
    return at;
}

static void append(struct walk *walk, uint32_t at, uintptr_t pc, const struct frame *frame)
{
    walk->new_pcs[at] = (void *)pc;
    walk->new_frames[at] = *frame;
}

/* The last walk's frames AT to STOP - 1 are as before: the new walk has them too, and goes on from the last. */
static uint32_t take_over(struct walk *walk, uint32_t at, uint32_t stop, uint32_t count, struct place *place)
{
    uintptr_t rbp = place->frame.rbp;
    for (uint32_t i = at; i < stop; i++) {
        place->frame = walk->frames[i];
        if (i > at && place->frame.rbp_slot)
            rbp = *place->frame.rbp_slot;
        place->frame.rbp = rbp;
        append(walk, count++, (uintptr_t)walk->pcs[i], &place->frame);
    }
    place->pc = (uintptr_t)walk->pcs[stop - 1];
    place->rule = NULL;
    return count;
}

/* Walks until the last walk is met for good, or to the end, or for LIMIT frames. Returns how many new frames there
   are before the frame MET of the last walk; MET == walk->end: it was not met, and ENDED counts. */
static uint32_t walk_new(struct walk *walk, struct place *place, uint32_t limit, uint32_t *met, bool *ended)
{
    uint32_t count = 0;
    uint32_t at = walk->first;
    bool more = true;
    while (more && count < limit) {
        while (at < walk->end && walk->frames[at].rsp < place->frame.rsp)
            at++;
        if (at < walk->end && is_same_frame(walk, at, place)) {
            renew(&walk->frames[at], &place->frame);
            uint32_t stop = confirm(walk, at);
            if (stop == walk->end) {
                *met = at;
                return count;
            }
            if (stop - at > limit - count)
                stop = at + limit - count;
            count = take_over(walk, at, stop, count, place);
            at = stop;
        } else {
            append(walk, count++, place->pc, &place->frame);
        }
        more = leave(place, ended);
        if (place->came_by_rbp)
            walk->new_frames[count - 1].flags |= FRAME_USES_RBP;
    }
    *met = walk->end;
    return count;
}

/* The last walk was cut by a limit further in: goes on outward from its last frame, for up to COUNT frames. */
static void walk_on(struct walk *walk, uint32_t count)
{
    struct place place = {.pc = (uintptr_t)walk->pcs[walk->end - 1], .frame = walk->frames[walk->end - 1]};
    for (bool more = leave(&place, &walk->ended);; more = leave(&place, &walk->ended)) {
        if (place.came_by_rbp)
            walk->frames[walk->end - 1].flags |= FRAME_USES_RBP;
        if (!more || count-- == 0)
            break;
        walk->pcs[walk->end] = (void *)place.pc;
        walk->frames[walk->end++] = place.frame;
    }
}

static void move(struct walk *walk, uint32_t from, uint32_t to)
{
    uint32_t count = walk->end - from;
    memmove(walk->pcs + to, walk->pcs + from, count * sizeof *walk->pcs);
    memmove(walk->frames + to, walk->frames + from, count * sizeof *walk->frames);
    walk->end = to + count;
}

/* Puts COUNT new frames before MET, with room behind for as many as LIMIT still allows. */
static void place_new(struct walk *walk, uint32_t count, uint32_t met, uint32_t limit)
{
    uint32_t total = count + walk->end - met;
    if (count > met || walk->end + limit - total > walk->room) {
        move(walk, met, walk->room - limit + count);
        met = walk->room - limit + count;
    }
    walk->first = met - count;
    memcpy(walk->pcs + walk->first, walk->new_pcs, count * sizeof *walk->pcs);
    memcpy(walk->frames + walk->first, walk->new_frames, count * sizeof *walk->frames);
}

/* What only the frames further out tell: from KNOWN on they are as they were. Beyond a walk that did not reach the
   outermost frame anything may come. Returns the hash of the whole walk. */
static uint64_t look_back(struct walk *walk, uint32_t known)
{
    uint64_t hash = known < walk->end ? walk->frames[known].hash : 0;
    bool needed = known < walk->end ? needs_rbp(&walk->frames[known]) : !walk->ended;
    for (uint32_t at = known; at-- > walk->first;) {
        struct frame *frame = &walk->frames[at];
        bool passed_on = at + 1 == walk->end || !walk->frames[at + 1].rbp_slot;
        needed = frame->flags & FRAME_USES_RBP || (passed_on && needed);
        frame->flags = (frame->flags & ~(uint64_t)FRAME_NEEDS_RBP) | (needed ? FRAME_NEEDS_RBP : 0);
        hash = frame->hash = chain(hash, (uintptr_t)walk->pcs[at]);
    }
    return hash;
}

bool capture_walk(struct tm_lane *lane, struct call_point caller, uint32_t limit, struct traceback *traceback)
{
    struct walk *walk = walk_of(lane, limit);
    if (state_unlikely(!walk))
        return false;
    const uintptr_t *frame = caller.frame;
    struct place place = {
        .pc = (uintptr_t)caller.return_address,
        .frame = {.rsp = (uintptr_t)(frame + 2), .rbp = *frame, .pc_slot = frame + 1, .rbp_slot = frame},
        .learn = ++walk->turn % LEARN_EVERY == 0,
    };
    bool ended = false;
    uint32_t met;
    uint32_t count = walk_new(walk, &place, limit, &met, &ended);
    uint32_t kept = walk->end - met;
    bool known = kept != 0 && walk->ended && count + kept <= limit;
    if (kept == 0)
        walk->ended = ended;
    if (count + kept > limit) {
        walk->end = met + limit - count;
        walk->ended = false;
    }
    bool was_cut_at_limit = kept != 0 && !walk->ended && count + kept < limit;
    place_new(walk, count, met, limit);
    if (was_cut_at_limit)
        walk_on(walk, limit - count - kept);
    traceback->nframe = walk->end - walk->first;
    traceback->frames = walk->pcs + walk->first;
    traceback->cut = !walk->ended;
    traceback->hash = look_back(walk, known ? walk->first + count : walk->end);
    return true;
}

void capture_forget_range(uintptr_t start, uintptr_t end)
{
    rule_cache_forget(start, end);
    state_add(forgotten, 1);
}

void capture_quiesce(void)
{
    rule_cache_quiesce();
}

void capture_reset_lock(void)
{
    rule_cache_reset_lock();
}
