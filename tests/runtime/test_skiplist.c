/* test_skiplist.c: what skiplist.h promises, against a plain table; and the order that layout.h promises. */

#include "directory.h"
#include "kernel_limits.h"
#include "lane.h"
#include "node.h"
#include "skiplist.h"
#include "state.h"
#include "tap_cunit.h"
#include "trace.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_MASK ((UINT64_C(1) << TM_SIZE_BITS) - 1)

static uint64_t entry_of(uint32_t site, uint64_t size)
{
    return (uint64_t)site << TM_SIZE_BITS | size;
}

static uint64_t put(uint32_t domain, uintptr_t address, uint64_t entry)
{
    uint64_t old;
    CU_ASSERT_EQUAL(skiplist_put(domain, address, skiplist_expect(domain, address), entry, &old), SKIPLIST_DONE);
    return old;
}

/* The nodes of LEVEL, above 0, which must rise. */
static uint64_t count_level(unsigned level)
{
    uint64_t count = 0;
    const struct tm_node *before = NULL;
    for (struct tm_node *node = tm_state.head->tower[level - 1].next; node; node = node->tower[level - 1].next) {
        CU_ASSERT_FATAL(node->height > level);
        if (before)
            CU_ASSERT(before->domain < node->domain || (before->domain == node->domain && before->key < node->key));
        before = node;
        count++;
    }
    return count;
}

static uint64_t spilled[TM_LINES_BEHIND + 1]; /* blocks that count_page found so many lines behind their own */

/* A page's blocks, by their lines as layout.h has them: each lies in the one of its offset or one of those behind that,
   at an address of the node. */
static uint64_t count_page(const struct tm_node *node)
{
    uintptr_t shape = (uintptr_t)node->page->lines & TM_LINES_MASK, start = (uintptr_t)node->page->lines - shape;
    const struct tm_line *line = (const struct tm_line *)start;
    const struct tm_wide_line *wide_line = (const struct tm_wide_line *)start;
    bool wide = shape > TM_LINES_MOST;
    uintptr_t count = wide ? shape - TM_LINES_MOST : shape;
    uint64_t blocks = 0;
    CU_ASSERT(count >= 1 && count <= (wide ? TM_WIDE_MOST : TM_LINES_MOST));
    for (uintptr_t i = 0; i < count; i++)
        for (unsigned slot = 0; slot < (wide ? TM_WIDE_ENTRIES : TM_LINE_ENTRIES); slot++) {
            bool is_live = wide ? wide_line[i].entries[slot] >> TM_SIZE_BITS != 0
                                : line[i].entries[slot] >> TM_NARROW_SIZE_BITS != 0;
            uint64_t offset = wide ? wide_line[i].offsets[slot] : line[i].offsets[slot];
            CU_ASSERT_EQUAL(is_live, (wide ? wide_line[i].used : line[i].used) >> slot & 1);
            uintptr_t further = (i + count - (offset * count >> 8)) % count;
            if (!is_live)
                continue;
            CU_ASSERT_FATAL(further <= TM_LINES_BEHIND);
            CU_ASSERT_EQUAL(node_key(node_address(node, (uint8_t)offset)), node->key);
            spilled[further]++;
            blocks++;
        }
    return blocks;
}

/* Walks level 0 as a reader does: nodes must rise, towers must agree, entries are counted. */
static uint64_t walk_and_count(void)
{
    uint64_t blocks = 0, nodes = 0, towering[TM_LEVELS] = {0};
    const struct tm_node *before = NULL;
    for (struct tm_node *node = tm_state.head->next; node; node = node->next) {
        if (before)
            CU_ASSERT(before->domain < node->domain || (before->domain == node->domain && before->key < node->key));
        blocks += count_page(node);
        before = node;
        nodes++;
        for (unsigned level = 1; level < node->height; level++)
            towering[level]++;
    }
    CU_ASSERT_EQUAL(nodes, tm_state.node_count);
    for (unsigned level = 1; level < TM_LEVELS; level++)
        CU_ASSERT_EQUAL(count_level(level), towering[level]);
    return blocks;
}

