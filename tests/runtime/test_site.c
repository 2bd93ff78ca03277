/* test_site.c: what site.h promises. */

#include "kernel_limits.h"
#include "site.h"
#include "state.h"
#include "tap_cunit.h"

#include <pthread.h>
#include <stdlib.h>

#define THREADS 4
#define SITES 20000

static bool is_packing;
static struct site_recent *recent; /* that `intern` goes by; NULL: none */

/* Most tests come twice: their frames not packed, and packed. */
static void pack_from_now_on(void)
{
    is_packing = true;
}

static uint32_t intern_as(uint32_t domain, uint32_t size_high, bool cut, uint32_t nframe, void **frames, uint64_t hash)
{
    uint32_t *packed = malloc((nframe + 1) * sizeof *packed);
    for (uint32_t i = 0; i < nframe; i++) {
        packed[i] = packing_pack((uintptr_t)frames[i]);
        CU_ASSERT_EQUAL(packing_unpack(packed[i]), (uintptr_t)frames[i]);
    }
    struct traceback traceback = {.nframe = nframe,
                                  .cut = cut,
                                  .frames = frames,
                                  .packed = is_packing ? packed : NULL,
                                  .hash = hash,
                                  .recent = recent};
    uint32_t number = site_intern(domain, size_high, &traceback);
    free(packed);
    return number;
}

static uint32_t intern(uint32_t domain, uint32_t size_high, bool cut, uint32_t nframe, void **frames)
{
    return intern_as(domain, size_high, cut, nframe, frames, site_hash_frames(frames, nframe));
}

static void known_sites_are_found(void)
{
    void *frames[] = {(void *)0x1001, (void *)0x2002, (void *)0x3003, (void *)0x4004, (void *)0x5005};
    uint32_t number = intern(0, 0, false, 5, frames);
    CU_ASSERT_NOT_EQUAL_FATAL(number, 0);
    CU_ASSERT_EQUAL(intern(0, 0, false, 5, frames), number);
    const struct tm_site *site = site_get(number);
    CU_ASSERT_EQUAL(site->nframe, 5);
    for (int i = 0; i < 5; i++)
        CU_ASSERT_EQUAL(site_frame(site, (uint32_t)i), (uintptr_t)frames[i]);
}

/* What a lane found last is found again, unless it was retired, and is no other site that has its place in the lane. */
static void what_was_found_last_is_found_again(void)
{
    static struct site_recent lanes[2];
    void *frames[] = {(void *)0x91001, (void *)0x92002}, *others[] = {(void *)0x93003, (void *)0x92002};
    const uint64_t hash = UINT64_C(0x1234567800000000);
    recent = &lanes[0];
    uint32_t number = intern_as(0, 0, false, 2, frames, hash), other = intern_as(0, 0, false, 2, others, hash);
    CU_ASSERT_NOT_EQUAL(other, number);
    CU_ASSERT_EQUAL(intern_as(0, 0, false, 2, frames, hash), number);
    CU_ASSERT_EQUAL(intern_as(0, 0, false, 2, frames, hash), number);
    CU_ASSERT_EQUAL(intern_as(0, 0, false, 2, others, hash), other);
    CU_ASSERT_NOT_EQUAL(intern_as(0, 0, true, 2, others, hash), other);
    CU_ASSERT_NOT_EQUAL(intern_as(7, 0, false, 2, frames, hash), number);
    CU_ASSERT_EQUAL(intern_as(0, 0, false, 2, frames, hash), number);
    site_retire_range(0x91000, 0x91fff);
    recent = &lanes[1];
    uint32_t renewed = intern_as(0, 0, false, 2, frames, hash);
    CU_ASSERT_NOT_EQUAL(renewed, number);
    recent = &lanes[0];
    CU_ASSERT_EQUAL(intern_as(0, 0, false, 2, frames, hash), renewed);
    CU_ASSERT_EQUAL(intern_as(0, 0, false, 2, frames, hash), renewed);
    recent = NULL;
    CU_ASSERT_EQUAL(intern_as(0, 0, false, 2, frames, hash), renewed);
}

/* More than a lane has places for: they take each other's. */
static void what_was_displaced_is_found_again(void)
{
    static struct site_recent lane;
    static uint32_t numbers[2 * SITE_RECENT];
    recent = &lane;
    for (int round = 0; round < 3; round++)
        for (uintptr_t i = 0; i < 2 * SITE_RECENT; i++) {
            void *frames[] = {(void *)(0x95000 + i), (void *)0x92002};
            uint32_t number = intern(0, 0, false, 2, frames);
            CU_ASSERT(round == 0 || number == numbers[i]);
            CU_ASSERT_EQUAL(site_frame(site_get(number), 0), 0x95000 + i);
            numbers[i] = number;
        }
    recent = NULL;
}

