/* test_past_walks.c: what past_walks_x86_64.h promises, on stacks that are arrays. */

#include "past_walks_x86_64.h"
#include "step_x86_64.h"
#include "tap_cunit.h"

#include <stdlib.h>
#include <sys/mman.h>

#define FRAMES 12
#define PAGE ((size_t)4096)

static struct past_walks *past;
static uintptr_t stack[FRAMES];
static void *pcs[FRAMES];
static uintptr_t slots[FRAMES];

static void begin_anew(void)
{
    free(past);
    past = calloc(1, sizeof *past);
}

/* The stack of walk NUMBER, whose frames lie at AT. */
static void make_stack(uintptr_t *at, uintptr_t number)
{
    for (uintptr_t i = 0; i < FRAMES; i++) {
        at[i] = 0x1000000 * (i + 1) + number;
        pcs[i] = (void *)at[i];
        slots[i] = (uintptr_t)&at[i];
    }
}

static uint32_t find(void)
{
    past_walks_begin(past);
    return past_walks_find(past, past_walks_hash(slots[0], (uintptr_t)pcs[0], (uintptr_t)pcs[1]), slots[0]);
}

static void keep(uint32_t site)
{
    past_walks_keep(past, pcs, slots, FRAMES, FRAMES, site);
}

static void finds_what_is_still_so(void)
{
    begin_anew();
    make_stack(stack, 1);
    CU_ASSERT_EQUAL(find(), 0);
    keep(7);
    CU_ASSERT_EQUAL(find(), 7);
    for (int i = 0; i < FRAMES; i++) {
        stack[i]++;
        CU_ASSERT_EQUAL(find(), 0);
        stack[i]--;
    }
    CU_ASSERT_EQUAL(find(), 7);
    past_walks_forget(past);
    CU_ASSERT_EQUAL(find(), 0);
}

/* Two walks that begin in the same way are both kept. */
static void tells_walks_apart_that_begin_alike(void)
{
    begin_anew();
    for (uint32_t turn = 1; turn <= 2; turn++) {
        make_stack(stack, 1);
        pcs[FRAMES - 1] = (void *)(stack[FRAMES - 1] = turn);
        keep(turn);
    }
    for (uint32_t turn = 1; turn <= 3; turn++) {
        stack[FRAMES - 1] = turn;
        CU_ASSERT_EQUAL(find(), turn % 3);
    }
}

/* A stack may have become shorter: what lies beyond the first difference need not be there any more. */
static void reads_nothing_beyond_the_first_difference(void)
{
    begin_anew();
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uintptr_t *at = (uintptr_t *)(void *)(pages + PAGE) - FRAMES / 2;
    make_stack(at, 1);
    keep(5);
    CU_ASSERT_EQUAL(find(), 5);
    at[FRAMES / 2 - 1]++;
    munmap(pages + PAGE, PAGE);
    CU_ASSERT_EQUAL(find(), 0);
    munmap(pages, PAGE);
}

/* Far more than there is room for, some of them again and again: each is found as what it is, or not at all. The units
   are counted on beyond what their number can hold. */
static void finds_no_other_in_its_place(void)
{
    begin_anew();
    past->next = UINT32_MAX - 5 * PAST_UNITS;
    uint32_t found = 0, often = 0;
    for (uint32_t i = 0; i < 200000; i++) {
        uint32_t number = i % 2 ? i : i % 16;
        past->calls = 0;
        make_stack(stack, number);
        uint32_t site = find();
        CU_ASSERT_FATAL(site == 0 || site == number + 1);
        found += site != 0;
        often += i % 2 == 0;
        if (site == 0)
            past_walks_keep(past, pcs, slots, 2 + number % (FRAMES - 1), FRAMES, number + 1);
    }
    CU_ASSERT(found > often * 9 / 10);
    CU_ASSERT(past->next < UINT32_MAX - 5 * PAST_UNITS);
}

/* Whether past walks are looked for in the next so many turns, where one in NEW_IN is new. */
static int turns_looked_for(int turns, int new_in)
{
    static uintptr_t number = 1000;
    int looked = 0;
    for (int i = 0; i < turns; i++) {
        bool is_new = i % new_in == 0;
        make_stack(stack, is_new ? ++number : 1);
        bool looks = past_walks_begin(past);
        uint64_t hash = past_walks_hash(slots[0], (uintptr_t)pcs[0], (uintptr_t)pcs[1]);
        if (!looks || past_walks_find(past, hash, slots[0]) == 0)
            keep((uint32_t)number);
        looked += looks;
    }
    return looked;
}