/* Counts as a reader does that wants addresses: by all nodes of the slabs, those not in use included. */
static uint64_t scan_nodes_and_count(void)
{
    uint64_t blocks = 0;
    for (struct tm_slab *slab = tm_state.slabs; slab; slab = slab->next) {
        const struct tm_node *nodes = (const void *)((char *)slab + TM_SLAB_HEADER);
        for (uint64_t i = 0; slab->kind == TM_SLAB_NODE && i < slab->used / sizeof *nodes; i++)
            blocks += nodes[i].page ? count_page(&nodes[i]) : 0;
    }
    return blocks;
}

/* Counts as a reader does that scans the slabs. */
static uint64_t scan_and_count(void)
{
    uint64_t blocks = 0;
    for (struct tm_slab *slab = tm_state.slabs; slab; slab = slab->next) {
        const struct tm_line *lines = (const void *)((char *)slab + TM_SLAB_HEADER);
        const struct tm_wide_line *wide_lines = (const void *)lines;
        for (uint64_t i = 0; slab->kind == TM_SLAB_ENTRY && i < slab->used / sizeof *lines; i++)
            for (unsigned slot = 0; slot < TM_LINE_ENTRIES; slot++)
                blocks += lines[i].entries[slot] >> TM_NARROW_SIZE_BITS != 0;
        for (uint64_t i = 0; slab->kind == TM_SLAB_WIDE && i < slab->used / sizeof *wide_lines; i++)
            for (unsigned slot = 0; slot < TM_WIDE_ENTRIES; slot++)
                blocks += wide_lines[i].entries[slot] >> TM_SIZE_BITS != 0;
    }
    CU_ASSERT_EQUAL(scan_nodes_and_count(), blocks);
    return blocks;
}

static uint64_t dropped_count, dropped_size;

static void count_dropped(void *unused, uint64_t entry)
{
    (void)unused;
    dropped_count++;
    dropped_size += entry & SIZE_MASK;
}

static void put_take_get(void)
{
    CU_ASSERT_EQUAL(skiplist_get(0, 0x10000), 0);
    CU_ASSERT_EQUAL(skiplist_take(0, 0x10000), 0);
    CU_ASSERT_EQUAL(put(0, 0x10000, entry_of(5, 100)), 0);
    CU_ASSERT_EQUAL(skiplist_get(0, 0x10000), entry_of(5, 100));
    CU_ASSERT_EQUAL(skiplist_get(0, 0x10010), 0);
    CU_ASSERT_EQUAL(put(0, 0x10000, entry_of(6, 0)), entry_of(5, 100));
    CU_ASSERT_EQUAL(skiplist_take(0, 0x10000), entry_of(6, 0));
    CU_ASSERT_EQUAL(skiplist_take(0, 0x10000), 0);
}

static void any_address_in_any_domain(void)
{
    static const uintptr_t addresses[] = {0,
                                          1,
                                          15,
                                          16,
                                          0xfff,
                                          0x1000,
                                          0x12345677,
                                          (uintptr_t)1 << 47,
                                          UINTPTR_MAX,
                                          UINTPTR_MAX - 15,
                                          (uintptr_t)0xffff << 48};
    const unsigned count = sizeof addresses / sizeof *addresses;
    for (uint32_t domain = 0; domain < 4; domain++)
        for (unsigned i = 0; i < count; i++)
            CU_ASSERT_EQUAL(put(domain * 0x55555555u, addresses[i], entry_of(domain + 1, i)), 0);
    CU_ASSERT_EQUAL(walk_and_count(), 4 * count);
    CU_ASSERT_EQUAL(scan_and_count(), 4 * count);
    for (uint32_t domain = 0; domain < 4; domain++)
        for (unsigned i = 0; i < count; i++)
            CU_ASSERT_EQUAL(skiplist_take(domain * 0x55555555u, addresses[i]), entry_of(domain + 1, i));
    CU_ASSERT_EQUAL(scan_and_count(), 0);
}

