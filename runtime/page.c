/* page.c: as many lines as the blocks of a page need: when one is full and those behind it too, the page gets more;
   when an entry is too wide for them, wide ones.

   Its blocks are then copied, and for a moment they are there twice. The lane says so before and after: a reader that
   counts entries without asking which node they belong to leaves out the lines that no page leads to. */

#include "page.h"

#include "arena.h"
#include "lane.h"

#include <string.h>

_Static_assert((TM_PAGE_OFFSETS + TM_LINES_MOST - 1) / TM_LINES_MOST <= TM_LINE_ENTRIES, "the most lines hold all");
_Static_assert((TM_PAGE_OFFSETS + TM_WIDE_MOST - 1) / TM_WIDE_MOST <= TM_WIDE_ENTRIES, "the most wide ones hold all");
_Static_assert(TM_LINES_MOST + TM_WIDE_MOST <= TM_LINES_MASK, "every shape has its number");

/* tm_page.lines, taken apart. */
struct lines {
    struct tm_line *first;
    unsigned count;
    bool wide;
};

#define FOR_EACH_LINE(line, lines)                                                                                     \
    for (struct tm_line *line = (lines).first; line < (lines).first + (lines).count; line++)
#define FOR_EACH_SLOT(slot, line, wide)                                                                                \
    for (unsigned left = line_used(line, wide), slot = left & -left; left; left ^= slot, slot = left & -left)

static struct lines lines_of(const struct tm_line *lines)
{
    unsigned shape = page_shape(lines);
    return (struct lines){page_first_line(lines), page_line_count(shape), page_is_wide(shape)};
}

static unsigned shape_of(unsigned count, bool wide)
{
    return wide ? TM_LINES_MOST + count : count;
}

static unsigned most_lines(bool wide)
{
    return wide ? TM_WIDE_MOST : TM_LINES_MOST;
}

/* How many lines so many slots are, 1..most_lines. */
static unsigned lines_for(unsigned slots, bool wide)
{
    unsigned count = (slots + line_entries(wide) - 1) / line_entries(wide);
    return count < 1 ? 1 : count < most_lines(wide) ? count : most_lines(wide);
}

static enum tm_slab_kind kind_of(bool wide)
{
    return wide ? TM_SLAB_WIDE : TM_SLAB_ENTRY;
}

static struct tm_line *take_lines(unsigned shape)
{
    char *memory = arena_take(kind_of(page_is_wide(shape)), page_line_count(shape) * sizeof(struct tm_line));
    return memory ? (struct tm_line *)(memory + shape) : NULL;
}

/* They hold no blocks. */
static void give_lines(struct lines lines)
{
    arena_give(kind_of(lines.wide), lines.first, lines.count * sizeof(struct tm_line));
}

static struct tm_line *own_line(struct lines lines, uint8_t offset)
{
    return lines.first + page_line_number(lines.count, offset);
}

static struct tm_line *line_after(struct lines lines, struct tm_line *line)
{
    return line + 1 < lines.first + lines.count ? line + 1 : lines.first;
}

/* Where an entry is: its line and its slot, as a bit. Slot 0: nowhere. */
struct place {
    struct tm_line *line;
    unsigned slot;
};

static struct place find(struct lines lines, uint8_t offset)
{
    struct tm_line *line = own_line(lines, offset);
    unsigned slot = line_match(line, lines.wide, offset);
    if (slot || !line_has_spilled(line, lines.wide))
        return (struct place){line, slot};
    for (unsigned behind = 0; behind < TM_LINES_BEHIND && slot == 0; behind++) {
        line = line_after(lines, line);
        slot = line_match(line, lines.wide, offset);
    }
    return (struct place){line, slot};
}

/* False if all lines where the block may be are full. */
static bool fill(struct lines lines, uint8_t offset, uint64_t entry)
{
    struct tm_line *own = own_line(lines, offset), *line = own;
    for (unsigned behind = 0; line_is_full(line, lines.wide); behind++) {
        if (behind == TM_LINES_BEHIND)
            return false;
        line = line_after(lines, line);
    }
    if (line != own)
        line_set_spilled(own, lines.wide, true);
    line_put(line, lines.wide, offset, entry);
    return true;
}

