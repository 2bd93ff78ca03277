/* packing.c: a region takes the first free number from where it is looked for, by one exchange.

   Where the program and its libraries lie is random: in one process of seven a region that most frames are of is not
   where it is looked for. So that must cost little, too. */

#include "packing.h"

struct tm_regions packing_regions = {.starts = {1}};

/* Whether START is now WANTED: it was, or it was in no use. */
static inline bool takes(uint64_t *start, uint64_t wanted)
{
    uint64_t seen = state_peek(*start);
    if (seen == 0)
        __atomic_compare_exchange_n(start, &seen, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return state_peek(*start) == wanted;
}

__attribute__((noinline)) uint32_t packing_pack_otherwise(uint64_t pc)
{
    uint64_t wanted = (pc & ~PACKING_PLACE) | 1;
    for (uint32_t i = 0, region = packing_first(pc); i < TM_REGIONS; i++, region = (region + 1) % TM_REGIONS)
        if (takes(&packing_regions.starts[region], wanted))
            return region << TM_REGION_SHIFT | (uint32_t)(pc & PACKING_PLACE);
    return PACKING_NONE;
}