/* Sizes from here on make an entry wide. */
#define LARGE 8192

/* A page's COUNT blocks in no order of their addresses. */
static uintptr_t in_page(unsigned count, unsigned i)
{
    return 0x400000000 + count * 4096u + i * 77 % TM_PAGE_OFFSETS * 16;
}

static void populate(unsigned count, uint64_t size)
{
    for (unsigned i = 0; i < count; i++)
        CU_ASSERT_EQUAL(put(0, in_page(count, i), entry_of(1, size + i)), 0);
    for (unsigned i = 0; i < count; i++)
        CU_ASSERT_EQUAL(put(0, in_page(count, i), entry_of(2, size + i)), entry_of(1, size + i));
    for (unsigned i = 0; i < count; i += 2)
        CU_ASSERT_EQUAL(skiplist_take(0, in_page(count, i)), entry_of(2, size + i));
    for (unsigned i = 0; i < count; i += 2)
        CU_ASSERT_EQUAL(skiplist_take(0, in_page(count, i)), 0);
    for (unsigned i = 0; i < count; i += 2)
        CU_ASSERT_EQUAL(put(0, in_page(count, i), entry_of(2, size + i)), 0);
}

static void pages_of_every_population(void)
{
    for (uint64_t size = 0; size <= LARGE; size += LARGE) {
        for (unsigned count = 1; count <= TM_PAGE_OFFSETS; count++)
            populate(count, size);
        CU_ASSERT_EQUAL(walk_and_count(), TM_PAGE_OFFSETS * (TM_PAGE_OFFSETS + 1) / 2);
        CU_ASSERT_EQUAL(scan_and_count(), TM_PAGE_OFFSETS * (TM_PAGE_OFFSETS + 1) / 2);
        for (unsigned count = 1; count <= TM_PAGE_OFFSETS; count++)
            for (unsigned i = 0; i < count; i++)
                CU_ASSERT_EQUAL(skiplist_take(0, in_page(count, i)), entry_of(2, size + i));
        CU_ASSERT_EQUAL(scan_and_count(), 0);
        skiplist_clear(count_dropped, NULL);
    }
}

static bool is_wide(uintptr_t address)
{
    return ((uintptr_t)directory_find(address)->lines & TM_LINES_MASK) > TM_LINES_MOST;
}

static uintptr_t lines_of(uintptr_t address)
{
    uintptr_t shape = (uintptr_t)directory_find(address)->lines & TM_LINES_MASK;
    return is_wide(address) ? shape - TM_LINES_MOST : shape;
}

/* A page in two lines of SLOTS, of which one is full: the other has what comes for the first, until it is full itself.
 */
static void fill_two_lines(unsigned half, unsigned slots, uint64_t size)
{
    const uintptr_t page = 0x480000000 + (half * 2 + (size != 0)) * 0x10000, full = page + half * 2048,
                    other = page + 2048 - half * 2048;
    for (unsigned i = 0; i <= slots; i++)
        put(0, i < 4 ? page + i * 16 : page + 4080 - i * 16, entry_of(1, size + i));
    CU_ASSERT_EQUAL(lines_of(page), 2);
    CU_ASSERT_EQUAL(is_wide(page), size != 0);
    for (unsigned i = 0; i <= slots; i++)
        skiplist_take(0, i < 4 ? page + i * 16 : page + 4080 - i * 16);
    for (unsigned i = 0; i < slots + 3; i++)
        CU_ASSERT_EQUAL(put(0, full + i * 16, entry_of(3, size + i)), 0);
    for (unsigned i = 0; i < slots + 3; i++)
        CU_ASSERT_EQUAL(put(0, full + i * 16, entry_of(4, size + i)), entry_of(3, size + i));
    CU_ASSERT_EQUAL(skiplist_take(0, full), entry_of(4, size));
    CU_ASSERT_EQUAL(put(0, full + (slots + 2) * 16, entry_of(5, size)), entry_of(4, size + slots + 2));
    memset(spilled, 0, sizeof spilled);
    CU_ASSERT_EQUAL(walk_and_count(), slots + 2);
    CU_ASSERT_EQUAL(spilled[1], 3);
    for (unsigned i = 0; i < slots - 2; i++)
        CU_ASSERT_EQUAL(put(0, other + i * 16, entry_of(6, size + i)), 0);
    CU_ASSERT_EQUAL(lines_of(page), 2);
    CU_ASSERT_EQUAL(put(0, other + (slots - 2) * 16, entry_of(6, size + slots - 2)), 0);
    CU_ASSERT(lines_of(page) > 2);
    CU_ASSERT_EQUAL(walk_and_count(), 2 * slots + 1);
    for (unsigned i = 1; i < slots + 2; i++)
        CU_ASSERT_EQUAL(skiplist_take(0, full + i * 16), entry_of(4, size + i));
    for (unsigned i = 0; i < slots - 1; i++)
        CU_ASSERT_EQUAL(skiplist_take(0, other + i * 16), entry_of(6, size + i));
    CU_ASSERT_EQUAL(skiplist_take(0, full + (slots + 2) * 16), entry_of(5, size));
    CU_ASSERT_EQUAL(scan_and_count(), 0);
}

