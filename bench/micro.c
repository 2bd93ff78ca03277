/* micro.c: what the stack walk, the sites and the skiplist cost alone, without malloc's hooks.

   usage: micro capture | site | skiplist LIVE
   Prints a line for each figure: its name, the figure and its unit, between tabs. Where a measured loop does other work
   too, as calling down to a depth, the same loop without the piece is timed and taken off. */

#include "capture.h"
#include "lane.h"
#include "skiplist.h"
#include "tracemalloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static inline uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* Capture. A descent goes DEPTH calls down through functions that `path` picks, two bits a call. */

enum { LIMIT = 64, WALKS = 400000 };

static struct tm_lane *lane;
static enum { NOTHING, WALK, RECALL } probing;
static volatile uint64_t sink;

static __attribute__((noinline)) void probe(void)
{
    struct traceback traceback = {.nframe = 0};
    if (probing == RECALL && capture_recall(lane, CAPTURE_CALLER(), LIMIT) != 0)
        return;
    if (probing != NOTHING)
        capture_walk(lane, CAPTURE_CALLER(), LIMIT, &traceback);
    if (probing == RECALL)
        capture_keep(lane, LIMIT, 1); /* any site: it is only told again */
    sink = traceback.nframe;
}

typedef void step(uint64_t path, int left, long repeats);

static step step0, step1, step2, step3;
static step *const steps[4] = {step0, step1, step2, step3};

static inline void go(uint64_t path, int left, long repeats)
{
    if (left > 0)
        steps[path & 3](path >> 2 | path << 62, left - 1, repeats);
    else
        for (long i = 0; i < repeats; i++)
            probe();
}

/* What follows the call keeps it from becoming a jump. */
#define STEP(name)                                                                                                     \
    static __attribute__((noinline, noclone)) void name(uint64_t path, int left, long repeats)                         \
    {                                                                                                                  \
        go(path, left, repeats);                                                                                       \
        __asm__ volatile("" ::: "memory");                                                                             \
    }                                                                                                                  \
    static step name

STEP(step0);
STEP(step1);
STEP(step2);
STEP(step3);

static __attribute__((noinline)) void same_stack(int depth)
{
    go(0, depth, WALKS);
    __asm__ volatile("" ::: "memory");
}

static void descend_often(int depth)
{
    for (long i = 0; i < WALKS; i++)
        go(next_random(), depth, 1);
}

static __attribute__((noinline)) void change_innermost(int left)
{
    if (left > 0)
        change_innermost(left - 1);
    else
        descend_often(3);
    __asm__ volatile("" ::: "memory");
}

static __attribute__((noinline)) void innermost_change(int depth)
{
    change_innermost(depth - 4);
}

static __attribute__((noinline)) void all_change(int depth)
{
    descend_often(depth);
}

static double time_of(void (*work)(int), int calls, int what)
{
    probing = what;
    double start = now();
    work(calls);
    return (now() - start) / WALKS;
}

/* How many calls make a stack of DEPTH: main and what calls it are on the stack too. */
static int calls_for(void (*work)(int), int depth)
{
    const int some = 10;
    time_of(work, some, WALK);
    return depth - ((int)sink - some);
}

static void capture(void)
{
    static const struct {
        const char *name;
        void (*work)(int);
    } cases[] = {
        {"same stack", same_stack}, {"3 innermost frames change", innermost_change}, {"all frames change", all_change}};
    static const int depths[] = {15, 25, 40};
    lane = lane_claim();
    for (int c = 0; c < 3; c++)
        for (int d = 0; d < 3; d++) {
            int calls = calls_for(cases[c].work, depths[d]);
            double walking = time_of(cases[c].work, calls, WALK);
            if ((int)sink != depths[d])
                abort();
            printf("capture, depth %d, %s\t%.1f\tns\n", depths[d], cases[c].name,
                   walking - time_of(cases[c].work, calls, NOTHING));
        }
    for (int d = 0; d < 3; d++) {
        int calls = calls_for(same_stack, depths[d]);
        printf("capture, depth %d, recalled\t%.1f\tns\n", depths[d],
               time_of(same_stack, calls, RECALL) - time_of(same_stack, calls, NOTHING));
    }
    lane_release(lane);
}

/* Sites. Those of one number always have the same frames and hash, made anew for each look-up: as after a walk, what
   is looked up is in the cache and what is found may not be. */

enum { FRAMES = 17, LOOKUPS = 4000000 };

