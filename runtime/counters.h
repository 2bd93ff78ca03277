/* counters.h: how many bytes are traced now, and how many were at the most.

   Thread safe, without a line on which all threads meet: each counts in a lane and tells the shared sum when
   its lane has moved by COUNTERS_STEP bytes. `current` is always exact. `peak` is exact while one thread
   allocates; with n of them it may miss up to (n - 1) * COUNTERS_STEP bytes. */

#ifndef TM_COUNTERS_H
#define TM_COUNTERS_H

#include <stddef.h>
#include <stdint.h>

#define COUNTERS_STEP (64 << 10)

void counters_add(int64_t bytes);
void counters_read(size_t *current, size_t *peak);

/* From now on the peak is counted anew, from the current. */
void counters_reset_peak(void);

#endif
