/* fork.c: the forking thread lets every change under way come to its end and holds off new ones, so that the
   child finds whole tables. It holds no lock itself meanwhile: other libraries' fork handlers may allocate.

   Handlers run in the order of their registration, those before the fork the other way round. Ours are registered
   with the first allocation of the process or when the library is loaded, whichever is earlier, so that other
   libraries' are done before ours hold off anybody: a thread that waits for us may hold what such a handler waits for.
   Where one was registered earlier still, the wait is bounded; the child of a fork that was overtaken so does not
   trace.

   A signal handler may fork in a thread that is inside the library: its own claim and its own locks are no reason
   to wait, they go on with it in the child. */

#include "fork.h"

#include "arena.h"
#include "capture.h"
#include "domains.h"
#include "lane.h"
#include "modules.h"
#include "site.h"
#include "skiplist.h"
#include "snapshot.h"
#include "state.h"
#include "trace.h"

#include <pthread.h>

static struct lock fork_lock; /* held from prepare to the parent's or child's handler */

static void prepare(void)
{
    lock_acquire(&fork_lock);
    state_thread.is_forking = true;
    __atomic_fetch_or(&tm_state.mode, TM_MODE_FORKING, __ATOMIC_SEQ_CST);
    lane_quiesce();
    /* Inside the library already, in a signal handler: a lock that is held may be the thread's own, and what others
       hold they hold under a claim. */
    if (state_thread.claim)
        return;
    modules_quiesce();
    skiplist_quiesce();
    site_quiesce();
    capture_quiesce();
    arena_quiesce();
}

static void resume(void)
{
    __atomic_fetch_and(&tm_state.mode, ~(uint32_t)(TM_MODE_FORKING | TM_MODE_OVERTAKEN), __ATOMIC_SEQ_CST);
    state_thread.is_forking = false;
    lock_release(&fork_lock);
}

/* Another thread of the parent was in tm_stop. Its work is ours to finish, but not where a handler that forks has
   interrupted the same in this thread. */
static void finish_clearing(void)
{
    if (state_thread.claim)
        state_publish(tm_state.mode, TM_MODE_ABANDONED);
    else
        trace_clear();
}

static void resume_in_child(void)
{
    bool is_whole = !(state_load(tm_state.mode) & TM_MODE_OVERTAKEN) && !lane_was_moving();
    lane_reset_claims();
    skiplist_reset_locks();
    site_reset_lock();
    capture_reset_lock();
    arena_reset_lock();
    modules_reset_lock();
    domains_reset_lock();
    snapshot_reset_lock();
    lock_reset(&state_control_lock);
    resume();
    if (!is_whole)
        state_publish(tm_state.mode, TM_MODE_ABANDONED);
    else if (!state_is_tracing() && state_load(tm_state.head))
        finish_clearing();
}

bool fork_init(void)
{
    static bool done;
    if (!done)
        done = pthread_atfork(prepare, resume, resume_in_child) == 0;
    return done;
}
