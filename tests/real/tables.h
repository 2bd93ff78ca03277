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

static inline void tables_visit_node(const struct tm_node *node, tables_visit *visit, void *context)
{
    uintptr_t lines = (uintptr_t)node->page->lines;
    const struct tm_line *line = (const struct tm_line *)(lines & ~(uintptr_t)TM_LINES_MASK);
    for (uintptr_t left = lines & TM_LINES_MASK; left > 0; left--, line++)
        for (unsigned slot = 0; slot < TM_LINE_ENTRIES; slot++) {
            uint64_t offset = line->offsets >> 8 * slot & 255;
            tables_visit_entry((uintptr_t)(node->key + (offset << TM_OFFSET_SHIFT)), line->entries[slot], visit,
                               context);
        }
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