static void what_a_line_has_no_room_for_is_in_the_next(void)
{
    for (unsigned half = 0; half < 2; half++) {
        fill_two_lines(half, TM_LINE_ENTRIES, 0);
        fill_two_lines(half, TM_WIDE_ENTRIES, LARGE);
    }
}

/* A page in four lines of SLOTS, of which one gets as many blocks as three have room for; one more, and the page grows.
   What left them is found no more, and others come. */
static void fill_three_lines(unsigned part, unsigned slots, uint64_t size)
{
    const uintptr_t before = 0x490000000 + part * 0x10000, page = before + 4096, full = page + part * 1024;
    for (unsigned i = 0; i < slots * 20 / 6 - 1; i++)
        put(0, before + i * 96, entry_of(1, 1));
    for (unsigned i = 0; i < 3 * slots; i++)
        CU_ASSERT_EQUAL(put(0, full + i * 16, entry_of(2, size + i)), 0);
    CU_ASSERT_EQUAL(lines_of(page), 4);
    CU_ASSERT_EQUAL(is_wide(page), size != 0);
    memset(spilled, 0, sizeof spilled);
    count_page(directory_find(page)->node);
    CU_ASSERT(spilled[0] == slots && spilled[1] == slots && spilled[2] == slots);
    for (unsigned i = 0; i < 3 * slots; i++)
        CU_ASSERT_EQUAL(put(0, full + i * 16, entry_of(3, size + i)), entry_of(2, size + i));
    for (unsigned i = 3 * slots; i-- > 2 * slots;)
        CU_ASSERT_EQUAL(skiplist_take(0, full + i * 16), entry_of(3, size + i));
    for (unsigned i = 2 * slots; i < 3 * slots + 1; i++)
        CU_ASSERT_EQUAL(skiplist_take(0, full + i * 16), 0);
    for (unsigned i = 3 * slots; i < 4 * slots; i++)
        CU_ASSERT_EQUAL(put(0, full + i * 16, entry_of(4, size + i)), 0);
    CU_ASSERT_EQUAL(lines_of(page), 4);
    CU_ASSERT_EQUAL(put(0, full + 4 * slots * 16, entry_of(4, size + 4 * slots)), 0);
    CU_ASSERT(lines_of(page) > 4);
    CU_ASSERT_EQUAL(walk_and_count(), slots * 20 / 6 - 1 + 3 * slots + 1);
    for (unsigned i = 0; i <= 4 * slots; i++)
        CU_ASSERT_EQUAL(skiplist_take(0, full + i * 16), i < 2 * slots   ? entry_of(3, size + i)
                                                         : i < 3 * slots ? 0
                                                                         : entry_of(4, size + i));
    skiplist_clear(count_dropped, NULL);
}

