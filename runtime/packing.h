/* packing.h: program counters in 32 bits: code lies in few regions of memory, so a region's number and the place in it
   will do. Thread safe; what was packed once is packed so for ever. */

#ifndef TM_PACKING_H
#define TM_PACKING_H

#include "state.h"

#define PACKING_NONE UINT32_MAX
#define PACKING_PLACE ((UINT64_C(1) << TM_REGION_SHIFT) - 1)

extern struct tm_regions packing_regions; /* atomic, each set once */

/* Where the program counter's region is looked for first. */
static inline uint32_t packing_first(uint64_t pc)
{
    return (uint32_t)(pc >> TM_REGION_SHIFT ^ pc >> (TM_REGION_SHIFT + 4)) % TM_REGIONS;
}

/* What tm_regions has for the region of PC. */
static inline uint64_t packing_start(uint64_t pc)
{
    return (pc & ~PACKING_PLACE) | 1;
}

static inline uint32_t packing_join(uint32_t region, uint64_t pc)
{
    return region << TM_REGION_SHIFT | (uint32_t)(pc & PACKING_PLACE);
}

/* What packing_pack does for a region that is new, or not where it is looked for first. */
uint32_t packing_pack_otherwise(uint64_t pc);

/* PACKING_NONE where there are more regions than have numbers. */
static inline uint32_t packing_pack(uint64_t pc)
{
    uint32_t region = packing_first(pc);
    if (state_likely(state_peek(packing_regions.starts[region]) == packing_start(pc)))
        return packing_join(region, pc);
    return packing_pack_otherwise(pc);
}

/* PACKED is none that stands for nothing. */
static inline uint64_t packing_unpack(uint32_t packed)
{
    return (state_peek(packing_regions.starts[packed >> TM_REGION_SHIFT]) & ~UINT64_C(1)) + (packed & PACKING_PLACE);
}

#endif
