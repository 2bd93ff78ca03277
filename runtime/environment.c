/* environment.c: what happens when the library is loaded: TRACEMALLOC=NFRAME is read. */

#define _GNU_SOURCE
#include "environment.h"

#include "fork.h"
#include "tracemalloc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* write(2) of the pieces: the library uses no stdio. */
static void say(const char *const pieces[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (write(STDERR_FILENO, pieces[i], strlen(pieces[i])) < 0)
            return;
}

static void refuse(const char *value, const char *reason)
{
    const char *const pieces[] = {"tracemalloc: TRACEMALLOC=", value, ": ", reason, "; not tracing\n"};
    say(pieces, sizeof pieces / sizeof *pieces);
}

/* The value as a number from 0 to 65535, else -1. */
static int parse(const char *value)
{
    int number = 0;
    for (const char *at = value; *at; at++) {
        if (*at < '0' || *at > '9')
            return -1;
        number = number * 10 + (*at - '0');
        if (number > 65535)
            return -1;
    }
    return number;
}

__attribute__((constructor(101))) void environment_start(void)
{
    int error = errno;
    fork_init(); /* unless the first allocation came before */
    const char *value = secure_getenv("TRACEMALLOC");
    int nframe = value ? parse(value) : 0;
    if (nframe < 0)
        refuse(value, "the number of frames must be from 1 to 65535 (0: off)");
    else if (nframe > 0 && tm_start(nframe) != 0)
        refuse(value, "tracing cannot start, for want of memory or of the stack unwinder");
    errno = error;
}
