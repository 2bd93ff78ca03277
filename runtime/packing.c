/* packing.c: a region takes the first free number from where it is looked for, by one exchange. */

#include "packing.h"

struct tm_regions packing_regions = {.starts = {1}};

__attribute__((noinline, cold)) uint32_t packing_pack_otherwise(uint64_t pc)
{
    uint64_t wanted = (pc & ~PACKING_PLACE) | 1;
    for (uint32_t i = 0, region = packing_first(pc); i < TM_REGIONS; i++, region = (region + 1) % TM_REGIONS) {
        uint64_t *start = &packing_regions.starts[region], seen = 0;
        if (__atomic_compare_exchange_n(start, &seen, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
            seen == wanted)
            return region << TM_REGION_SHIFT | (uint32_t)(pc & PACKING_PLACE);
    }
    return PACKING_NONE;
}