static void everything_tells_sites_apart(void)
{
    void *frames[] = {(void *)0x11, (void *)0x22, (void *)0x33, (void *)0x44, (void *)0x55, (void *)0x66};
    void *swapped[] = {(void *)0x22, (void *)0x11, (void *)0x33, (void *)0x44, (void *)0x55, (void *)0x66};
    void *crossed[] = {(void *)0x55, (void *)0x22, (void *)0x33, (void *)0x44, (void *)0x11, (void *)0x66};
    uint32_t numbers[] = {
        intern(0, 0, false, 6, frames), intern(1, 0, false, 6, frames),  intern(0, 1, false, 6, frames),
        intern(0, 0, true, 6, frames),  intern(0, 0, false, 5, frames),  intern(0, 0, false, 6, swapped),
        intern(0, 0, false, 0, frames), intern(0, 0, false, 6, crossed),
    };
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < i; j++)
            CU_ASSERT_NOT_EQUAL(numbers[i], numbers[j]);
    CU_ASSERT_EQUAL(site_get(numbers[3])->flags, TM_SITE_CUT | (is_packing ? TM_SITE_PACKED : 0));
    CU_ASSERT_EQUAL(site_get(numbers[2])->size_high, 1);
    CU_ASSERT_EQUAL(site_get(numbers[1])->domain, 1);
}

/* All with one hash: the frames alone tell them apart. */
static uint32_t intern_alike(uint32_t nframe, void **frames)
{
    return intern_as(3, 0, false, nframe, frames, 0x123456789);
}

