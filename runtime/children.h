/* children.h: what the programs that this one executes find of the library in their environment. While the library is
   loaded; nothing is ever freed or changed in place, since the program may hold the old strings. */

#ifndef TM_CHILDREN_H
#define TM_CHILDREN_H

/* They are not traced: the library's entries leave the environment, and the library LD_PRELOAD. */
void children_leave_out(void);

/* They know that process OWNER alone writes the snapshot TEXT. */
void children_bind_snapshot(const char *text, int owner);

#endif
