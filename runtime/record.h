/* record.h: from a call into the library to a recorded block, and to a forgotten one.

   Safe in any state of the library. Keeps errno, as all below does: what asks the kernel for something saves it. */

#ifndef TM_RECORD_H
#define TM_RECORD_H

#include "capture.h"
#include "trace.h"

/* Set while the thread is inside the library or inside a real allocator that the library called: what it
   allocates then is not the program's. */
extern _Thread_local bool record_is_busy __attribute__((tls_model("initial-exec")));

/* Records the block with the traceback of CALLER. The thread is busy before and no more afterwards. */
enum trace_result record_block(uint32_t domain, uintptr_t address, size_t size, struct call_point caller);

/* As trace_remove and trace_restore, in a lane of the thread. `_remove` makes the thread busy; whether it is
   afterwards, STAYS_BUSY says. */
uint64_t record_remove(uint32_t domain, uintptr_t address, bool stays_busy);
void record_restore(uint32_t domain, uintptr_t address, uint64_t removed);

#endif
