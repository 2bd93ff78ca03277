/* capture_frames.c: a stack walk along frame pointers, for a runtime that a test builds for another machine.

   Programs are compiled with frame pointers and stop the walk in libc, which has none. */

#define _GNU_SOURCE
#include "arena.h"
#include "capture.h"

extern void *__libc_stack_end;

struct walk {
    uint32_t room;
    void *frames[];
};

bool capture_init(void)
{
    return true;
}

static void **caller_of(void **frame)
{
    void **caller = *frame;
    return caller > frame && (void *)caller < __libc_stack_end && (uintptr_t)caller % sizeof(void *) == 0 ? caller
                                                                                                          : NULL;
}

/* Where the function of this frame goes on in its caller; NULL if that is not known. */
static void *return_address_in(void **frame)
{
#ifdef __powerpc__
    frame = caller_of(frame); /* it is kept in the caller's frame */
#endif
    return frame ? frame[1] : NULL;
}

bool capture_walk(struct tm_lane *lane, struct call_point caller, uint32_t limit, struct traceback *traceback)
{
    if (!lane->walk)
        lane->walk = arena_take(TM_SLAB_OTHER, sizeof(struct walk) + limit * sizeof(void *));
    if (!lane->walk)
        return false;
    void **frame = caller.frame;
    void *return_address = caller.return_address;
    uint32_t nframe = 0;
    while (return_address && nframe < limit) {
        lane->walk->frames[nframe++] = return_address;
        frame = caller_of(frame);
        return_address = frame ? return_address_in(frame) : NULL;
    }
    *traceback = (struct traceback){.nframe = nframe,
                                    .frames = lane->walk->frames,
                                    .hash = site_hash_frames(lane->walk->frames, nframe),
                                    .cut = return_address != NULL};
    return true;
}

void capture_forget_range(uintptr_t start, uintptr_t end)
{
    (void)start;
    (void)end;
}

void capture_forget_gone(void)
{
}

void capture_quiesce(void)
{
}

void capture_reset_lock(void)
{
}
