/* record.h: from a call into the library to a recorded block, and to a forgotten one.

   Safe in any state of the library. Keeps errno, as all below does: what asks the kernel for something saves it. */

#ifndef TM_RECORD_H
#define TM_RECORD_H

#include "capture.h"
#include "trace.h"

/* Records the block with the traceback of CALLER. The thread is busy before and no more afterwards. */
enum trace_result record_block(uint32_t domain, uintptr_t address, size_t size, struct call_point caller);

/* Removes what is recorded of the block and returns what record_restore needs to bring it back; 0: nothing. Makes the
   thread busy; whether it is afterwards, STAYS_BUSY says. */
uint64_t record_remove(uint32_t domain, uintptr_t address, bool stays_busy);
void record_restore(uint32_t domain, uintptr_t address, uint64_t removed);

#endif