static void what_two_lines_have_no_room_for_is_in_the_third(void)
{
    for (unsigned part = 0; part < 4; part++) {
        fill_three_lines(part, TM_LINE_ENTRIES, 0);
        fill_three_lines(part, TM_WIDE_ENTRIES, LARGE);
    }
}

/* COUNT blocks in narrow lines, every STRIDE units, then ENTRY, which is wide, at one of them or between. */
static void widen_page(unsigned count, unsigned stride, unsigned at, uint64_t entry)
{
    const uintptr_t page = 0x4b0000000;
    const bool is_there = at % stride == 0 && at / stride < count;
    for (unsigned i = 0; i < count; i++)
        put(0, page + i * stride * 16, entry_of(3, i));
    CU_ASSERT(count == 0 || !is_wide(page));
    CU_ASSERT_EQUAL(put(0, page + at * 16, entry), is_there ? entry_of(3, at / stride) : 0);
    CU_ASSERT(is_wide(page));
    CU_ASSERT_EQUAL(walk_and_count(), count + !is_there);
    CU_ASSERT_EQUAL(scan_and_count(), count + !is_there);
    CU_ASSERT_EQUAL(put(0, page + at * 16, entry_of(1, 0)), entry);
    CU_ASSERT_EQUAL(put(0, page + at * 16, entry), entry_of(1, 0));
    for (unsigned i = 0; i < count; i++)
        CU_ASSERT_EQUAL(skiplist_get(0, page + i * stride * 16), i * stride == at ? entry : entry_of(3, i));
    CU_ASSERT_EQUAL(skiplist_take(0, page + at * 16), entry);
    skiplist_clear(count_dropped, NULL);
}

static void a_page_becomes_wide_for_an_entry_that_is(void)
{
    const uint64_t wide[] = {entry_of(1, LARGE), entry_of(1u << 19, 0), entry_of((1u << 26) - 1, SIZE_MASK)};
    for (unsigned i = 0; i < sizeof wide / sizeof *wide; i++)
        for (unsigned at = 0; at < TM_PAGE_OFFSETS; at += 51) {
            for (unsigned count = 0; count <= TM_PAGE_OFFSETS; count += count < 20 ? 1 : 59)
                widen_page(count, 1, at, wide[i]);
            widen_page(100, 2, at, wide[i]);
        }
    const uint64_t narrow = entry_of((1u << 19) - 1, LARGE - 1);
    put(0, 0x4b0000000, narrow);
    CU_ASSERT(!is_wide(0x4b0000000));
    CU_ASSERT_EQUAL(skiplist_get(0, 0x4b0000000), narrow);
    CU_ASSERT_EQUAL(skiplist_take(0, 0x4b0000000), narrow);
    skiplist_clear(count_dropped, NULL);
}

/* Two blocks close by say nothing of the rest of their page; lines that were guessed for many do. */
static void a_page_becomes_wide_with_as_many_slots(void)
{
    const uintptr_t page = 0x4c0000000;
    put(0, page, entry_of(1, 1));
    put(0, page + 32, entry_of(1, LARGE));
    CU_ASSERT_EQUAL(lines_of(page), 1);
    for (unsigned i = 0; i < 60; i++)
        put(0, page + 4096 + i * 32, entry_of(1, 1));
    put(0, page + 8192, entry_of(1, 1));
    uintptr_t narrow = lines_of(page + 8192);
    put(0, page + 8192 + 4000, entry_of(1, LARGE));
    CU_ASSERT(narrow > 3 && lines_of(page + 8192) * TM_WIDE_ENTRIES >= narrow * TM_LINE_ENTRIES);
    CU_ASSERT(lines_of(page + 8192) * TM_WIDE_ENTRIES < (narrow + 1) * TM_LINE_ENTRIES);
    skiplist_clear(count_dropped, NULL);
}

