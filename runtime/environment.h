/* environment.h: what happens when the library is loaded. */

#ifndef TM_ENVIRONMENT_H
#define TM_ENVIRONMENT_H

/* A constructor: nobody calls it. */
void environment_start(void);

#endif