static void pauses_while_most_walks_are_new(void)
{
    begin_anew();
    CU_ASSERT_EQUAL(turns_looked_for(100000, 10), 100000);
    CU_ASSERT(turns_looked_for(200000, 1) < 20000);
    CU_ASSERT(turns_looked_for(200000, 10) > 150000);
}

static void goes_on_however_often_it_was_worth_it(void)
{
    begin_anew();
    past->calls = INT32_MAX;
    CU_ASSERT_EQUAL(turns_looked_for(1000, 10), 1000);
}

static void keeps_nothing_with(enum slot_mark mark)
{
    begin_anew();
    make_stack(stack, 1);
    slots[5] |= mark;
    past_walks_keep(past, pcs, slots, FRAMES, 5, 1);
    CU_ASSERT_EQUAL(find(), 0);
}

static void keeps_no_interrupted_frame(void)
{
    keeps_nothing_with(SLOT_REREAD);
}

/* Whose rules are not known: where rbp was loaded from is not known either. */
static void keeps_nothing_left_by_an_unknown_rbp(void)
{
    keeps_nothing_with(SLOT_BY_RBP);
}

/* The library's own frame, just below the first slot, holds the rbp of the innermost. */
static void asks_for_the_rbp_that_a_frame_is_left_by(void)
{
    uintptr_t with_rbp[FRAMES + 1] = {0x5555};
    begin_anew();
    make_stack(with_rbp + 1, 1);
    slots[1] |= SLOT_BY_RBP;
    past_walks_keep(past, pcs, slots, FRAMES, 1, 9);
    slots[1] &= ~(uintptr_t)SLOT_MARKS;
    CU_ASSERT_EQUAL(find(), 9);
    with_rbp[0]++;
    CU_ASSERT_EQUAL(find(), 0);
}

/* Between the frames' slots is a word each; frame 1 saved rbp in the one below its own caller's. */
static void asks_where_the_rule_says_that_rbp_was_saved(void)
{
    static struct {
        struct rule_cache cache;
        struct rule rules[8];
    } known = {.cache.mask = 7};
    static uintptr_t area[2 * FRAMES];
    struct rule_cache *before = rule_cache;
    begin_anew();
    make_stack(stack, 1);
    for (int i = 0; i < FRAMES; i++) {
        slots[i] = (uintptr_t)&area[2 * i];
        area[2 * i] = (uintptr_t)pcs[i];
    }
    known.rules[rule_cache_start(&known.cache, (uintptr_t)pcs[1])] =
        (struct rule){(uintptr_t)pcs[1],
                      UNWIND_RSP | RULE_BY_RSP | RULE_RBP_SAVED | (uint64_t)(uint16_t)-1 << 16 | UINT64_C(16) << 32};
    rule_cache = &known.cache;
    slots[3] |= SLOT_BY_RBP;
    past_walks_keep(past, pcs, slots, FRAMES, 3, 4);
    rule_cache = before;
    CU_ASSERT_EQUAL(find(), 4);
    for (int i = 1; i < 2 * FRAMES; i += 2) {
        area[i]++;
        CU_ASSERT_EQUAL(find(), i == 3 ? 0 : 4);
        area[i]--;
    }
}

int main(void)
{
    static const struct tap_test tests[] = {
        {"finds what is still so", finds_what_is_still_so},
        {"tells walks apart that begin alike", tells_walks_apart_that_begin_alike},
        {"reads nothing beyond the first difference", reads_nothing_beyond_the_first_difference},
        {"finds no other in its place", finds_no_other_in_its_place},
        {"pauses while most walks are new", pauses_while_most_walks_are_new},
        {"goes on however often it was worth it", goes_on_however_often_it_was_worth_it},
        {"keeps no interrupted frame", keeps_no_interrupted_frame},
        {"keeps nothing left by an unknown rbp", keeps_nothing_left_by_an_unknown_rbp},
        {"asks for the rbp that a frame is left by", asks_for_the_rbp_that_a_frame_is_left_by},
        {"asks where the rule says that rbp was saved", asks_where_the_rule_says_that_rbp_was_saved},
        {NULL, NULL},
    };
    return tap_run("past walks", tests);
}