/* Whether LINE holds blocks that are another line's, OWN's. */
static bool holds_blocks_of(struct lines lines, struct tm_line *line, const struct tm_line *own)
{
    FOR_EACH_SLOT(slot, line, lines.wide)
    if (own_line(lines, line_offset(line, slot)) == own)
        return true;
    return false;
}

/* Where no block of LINE is in the lines behind it any more, nobody needs to look there. */
static void stop_looking_further(struct lines lines, struct tm_line *line)
{
    struct tm_line *next = line;
    for (unsigned behind = 0; behind < TM_LINES_BEHIND; behind++) {
        next = line_after(lines, next);
        if (next != line && holds_blocks_of(lines, next, line))
            return;
    }
    line_set_spilled(line, lines.wide, false);
}

/* The blocks of a page in the order of its lines, and at the end one more, if it is not among them. */
struct offsets {
    unsigned count;
    uint8_t of[TM_PAGE_OFFSETS];
};

static void collect_offsets(struct lines lines, uint8_t one_more, struct offsets *offsets)
{
    offsets->count = 0;
    FOR_EACH_LINE(line, lines)
    FOR_EACH_SLOT(slot, line, lines.wide)
    offsets->of[offsets->count++] = line_offset(line, slot);
    if (!find(lines, one_more).slot)
        offsets->of[offsets->count++] = one_more;
}

