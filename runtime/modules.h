/* modules.h: the table of unloaded modules, for tracebacks that outlive the code they name. */

#ifndef TM_MODULES_H
#define TM_MODULES_H

/* Around a dlclose, without a lock held. `_after` enters what is gone into tm_state.modules, and makes the
   stack walk and the sites forget it. Thread safe. */
void modules_before_unload(void);
void modules_after_unload(void);

/* In a forked child. */
void modules_reset_lock(void);

#endif
