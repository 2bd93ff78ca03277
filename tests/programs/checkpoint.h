/* checkpoint.h: what every test program shares: its own count of live blocks, and the place where tests stop it.

   Define CHECKPOINT_COUNTERS in one file of each program. */

#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include <stdlib.h>

/* What a tracer that sees every block must find. */
extern volatile long expected_blocks;
extern volatile long expected_bytes;

void checkpoint(void);

static inline void expect(long blocks, long bytes)
{
    expected_blocks += blocks;
    expected_bytes += bytes;
}

#ifdef CHECKPOINT_COUNTERS
volatile long expected_blocks, expected_bytes;

__attribute__((noipa)) void checkpoint(void)
{
    __asm__ volatile("");
}
#endif

#endif