/* A new page has room for as many blocks as its neighbour, and some more; behind one with few it begins small. */
static void pages_begin_like_their_neighbours(void)
{
    const uintptr_t first = 0x4a0000000;
    for (unsigned page = 0; page < 20; page++)
        for (unsigned i = 0; i < 64; i++) {
            put(0, first + page * 4096 + i * 64, entry_of(1, 1));
            CU_ASSERT(page == 0 || (lines_of(first + page * 4096) >= 6 && lines_of(first + page * 4096) <= 8));
        }
    put(0, first + 20 * 4096, entry_of(1, 1));
    CU_ASSERT(lines_of(first + 20 * 4096) >= 6);
    put(0, first + 21 * 4096, entry_of(1, 1));
    CU_ASSERT_EQUAL(lines_of(first + 21 * 4096), 1);
    skiplist_clear(count_dropped, NULL);
}

#define ADDRESSES 60000

/* Of the dense pages every other has small sizes only; of the others some are large. */
static uint64_t random_size(unsigned i)
{
    return i / TM_PAGE_OFFSETS % 2 == 0 || random() % 64 ? (uint64_t)random() % LARGE : (uint64_t)random();
}

/* Random puts and takes over dense and sparse pages, in step with a table. */
static void agrees_with_a_table(void)
{
    static uint64_t table[2][ADDRESSES];
    uint64_t live = 0;
    srandom(7);
    for (int step = 0; step < 1000000; step++) {
        unsigned i = (unsigned)random() % ADDRESSES;
        uint32_t domain = (unsigned)random() % 16 == 0;
        uintptr_t address = i < ADDRESSES / 2 ? 0x7f0000000000u + i * 16u : 0x550000000000u + i * 4112u;
        if (random() % 5 < 3) {
            uint64_t entry = entry_of((uint32_t)random() % 1000 + 1, random_size(i));
            CU_ASSERT_EQUAL_FATAL(put(domain, address, entry), table[domain][i]);
            live += table[domain][i] == 0;
            table[domain][i] = entry;
        } else {
            CU_ASSERT_EQUAL_FATAL(skiplist_take(domain, address), table[domain][i]);
            live -= table[domain][i] != 0;
            table[domain][i] = 0;
        }
    }
    CU_ASSERT_EQUAL(walk_and_count(), live);
    CU_ASSERT_EQUAL(scan_and_count(), live);
    dropped_count = 0;
    skiplist_clear(count_dropped, NULL);
    CU_ASSERT_EQUAL(dropped_count, live);
    CU_ASSERT_EQUAL(walk_and_count(), 0);
    CU_ASSERT_EQUAL(tm_state.node_count, 0);
}

/* A heap that moves on leaves empty pages behind: their nodes must not pile up. */
static void empty_nodes_are_swept(void)
{
    uint64_t most = 0;
    for (uintptr_t page = 0; page < 200000; page++) {
        put(0, 0x100000000 + page * 4096, entry_of(1, 1));
        if (page >= 100)
            skiplist_take(0, 0x100000000 + (page - 100) * 4096);
        if (tm_state.node_count > most)
            most = tm_state.node_count;
    }
    CU_ASSERT(most < 10000);
    CU_ASSERT_EQUAL(walk_and_count(), 100);
    skiplist_clear(count_dropped, NULL);
}

/* Runs of pages, each somewhere else, upward and downward, with pages between those that are there already; some go, so
   that nodes are swept between. */
static void nodes_come_in_any_order(void)
{
    const uintptr_t base = 0x300000000;
    uint64_t live = 0;
    srandom(11);
    for (int run = 0; run < 400; run++) {
        uintptr_t page = (uintptr_t)random() % 20000, step = random() % 2 ? 4096 : (uintptr_t)-4096;
        for (int i = 0; i < 50; i++) {
            uintptr_t address = base + 0x1000000 + page * 4096 + (uintptr_t)i * step * (1 + (unsigned)run % 3);
            bool there = run % 4 == 3 ? skiplist_take(0, address) != 0 : put(0, address, entry_of(1, 1)) == 0;
            live += run % 4 == 3 ? -(uint64_t)there : there;
        }
        if (run % 100 == 0)
            CU_ASSERT_EQUAL(walk_and_count(), live);
    }
    CU_ASSERT_EQUAL(walk_and_count(), live);
    skiplist_clear(count_dropped, NULL);
}

