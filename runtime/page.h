/* page.h: the entries of one node's blocks, in lines: each has those of the blocks that start in its part of the page,
   so that where an entry is follows from where its block starts. What a full line has no room for is in one of the next
   two.

   The caller holds the node's lock: its page's in the directory, or the skiplist's. */

#ifndef TM_PAGE_H
#define TM_PAGE_H

#include "state.h"

#include <stddef.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define PAGE_USED_SHIFT 56
#define PAGE_ALL_USED ((1u << TM_LINE_ENTRIES) - 1)
#define PAGE_SPILLED (UINT64_C(1) << 63) /* in tm_line.offsets: lines behind this one may hold blocks of its part */

static inline uint8_t page_offset(uintptr_t address)
{
    return (uint8_t)((address & ((1u << TM_PAGE_SHIFT) - 1)) >> TM_OFFSET_SHIFT);
}

static inline unsigned page_line_count(const struct tm_line *lines)
{
    return (unsigned)((uintptr_t)lines & TM_LINES_MASK);
}

static inline struct tm_line *page_first_line(const struct tm_line *lines)
{
    return (struct tm_line *)((uintptr_t)lines & ~(uintptr_t)TM_LINES_MASK);
}

/* Of LINES, as in tm_page.lines, the one for OFFSET. */
static inline struct tm_line *page_line_of(const struct tm_line *lines, uint8_t offset)
{
    return page_first_line(lines) + (offset * page_line_count(lines) >> 8);
}

/* Which slots hold a block. */
static inline unsigned page_used(const struct tm_line *line)
{
    return (unsigned)(line->offsets >> PAGE_USED_SHIFT) & PAGE_ALL_USED;
}

/* Which slot holds the block at OFFSET, as a bit; 0 if none does. */
static inline unsigned page_match(const struct tm_line *line, uint8_t offset)
{
    uint64_t offsets = line->offsets;
#ifdef __SSE2__
    __m128i wanted = _mm_set1_epi8((char)offset);
    unsigned same = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadl_epi64((const void *)&line->offsets), wanted));
#else
    unsigned same = 0;
    for (unsigned slot = 0; slot < TM_LINE_ENTRIES; slot++)
        same |= (unsigned)((uint8_t)(offsets >> 8 * slot) == offset) << slot;
#endif
    return same & (unsigned)(offsets >> PAGE_USED_SHIFT) & PAGE_ALL_USED;
}

/* Where an entry is: its line and its slot, as a bit. Slot 0: nowhere. */
struct page_place {
    struct tm_line *line;
    unsigned slot;
};

/* The block at OFFSET in a line behind its own. */
struct page_place page_find_spilled(const struct tm_page *page, uint8_t offset);

static inline struct page_place page_find(const struct tm_page *page, uint8_t offset)
{
    struct tm_line *line = page_line_of(page->lines, offset);
    unsigned slot = page_match(line, offset);
    if (state_unlikely(slot == 0 && line->offsets & PAGE_SPILLED))
        return page_find_spilled(page, offset);
    return (struct page_place){line, slot};
}

/* Puts a block into a free slot. */
static inline void page_fill_slot(struct tm_line *line, uint8_t offset, uint64_t entry)
{
    unsigned slot = (unsigned)__builtin_ctz(~page_used(line));
    uint64_t others = line->offsets & ~(UINT64_C(255) << 8 * slot);
    line->offsets = others | (uint64_t)offset << 8 * slot | UINT64_C(1) << (PAGE_USED_SHIFT + slot);
    state_publish(line->entries[slot], entry);
}

/* What page_put does where the block's line is full, or was once, or has one there already. */
bool page_put_otherwise(struct tm_page *page, uint8_t offset, uint64_t entry, uint64_t *old);

/* Under a claim, puts a block at OFFSET (in units of 16 bytes) of PAGE, which has lines. OLD receives the entry of the
   one that it replaces, if there is one. False for want of memory. */
static inline bool page_put(struct tm_page *page, uint8_t offset, uint64_t entry, uint64_t *old)
{
    struct tm_line *line = page_line_of(page->lines, offset);
    bool has_room = line->offsets >> PAGE_USED_SHIFT < PAGE_ALL_USED; /* and has not spilled */
    if (state_unlikely(!has_room || page_match(line, offset)))
        return page_put_otherwise(page, offset, entry, old);
    page_fill_slot(line, offset, entry);
    return true;
}

/* Removes what is in the slot that SLOT is the bit of, and returns its entry. */
static inline uint64_t page_empty_slot(struct tm_line *line, unsigned slot)
{
    uint64_t *place = &line->entries[__builtin_ctz(slot)];
    uint64_t entry = *place;
    state_publish(*place, 0);
    line->offsets ^= (uint64_t)slot << PAGE_USED_SHIFT;
    return entry;
}

/* The entry at OFFSET, 0 if there is none. `_take` removes it. */
static inline uint64_t page_get(const struct tm_page *page, uint8_t offset)
{
    struct page_place place = page_find(page, offset);
    return place.slot ? place.line->entries[__builtin_ctz(place.slot)] : 0;
}

static inline uint64_t page_take(struct tm_page *page, uint8_t offset)
{
    struct page_place place = page_find(page, offset);
    return state_likely(place.slot != 0) ? page_empty_slot(place.line, place.slot) : 0;
}

/* How many lines a page will need that comes to hold as many blocks as NEIGHBOUR, whose lock need not be held: a guess,
   1..TM_LINES_MOST. */
unsigned page_guess_lines(const struct tm_page *neighbour);

/* A page without lines gets LINES of them, or fewer for want of memory; false where there is none.
   `_deinit`: PAGE holds no blocks. */
bool page_init(struct tm_page *page, unsigned lines);
void page_deinit(struct tm_page *page);

/* Whether it holds no blocks. */
bool page_is_empty(const struct tm_page *page);

/* Calls VISIT with all blocks: the line and the slot, as a bit, of each. */
void page_visit(const struct tm_page *page, void (*visit)(void *argument, struct tm_line *line, unsigned slot),
                void *argument);

/* The offset of the block in a slot that page_visit gave. */
static inline uint8_t page_offset_in(const struct tm_line *line, unsigned slot)
{
    return (uint8_t)(line->offsets >> 8 * (unsigned)__builtin_ctz(slot));
}

#endif
