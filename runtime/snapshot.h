/* snapshot.h: what the rest of the runtime needs of tm_take_snapshot, which is declared in tracemalloc.h. */

#ifndef TM_SNAPSHOT_H
#define TM_SNAPSHOT_H

/* In a forked child. */
void snapshot_reset_lock(void);

#endif
