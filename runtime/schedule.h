/* schedule.h: snapshots without a debugger: at exit, on a signal, every so many seconds. */

#ifndef TM_SCHEDULE_H
#define TM_SCHEDULE_H

#include "pattern.h"

#include <stdint.h>

/* Once, while the library is loaded: from now on a snapshot is written to PATTERN when the process exits. */
void schedule_init(const struct pattern *pattern);

/* Then: also whenever SIGNAL comes. Returns 0, or -1 where the program or who started it has a use for the signal,
   which is left alone. */
int schedule_on_signal(int signal);

/* Then: also every SECONDS seconds; 0: never. Starts the thread that the signal and the seconds need, if they do. */
void schedule_start(uint32_t seconds);

#endif
