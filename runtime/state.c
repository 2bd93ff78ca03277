/* state.c: the state, and the exported read-only symbol through which a debugger finds it. */

#include "state.h"

#include <stddef.h>

_Alignas(128) struct tm_state tm_state = {.frame_limit = 1};

_Thread_local struct state_thread state_thread;

struct lock state_control_lock;

/* Steps of lock_pause, a second or more: on a busy machine a fork may well take tenths of one. */
#define FORK_PATIENCE 10000

void state_wait_for_fork(void)
{
    if (state_thread.claim)
        state_publish(*state_thread.claim, TM_CLAIM_PAUSED);
    for (unsigned turn = 0; !state_may_change(); turn++) {
        lock_pause(turn);
        if (turn == FORK_PATIENCE)
            __atomic_fetch_or(&tm_state.mode, TM_MODE_OVERTAKEN, __ATOMIC_SEQ_CST);
    }
    if (state_thread.claim)
        __atomic_store_n(state_thread.claim, TM_CLAIM_TAKEN, __ATOMIC_SEQ_CST);
}

void state_acquire(struct lock *lock)
{
    lock_acquire(lock);
    while (!state_may_change()) {
        lock_release(lock);
        state_wait_for_fork();
        lock_acquire(lock);
    }
}

__attribute__((visibility("default"), used)) const struct tm_layout tm_layout = {
    .magic = TM_LAYOUT_MAGIC,
    .byte_order = TM_BYTE_ORDER,
    .abi_major = TM_ABI_MAJOR,
    .abi_minor = TM_ABI_MINOR,
    .pointer_size = sizeof(void *),
    .layout_size = sizeof(struct tm_layout),
    .state_size = sizeof(struct tm_state),
    .self = &tm_layout,
    .state = &tm_state,
};

_Static_assert(sizeof(TM_LAYOUT_MAGIC) == 17, "the magic is 16 bytes and a terminator");
_Static_assert(sizeof(struct tm_slab) == TM_SLAB_HEADER, "a slab's header has its fixed size");
_Static_assert(sizeof(struct tm_line) == TM_LINES_MASK + 1, "a line's address has room for their number");
_Static_assert(sizeof(struct tm_wide_line) == sizeof(struct tm_line), "lines of both widths are found alike");
_Static_assert(sizeof(struct tm_lane) == 128, "a lane has cache lines of its own");
_Static_assert(offsetof(struct tm_state, lanes) % 128 == 0, "lanes share no cache line with anything");
_Static_assert(sizeof(struct tm_site) % 8 == 0, "frames follow a site without a gap");