static uint64_t mix(uint64_t number)
{
    number = (number + 1) * UINT64_C(0x9e3779b97f4a7c15);
    return (number ^ number >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
}

static void *frames[FRAMES];
static uint32_t packed[FRAMES];
static struct site_recent recent;

static __attribute__((noinline)) void make_traceback(uint64_t number, struct traceback *traceback)
{
    uint64_t base = mix(number);
    for (unsigned i = 0; i < FRAMES; i++)
        frames[i] = (void *)(uintptr_t)(packed[i] = (uint32_t)((base >> (i & 15)) + i * 4096) & PACKING_PLACE);
    traceback->hash = base ^ base >> 32;
}

static double look_up(uint64_t sites, bool interning)
{
    struct traceback traceback = {.nframe = FRAMES, .frames = frames, .packed = packed, .recent = &recent};
    double start = now();
    for (long i = 0; i < LOOKUPS; i++) {
        make_traceback(next_random() % sites, &traceback);
        sink = interning ? site_intern(0, 0, &traceback) : traceback.hash;
    }
    return (now() - start) / LOOKUPS;
}

static void site(void)
{
    static const uint64_t counts[] = {1000, 100000};
    struct traceback traceback = {.nframe = FRAMES, .frames = frames, .packed = packed, .recent = &recent};
    for (int c = 0; c < 2; c++) {
        for (uint64_t i = 0; i < counts[c]; i++) {
            make_traceback(i, &traceback);
            site_intern(0, 0, &traceback);
        }
        look_up(counts[c], true);
        double interning = look_up(counts[c], true);
        printf("site, %lu known\t%.1f\tns\n", (unsigned long)counts[c], interning - look_up(counts[c], false));
    }
}

/* Skiplist. The addresses are those of a real malloc's churn, recorded beforehand; the blocks themselves stay unused.
   Four of five new blocks are short-lived: they go again within SHORT others. */

enum { PAIRS = 2000000, SHORT = 64 };

struct pair {
    uintptr_t gone, come;
};

static size_t mixed_size(uint64_t random)
{
    return random % 16 == 0 ? 16 + random / 16 % 1000 : 16 + random / 16 % 113;
}

static void record_churn(void **blocks, size_t live, struct pair *pairs)
{
    void *brief[SHORT];
    memcpy(brief, blocks, sizeof brief);
    for (long i = 0; i < PAIRS; i++) {
        uint64_t random = next_random();
        void **at = random % 5 ? &brief[(random >> 8) % SHORT] : &blocks[SHORT + (random >> 8) % (live - SHORT)];
        pairs[i].gone = (uintptr_t)*at;
        free(*at);
        *at = malloc(mixed_size(random >> 40));
        pairs[i].come = (uintptr_t)*at;
    }
}

static void put(uintptr_t address)
{
    uint64_t old;
    if (skiplist_put(0, address, skiplist_expect(0, address), UINT64_C(1) << TM_SIZE_BITS | 100, &old) != SKIPLIST_DONE)
        abort();
}

static void skiplist(size_t live)
{
    void **blocks = malloc(live * sizeof *blocks);
    uintptr_t *first = malloc(live * sizeof *first);
    struct pair *pairs = calloc(PAIRS, sizeof *pairs);
    for (size_t i = 0; i < live; i++)
        first[i] = (uintptr_t)(blocks[i] = malloc(mixed_size(next_random() >> 20)));
    record_churn(blocks, live, pairs);
    size_t before = tm_get_tracemalloc_memory();
    for (size_t i = 0; i < live; i++)
        put(first[i]);
    printf("skiplist, %zu live, memory\t%.1f\tB/block\n", live,
           (double)(tm_get_tracemalloc_memory() - before) / (double)live);
    double start = now();
    for (long i = 0; i < PAIRS; i++) {
        skiplist_take(0, pairs[i].gone);
        put(pairs[i].come);
    }
    printf("skiplist, %zu live, take and put\t%.1f\tns\n", live, (now() - start) / PAIRS);
}

int main(int argc, char **argv)
{
    if (argc < 2 || tm_start(LIMIT) != 0)
        return 2;
    if (strcmp(argv[1], "capture") == 0)
        capture();
    else if (strcmp(argv[1], "site") == 0)
        site();
    else if (strcmp(argv[1], "skiplist") == 0 && argc == 3 && strtoul(argv[2], NULL, 10) > SHORT)
        skiplist(strtoul(argv[2], NULL, 10));
    else
        return 2;
    return 0;
}
