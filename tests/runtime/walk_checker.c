/* walk_checker.c: a library to preload: each malloc of the program recalls a walk of the stack or makes one, as in
   earnest; in every other stretch of calls it makes one in any case. One in TM_WALKS_EVERY, 7 if it is not set, is made
   by libunwind too, and the two are compared frame by frame. At exit it writes "walks differences shorter recalled" to
   the file TM_WALKS. */

#define _GNU_SOURCE
#include "capture.h"
#include "lane.h"

#define UNW_LOCAL_ONLY
#include <fcntl.h>
#include <libunwind.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIMIT 25
#define STRETCH 5000
extern void *__libc_malloc(size_t size);

static _Thread_local int inside;
static unsigned long calls, walks, differences, shorter, recalled;
static unsigned long every = 7;
static char *results;

static uint32_t walk_by_libunwind(void **frames, const void *first, bool *ended)
{
    unw_context_t context;
    unw_cursor_t cursor;
    unw_word_t pc;
    uint32_t n = 0;
    bool found = false;
    int status = 1;
    unw_getcontext(&context);
    unw_init_local(&cursor, &context);
    while (n <= LIMIT && (status = unw_step(&cursor)) > 0) {
        unw_get_reg(&cursor, UNW_REG_IP, &pc);
        found = found || pc == (unw_word_t)first;
        if (pc == 0)
            break;
        if (found)
            frames[n++] = (void *)pc;
    }
    *ended = n <= LIMIT && status >= 0;
    return n;
}

static bool has_frames(const struct traceback *traceback, void *const *frames)
{
    for (uint32_t i = 0; i < traceback->nframe; i++)
        if (traceback->frames[i] != frames[i] ||
            (traceback->packed && packing_unpack(traceback->packed[i]) != (uintptr_t)frames[i]))
            return false;
    return true;
}

static void show(const struct traceback *ours, void **theirs, uint32_t n)
{
    char line[100];
    for (uint32_t i = 0; i < ours->nframe || i < n; i++) {
        int length =
            snprintf(line, sizeof line, "%p %p\n", i < ours->nframe ? ours->frames[i] : NULL, i < n ? theirs[i] : NULL);
        if (write(STDERR_FILENO, line, (size_t)length) < 0)
            return;
    }
}

/* libunwind guesses on where there is no unwind data; our walk ends there, marked as cut: not a difference as long
   as the frames that both have agree; counted as shorter. */
static void compare(const struct traceback *ours, const void *first)
{
    void *theirs[LIMIT + 1];
    bool ended;
    uint32_t n = walk_by_libunwind(theirs, first, &ended);
    uint32_t most = n < LIMIT ? n : LIMIT;
    bool is_shorter = ours->cut && ours->nframe < LIMIT;
    bool same = is_shorter ? ours->nframe <= most : ours->nframe == most && ours->cut == (n > LIMIT);
    __atomic_add_fetch(&walks, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&shorter, is_shorter && ours->nframe < most, __ATOMIC_RELAXED);
    if (same && has_frames(ours, theirs))
        return;
    if (__atomic_add_fetch(&differences, 1, __ATOMIC_RELAXED) == 1)
        show(ours, theirs, n);
}

/* The traceback of a site that was recalled; its frames go to FRAMES. */
static struct traceback traceback_of(const struct tm_site *site, void **frames)
{
    for (uint32_t i = 0; i < site->nframe; i++)
        frames[i] = (void *)site_frame(site, i);
    return (struct traceback){.nframe = site->nframe, .cut = site->flags & TM_SITE_CUT, .frames = frames};
}

static bool walk(struct tm_lane *lane, struct call_point caller, bool may_recall, void **frames,
                 struct traceback *traceback)
{
    uint32_t site = may_recall ? capture_recall(lane, caller, LIMIT) : 0;
    bool done = site != 0 || capture_walk(lane, caller, LIMIT, traceback);
    if (site != 0)
        *traceback = traceback_of(site_get(site), frames);
    else if (done && may_recall)
        capture_keep(lane, LIMIT, site_intern(0, 0, traceback));
    __atomic_add_fetch(&recalled, site != 0, __ATOMIC_RELAXED);
    return done;
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
    void *block = __libc_malloc(size);
    if (inside || !results)
        return block;
    inside = 1;
    struct call_point caller = CAPTURE_CALLER();
    struct traceback traceback;
    void *frames[LIMIT];
    unsigned long call = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    struct tm_lane *lane = lane_claim();
    if (walk(lane, caller, call / STRETCH % 2 == 0, frames, &traceback) && call % every == 0)
        compare(&traceback, caller.return_address);
    lane_release(lane);
    inside = 0;
    return block;
}

__attribute__((constructor)) static void start(void)
{
    unw_set_caching_policy(unw_local_addr_space, UNW_CACHE_PER_THREAD);
    results = getenv("TM_WALKS");
    const char *given = getenv("TM_WALKS_EVERY");
    if (given)
        every = strtoul(given, NULL, 10);
}

__attribute__((destructor)) static void finish(void)
{
    if (!results)
        return;
    inside = 1;
    char line[100];
    int fd = open(results, O_WRONLY | O_CREAT | O_APPEND, 0666);
    int length = snprintf(line, sizeof line, "%lu %lu %lu %lu\n", walks, differences, shorter, recalled);
    if (fd >= 0 && write(fd, line, (size_t)length) != length)
        abort();
    close(fd);
}
