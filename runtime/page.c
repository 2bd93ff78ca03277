/* page.c: as many lines as it takes for each to hold its blocks: when one is full, the page gets more.

   Its blocks are then copied, and for a moment they are there twice. The lane says so before and after: a reader that
   counts entries without asking which node they belong to leaves out the lines that no page leads to. */

#include "page.h"

#include "arena.h"
#include "lane.h"

#include <string.h>

_Static_assert((TM_PAGE_OFFSETS + TM_LINES_MOST - 1) / TM_LINES_MOST <= TM_LINE_ENTRIES, "the most lines hold all");

#define FOR_EACH_LINE(line, lines)                                                                                     \
    for (struct tm_line *line = page_first_line(lines); line < page_first_line(lines) + page_line_count(lines); line++)
#define FOR_EACH_SLOT(slot, line)                                                                                      \
    for (unsigned left = page_used(line), slot = left & -left; left; left ^= slot, slot = left & -left)

static size_t size_of(const struct tm_line *lines)
{
    return page_line_count(lines) * sizeof(struct tm_line);
}

static struct tm_line *take_lines(unsigned count)
{
    char *memory = arena_take(TM_SLAB_ENTRY, count * sizeof(struct tm_line));
    return memory ? (struct tm_line *)(memory + count) : NULL;
}

/* LINES hold no blocks. */
static void give_lines(struct tm_line *lines)
{
    arena_give(TM_SLAB_ENTRY, page_first_line(lines), size_of(lines));
}

/* The offsets of the blocks of LINES, a bit for each. */
static void collect_offsets(const struct tm_line *lines, uint64_t offsets[TM_PAGE_OFFSETS / 64])
{
    FOR_EACH_LINE(line, lines)
    FOR_EACH_SLOT(slot, line)
    {
        uint8_t offset = page_offset_in(line, slot);
        offsets[offset / 64] |= UINT64_C(1) << offset % 64;
    }
}

/* How many offsets lie, at the least, from one block's to that of the one TM_LINE_ENTRIES after it. */
static unsigned closest(const uint64_t offsets[TM_PAGE_OFFSETS / 64])
{
    unsigned last[8], count = 0, least = TM_PAGE_OFFSETS;
    for (unsigned word = 0; word < TM_PAGE_OFFSETS / 64; word++)
        for (uint64_t left = offsets[word]; left; left &= left - 1) {
            unsigned offset = word * 64 + (unsigned)__builtin_ctzll(left);
            if (count >= TM_LINE_ENTRIES) {
                unsigned span = offset - last[(count - TM_LINE_ENTRIES) % 8];
                least = span < least ? span : least;
            }
            last[count++ % 8] = offset;
        }
    return least;
}

/* With how many lines the blocks of LINES and one at OFFSET have room: each of them for fewer offsets than lie between
   any block and the one TM_LINE_ENTRIES after it. */
static unsigned enough_lines(const struct tm_line *lines, uint8_t offset)
{
    uint64_t offsets[TM_PAGE_OFFSETS / 64] = {0};
    collect_offsets(lines, offsets);
    offsets[offset / 64] |= UINT64_C(1) << offset % 64;
    unsigned span = closest(offsets);
    return (TM_PAGE_OFFSETS + span - 1) / span;
}

static void copy_blocks(const struct tm_line *from, struct tm_line *to)
{
    FOR_EACH_LINE(line, from)
    FOR_EACH_SLOT(slot, line)
    {
        uint8_t offset = page_offset_in(line, slot);
        page_fill_slot(page_line_of(to, offset), offset, line->entries[__builtin_ctz(slot)]);
    }
}

/* More lines, so that the one for OFFSET is not full. */
static bool grow(struct tm_page *page, uint8_t offset)
{
    struct tm_lane *lane = lane_claimed();
    struct tm_line *from = page->lines, *to = take_lines(enough_lines(from, offset));
    if (!to)
        return false;
    lane->from = from;
    lane->to = to;
    state_publish(lane->growing, page);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    copy_blocks(from, to);
    state_publish(page->lines, to);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    memset(page_first_line(from), 0, size_of(from));
    state_publish(lane->growing, NULL);
    give_lines(from);
    return true;
}

bool page_put_otherwise(struct tm_page *page, uint8_t offset, uint64_t entry, uint64_t *old)
{
    struct tm_line *line = page_line_of(page->lines, offset);
    unsigned slot = page_match(line, offset);
    if (slot) {
        *old = line->entries[__builtin_ctz(slot)];
        state_publish(line->entries[__builtin_ctz(slot)], entry);
        return true;
    }
    if (!grow(page, offset))
        return false;
    page_fill_slot(page_line_of(page->lines, offset), offset, entry);
    return true;
}

bool page_init(struct tm_page *page)
{
    struct tm_line *lines = take_lines(1);
    state_publish(page->lines, lines);
    return lines != NULL;
}

void page_deinit(struct tm_page *page)
{
    struct tm_line *lines = page->lines;
    state_publish(page->lines, NULL);
    give_lines(lines);
}

bool page_is_empty(const struct tm_page *page)
{
    FOR_EACH_LINE(line, page->lines)
    if (page_used(line))
        return false;
    return true;
}

void page_visit(const struct tm_page *page, void (*visit)(void *argument, struct tm_line *line, unsigned slot),
                void *argument)
{
    FOR_EACH_LINE(line, page->lines)
    FOR_EACH_SLOT(slot, line)
    visit(argument, line, slot);
}
