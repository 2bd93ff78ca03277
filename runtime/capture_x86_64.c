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

/* One walk in so many lowers the count of frames that are walked before the last walk is looked at. */
#define FORGET_EVERY 16

enum frame_flag {
    FRAME_EXACT = 1,     /* it stopped at its program counter, it did not call from there */
    FRAME_REREAD = 2,    /* more than two words led to it: a reused walk ends before it */
    FRAME_LAST = 16,     /* a return address of 0 made it the outermost: likewise, that word may change */
    FRAME_USES_RBP = 4,  /* its caller is found by rbp */
    FRAME_NEEDS_RBP = 8, /* its caller, or one further out, is found by the value that rbp has here */
};

/* Kept small and filled word by word: a wide copy of words just stored waits for the store. */
struct frame {
    uintptr_t rsp;      /* its return address was read just below */
    uintptr_t rbp;      /* without FRAME_NEEDS_RBP it may be an older walk's */
    uint32_t rbp_below; /* where rbp was read: so many words below rsp; 0: it is the callee's */
    uint32_t flags;
    uint64_t hash; /* of this frame's program counter and all its callers' */
};

struct walk {
    uint32_t room;  /* frames in each array */
    uint32_t first; /* the last walk is [first, end) */
    uint32_t end;
    uint32_t turn;
    uint32_t blind;     /* so many frames are walked before the last walk is looked at */
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
    uintptr_t rsp;
    uintptr_t rbp;
    uint32_t rbp_below;
    uint32_t flags;
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
        walk = make_walk(limit);
    if (walk)
        lane->walk = walk;
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

static uintptr_t word_at(uintptr_t address)
{
    return *(const uintptr_t *)address;
}

static bool leave_signal_frame(struct place *place)
{
    uintptr_t context = place->rsp;
    place->pc = word_at(context + UCONTEXT_RIP);
    place->rbp = word_at(context + UCONTEXT_RBP);
    place->rsp = word_at(context + UCONTEXT_RSP);
    place->rbp_below = 0;
    place->flags = FRAME_EXACT | FRAME_REREAD;
    return true;
}

/* A frame that would not lie below its caller's means that the rules do not fit: false. */
static inline __attribute__((always_inline)) bool leave_frame(struct unwind_rule rule, struct place *place)
{
    uintptr_t base = rule.kind == UNWIND_RSP ? place->rsp : place->rbp;
    uintptr_t cfa = base + (uintptr_t)rule.cfa_offset;
    if (rule.kind != UNWIND_RSP && (base < place->rsp || base % 8))
        return false;
    if (state_unlikely(rule.kind == UNWIND_DRAP))
        cfa = word_at(cfa);
    if (cfa <= place->rsp || cfa % 8)
        return false;
    place->flags = 0;
    place->rbp_below = 0;
    if (rule.rbp_saved) {
        uintptr_t slot = (rule.kind == UNWIND_DRAP ? base : cfa) + (uintptr_t)rule.rbp_offset;
        place->rbp = word_at(slot);
        place->rbp_below = (uint32_t)((cfa - slot) / 8);
        /* rbp may lie anywhere; where so few bits do not tell, the frame is read anew each time. */
        if (state_unlikely(slot >= cfa || cfa - slot > INT32_MAX || rule.kind == UNWIND_DRAP))
            place->flags = FRAME_REREAD;
    } else if (state_unlikely(rule.kind == UNWIND_DRAP)) {
        place->flags = FRAME_REREAD;
    }
    place->pc = word_at(cfa - 8);
    place->rsp = cfa;
    return true;
}

struct step {
    bool more;   /* there is a caller */
    bool ended;  /* there is none: this was the outermost frame */
    bool by_rbp; /* rbp told where the caller is */
};

/* Steps to the caller. */
static inline __attribute__((always_inline)) struct step leave(struct place *place)
{
    uint64_t key = place->pc | (place->flags & FRAME_EXACT ? RULE_EXACT : 0);
    uint32_t packed = rule_cache_get(key);
    struct unwind_rule rule = rule_unpack(packed);
    if (state_unlikely(packed == RULE_SLOW))
        rule = rule_cache_decode(key);
    struct step step = {.by_rbp = rule.kind == UNWIND_RBP || rule.kind == UNWIND_DRAP};
    if (state_likely(rule.kind == UNWIND_RSP || step.by_rbp)) {
        step.more = leave_frame(rule, place);
    } else if (rule.kind == UNWIND_SIGNAL) {
        step.more = leave_signal_frame(place);
    } else {
        step.ended = rule.kind == UNWIND_END;
        return step;
    }
    if (state_unlikely(step.more && place->pc == 0)) {
        step.more = false;
        step.ended = true;
    }
    return step;
}

static bool needs_rbp(const struct frame *frame)
{
    return frame->flags & FRAME_NEEDS_RBP;
}

/* Whether its rbp was loaded on the way to it, so that the callee's counts no more. */
static bool has_own_rbp(const struct frame *frame)
{
    return frame->rbp_below || frame->flags & FRAME_REREAD;
}

static inline bool is_same_frame(const struct walk *walk, uint32_t at, const struct place *place)
{
    const struct frame *frame = &walk->frames[at];
    return frame->rsp == place->rsp && (uintptr_t)walk->pcs[at] == place->pc &&
           (frame->rbp == place->rbp || !needs_rbp(frame)) && !((frame->flags ^ place->flags) & FRAME_EXACT) &&
           !(frame->flags & FRAME_LAST);
}

/* The same frame, come to by another way: what its callee tells of it is new. */
static inline void renew(struct frame *frame, const struct place *now)
{
    const uint32_t by_callee = FRAME_EXACT | FRAME_REREAD;
    frame->rbp = now->rbp;
    frame->rbp_below = now->rbp_below;
    frame->flags = (frame->flags & ~by_callee) | (now->flags & by_callee);
}

static inline bool still_holds(const struct frame *frame, const void *pc)
{
    if (frame->flags & (FRAME_REREAD | FRAME_LAST) || word_at(frame->rsp - 8) != (uintptr_t)pc)
        return false;
    return !frame->rbp_below || !needs_rbp(frame) || word_at(frame->rsp - frame->rbp_below * 8) == frame->rbp;
}

/* AT holds now what the walk is at. The first frame outward that is no longer what it was, or the end. */
static inline uint32_t confirm(const struct walk *walk, uint32_t at)
{
    uint32_t end = walk->end;
    for (at++; at < end; at++)
        if (!still_holds(&walk->frames[at], walk->pcs[at]))
            break;
    return at;
}

static inline void put(void **pcs, struct frame *frames, uint32_t at, const struct place *place)
{
    pcs[at] = (void *)place->pc;
    frames[at].rsp = place->rsp;
    frames[at].rbp = place->rbp;
    frames[at].rbp_below = place->rbp_below;
    frames[at].flags = place->flags;
}

/* The last walk's frames AT to STOP - 1 are as before: the new walk has them too, and goes on from the last.
   Their rbp is read anew, it may be an older walk's where it did not matter. */
static uint32_t take_over(struct walk *walk, uint32_t at, uint32_t stop, uint32_t count, struct place *place)
{
    for (uint32_t i = at; i < stop; i++) {
        const struct frame *frame = &walk->frames[i];
        if (i > at && frame->rbp_below)
            place->rbp = word_at(frame->rsp - frame->rbp_below * 8);
        place->pc = (uintptr_t)walk->pcs[i];
        place->rsp = frame->rsp;
        place->rbp_below = frame->rbp_below;
        place->flags = frame->flags;
        put(walk->new_pcs, walk->new_frames, count++, place);
    }
    return count;
}

/* Keeps `blind` at about the most of LOST_AT, the count of frames after which a walk left the last one again. */
static void adapt(struct walk *walk, uint32_t lost_at)
{
    if (lost_at > walk->blind)
        walk->blind = lost_at;
    else if (++walk->turn % FORGET_EVERY == 0 && walk->blind > 0)
        walk->blind--;
}

/* Walks on to the first frame that the last walk has too and that is still the same outward to its end: MET; or to
   the outermost frame or LIMIT frames, then MET == walk->end and ENDED counts. Returns how many new frames there
   are before MET. The first BLIND frames are not held against the last walk: the branch would be a gamble. */
static uint32_t walk_new(struct walk *walk, struct place place, uint32_t limit, uint32_t *met, bool *ended)
{
    uint32_t count = 0;
    uint32_t at = walk->first;
    uint32_t lost_at = 0;
    bool met_last = false;
    struct step step = {.more = true};
    while (step.more && count < limit) {
        bool same = false;
        if (count >= walk->blind) {
            while (at < walk->end && walk->frames[at].rsp < place.rsp)
                at++;
            same = at < walk->end && is_same_frame(walk, at, &place);
        }
        if (same) {
            renew(&walk->frames[at], &place);
            uint32_t stop = confirm(walk, at);
            met_last = stop == walk->end;
            if (met_last)
                break;
            if (stop - at > limit - count)
                stop = at + limit - count;
            count = take_over(walk, at, stop, count, &place);
            at = stop;
            lost_at = count;
        } else {
            put(walk->new_pcs, walk->new_frames, count++, &place);
        }
        step = leave(&place);
        if (step.by_rbp)
            walk->new_frames[count - 1].flags |= FRAME_USES_RBP;
        if (step.ended && place.pc == 0)
            walk->new_frames[count - 1].flags |= FRAME_LAST;
    }
    adapt(walk, lost_at);
    *ended = step.ended;
    *met = met_last ? at : walk->end;
    return count;
}

/* The last walk was cut by a limit further in: goes on outward from its last frame, for up to COUNT frames. */
static void walk_on(struct walk *walk, uint32_t count)
{
    const struct frame *last = &walk->frames[walk->end - 1];
    struct place place = {
        .pc = (uintptr_t)walk->pcs[walk->end - 1], .rsp = last->rsp, .rbp = last->rbp, .flags = last->flags};
    for (;;) {
        struct step step = leave(&place);
        walk->ended = step.ended;
        if (step.by_rbp)
            walk->frames[walk->end - 1].flags |= FRAME_USES_RBP;
        if (step.ended && place.pc == 0)
            walk->frames[walk->end - 1].flags |= FRAME_LAST;
        if (!step.more || count-- == 0)
            break;
        put(walk->pcs, walk->frames, walk->end++, &place);
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
    for (uint32_t i = 0; i < count; i++) {
        const struct frame *frame = &walk->new_frames[i];
        struct place place = {(uintptr_t)walk->new_pcs[i], frame->rsp, frame->rbp, frame->rbp_below, frame->flags};
        put(walk->pcs, walk->frames, walk->first + i, &place);
    }
}

/* What only the frames further out tell: from KNOWN on they are as they were. Beyond a walk that did not reach the
   outermost frame anything may come. Returns the hash of the whole walk. */
static uint64_t look_back(struct walk *walk, uint32_t known)
{
    uint64_t hash = known < walk->end ? walk->frames[known].hash : 0;
    bool needed = known < walk->end ? needs_rbp(&walk->frames[known]) : !walk->ended;
    for (uint32_t at = known; at-- > walk->first;) {
        struct frame *frame = &walk->frames[at];
        bool passed_on = at + 1 == walk->end || !has_own_rbp(&walk->frames[at + 1]);
        needed = frame->flags & FRAME_USES_RBP || (passed_on && needed);
        frame->flags = (frame->flags & ~(uint32_t)FRAME_NEEDS_RBP) | (needed ? FRAME_NEEDS_RBP : 0);
        hash = frame->hash = chain(hash, (uintptr_t)walk->pcs[at]);
    }
    return hash;
}

/* From FROM on, whose rbp is right: the walk ends earlier than it did, and rbp may come to matter at its end. */
static void reread_rbp(struct walk *walk, uint32_t from)
{
    for (uint32_t at = from + 1; at < walk->end; at++) {
        struct frame *frame = &walk->frames[at];
        frame->rbp = frame->rbp_below ? word_at(frame->rsp - frame->rbp_below * 8) : walk->frames[at - 1].rbp;
    }
}

bool capture_walk(struct tm_lane *lane, struct call_point caller, uint32_t limit, struct traceback *traceback)
{
    struct walk *walk = walk_of(lane, limit);
    if (state_unlikely(!walk))
        return false;
    const uintptr_t *frame = caller.frame;
    struct place place = {
        .pc = (uintptr_t)caller.return_address, .rsp = (uintptr_t)(frame + 2), .rbp = *frame, .rbp_below = 2};
    bool ended = false;
    uint32_t met;
    uint32_t count = walk_new(walk, place, limit, &met, &ended);
    uint32_t kept = walk->end - met;
    /* The walk still ends where it did: what its frames know of those further out holds. */
    bool known = kept != 0 && (count + kept == limit || (walk->ended && count + kept < limit));
    if (kept == 0)
        walk->ended = ended;
    if (count + kept > limit) {
        walk->end = met + limit - count;
        walk->ended = false;
        reread_rbp(walk, met);
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

void capture_forget_gone(void)
{
    if (rule_cache_forget_gone())
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
