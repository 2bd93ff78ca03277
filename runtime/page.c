/* page.c: as many lines as the blocks of a page need: when one is full and those behind it too, the page gets more.

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

static struct tm_line *line_after(const struct tm_line *lines, struct tm_line *line)
{
    return line + 1 < page_first_line(lines) + page_line_count(lines) ? line + 1 : page_first_line(lines);
}

struct page_place page_find_spilled(const struct tm_page *page, uint8_t offset)
{
    struct tm_line *line = page_line_of(page->lines, offset);
    unsigned slot = 0;
    for (unsigned behind = 0; behind < TM_LINES_BEHIND && slot == 0; behind++) {
        line = line_after(page->lines, line);
        slot = page_match(line, offset);
    }
    return (struct page_place){line, slot};
}

/* False if all lines where the block may be are full. */
static bool fill(const struct tm_line *lines, uint8_t offset, uint64_t entry)
{
    struct tm_line *own = page_line_of(lines, offset), *line = own;
    for (unsigned behind = 0; page_used(line) == PAGE_ALL_USED; behind++) {
        if (behind == TM_LINES_BEHIND)
            return false;
        line = line_after(lines, line);
    }
    if (line != own)
        own->offsets |= PAGE_SPILLED;
    page_fill_slot(line, offset, entry);
    return true;
}

/* Whether LINE holds blocks that are another line's, OWN's. */
static bool holds_blocks_of(const struct tm_line *lines, struct tm_line *line, const struct tm_line *own)
{
    FOR_EACH_SLOT(slot, line)
    if (page_line_of(lines, page_offset_in(line, slot)) == own)
        return true;
    return false;
}

/* Where no block of LINE is in the lines behind it any more, nobody needs to look there. */
static void stop_looking_further(const struct tm_line *lines, struct tm_line *line)
{
    struct tm_line *next = line;
    for (unsigned behind = 0; behind < TM_LINES_BEHIND; behind++) {
        next = line_after(lines, next);
        if (next != line && holds_blocks_of(lines, next, line))
            return;
    }
    line->offsets &= ~PAGE_SPILLED;
}

/* The blocks of a page in the order of its lines, and one more at the end. */
struct offsets {
    unsigned count;
    uint8_t of[TM_PAGE_OFFSETS];
};

static void collect_offsets(const struct tm_line *lines, uint8_t one_more, struct offsets *offsets)
{
    offsets->count = 0;
    FOR_EACH_LINE(line, lines)
    FOR_EACH_SLOT(slot, line)
    offsets->of[offsets->count++] = page_offset_in(line, slot);
    offsets->of[offsets->count++] = one_more;
}

/* Whether `fill` has room in COUNT lines for all of them, one after the other. */
static bool have_room(const struct offsets *offsets, unsigned count)
{
    uint8_t used[TM_LINES_MOST] = {0};
    for (unsigned i = 0; i < offsets->count; i++) {
        unsigned line = offsets->of[i] * count >> 8;
        for (unsigned behind = 0; used[line] == TM_LINE_ENTRIES; behind++) {
            if (behind == TM_LINES_BEHIND)
                return false;
            line = line + 1 < count ? line + 1 : 0;
        }
        used[line]++;
    }
    return true;
}

/* With how many lines a page fares that is filled all over as its part with these blocks is; one slot in eleven stays
   free. */
static unsigned lines_at_density(const struct offsets *offsets)
{
    unsigned first = TM_PAGE_OFFSETS, last = 0;
    for (unsigned i = 0; i < offsets->count; i++) {
        first = offsets->of[i] < first ? offsets->of[i] : first;
        last = offsets->of[i] > last ? offsets->of[i] : last;
    }
    unsigned slots = TM_PAGE_OFFSETS * (offsets->count - 1) / (last - first) * 11 / 10;
    return (slots + TM_LINE_ENTRIES - 1) / TM_LINE_ENTRIES;
}

static unsigned more_lines(const struct tm_line *lines, uint8_t offset)
{
    struct offsets offsets;
    collect_offsets(lines, offset, &offsets);
    unsigned count = lines_at_density(&offsets), least = page_line_count(lines) + 1;
    count = count < least ? least : count < TM_LINES_MOST ? count : TM_LINES_MOST;
    while (!have_room(&offsets, count))
        count++;
    return count;
}

/* With slots for a fifth more: a guess that is too low costs a copy. */
__attribute__((no_sanitize("thread"))) unsigned page_guess_lines(const struct tm_page *neighbour)
{
    const struct tm_line *lines = state_load(neighbour->lines);
    unsigned blocks = 0;
    FOR_EACH_LINE(line, lines)
    for (unsigned used = state_peek(line->offsets) >> PAGE_USED_SHIFT & PAGE_ALL_USED; used; used &= used - 1)
        blocks++;
    unsigned count = (blocks * 12 / 10 + TM_LINE_ENTRIES - 1) / TM_LINE_ENTRIES;
    return count < 1 ? 1 : count < TM_LINES_MOST ? count : TM_LINES_MOST;
}

static void copy_blocks(const struct tm_line *from, const struct tm_line *to)
{
    FOR_EACH_LINE(line, from)
    FOR_EACH_SLOT(slot, line)
    fill(to, page_offset_in(line, slot), line->entries[__builtin_ctz(slot)]);
}

/* More lines, so that there is room for a block at OFFSET. */
static bool grow(struct tm_page *page, uint8_t offset)
{
    struct tm_lane *lane = lane_claimed();
    struct tm_line *from = page->lines, *to = take_lines(more_lines(from, offset));
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
    struct page_place place = page_find(page, offset);
    if (place.slot) {
        uint64_t *found = &place.line->entries[__builtin_ctz(place.slot)];
        *old = *found;
        state_publish(*found, entry);
        return true;
    }
    struct tm_line *line = page_line_of(page->lines, offset);
    if (line->offsets & PAGE_SPILLED)
        stop_looking_further(page->lines, line);
    return fill(page->lines, offset, entry) || (grow(page, offset) && fill(page->lines, offset, entry));
}

bool page_init(struct tm_page *page, unsigned lines)
{
    struct tm_line *taken = take_lines(lines);
    if (!taken)
        taken = take_lines(1);
    state_publish(page->lines, taken);
    return taken != NULL;
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
