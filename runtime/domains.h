/* domains.h: the names of domains. Thread safe. */

#ifndef TM_DOMAINS_H
#define TM_DOMAINS_H

#include <stdbool.h>
#include <stdint.h>

/* False for want of memory, or when there are too many. */
bool domains_name(uint32_t domain, const char *name);

/* In a forked child. */
void domains_reset_lock(void);

#endif
