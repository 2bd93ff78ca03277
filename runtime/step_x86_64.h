/* step_x86_64.h: from one frame of a stack walk to its caller's, by cached rules.

   Of a frame's registers only rsp and rbp are followed, which is all that compilers' code needs. Calls no malloc, keeps
   errno, reads nothing but code's unwind data and the stack inward of what it leads to. */

#ifndef TM_STEP_X86_64_H
#define TM_STEP_X86_64_H

#include "rule_cache.h"

#include <stddef.h>

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

/* A frame of a walk, which has them in an array, the innermost first. */
struct frame {
    void *pc;
    uintptr_t slot;
    uint64_t rule;         /* packed, by which the frame was left */
    struct by_rbp left_by; /* where the slot is marked so */
};

/* What a walk has come to, to become FRAME number `count` of it. rbp is followed only where it is asked for: `rbp` is
   that of the frame at `rbp_at`, since when it may have been loaded again. */
struct place {
    uintptr_t pc;
    uintptr_t slot; /* with its marks */
    uintptr_t rbp;
    uintptr_t rbp_loaded_from;
    const struct frame *rbp_at;
};

enum step {
    STEP_ON,
    STEP_END,  /* it was the outermost frame */
    STEP_CUT,  /* its code has no unwind data */
    STEP_LOST, /* the rules do not fit the stack */
    STEP_ZERO, /* it is none: a return address of 0 made its callee the outermost */
};

static inline uintptr_t step_word_at(uintptr_t address)
{
    return *(const uintptr_t *)address;
}

static inline uintptr_t step_rsp_of(uintptr_t slot)
{
    return (slot & ~(uintptr_t)SLOT_MARKS) + 8;
}

/* Brings the rbp of PLACE, which is to become FRAME, up to date. */
void step_follow_rbp(const struct frame *frame, struct place *place);

/* From PLACE, which is FRAME, to its caller, whatever that takes. */
enum step step_by_any_rule(struct frame *frame, struct place *place);

/* VALUE. Where it is GUESS, the processor goes on with that, and need not wait for what VALUE is computed from: it
   foresees a branch, not a value. The compiler must not know that the two are equal. */
static inline uintptr_t step_foresee(uintptr_t value, uintptr_t guess)
{
    uintptr_t same = guess;
    __asm__("" : "+r"(same));
    if (state_likely(value == guess)) {
        __asm__ volatile("");
        return same;
    }
    return value;
}

/* The rules that a lane needed last, by program counter: most are found there again, and need no look into the rule
   cache, which is too large for the processor's. Only such as need nothing but rsp. By the lane's claim. */
#define STEP_RECENT 1024
struct step_recent {
    struct rule rules[STEP_RECENT];
};

/* The packed rule of PC if it is known and needs nothing but rsp; else anything without RULE_BY_RSP. `_recall` finds it
   in the rule cache. */
uint64_t step_recall_rule(const struct rule_cache *in, struct step_recent *recent, uintptr_t pc);

static inline __attribute__((always_inline)) uint64_t step_rule_of(const struct rule_cache *in,
                                                                   struct step_recent *recent, uintptr_t pc)
{
    const struct rule *kept = &recent->rules[rule_cache_hash(pc) & (STEP_RECENT - 1)];
    return state_likely(kept->key == pc) ? kept->packed : step_recall_rule(in, recent, pc);
}

/* Puts PLACE down as FRAME and goes on to its caller. Its pc and slot are in PC and SLOT, so that a loop keeps them in
   registers. IN: the rule cache, or what it was a moment ago. RECENT: the lane's. GUESS: what the caller's slot may be
   foreseen to be, or NULL. */
static inline __attribute__((always_inline)) enum step step_on(const struct rule_cache *in, struct step_recent *recent,
                                                               struct frame *frame, const uintptr_t *guess,
                                                               struct place *place, uintptr_t *pc, uintptr_t *slot)
{
    frame->pc = (void *)*pc;
    frame->slot = *slot;
    uint64_t packed = step_rule_of(in, recent, *pc);
    if (state_likely(packed & RULE_BY_RSP && !(*slot & SLOT_MARKS))) {
        frame->rule = packed;
        *slot += (uintptr_t)rule_cfa_offset(packed);
        if (guess)
            *slot = step_foresee(*slot, *guess);
        *pc = step_word_at(*slot);
        return STEP_ON;
    }
    if (*pc == 0)
        return STEP_ZERO;
    place->pc = *pc;
    place->slot = *slot;
    enum step step = step_by_any_rule(frame, place);
    *pc = place->pc;
    *slot = place->slot;
    return step;
}

#endif
