/* modules.h: the table of unloaded modules, for tracebacks that outlive the code they name. */

#ifndef TM_MODULES_H
#define TM_MODULES_H

#include <stdint.h>

/* Around a dlclose, without a lock held. MAP: the link map of a module in another namespace, else NULL. `_after` enters
   what is gone into tm_state.modules, and makes the stack walk and the sites forget it. Thread safe. */
void modules_before_unload(void *map);
void modules_after_unload(void);

/* The module at ADDRESS may be unloaded soon, by whomever. */
void modules_expect_unload(uintptr_t address);

/* As modules_after_unload, for modules that were expected to go or are in another namespace. Does not ask the loader:
   may be called from inside the allocator, without a lock held. */
void modules_notice_unloads(void);

/* Calls VISIT with every loaded module (unload 0) and every unloaded one that the table has (unload: how many had
   been unloaded once it was). VISIT takes no lock that is held around a call to the loader. */
struct tm_module;
void modules_visit(void (*visit)(void *argument, const struct tm_module *module, uint64_t unload), void *argument);

/* With the mode at FORKING: returns once no thread of ours is in the loader, or after some tenths of a second.
   `_reset_lock` is the child's. */
void modules_quiesce(void);
void modules_reset_lock(void);

#endif
