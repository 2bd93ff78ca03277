/* pattern.h: TRACEMALLOC_SNAPSHOT, the pattern of a snapshot's file name.

   %p is the process, %e the program's name, %t the time in seconds since 1970, %n the number of the snapshot in its
   process, from 1; %% is a percent sign. %{PID} stands for nothing: that process alone writes the file. */

#ifndef TM_PATTERN_H
#define TM_PATTERN_H

#include "snapfile.h"

#include <stdbool.h>

struct pattern {
    char text[SNAPFILE_PATH_MAX]; /* an absolute path once it is expanded */
    char program[256];            /* its name as it was started: it may write another one over it */
    int owner;                    /* the one process that may write it, 0: each writes its own */
    bool is_bound;                /* the value itself names the owner */
};

/* Takes VALUE; a relative one is meant from the current directory. Without %p and %{PID} this process becomes the
   owner. Returns NULL, or why it cannot be used. */
const char *pattern_init(struct pattern *pattern, const char *value);

/* Whether this process may write it. */
bool pattern_is_ours(const struct pattern *pattern);

/* The file's name for snapshot NUMBER of this process, in PATH of SNAPFILE_PATH_MAX. False if it is too long. */
bool pattern_expand(const struct pattern *pattern, unsigned long number, char *path);

#endif
