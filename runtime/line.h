/* line.h: the slots of one line, which are narrow or wide, as its page says: WIDE in all that follows.

   The caller holds the lock of the line's node. */

#ifndef TM_LINE_H
#define TM_LINE_H

#include "state.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define LINE_NARROW_SITES (UINT64_C(1) << (32 - TM_NARROW_SIZE_BITS))
#define LINE_NARROW_SIZES (UINT64_C(1) << TM_NARROW_SIZE_BITS)

/* In `used`, beside a bit for each slot: lines behind this one may hold blocks of its part of the page. */
#define LINE_SPILLED 0x8000u
#define LINE_WIDE_SPILLED 0x80u

static inline bool line_takes_wide(uint64_t entry)
{
    return (entry & ~((LINE_NARROW_SITES - 1) << TM_SIZE_BITS | (LINE_NARROW_SIZES - 1))) != 0;
}

/* An entry in 32 bits, and back: the size stays where it is, the site moves. */
static inline uint32_t line_narrow(uint64_t entry)
{
    return (uint32_t)(entry >> (TM_SIZE_BITS - TM_NARROW_SIZE_BITS) | (entry & (LINE_NARROW_SIZES - 1)));
}

static inline uint64_t line_widen(uint32_t entry)
{
    return (uint64_t)(entry >> TM_NARROW_SIZE_BITS) << TM_SIZE_BITS | (entry & (LINE_NARROW_SIZES - 1));
}

static inline struct tm_wide_line *line_wide(struct tm_line *line)
{
    return (struct tm_wide_line *)(void *)line;
}

static inline unsigned line_entries(bool wide)
{
    return wide ? TM_WIDE_ENTRIES : TM_LINE_ENTRIES;
}

static inline unsigned line_all_used(bool wide)
{
    return (1u << line_entries(wide)) - 1;
}

/* Which slots hold a block. */
static inline unsigned line_used(struct tm_line *line, bool wide)
{
    return (wide ? line_wide(line)->used : line->used) & line_all_used(wide);
}

static inline bool line_is_full(struct tm_line *line, bool wide)
{
    return line_used(line, wide) == line_all_used(wide);
}

static inline bool line_has_spilled(struct tm_line *line, bool wide)
{
    return wide ? (line_wide(line)->used & LINE_WIDE_SPILLED) != 0 : (line->used & LINE_SPILLED) != 0;
}

static inline void line_set_spilled(struct tm_line *line, bool wide, bool has_spilled)
{
    if (wide)
        line_wide(line)->used = (uint8_t)(line_used(line, wide) | (has_spilled ? LINE_WIDE_SPILLED : 0));
    else
        line->used = (uint16_t)(line_used(line, wide) | (has_spilled ? LINE_SPILLED : 0));
}

/* Which slot holds the block at OFFSET, as a bit; 0 if none does. */
static inline unsigned line_match(struct tm_line *line, bool wide, uint8_t offset)
{
#ifdef __SSE2__
    const __m128i *offsets = (const void *)line;
    __m128i own = wide ? _mm_loadl_epi64(offsets) : _mm_load_si128(offsets);
    unsigned same = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_set1_epi8((char)offset), own));
#else
    const uint8_t *offsets = (const void *)line;
    unsigned same = 0;
    for (unsigned slot = 0; slot < line_entries(wide); slot++)
        same |= (unsigned)(offsets[slot] == offset) << slot;
#endif
    return same & line_used(line, wide);
}

/* The offset of the block in a slot that SLOT is the bit of. */
static inline uint8_t line_offset(struct tm_line *line, unsigned slot)
{
    const uint8_t *offsets = (const void *)line;
    return offsets[__builtin_ctz(slot)];
}

/* The entry in the slot that SLOT is the bit of, and another one in its place, which is narrow where the line is. */
static inline uint64_t line_entry(struct tm_line *line, bool wide, unsigned slot)
{
    unsigned number = (unsigned)__builtin_ctz(slot);
    return wide ? line_wide(line)->entries[number] : line_widen(line->entries[number]);
}

static inline void line_set_entry(struct tm_line *line, bool wide, unsigned slot, uint64_t entry)
{
    unsigned number = (unsigned)__builtin_ctz(slot);
    if (wide)
        state_publish(line_wide(line)->entries[number], entry);
    else
        state_publish(line->entries[number], line_narrow(entry));
}

/* Puts a block into a free slot. */
static inline void line_put(struct tm_line *line, bool wide, uint8_t offset, uint64_t entry)
{
    unsigned free = ~line_used(line, wide), slot = free & -free;
    uint8_t *offsets = (void *)line;
    offsets[__builtin_ctz(slot)] = offset;
    if (wide)
        line_wide(line)->used |= (uint8_t)slot;
    else
        line->used |= (uint16_t)slot;
    line_set_entry(line, wide, slot, entry);
}

/* Removes what is in the slot that SLOT is the bit of, and returns its entry. */
static inline uint64_t line_take(struct tm_line *line, bool wide, unsigned slot)
{
    uint64_t entry = line_entry(line, wide, slot);
    line_set_entry(line, wide, slot, 0);
    if (wide)
        line_wide(line)->used ^= (uint8_t)slot;
    else
        line->used ^= (uint16_t)slot;
    return entry;
}

#endif
