/* trace.h: one block's trace enters, leaves, or comes back: its site, its entry and the counters together.

   Thread safe: the caller has claimed LANE. Takes no lock while it calls anything else. Never fails the
   program: what cannot be recorded is counted in tm_state.lost. */

#ifndef TM_TRACE_H
#define TM_TRACE_H

#include "site.h"

enum trace_result {
    TRACE_DONE,
    TRACE_OFF,
    TRACE_LOST,
};

/* Whether such a block's site follows from its traceback alone: that is what capture_recall gives. */
static inline bool trace_is_common(uint32_t domain, size_t size)
{
    return domain == 0 && (uint64_t)size >> TM_SIZE_BITS == 0;
}

/* What says of such a block that it is from SITE, not 0, and how large it is. */
static inline uint64_t trace_pack(uint32_t site, size_t size)
{
    return (uint64_t)site << TM_SIZE_BITS | size;
}

/* The number of the site of an entry. */
static inline uint32_t trace_site_number(uint64_t entry)
{
    return (uint32_t)(entry >> TM_SIZE_BITS);
}

/* What says of a block where it is from and how large it is; 0: no memory or no number for its site. */
uint64_t trace_entry(uint32_t domain, size_t size, const struct traceback *traceback);

/* ENTRY is not 0. EXPECTED: what skiplist_expect said. A trace at the same (domain, address) is replaced. */
enum trace_result trace_add(struct tm_lane *lane, uint32_t domain, uintptr_t address, struct tm_page *expected,
                            uint64_t entry);

/* The block cannot be recorded: what is at its address is forgotten, and it is counted as lost. */
enum trace_result trace_lose(struct tm_lane *lane, uint32_t domain, uintptr_t address);

/* Removes the trace and returns its entry, with which trace_add brings it back; 0: there was none. */
uint64_t trace_remove(struct tm_lane *lane, uint32_t domain, uintptr_t address);

/* The site of the block at the address, NULL if it is not traced. Needs no lane. */
const struct tm_site *trace_site(uint32_t domain, uintptr_t address);

/* Forgets all blocks and starts the peak anew. Claims a lane itself. */
void trace_clear(void);

#endif
