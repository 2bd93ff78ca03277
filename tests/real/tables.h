/* tables.h: walks the live blocks of the traced program from inside, by layout.h alone: a second reader beside GDB's.
 */

#ifndef TABLES_H
#define TABLES_H

#include "layout.h"

#include <stddef.h>

#pragma weak tm_layout

/* Called with each live block of the heap's domain, by rising page. SITE is where it was allocated. */
typedef void tables_visit(uintptr_t address, uint64_t size, const struct tm_site *site, void *context);

static inline const struct tm_site *tables_site(uint64_t entry)
{
    uint64_t id = entry >> TM_SIZE_BITS;
    const char *segment = (const char *)tm_layout.state->segments[id >> TM_SEGMENT_SHIFT].sites;
    return (const struct tm_site *)(segment + (id & ((1 << TM_SEGMENT_SHIFT) - 1)) * TM_SITE_UNIT);
}

/* A frame of a site, which lies in one of the segments. */
static inline uintptr_t tables_frame(const struct tm_site *site, uint32_t number)
{
    if (!(site->flags & TM_SITE_PACKED))
        return (uintptr_t)site->frames[number];
    const struct tm_segment *segment = tm_layout.state->segments;
    const uintptr_t size = (uintptr_t)TM_SITE_UNIT << TM_SEGMENT_SHIFT;
    while ((uintptr_t)site - (uintptr_t)segment->sites >= size)
        segment++;
    const struct tm_regions *regions = (const struct tm_regions *)((const char *)segment->sites + TM_SLAB_HEADER);
    uint32_t packed = ((const uint32_t *)site->frames)[number];
    return (uintptr_t)(regions->starts[packed >> TM_REGION_SHIFT] & ~UINT64_C(1)) +
           (packed & ((UINT32_C(1) << TM_REGION_SHIFT) - 1));
}

static inline void tables_visit_entry(uintptr_t address, uint64_t entry, tables_visit *visit, void *context)
{
    if (entry >> TM_SIZE_BITS == 0)
        return;
    const struct tm_site *site = tables_site(entry);
    uint64_t size = (uint64_t)site->size_high << TM_SIZE_BITS | (entry & ((UINT64_C(1) << TM_SIZE_BITS) - 1));
    visit(address, size, site, context);
}

static inline uint64_t tables_widen(uint32_t entry)
{
    return (uint64_t)(entry >> TM_NARROW_SIZE_BITS) << TM_SIZE_BITS | (entry & ((1u << TM_NARROW_SIZE_BITS) - 1));
}

static inline void tables_visit_node(const struct tm_node *node, tables_visit *visit, void *context)
{
    uintptr_t shape = (uintptr_t)node->page->lines & TM_LINES_MASK, start = (uintptr_t)node->page->lines - shape;
    const struct tm_line *line = (const struct tm_line *)start;
    const struct tm_wide_line *wide = (const struct tm_wide_line *)start;
    for (uintptr_t i = 0; i < shape && shape <= TM_LINES_MOST; i++)
        for (unsigned slot = 0; slot < TM_LINE_ENTRIES; slot++)
            tables_visit_entry((uintptr_t)node->key + ((uintptr_t)line[i].offsets[slot] << TM_OFFSET_SHIFT),
                               tables_widen(line[i].entries[slot]), visit, context);
    for (uintptr_t i = 0; i + TM_LINES_MOST < shape; i++)
        for (unsigned slot = 0; slot < TM_WIDE_ENTRIES; slot++)
            tables_visit_entry((uintptr_t)node->key + ((uintptr_t)wide[i].offsets[slot] << TM_OFFSET_SHIFT),
                               wide[i].entries[slot], visit, context);
}

/* Visits nothing where the library is not there or never traced. */
static inline void tables_walk(tables_visit *visit, void *context)
{
    if (!&tm_layout || !tm_layout.state->head)
        return;
    for (const struct tm_node *node = tm_layout.state->head->next; node; node = node->next)
        if (node->domain == 0)
            tables_visit_node(node, visit, context);
}

#endif
