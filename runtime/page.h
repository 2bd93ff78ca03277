/* page.h: the entries of one node's blocks, in lines: each has those of the blocks that start in its part of the page,
   so that where an entry is follows from where its block starts. What a full line has no room for is in one of the next
   two.

   A page's lines are narrow until a block comes whose entry is not, then wide. The caller holds the node's lock: its
   page's in the directory, or the skiplist's. */

#ifndef TM_PAGE_H
#define TM_PAGE_H

#include "line.h"

/* A shape is how many lines, and of which width, as the low bits of tm_page.lines say. */
static inline unsigned page_shape(const struct tm_line *lines)
{
    return (unsigned)((uintptr_t)lines & TM_LINES_MASK);
}

static inline bool page_is_wide(unsigned shape)
{
    return shape > TM_LINES_MOST;
}

static inline unsigned page_line_count(unsigned shape)
{
    return page_is_wide(shape) ? shape - TM_LINES_MOST : shape;
}

static inline struct tm_line *page_first_line(const struct tm_line *lines)
{
    return (struct tm_line *)((uintptr_t)lines & ~(uintptr_t)TM_LINES_MASK);
}

/* Which of COUNT lines is that for OFFSET. */
static inline unsigned page_line_number(unsigned count, uint8_t offset)
{
    return offset * count >> 8;
}

/* Of LINES, as in tm_page.lines, the one for OFFSET. */
static inline struct tm_line *page_line_of(const struct tm_line *lines, uint8_t offset)
{
    return page_first_line(lines) + page_line_number(page_line_count(page_shape(lines)), offset);
}

static inline uint8_t page_offset(uintptr_t address)
{
    return (uint8_t)((address & ((1u << TM_PAGE_SHIFT) - 1)) >> TM_OFFSET_SHIFT);
}

/* What page_put does where the line or the entry is wide, or the line is full, or was once, or has one there already.
   `_take_otherwise`: where the line is wide, or has none there. */
bool page_put_otherwise(struct tm_page *page, uint8_t offset, uint64_t entry, uint64_t *old);
uint64_t page_take_otherwise(struct tm_page *page, uint8_t offset);

/* Under a claim, puts a block at OFFSET (in units of 16 bytes) of PAGE, which has lines. OLD receives the entry of the
   one that it replaces, if there is one. False for want of memory. */
static inline bool page_put(struct tm_page *page, uint8_t offset, uint64_t entry, uint64_t *old)
{
    unsigned shape = page_shape(page->lines);
    if (state_unlikely(page_is_wide(shape) || line_takes_wide(entry)))
        return page_put_otherwise(page, offset, entry, old);
    struct tm_line *line = page_first_line(page->lines) + page_line_number(shape, offset);
    bool has_room = line->used < line_all_used(false); /* and has not spilled */
    if (state_unlikely(!has_room || line_match(line, false, offset)))
        return page_put_otherwise(page, offset, entry, old);
    line_put(line, false, offset, entry);
    return true;
}

/* Removes what is at OFFSET and returns its entry, 0 if there is none. `_get` leaves it. */
static inline uint64_t page_take(struct tm_page *page, uint8_t offset)
{
    unsigned shape = page_shape(page->lines);
    if (state_unlikely(page_is_wide(shape)))
        return page_take_otherwise(page, offset);
    struct tm_line *line = page_first_line(page->lines) + page_line_number(shape, offset);
    unsigned slot = line_match(line, false, offset);
    return state_likely(slot != 0) ? line_take(line, false, slot) : page_take_otherwise(page, offset);
}

uint64_t page_get(const struct tm_page *page, uint8_t offset);

/* The shape of a page without neighbours whose first block has ENTRY; and of one that comes to hold as many blocks as
   NEIGHBOUR, whose lock need not be held: a guess. */
unsigned page_least_shape(uint64_t entry);
unsigned page_guess_shape(const struct tm_page *neighbour, uint64_t entry);

/* A page without lines gets some of that shape, or fewer for want of memory; false where there is none.
   `_deinit`: PAGE holds no blocks. */
bool page_init(struct tm_page *page, unsigned shape);
void page_deinit(struct tm_page *page);

/* Whether it holds no blocks. */
bool page_is_empty(const struct tm_page *page);

/* Calls VISIT with all blocks; `_clear` removes each one first. */
void page_visit(const struct tm_page *page, void (*visit)(void *argument, uint8_t offset, uint64_t entry),
                void *argument);
void page_clear(struct tm_page *page, void (*dropped)(void *argument, uint64_t entry), void *argument);

#endif
