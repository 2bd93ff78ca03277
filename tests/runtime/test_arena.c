/* test_arena.c: what arena.h promises, also when the kernel gives no memory. */

#include "arena.h"
#include "kernel_limits.h"
#include "lane.h"
#include "state.h"
#include "tap_cunit.h"

#include <pthread.h>
#include <string.h>

static int is_zero(const char *memory, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (memory[i] != 0)
            return 0;
    return 1;
}

static void gives_zeroed_memory(void)
{
    for (size_t size = 8; size <= 4096; size *= 2) {
        char *memory = arena_take(TM_SLAB_OTHER, size);
        CU_ASSERT_PTR_NOT_NULL_FATAL(memory);
        CU_ASSERT_EQUAL((uintptr_t)memory % 8, 0);
        CU_ASSERT(is_zero(memory, size));
        memset(memory, 0xff, size);
    }
}

static void reuses_what_it_got_back(void)
{
    char *first = arena_take(TM_SLAB_OTHER, 48);
    memset(first, 0xff, 48);
    arena_give(TM_SLAB_OTHER, first, 48);
    char *second = arena_take(TM_SLAB_OTHER, 48);
    CU_ASSERT_PTR_EQUAL(first, second);
    CU_ASSERT(is_zero(second, 48));
    CU_ASSERT_PTR_NOT_EQUAL(arena_take(TM_SLAB_OTHER, 48), second);
}

static void keeps_kinds_apart(void)
{
    char *entry = arena_take(TM_SLAB_ENTRY, 64);
    arena_give(TM_SLAB_ENTRY, entry, 64);
    CU_ASSERT_PTR_NOT_EQUAL(arena_take(TM_SLAB_NODE, 64), entry);
    CU_ASSERT_PTR_EQUAL(arena_take(TM_SLAB_ENTRY, 64), entry);
}

/* A reader takes the words of a free piece for entries: their site must be 0. */
static void free_pieces_look_dead(void)
{
    struct tm_line *lines[3];
    struct tm_wide_line *wide_lines[3];
    for (int i = 0; i < 3; i++) {
        lines[i] = arena_take(TM_SLAB_ENTRY, sizeof **lines);
        wide_lines[i] = arena_take(TM_SLAB_WIDE, sizeof **wide_lines);
    }
    for (int i = 0; i < 3; i++) {
        arena_give(TM_SLAB_ENTRY, lines[i], sizeof **lines);
        arena_give(TM_SLAB_WIDE, wide_lines[i], sizeof **wide_lines);
    }
    for (int i = 0; i < 3; i++) {
        for (int slot = 0; slot < TM_LINE_ENTRIES; slot++)
            CU_ASSERT_EQUAL(lines[i]->entries[slot] >> TM_NARROW_SIZE_BITS, 0);
        for (int slot = 0; slot < TM_WIDE_ENTRIES; slot++)
            CU_ASSERT_EQUAL(wide_lines[i]->entries[slot] >> TM_SIZE_BITS, 0);
    }
}

static void links_every_slab(void)
{
    uint64_t sum = 0;
    int kinds[6] = {0};
    arena_take(TM_SLAB_NODE, 128);
    CU_ASSERT_PTR_NOT_NULL(arena_take_segment(3));
    for (struct tm_slab *slab = tm_state.slabs; slab; slab = slab->next) {
        CU_ASSERT_EQUAL(slab->magic, TM_SLAB_MAGIC);
        CU_ASSERT_FATAL(slab->kind < 6);
        CU_ASSERT(slab->used <= slab->size - TM_SLAB_HEADER);
        kinds[slab->kind]++;
        sum += slab->size;
    }
    CU_ASSERT_EQUAL(sum, tm_state.arena_bytes);
    for (int kind = 0; kind < 4; kind++)
        CU_ASSERT(kinds[kind] > 0);
}

static void large_pieces_do_not_end_a_slab(void)
{
    char *before = arena_take(TM_SLAB_OTHER, 16);
    CU_ASSERT_PTR_NOT_NULL(arena_take(TM_SLAB_OTHER, 16 << 20));
    char *after = arena_take(TM_SLAB_OTHER, 16);
    CU_ASSERT_PTR_EQUAL(after, before + 16);
}

static void says_no_when_the_kernel_does(void)
{
    for (int n = 0; n < 3; n++) {
        maps_left = n;
        int taken = 0;
        while (taken < 100 && arena_take(TM_SLAB_OTHER, 1 << 20))
            taken++;
        CU_ASSERT_FATAL(taken < 100);
        CU_ASSERT_EQUAL(maps_left, 0);
        CU_ASSERT_PTR_NULL(arena_take_segment(3));
        maps_left = -1;
        CU_ASSERT_PTR_NOT_NULL(arena_take(TM_SLAB_OTHER, 1 << 20));
    }
}

enum { TURNS = 400, LINE = 64 };

static pthread_barrier_t turn;

struct taker {
    pthread_t thread;
    char *pieces[TURNS];
    int missing;
};

static size_t size_at(int turn_number)
{
    return 16 + (size_t)turn_number * 40 % 248;
}

/* Takes turns with the other taker; every third piece goes back and is taken again later. */
static void *take_in_turns(void *argument)
{
    struct taker *taker = argument;
    for (int i = 0; i < TURNS; i++) {
        pthread_barrier_wait(&turn);
        struct tm_lane *lane = lane_claim();
        taker->pieces[i] = arena_take(TM_SLAB_OTHER, size_at(i));
        taker->missing += !taker->pieces[i];
        if (i % 3 == 2) {
            arena_give(TM_SLAB_OTHER, taker->pieces[i], size_at(i));
            taker->pieces[i] = NULL;
        }
        lane_release(lane);
    }
    return NULL;
}

