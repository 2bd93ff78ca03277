/* unwind_rule.h: how to go from one x86_64 frame to its caller's, as the module's .eh_frame tells it.

   Lock-free, calls no malloc, reads only mapped parts of loaded modules: safe at any moment. */

#ifndef TM_UNWIND_RULE_H
#define TM_UNWIND_RULE_H

#include <stdbool.h>
#include <stdint.h>

enum unwind_kind {
    UNWIND_NONE = 0, /* nothing known yet */
    UNWIND_RSP,      /* CFA = rsp + cfa_offset */
    UNWIND_RBP,      /* CFA = rbp + cfa_offset */
    UNWIND_DRAP,     /* CFA = *(rbp + cfa_offset); rbp was saved at rbp + rbp_offset (a realigned frame) */
    UNWIND_SIGNAL,   /* a signal trampoline: the caller's registers lie in the ucontext at rsp */
    UNWIND_END,      /* the outermost frame */
    UNWIND_CUT,      /* no unwind data, or more than these rules can say */
};

struct unwind_rule {
    enum unwind_kind kind;
    bool rbp_saved;
    int64_t cfa_offset;
    int64_t rbp_offset; /* from the CFA (from rbp with UNWIND_DRAP) to where rbp was saved, if it was */
};

/* The rule at PC. EXACT: the frame stopped there (a signal interrupted it); else PC is a return address and
   the rule of the call before it counts. */
struct unwind_rule unwind_rule_find(uintptr_t pc, bool exact);

#endif
