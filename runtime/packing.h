/* packing.h: program counters in 32 bits: code lies in few regions of memory, so a region's number and the place in it
   will do. Thread safe; what was packed once is packed so for ever. */

#ifndef TM_PACKING_H
#define TM_PACKING_H

#include "state.h"

#define PACKING_NONE UINT32_MAX
#define PACKING_PLACE ((UINT64_C(1) << TM_REGION_SHIFT) - 1)

extern struct tm_regions packing_regions; /* atomic, each set once */

/* Where the program counter's region is looked for first: in its place, what is packed has its low bits unchanged. */
static inline uint32_t packing_first(uint64_t pc)
{
    return (uint32_t)(pc >> TM_REGION_SHIFT) % TM_REGIONS;
}

/* Whether START, of tm_regions, is that of the region of PC. One that is not in use is no program counter's, for the
   region at 0 is in use from the beginning. */
static inline bool packing_is_in(uint64_t pc, uint64_t start)
{
    return (pc ^ start) >> TM_REGION_SHIFT == 0;
}

/* What packing_pack does for a region that is new, or not where it is looked for first. */
uint32_t packing_pack_otherwise(uint64_t pc);

/* PACKING_NONE where there are more regions than have numbers. */
static inline uint32_t packing_pack(uint64_t pc)
{
    _Static_assert((uint64_t)TM_REGIONS << TM_REGION_SHIFT == UINT64_C(1) << 32,
                   "a region's number is a counter's bits");
    if (state_likely(packing_is_in(pc, state_peek(packing_regions.starts[packing_first(pc)]))))
        return (uint32_t)pc;
    return packing_pack_otherwise(pc);
}

/* PACKED is none that stands for nothing. */
static inline uint64_t packing_unpack(uint32_t packed)
{
    return (state_peek(packing_regions.starts[packed >> TM_REGION_SHIFT]) & ~UINT64_C(1)) + (packed & PACKING_PLACE);
}

#endif