#define THREADS 4
#define EACH 20000

/* So that pages become wide under several threads. */
static uint64_t size_in_round(uintptr_t i, int round)
{
    return i % 100 == (uintptr_t)round * 10 ? LARGE : 64;
}

static void *churn(void *argument)
{
    uintptr_t base = (uintptr_t)argument;
    struct tm_lane *lane = lane_claim();
    for (int round = 0; round < 10; round++) {
        for (uintptr_t i = 0; i < EACH; i++)
            put(0, base + i * 64, entry_of(1, size_in_round(i, round)));
        for (uintptr_t i = round == 9; i < EACH; i += 1 + (round == 9))
            CU_ASSERT_EQUAL(skiplist_take(0, base + i * 64), entry_of(1, size_in_round(i, round)));
    }
    lane_release(lane);
    return NULL;
}

/* Addresses interleave, so that threads meet in every page. */
static void threads_keep_it_whole(void)
{
    pthread_t threads[THREADS];
    for (uintptr_t t = 0; t < THREADS; t++)
        pthread_create(&threads[t], NULL, churn, (void *)(0x200000000 + t * 16));
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    CU_ASSERT_EQUAL(walk_and_count(), THREADS * EACH / 2);
    CU_ASSERT_EQUAL(scan_and_count(), THREADS * EACH / 2);
    dropped_size = 0;
    skiplist_clear(count_dropped, NULL);
    CU_ASSERT_EQUAL(dropped_size, THREADS * (EACH / 2 * 64 + EACH / 100 * (LARGE - 64)));
}

static void off_changes_nothing(void)
{
    uint64_t old;
    tm_state.mode = TM_MODE_OFF;
    CU_ASSERT_EQUAL(skiplist_put(0, 0x3000000, skiplist_expect(0, 0x3000000), entry_of(1, 1), &old), SKIPLIST_OFF);
    CU_ASSERT_EQUAL(skiplist_put(9, 0x3000001, skiplist_expect(9, 0x3000001), entry_of(1, 1), &old), SKIPLIST_OFF);
    tm_state.mode = TM_MODE_TRACING;
    CU_ASSERT_EQUAL(skiplist_get(0, 0x3000000), 0);
    CU_ASSERT_EQUAL(skiplist_get(9, 0x3000001), 0);
}

static void *fork_for_ever(void *unused)
{
    uint64_t old;
    skiplist_put(0, 0x9000000, skiplist_expect(0, 0x9000000), entry_of(1, 1), &old);
    return unused;
}

/* The forking thread waits for what this one holds: a change waits some time for it, not for ever. */
static void a_fork_that_does_not_end_is_overtaken(void)
{
    pthread_t thread;
    tm_state.mode = TM_MODE_TRACING | TM_MODE_FORKING;
    pthread_create(&thread, NULL, fork_for_ever, NULL);
    pthread_join(thread, NULL);
    CU_ASSERT_EQUAL(tm_state.mode, TM_MODE_TRACING | TM_MODE_FORKING | TM_MODE_OVERTAKEN);
    tm_state.mode = TM_MODE_TRACING;
    CU_ASSERT_EQUAL(skiplist_take(0, 0x9000000), entry_of(1, 1));
}

/* Only so many maps succeed: what is refused leaves no trace, what was put stays. */
static void run_out_after(int maps, uintptr_t base, uintptr_t stride)
{
    uint64_t put_count = 0, old;
    enum skiplist_result result = SKIPLIST_DONE;
    maps_left = maps;
    for (uintptr_t i = 0; result == SKIPLIST_DONE && i < 10000000; i++) {
        result = skiplist_put(0, base + i * stride, skiplist_expect(0, base + i * stride), entry_of(1, i), &old);
        put_count += result == SKIPLIST_DONE;
    }
    CU_ASSERT_EQUAL(result, SKIPLIST_NO_MEMORY);
    maps_left = -1;
    CU_ASSERT_EQUAL(walk_and_count(), put_count);
    CU_ASSERT_EQUAL(scan_and_count(), put_count);
    for (uintptr_t i = 0; i < put_count; i++)
        CU_ASSERT_EQUAL(skiplist_take(0, base + i * stride), entry_of(1, i));
}

