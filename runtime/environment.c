/* environment.c: what happens when the library is loaded: TRACEMALLOC=NFRAME and its kin are read.

   TRACEMALLOC_SNAPSHOT=PATTERN   a snapshot is written at exit (pattern.h)
   TRACEMALLOC_SIGNAL=USR2        and whenever the signal comes
   TRACEMALLOC_INTERVAL=60        and every so many seconds
   TRACEMALLOC_CHILDREN=0         programs that this one executes are not traced

   What cannot be obeyed is told in one line, and the program runs on without it. */

#define _GNU_SOURCE
#include "environment.h"

#include "children.h"
#include "fork.h"
#include "message.h"
#include "schedule.h"
#include "tracemalloc.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FRAMES_MAX 65535
#define INTERVAL_MAX (366 * 86400)

static void refuse(const char *name, const char *value, const char *reason, const char *result)
{
    const char *const pieces[] = {name, "=", value, ": ", reason, "; ", result, NULL};
    message_write(STDERR_FILENO, pieces);
}

/* The value as a number from 0 to MOST, else -1. */
static int parse(const char *value, int most)
{
    int number = 0;
    for (const char *at = value; *at; at++) {
        if (*at < '0' || *at > '9')
            return -1;
        number = number * 10 + (*at - '0');
        if (number > most)
            return -1;
    }
    return number;
}

/* Those that neither end a program on purpose, nor tell it of its own faults, nor come unasked. */
static const struct {
    const char *name;
    int number;
} signals[] = {{"USR1", SIGUSR1}, {"USR2", SIGUSR2},   {"HUP", SIGHUP}, {"QUIT", SIGQUIT},
               {"URG", SIGURG},   {"WINCH", SIGWINCH}, {"IO", SIGIO},   {"PWR", SIGPWR}};

/* The signal of that name or number, -1 if it is none that may be taken. */
static int parse_signal(const char *value)
{
    const char *name = strncmp(value, "SIG", 3) == 0 ? value + 3 : value;
    if (strncmp(name, "RTMIN", 5) == 0 && (name[5] == '+' || !name[5])) {
        int beyond = name[5] ? parse(name + 6, SIGRTMAX) : 0;
        return beyond >= 0 && SIGRTMIN + beyond <= SIGRTMAX ? SIGRTMIN + beyond : -1;
    }
    int number = *value ? parse(value, SIGRTMAX) : -1;
    if (number >= SIGRTMIN)
        return number;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (strcmp(name, signals[i].name) == 0 || number == signals[i].number)
            return signals[i].number;
    return -1;
}

static void read_tracing(void)
{
    static const char name[] = "TRACEMALLOC", result[] = "not tracing";
    const char *value = secure_getenv(name);
    int nframe = value ? parse(value, FRAMES_MAX) : 0;
    if (nframe < 0)
        refuse(name, value, "the number of frames must be from 1 to 65535 (0: off)", result);
    else if (nframe > 0 && tm_start(nframe) != 0)
        refuse(name, value, "tracing cannot start, for want of memory or of the stack unwinder", result);
}

/* The value of a variable that means nothing while no snapshot is asked for; NULL if it is not set. */
static const char *timing(const char *name, bool has_snapshot)
{
    const char *value = secure_getenv(name);
    if (!value || !*value)
        return NULL;
    if (!has_snapshot)
        refuse(name, value, "TRACEMALLOC_SNAPSHOT names no file to write", "ignored");
    return has_snapshot ? value : NULL;
}

static bool read_snapshot(void)
{
    static const char name[] = "TRACEMALLOC_SNAPSHOT";
    static struct pattern pattern;
    const char *value = secure_getenv(name);
    if (!value || !*value)
        return false;
    const char *reason = pattern_init(&pattern, value);
    if (reason) {
        refuse(name, value, reason, "no snapshots are written");
        return false;
    }
    schedule_init(&pattern);
    if (pattern.owner && !pattern.is_bound)
        children_bind_snapshot(pattern.text, pattern.owner);
    return true;
}

static void read_signal(bool has_snapshot)
{
    static const char name[] = "TRACEMALLOC_SIGNAL", result[] = "no snapshot on a signal";
    const char *value = timing(name, has_snapshot);
    int number = value ? parse_signal(value) : 0;
    if (number < 0)
        refuse(name, value, "give USR1, USR2, HUP, QUIT, URG, WINCH, IO, PWR, RTMIN+N or the number of one", result);
    else if (number > 0 && schedule_on_signal(number) != 0)
        refuse(name, value, "the signal is ignored or handled already", result);
}

static uint32_t read_interval(bool has_snapshot)
{
    static const char name[] = "TRACEMALLOC_INTERVAL";
    const char *value = timing(name, has_snapshot);
    int seconds = value ? parse(value, INTERVAL_MAX) : 0;
    if (seconds < 0)
        refuse(name, value, "give whole seconds, from 1 to a year (0: never)", "no snapshots at intervals");
    return seconds > 0 ? (uint32_t)seconds : 0;
}

static void read_children(void)
{
    static const char name[] = "TRACEMALLOC_CHILDREN";
    const char *value = secure_getenv(name);
    if (!value || !*value || strcmp(value, "1") == 0)
        return;
    if (strcmp(value, "0") == 0)
        children_leave_out();
    else
        refuse(name, value, "give 0 or 1", "children are traced");
}

__attribute__((constructor(101))) void environment_start(void)
{
    int error = errno;
    fork_init(); /* unless the first allocation came before */
    read_tracing();
    bool has_snapshot = read_snapshot();
    read_signal(has_snapshot);
    schedule_start(read_interval(has_snapshot));
    read_children();
    errno = error;
}
