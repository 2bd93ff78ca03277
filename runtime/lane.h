/* lane.h: a thread's share of the tracer: what it counts, and its last stack walk.

   A thread claims a lane for as long as it records or forgets one block, and has the lane's fields to itself for
   that time, so that threads meet on no line of memory. The first threads get a lane each, for good; all later
   ones share the last few, and pass over one that is taken.

   `current` is exact. `peak` is exact while one thread allocates; with n of them it is off by up to
   (n - 1) * TM_LANE_STEP bytes, since a lane tells the shared sum only when it has moved by TM_LANE_STEP. */

#ifndef TM_LANE_H
#define TM_LANE_H

#include "layout.h"

#include <stddef.h>

struct tm_lane *lane_claim(void);
void lane_release(struct tm_lane *lane);

/* Counts BYTES more, or less. The lane is claimed. */
void lane_count(struct tm_lane *lane, int64_t bytes);

/* The sums over all lanes. */
void lane_read(size_t *current, size_t *peak);

/* From now on the peak is counted anew, from the current. */
void lane_reset_peak(void);

/* With the mode at FORKING: returns once every claim is free or waits for the fork; gives up after some seconds,
   since a thread may hold a claim while it waits for something that the forking thread holds.
   `_reset_claims` is the child's. */
void lane_quiesce(void);
void lane_reset_claims(void);

#endif