/* Few blocks a page, and as many as it holds. */
static void memory_runs_out(void)
{
    for (int maps = 0; maps < 6; maps++) {
        run_out_after(maps, ((uintptr_t)0x4000 + (uintptr_t)maps * 64) << 28, 1616);
        run_out_after(maps, ((uintptr_t)0x4020 + (uintptr_t)maps * 64) << 28, 16);
    }
}

enum { FULL_PAGES = 20000, IN_EACH = 13 };

static uintptr_t in_full_page(unsigned page, unsigned block)
{
    return 0x7000000000 + page * 4096u + block * 32u;
}

/* What cannot become wide is refused and stays as it was; a trace that would replace another one takes it along. */
static void pages_cannot_become_wide(void)
{
    for (unsigned page = 0; page < FULL_PAGES; page++)
        for (unsigned i = 0; i < IN_EACH; i++)
            put(0, in_full_page(page, i), entry_of(1, i));
    maps_left = 0;
    enum skiplist_result result = SKIPLIST_DONE;
    uint64_t old;
    unsigned page;
    for (page = 0; result == SKIPLIST_DONE && page < FULL_PAGES; page++)
        result =
            skiplist_put(0, in_full_page(page, 5), skiplist_expect(0, in_full_page(page, 5)), entry_of(2, LARGE), &old);
    CU_ASSERT_EQUAL(result, SKIPLIST_NO_MEMORY);
    uintptr_t refused = in_full_page(page - 1, 5);
    CU_ASSERT_EQUAL(skiplist_get(0, refused), entry_of(1, 5));
    CU_ASSERT_EQUAL(scan_and_count(), (uint64_t)FULL_PAGES * IN_EACH);
    uint64_t lost = tm_state.lost;
    CU_ASSERT_EQUAL(trace_add(lane_claim(), 0, refused, skiplist_expect(0, refused), entry_of(2, LARGE)), TRACE_LOST);
    maps_left = -1;
    CU_ASSERT_EQUAL(tm_state.lost, lost + 1);
    CU_ASSERT_EQUAL(skiplist_get(0, refused), 0);
    for (unsigned i = 0; i < IN_EACH; i++)
        CU_ASSERT(i == 5 || skiplist_get(0, in_full_page(page - 1, i)) == entry_of(1, i));
    skiplist_clear(count_dropped, NULL);
}

int main(void)
{
    static const struct tap_test tests[] = {
        {"put, take, get", put_take_get},
        {"any address in any domain", any_address_in_any_domain},
        {"pages of every population", pages_of_every_population},
        {"what a line has no room for is in the next", what_a_line_has_no_room_for_is_in_the_next},
        {"what two lines have no room for is in the third", what_two_lines_have_no_room_for_is_in_the_third},
        {"a page becomes wide for an entry that is", a_page_becomes_wide_for_an_entry_that_is},
        {"a page becomes wide with as many slots", a_page_becomes_wide_with_as_many_slots},
        {"pages begin like their neighbours", pages_begin_like_their_neighbours},
        {"agrees with a table", agrees_with_a_table},
        {"empty nodes are swept", empty_nodes_are_swept},
        {"nodes come in any order", nodes_come_in_any_order},
        {"threads keep it whole", threads_keep_it_whole},
        {"off changes nothing", off_changes_nothing},
        {"a fork that does not end is overtaken", a_fork_that_does_not_end_is_overtaken},
        {"memory runs out", memory_runs_out},
        {"pages cannot become wide", pages_cannot_become_wide},
        {NULL, NULL},
    };
    skiplist_init();
    tm_state.mode = TM_MODE_TRACING;
    struct tm_lane *lane = lane_claim(); /* as all who come here from a hook have */
    int failed = tap_run("skiplist", tests);
    lane_release(lane);
    return failed;
}
