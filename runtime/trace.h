/* trace.h: one block's trace enters, leaves, or comes back: its site, its entry and the counters together.

   Thread safe; takes no lock while it calls anything else. Never fails the program: what cannot be recorded
   is counted in tm_state.lost. */

#ifndef TM_TRACE_H
#define TM_TRACE_H

#include "site.h"

enum trace_result {
    TRACE_DONE,
    TRACE_OFF,
    TRACE_LOST,
};

/* A trace at the same (domain, address) is replaced. */
enum trace_result trace_add(uint32_t domain, uintptr_t address, size_t size, const struct traceback *traceback);

/* Removes the trace and returns what trace_restore needs to bring it back; 0: there was none. */
uint64_t trace_remove(uint32_t domain, uintptr_t address);
void trace_restore(uint32_t domain, uintptr_t address, uint64_t removed);

/* The site of the block at the address, NULL if it is not traced. */
const struct tm_site *trace_site(uint32_t domain, uintptr_t address);

void trace_clear(void);

#endif
