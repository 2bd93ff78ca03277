/* capture.h: the stack walk. One implementation is built: configure picks it. */

#ifndef TM_CAPTURE_H
#define TM_CAPTURE_H

#include "site.h"

/* The place in the program that called into the library: filled by CAPTURE_CALLER() in the function that the
   program called, which the compiler keeps a frame pointer for. */
struct call_point {
    void *return_address;
    void *frame;
};
#define CAPTURE_CALLER() ((struct call_point){__builtin_return_address(0), __builtin_frame_address(0)})

/* Makes the walk ready; may call malloc and the dynamic loader, so it is called while the thread is marked
   busy and before tracing starts. False when there can be no walk. */
bool capture_init(void);

/* Fills TRACEBACK with up to LIMIT callers of the library, most recent first. The frames lie in LANE's walk,
   which the caller has claimed, and stay until the lane's next walk. False for want of memory.
   Takes no lock of the library that it keeps, calls no malloc, keeps errno. */
bool capture_walk(struct tm_lane *lane, struct call_point caller, uint32_t limit, struct traceback *traceback);

/* The site that the walk from CALLER with LIMIT leads to, where LANE kept one that shows it; else 0: it takes a walk.
   The same holds as for capture_walk.
   `_keep` keeps LANE's last walk, made with LIMIT after `_recall` said 0, which led to SITE in domain 0. */
uint32_t capture_recall(struct tm_lane *lane, struct call_point caller, uint32_t limit);
void capture_keep(struct tm_lane *lane, uint32_t limit, uint32_t site);

/* Forgets what was learned of code in [START, END), which was unloaded. */
void capture_forget_range(uintptr_t start, uintptr_t end);

/* The same for code that is loaded no more, whoever unloaded it. */
void capture_forget_gone(void);

/* Whether the module that was mapped from START to END still is, as far as that is known without the loader's lock: a
   libunwind that has to ask for it says yes. */
bool capture_is_loaded(uintptr_t start, uintptr_t end);

/* Whether the thread is in an unwinder that may itself allocate: it is then no signal handler that does. */
bool capture_may_allocate(void);

/* Around fork, as in arena.h. */
void capture_quiesce(void);
void capture_reset_lock(void);

#endif