static uintptr_t last_line(const char *piece, int turn_number)
{
    return ((uintptr_t)piece + size_at(turn_number) - 1) / LINE;
}

static int shared_lines(const struct taker *one, const struct taker *other)
{
    int shared = 0;
    for (int i = 0; i < TURNS; i++)
        for (int j = 0; j < TURNS; j++)
            shared += one->pieces[i] && other->pieces[j] &&
                      (uintptr_t)one->pieces[i] / LINE <= last_line(other->pieces[j], j) &&
                      (uintptr_t)other->pieces[j] / LINE <= last_line(one->pieces[i], i);
    return shared;
}

static void gives_two_threads_different_lines(void)
{
    static struct taker takers[2];
    pthread_barrier_init(&turn, NULL, 2);
    for (int i = 0; i < 2; i++)
        pthread_create(&takers[i].thread, NULL, take_in_turns, &takers[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(takers[i].thread, NULL);
    CU_ASSERT_EQUAL(takers[0].missing + takers[1].missing, 0);
    CU_ASSERT_EQUAL(shared_lines(&takers[0], &takers[1]), 0);
}

static uint64_t used_of(enum tm_slab_kind kind)
{
    uint64_t used = 0;
    for (struct tm_slab *slab = tm_state.slabs; slab; slab = slab->next)
        used += slab->kind == kind ? slab->used : 0;
    return used;
}

/* What is left of many runs does not count for what the thread may keep. */
static void keeps_what_it_gives_back(void)
{
    enum { PIECES = 60000, SIZE = 152 };
    struct tm_lane *lane = lane_claim();
    char *last = NULL;
    for (int i = 0; i < PIECES; i++) {
        last = arena_take(TM_SLAB_OTHER, SIZE);
        arena_take(TM_SLAB_OTHER, 16); /* as high towers do */
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(last);
    arena_give(TM_SLAB_OTHER, last, SIZE);
    lane_release(lane);
    CU_ASSERT_PTR_NOT_EQUAL(arena_take(TM_SLAB_OTHER, SIZE), last);
}

/* Lists of large pieces have steps: one that was given back is not handed out as a larger one. */
static void large_pieces_are_not_mixed_up(void)
{
    const size_t sizes[] = {256, 320, 1024, 2432};
    for (int i = 0; i < 4; i++) {
        char *piece = arena_take(TM_SLAB_OTHER, sizes[i]);
        arena_give(TM_SLAB_OTHER, piece, sizes[i]);
        CU_ASSERT_PTR_NOT_EQUAL(arena_take(TM_SLAB_OTHER, sizes[i] + 8), piece);
        CU_ASSERT_PTR_EQUAL(arena_take(TM_SLAB_OTHER, sizes[i]), piece);
    }
}

/* A thread that only gives back, as one that frees what others allocate, does not keep all of it. */
static void keeps_little_for_one_thread(void)
{
    enum { PIECES = 4096, SIZE = 128 };
    static char *pieces[PIECES];
    for (int i = 0; i < PIECES; i++)
        pieces[i] = arena_take(TM_SLAB_NODE, SIZE);
    struct tm_lane *lane = lane_claim();
    for (int i = 0; i < PIECES; i++)
        arena_give(TM_SLAB_NODE, pieces[i], SIZE);
    lane_release(lane);
    uint64_t before = used_of(TM_SLAB_NODE);
    for (int i = 0; i < PIECES * 3 / 4; i++)
        CU_ASSERT_PTR_NOT_NULL(arena_take(TM_SLAB_NODE, SIZE));
    CU_ASSERT_EQUAL(used_of(TM_SLAB_NODE), before);
}

/* What the kernel gives no pages for is not used, and then no more is asked for. */
static void does_not_touch_what_is_not_filled(void)
{
    enum { SIZE = 48, PIECES = 10000, TABLE = 1 << 20 };
    static char *pieces[PIECES];
    int given = 0;
    fills_left = 3;
    char *table = arena_take_table(TABLE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(table);
    CU_ASSERT_EQUAL(fills_left, 2);
    CU_ASSERT(is_zero(table, TABLE));
    for (int i = 0; i < PIECES; i++) {
        pieces[i] = arena_take(TM_SLAB_ENTRY, SIZE);
        CU_ASSERT_PTR_NOT_NULL_FATAL(pieces[i]);
    }
    for (int i = 0; i < PIECES; i++)
        given += is_zero(pieces[i], SIZE + ARENA_SLACK);
    CU_ASSERT_EQUAL(given, PIECES);
    CU_ASSERT_EQUAL(fills_left, 0);
    for (struct tm_slab *slab = tm_state.slabs; slab; slab = slab->next)
        CU_ASSERT(TM_SLAB_HEADER + slab->used <= slab->size);
    table = arena_take_table(TABLE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(table);
    CU_ASSERT(is_zero(table, TABLE));
}

int main(void)
{
    static const struct tap_test tests[] = {
        {"gives zeroed memory", gives_zeroed_memory},
        {"reuses what it got back", reuses_what_it_got_back},
        {"keeps kinds apart", keeps_kinds_apart},
        {"free pieces look dead", free_pieces_look_dead},
        {"links every slab", links_every_slab},
        {"large pieces do not end a slab", large_pieces_do_not_end_a_slab},
        {"gives two threads different lines", gives_two_threads_different_lines},
        {"keeps what it gives back", keeps_what_it_gives_back},
        {"large pieces are not mixed up", large_pieces_are_not_mixed_up},
        {"keeps little for one thread", keeps_little_for_one_thread},
        {"does not touch what is not filled", does_not_touch_what_is_not_filled},
        {"says no when the kernel does", says_no_when_the_kernel_does},
        {NULL, NULL},
    };
    return tap_run("arena", tests);
}
