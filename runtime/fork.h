/* fork.h: a forked child goes on with its own copy of the tables, whole and unlocked. */

#ifndef TM_FORK_H
#define TM_FORK_H

#include <stdbool.h>

/* Registers the handlers, once; as early as possible. False for want of memory. */
bool fork_init(void);

#endif