/* Whether `fill` has room in COUNT lines for all of them, one after the other. */
static bool have_room(const struct offsets *offsets, unsigned count, bool wide)
{
    uint8_t used[TM_WIDE_MOST] = {0};
    for (unsigned i = 0; i < offsets->count; i++) {
        unsigned line = page_line_number(count, offsets->of[i]);
        for (unsigned behind = 0; used[line] == line_entries(wide); behind++) {
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
static unsigned lines_at_density(const struct offsets *offsets, bool wide)
{
    unsigned first = TM_PAGE_OFFSETS, last = 0;
    for (unsigned i = 0; i < offsets->count; i++) {
        first = offsets->of[i] < first ? offsets->of[i] : first;
        last = offsets->of[i] > last ? offsets->of[i] : last;
    }
    return lines_for(TM_PAGE_OFFSETS * (offsets->count - 1) / (last - first) * 11 / 10, wide);
}

static unsigned more_lines(struct lines lines, const struct offsets *offsets)
{
    unsigned count = lines_at_density(offsets, lines.wide);
    return count > lines.count ? count : lines.count + 1;
}

/* As many slots as there were; of a single line, which was not guessed for more, only what its blocks need. */
static unsigned wide_lines_instead(struct lines lines, const struct offsets *offsets)
{
    return lines_for(lines.count > 1 ? lines.count * TM_LINE_ENTRIES : offsets->count, true);
}

/* For the blocks of LINES and one more at OFFSET. */
static unsigned larger_shape(struct lines lines, uint8_t offset, bool wide)
{
    struct offsets offsets;
    collect_offsets(lines, offset, &offsets);
    unsigned count = lines.wide == wide ? more_lines(lines, &offsets) : wide_lines_instead(lines, &offsets);
    while (count < most_lines(wide) && !have_room(&offsets, count, wide))
        count++;
    return shape_of(count, wide);
}

unsigned page_least_shape(uint64_t entry)
{
    return shape_of(1, line_takes_wide(entry));
}

static __attribute__((no_sanitize("thread"))) unsigned peek_at_count(struct tm_line *line, bool wide)
{
    unsigned used = wide ? state_peek(line_wide(line)->used) : state_peek(line->used), blocks = 0;
    for (used &= line_all_used(wide); used; used &= used - 1)
        blocks++;
    return blocks;
}

/* With slots for a fifth more: a guess that is too low costs a copy. */
__attribute__((no_sanitize("thread"))) unsigned page_guess_shape(const struct tm_page *neighbour, uint64_t entry)
{
    const struct lines lines = lines_of(state_load(neighbour->lines));
    unsigned blocks = 0;
    FOR_EACH_LINE(line, lines)
    blocks += peek_at_count(line, lines.wide);
    bool wide = line_takes_wide(entry);
    return shape_of(lines_for(blocks * 12 / 10, wide), wide);
}

static void copy_blocks(struct lines from, struct lines to)
{
    FOR_EACH_LINE(line, from)
    FOR_EACH_SLOT(slot, line, from.wide)
    fill(to, line_offset(line, slot), line_entry(line, from.wide, slot));
}

/* Other lines, so that there is room for a block at OFFSET: more of them, or WIDE ones instead of narrow. */
static bool grow(struct tm_page *page, uint8_t offset, bool wide)
{
    struct tm_lane *lane = lane_claimed();
    const struct lines from = lines_of(page->lines);
    struct tm_line *to = take_lines(larger_shape(from, offset, wide));
    if (!to)
        return false;
    lane->from = page->lines;
    lane->to = to;
    state_publish(lane->growing, page);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    copy_blocks(from, lines_of(to));
    state_publish(page->lines, to);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    memset(from.first, 0, from.count * sizeof(struct tm_line));
    state_publish(lane->growing, NULL);
    give_lines(from);
    return true;
}

static bool put(struct tm_page *page, uint8_t offset, uint64_t entry, uint64_t *old)
{
    const struct lines lines = lines_of(page->lines);
    struct place place = find(lines, offset);
    if (place.slot) {
        *old = line_entry(place.line, lines.wide, place.slot);
        line_set_entry(place.line, lines.wide, place.slot, entry);
        return true;
    }
    struct tm_line *own = own_line(lines, offset);
    if (line_has_spilled(own, lines.wide))
        stop_looking_further(lines, own);
    return fill(lines, offset, entry);
}

bool page_put_otherwise(struct tm_page *page, uint8_t offset, uint64_t entry, uint64_t *old)
{
    bool wide = page_is_wide(page_shape(page->lines));
    if (!wide && line_takes_wide(entry))
        return grow(page, offset, true) && put(page, offset, entry, old);
    return put(page, offset, entry, old) || (grow(page, offset, wide) && put(page, offset, entry, old));
}

uint64_t page_take_otherwise(struct tm_page *page, uint8_t offset)
{
    const struct lines lines = lines_of(page->lines);
    struct place place = find(lines, offset);
    return place.slot ? line_take(place.line, lines.wide, place.slot) : 0;
}

uint64_t page_get(const struct tm_page *page, uint8_t offset)
{
    const struct lines lines = lines_of(page->lines);
    struct place place = find(lines, offset);
    return place.slot ? line_entry(place.line, lines.wide, place.slot) : 0;
}

bool page_init(struct tm_page *page, unsigned shape)
{
    struct tm_line *taken = take_lines(shape);
    if (!taken)
        taken = take_lines(shape_of(1, page_is_wide(shape)));
    state_publish(page->lines, taken);
    return taken != NULL;
}

void page_deinit(struct tm_page *page)
{
    const struct lines lines = lines_of(page->lines);
    state_publish(page->lines, NULL);
    give_lines(lines);
}

bool page_is_empty(const struct tm_page *page)
{
    const struct lines lines = lines_of(page->lines);
    FOR_EACH_LINE(line, lines)
    if (line_used(line, lines.wide))
        return false;
    return true;
}

void page_visit(const struct tm_page *page, void (*visit)(void *argument, uint8_t offset, uint64_t entry),
                void *argument)
{
    const struct lines lines = lines_of(page->lines);
    FOR_EACH_LINE(line, lines)
    FOR_EACH_SLOT(slot, line, lines.wide)
    visit(argument, line_offset(line, slot), line_entry(line, lines.wide, slot));
}

void page_clear(struct tm_page *page, void (*dropped)(void *argument, uint64_t entry), void *argument)
{
    const struct lines lines = lines_of(page->lines);
    FOR_EACH_LINE(line, lines)
    FOR_EACH_SLOT(slot, line, lines.wide)
    dropped(argument, line_take(line, lines.wide, slot));
}