static void every_frame_tells_sites_apart(void)
{
    enum { MOST = 20 };
    void *frames[MOST];
    for (uintptr_t i = 0; i < MOST; i++)
        frames[i] = (void *)(0x5000000 + i * 0x1001);
    int wrong = 0;
    for (uint32_t nframe = 0; nframe <= MOST; nframe++) {
        uint32_t number = intern_alike(nframe, frames);
        wrong += number == 0;
        wrong += intern_alike(nframe, frames) != number;
        for (uint32_t i = 0; i < nframe; i++) {
            frames[i] = (char *)frames[i] + 1;
            wrong += intern_alike(nframe, frames) == number;
            frames[i] = (char *)frames[i] - 1;
        }
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void the_longest_traceback_fits(void)
{
    static void *frames[65535];
    for (uintptr_t i = 0; i < 65535; i++)
        frames[i] = (void *)(i + 1);
    uint32_t number = intern(0, 0, true, 65535, frames);
    CU_ASSERT_NOT_EQUAL_FATAL(number, 0);
    CU_ASSERT_EQUAL(intern(0, 0, true, 65535, frames), number);
    CU_ASSERT_EQUAL(site_frame(site_get(number), 65534), 65535);
}

static uint32_t thread_numbers[THREADS][SITES];

static void *intern_many(void *argument)
{
    uint32_t *numbers = argument;
    for (uintptr_t i = 0; i < SITES; i++) {
        void *frames[] = {(void *)(i * 16), (void *)(i / 100), (void *)7};
        numbers[i] = intern(0, 0, false, 3, frames);
    }
    return NULL;
}

static void threads_agree_while_the_table_grows(void)
{
    pthread_t threads[THREADS];
    uint64_t before = tm_state.site_count;
    for (int t = 0; t < THREADS; t++)
        pthread_create(&threads[t], NULL, intern_many, thread_numbers[t]);
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    int wrong = 0;
    for (int i = 0; i < SITES; i++)
        for (int t = 0; t < THREADS; t++)
            wrong += thread_numbers[t][i] == 0 || thread_numbers[t][i] != thread_numbers[0][i];
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(tm_state.site_count - before, SITES);
}

/* Sites of one unit fill segments to their last unit. */
static void all_are_visited_in_order(void)
{
    for (uintptr_t i = 0; i < 40000; i++) {
        void *frames[] = {(void *)(0x10000000 + i)};
        intern(7, 0, false, 1, frames);
    }
    struct site_cursor cursor = {.number = 0};
    uint64_t count = 0, wrong = 0;
    for (const struct tm_site *site = site_next(&cursor); site; site = site_next(&cursor))
        wrong += site->number != count++;
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(count, tm_state.site_count);
}

static void retired_sites_are_made_anew(void)
{
    void *frames[] = {(void *)0x700100, (void *)0x900000};
    void *other[] = {(void *)0x800000, (void *)0x900000};
    uint32_t old = intern(0, 0, false, 2, frames);
    uint32_t kept = intern(0, 0, false, 2, other);
    tm_state.unloads++;
    site_retire_range(0x700000, 0x701000);
    uint32_t new = intern(0, 0, false, 2, frames);
    CU_ASSERT_NOT_EQUAL(new, old);
    CU_ASSERT_EQUAL(intern(0, 0, false, 2, frames), new);
    CU_ASSERT_EQUAL(intern(0, 0, false, 2, other), kept);
    CU_ASSERT_EQUAL(site_get(new)->unloads, site_get(old)->unloads + 1);
}

/* A segment ends where the kernel gives no more pages; the next site opens another. */
static void sites_go_on_after_a_failure(void)
{
    uint64_t wrong = 0;
    fills_left = 2;
    for (uintptr_t i = 0; i < 40000; i++) {
        void *frames[] = {(void *)(0x20000000 + i), (void *)5};
        uint32_t number = intern(8, 0, false, 2, frames);
        wrong += number == 0 || site_frame(site_get(number), 0) != 0x20000000 + i;
    }
    CU_ASSERT_EQUAL(fills_left, 0);
    CU_ASSERT_EQUAL(wrong, 0);
    all_are_visited_in_order();
}

/* As a reader does that has nothing but the segment. */
static void segments_tell_their_regions(void)
{
    void *frames[] = {(void *)0x7ffff7d01234, (void *)0x555555554000, (void *)0x401000};
    uint32_t number = intern(9, 0, false, 3, frames);
    const char *segment = (const char *)tm_state.segments[number >> TM_SEGMENT_SHIFT].sites;
    const struct tm_regions *regions = (const struct tm_regions *)(segment + TM_SLAB_HEADER);
    const uint32_t *packed = (const uint32_t *)site_get(number)->frames;
    for (int i = 0; i < 3; i++)
        CU_ASSERT_EQUAL((regions->starts[packed[i] >> TM_REGION_SHIFT] & ~UINT64_C(1)) + (packed[i] & PACKING_PLACE),
                        (uintptr_t)frames[i]);
}

/* The last test: it leaves no region free. */
static void regions_run_out(void)
{
    uint64_t found = 0;
    for (uint64_t i = 0; i < 2 * TM_REGIONS; i++) {
        uint64_t pc = (i + 100) << TM_REGION_SHIFT | 0x123;
        uint32_t packed = packing_pack(pc);
        found += packed != PACKING_NONE;
        CU_ASSERT(packed == PACKING_NONE || packing_unpack(packed) == pc);
        CU_ASSERT_EQUAL(packing_pack(pc), packed);
    }
    CU_ASSERT(found > 0 && found < TM_REGIONS);
}

int main(void)
{
    static const struct tap_test tests[] = {
        {"known sites are found", known_sites_are_found},
        {"what was found last is found again", what_was_found_last_is_found_again},
        {"what was displaced is found again", what_was_displaced_is_found_again},
        {"everything tells sites apart", everything_tells_sites_apart},
        {"every frame tells sites apart", every_frame_tells_sites_apart},
        {"the longest traceback fits", the_longest_traceback_fits},
        {"threads agree while the table grows", threads_agree_while_the_table_grows},
        {"all are visited in order", all_are_visited_in_order},
        {"retired sites are made anew", retired_sites_are_made_anew},
        {"sites go on after a failure", sites_go_on_after_a_failure},
        {"frames are packed from now on", pack_from_now_on},
        {"known sites are found", known_sites_are_found},
        {"everything tells sites apart", everything_tells_sites_apart},
        {"every frame tells sites apart", every_frame_tells_sites_apart},
        {"the longest traceback fits", the_longest_traceback_fits},
        {"threads agree while the table grows", threads_agree_while_the_table_grows},
        {"all are visited in order", all_are_visited_in_order},
        {"retired sites are made anew", retired_sites_are_made_anew},
        {"segments tell their regions", segments_tell_their_regions},
        {"regions run out", regions_run_out},
        {NULL, NULL},
    };
    return tap_run("site", tests);
}
