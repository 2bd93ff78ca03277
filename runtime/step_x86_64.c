/* step_x86_64.c: what step_on does not do by itself: rules that are new, and frames that are not left by rsp. */

#include "step_x86_64.h"

/* Where the ucontext that rsp points to in a signal trampoline holds the interrupted registers. */
enum { UCONTEXT_RBP = 120, UCONTEXT_RSP = 160, UCONTEXT_RIP = 168 };

/* The last frame further in that saved rbp tells. */
void step_follow_rbp(const struct frame *frame, struct place *place)
{
    uintptr_t slot = place->slot;
    for (const struct frame *at = frame; at > place->rbp_at; slot = (--at)->slot) {
        uint64_t rule = at[-1].rule;
        if (rule & RULE_RBP_SAVED) {
            place->rbp_loaded_from = step_rsp_of(slot) - 8 + (uintptr_t)rule_rbp_offset(rule);
            place->rbp = step_word_at(place->rbp_loaded_from);
            break;
        }
    }
    place->rbp_at = frame;
}

static enum step leave_signal_frame(struct place *place)
{
    uintptr_t context = step_rsp_of(place->slot);
    uintptr_t rsp = step_word_at(context + UCONTEXT_RSP);
    if (rsp % 8)
        return STEP_LOST;
    place->pc = step_word_at(context + UCONTEXT_RIP);
    place->rbp = step_word_at(context + UCONTEXT_RBP);
    place->slot = (rsp - 8) | SLOT_EXACT | SLOT_REREAD;
    return STEP_ON;
}

/* A frame that would not lie below its caller's, or be larger than any, means that the rules do not fit. They are then
   not followed to where nothing may be read. */
static enum step leave_by(struct unwind_rule rule, struct place *place)
{
    uintptr_t rsp = step_rsp_of(place->slot);
    uintptr_t base = rule.kind == UNWIND_RSP ? rsp : place->rbp;
    uintptr_t cfa = base + (uintptr_t)rule.cfa_offset;
    if (rule.kind != UNWIND_RSP && (base - rsp >= RULE_FRAME_MOST || base % 8))
        return STEP_LOST;
    if (rule.kind == UNWIND_DRAP)
        cfa = step_word_at(cfa);
    if (cfa - rsp - 1 >= RULE_FRAME_MOST || cfa % 8)
        return STEP_LOST;
    if (rule.rbp_saved)
        place->rbp = step_word_at((rule.kind == UNWIND_DRAP ? base : cfa) + (uintptr_t)rule.rbp_offset);
    place->slot = (cfa - 8) | SLOT_REREAD;
    place->pc = step_word_at(cfa - 8);
    return STEP_ON;
}

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
    uintptr_t rsp = step_rsp_of(place->slot);
    uintptr_t slot = place->rbp + (uintptr_t)rule_cfa_offset(rule) - 8;
    if (place->rbp - rsp >= RULE_FRAME_MOST || place->rbp % 8 || slot - rsp >= RULE_FRAME_MOST)
        return STEP_LOST;
    *by_rbp = (struct by_rbp){place->rbp, place->rbp_loaded_from};
    place->pc = step_word_at(slot);
    place->slot = slot | SLOT_BY_RBP;
    return STEP_ON;
}

uint64_t step_recall_rule(const struct rule_cache *in, struct step_recent *recent, uintptr_t pc)
{
    uint64_t packed = rule_cache_peek(in, pc);
    if (state_likely(packed & RULE_BY_RSP))
        recent->rules[rule_cache_hash(pc) & (STEP_RECENT - 1)] = (struct rule){pc, packed};
    return packed;
}

__attribute__((noinline)) enum step step_by_any_rule(struct frame *frame, struct place *place)
{
    uint64_t key = place->slot & SLOT_EXACT ? place->pc | RULE_EXACT : place->pc;
    uint64_t rule = rule_cache_find(key);
    frame->rule = rule;
    if (rule & RULE_BY_RSP) {
        place->slot = (place->slot & ~(uintptr_t)SLOT_MARKS) + (uintptr_t)rule_cfa_offset(rule);
        place->pc = step_word_at(place->slot);
        return STEP_ON;
    }
    step_follow_rbp(frame, place);
    if ((rule & RULE_KIND) == UNWIND_RBP)
        return leave_by_rbp(rule, place, &frame[1].left_by);
    enum step step = leave_otherwise(key, rule, place);
    /* Where rbp came from matters no more: a reused walk ends before the frame. */
    place->rbp_loaded_from = 0;
    place->rbp_at = frame + 1;
    return step;
}
