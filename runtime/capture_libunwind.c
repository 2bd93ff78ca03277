/* capture_libunwind.c: walks the stack by libunwind, where no walker of our own serves the processor.

   libunwind is opened with RTLD_LOCAL: linked, its `backtrace` and `_Unwind_*` would take the place of libc's
   and libgcc's in the whole program. It is asked through its cached fast walk until a module was unloaded;
   that cache cannot be told what went, so from then on by its step function, which can. */

#define _GNU_SOURCE
#include "capture.h"

#include "arena.h"
#include "lock.h"
#include "state.h"

#define UNW_LOCAL_ONLY
#include <dlfcn.h>
#include <libunwind.h>
#include <sys/auxv.h>
#include <ucontext.h>

#define TEXT(name) TEXT_OF(name)
#define TEXT_OF(name) #name

static struct {
    int (*backtrace)(void **frames, int room);
    int (*init_local)(unw_cursor_t *cursor, unw_context_t *context);
    int (*step)(unw_cursor_t *cursor);
    int (*get_reg)(unw_cursor_t *cursor, unw_regnum_t reg, unw_word_t *value);
    void (*flush_cache)(unw_addr_space_t space, unw_word_t low, unw_word_t high);
    unw_addr_space_t *space;
} lib;

/* Frames of ours and of libunwind between the program's and the walk. */
#define SPARE 9

struct walk {
    uint32_t room;
    void *frames[];
};

static bool anything_unloaded;  /* atomic; rises once */
static uint32_t threads_inside; /* atomic: in libunwind, whose locks a forked child would inherit */

static bool find(void *handle, const char *name, void **function)
{
    *function = dlsym(handle, name);
    return *function != NULL;
}

/* Without a loader: what a program that was linked with -static loads brings a second libc along. */
static bool is_static(void)
{
    return getauxval(AT_BASE) == 0;
}

bool capture_init(void)
{
    if (lib.backtrace)
        return true;
    if (is_static())
        return false;
    void *handle = dlopen(LIBUNWIND_SONAME, RTLD_NOW | RTLD_LOCAL);
    int (*set_policy)(unw_addr_space_t, unw_caching_policy_t);
    if (!handle)
        return false;
    if (!find(handle, TEXT(UNW_OBJ(init_local)), (void **)&lib.init_local) ||
        !find(handle, TEXT(UNW_OBJ(step)), (void **)&lib.step) ||
        !find(handle, TEXT(UNW_OBJ(get_reg)), (void **)&lib.get_reg) ||
        !find(handle, TEXT(UNW_ARCH_OBJ(flush_cache)), (void **)&lib.flush_cache) ||
        !find(handle, TEXT(UNW_OBJ(set_caching_policy)), (void **)&set_policy) ||
        !find(handle, TEXT(UNW_OBJ(local_addr_space)), (void **)&lib.space) ||
        !find(handle, "unw_backtrace", (void **)&lib.backtrace)) {
        lib.backtrace = NULL;
        return false;
    }
    set_policy(*lib.space, UNW_CACHE_PER_THREAD);
    void *warm[4];
    lib.backtrace(warm, 4);
    return true;
}

/* Where libunwind has it in its library only, libc's fills the same struct. */
static void get_context(unw_context_t *context)
{
#if defined(__x86_64__) || defined(__i386__)
    getcontext(context);
#else
    unw_getcontext(*context);
#endif
}

static int walk_by_steps(void **frames, int room)
{
    unw_context_t context;
    unw_cursor_t cursor;
    unw_word_t pc;
    int n = 0;
    get_context(&context);
    if (lib.init_local(&cursor, &context) < 0)
        return 0;
    do {
        if (lib.get_reg(&cursor, UNW_REG_IP, &pc) < 0 || pc == 0)
            break;
        frames[n++] = (void *)pc;
    } while (n < room && lib.step(&cursor) > 0);
    return n;
}

static _Thread_local bool is_walking __attribute__((tls_model("initial-exec")));

static int walk(void **frames, int room)
{
    __atomic_fetch_add(&threads_inside, 1, __ATOMIC_SEQ_CST);
    while (!state_may_change()) {
        __atomic_fetch_sub(&threads_inside, 1, __ATOMIC_SEQ_CST);
        state_wait_for_fork();
        __atomic_fetch_add(&threads_inside, 1, __ATOMIC_SEQ_CST);
    }
    is_walking = true;
    int n = state_load(anything_unloaded) ? walk_by_steps(frames, room) : lib.backtrace(frames, room);
    is_walking = false;
    __atomic_fetch_sub(&threads_inside, 1, __ATOMIC_SEQ_CST);
    return n;
}

/* The lane's walk with room for LIMIT; a smaller one, from before a restart with a higher limit, is left behind. */
static struct walk *walk_of(struct tm_lane *lane, uint32_t limit)
{
    uint32_t room = limit + SPARE;
    if (lane->walk && lane->walk->room >= room)
        return lane->walk;
    lane->walk = arena_take(TM_SLAB_OTHER, (sizeof(struct walk) + 8 + room * sizeof(void *) + 7) & ~(size_t)7);
    if (lane->walk)
        lane->walk->room = room;
    return lane->walk;
}

/* Where the program's frames begin among the N walked. */
static int skip_own(void *const *frames, int n, const void *return_address)
{
    int first = 0;
    while (first < n && frames[first] != return_address)
        first++;
    return first;
}

uint32_t capture_recall(struct tm_lane *lane, struct call_point caller, uint32_t limit)
{
    (void)lane, (void)caller, (void)limit;
    return 0;
}

void capture_keep(struct tm_lane *lane, uint32_t limit, uint32_t site)
{
    (void)lane, (void)limit, (void)site;
}

bool capture_walk(struct tm_lane *lane, struct call_point caller, uint32_t limit, struct traceback *traceback)
{
    struct walk *buffer = walk_of(lane, limit);
    if (!buffer)
        return false;
    int n = walk(buffer->frames, (int)buffer->room);
    int first = skip_own(buffer->frames, n, caller.return_address);
    if (first == n) {
        buffer->frames[0] = caller.return_address;
        first = 0;
        n = 1;
        traceback->cut = true;
    } else {
        traceback->cut = n - first > (int)limit || n == (int)buffer->room;
    }
    traceback->frames = buffer->frames + first;
    traceback->packed = NULL;
    traceback->nframe = n - first < (int)limit ? (uint32_t)(n - first) : limit;
    traceback->recent = NULL;
    traceback->hash = site_hash_frames(traceback->frames, traceback->nframe);
    return true;
}

void capture_forget_range(uintptr_t start, uintptr_t end)
{
    state_publish(anything_unloaded, true);
    lib.flush_cache(*lib.space, start, end);
}

/* libunwind asks the loader anew for what it does not have; what it has it keeps. */
void capture_forget_gone(void)
{
}

bool capture_may_allocate(void)
{
    return is_walking;
}

bool capture_is_loaded(uintptr_t start, uintptr_t end)
{
    (void)start, (void)end;
    return true;
}

/* A thread that waits for the loader inside libunwind may wait for the forking thread: do not wait for ever. */
void capture_quiesce(void)
{
    for (unsigned turn = 0; turn < 2000 && __atomic_load_n(&threads_inside, __ATOMIC_SEQ_CST); turn++)
        lock_pause(turn);
}

void capture_reset_lock(void)
{
    threads_inside = 0;
}
