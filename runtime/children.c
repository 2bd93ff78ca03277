/* children.c: entries of `environ` are dropped, or replaced by strings in memory of their own. */

#define _GNU_SOURCE
#include "children.h"

#include "kernel.h"
#include "message.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define SNAPSHOT "TRACEMALLOC_SNAPSHOT="
#define PRELOAD "LD_PRELOAD="

static bool begins(const char *text, const char *beginning)
{
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

static bool is_ours(const char *entry)
{
    return begins(entry, "TRACEMALLOC=") || begins(entry, "TRACEMALLOC_");
}

static bool is_library(const char *path, size_t length)
{
    static const char name[] = "libtracemalloc.so";
    const char *slash = memrchr(path, '/', length);
    const char *base = slash ? slash + 1 : path;
    return (size_t)(path + length - base) >= sizeof name - 1 && memcmp(base, name, sizeof name - 1) == 0;
}

/* Room for a string, for good. */
static char *take(size_t size)
{
    return kernel_map((size + 0xffff) & ~(size_t)0xffff);
}

/* LD_PRELOAD's ENTRY without the library; NULL where nothing else is preloaded. */
static char *without_library(char *entry)
{
    char *copy = take(strlen(entry) + 1);
    if (!copy)
        return entry;
    size_t prefix = strlen(PRELOAD), used = prefix;
    memcpy(copy, entry, prefix);
    for (const char *at = entry + prefix; *at;) {
        size_t length = strcspn(at, ": ");
        if (length > 0 && !is_library(at, length)) {
            if (used > prefix)
                copy[used++] = ':';
            memcpy(copy + used, at, length);
            used += length;
        }
        at += length + (at[length] != '\0');
    }
    copy[used] = '\0';
    return used > prefix ? copy : NULL;
}

void children_leave_out(void)
{
    char **kept = environ;
    for (char **at = environ; at && *at; at++) {
        char *entry = begins(*at, PRELOAD) ? without_library(*at) : is_ours(*at) ? NULL : *at;
        if (entry)
            *kept++ = entry;
    }
    if (kept)
        *kept = NULL;
}

void children_bind_snapshot(const char *text, int owner)
{
    char digits[24];
    const char *const pieces[] = {SNAPSHOT, text, "%{", message_number((unsigned long)owner, digits), "}"};
    size_t length = 1;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        length += strlen(pieces[i]);
    char *entry = take(length);
    if (!entry)
        return;
    char *end = entry;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        end = stpcpy(end, pieces[i]);
    for (char **at = environ; at && *at; at++)
        if (begins(*at, SNAPSHOT))
            *at = entry;
}
