/* pattern.c: a pattern is checked once, when it is taken, and expanded for each snapshot. */

#define _GNU_SOURCE
#include "pattern.h"

#include "kernel.h"
#include "message.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* TEXT with room for SNAPFILE_PATH_MAX, LENGTH used. */
struct text {
    char *at;
    size_t length;
    bool is_whole;
};

static void add(struct text *text, const char *piece, size_t length)
{
    if (length > SNAPFILE_PATH_MAX - 1 - text->length) {
        text->is_whole = false;
        return;
    }
    memcpy(text->at + text->length, piece, length);
    text->length += length;
    text->at[text->length] = '\0';
}

static void add_number(struct text *text, unsigned long number)
{
    char digits[24];
    const char *shown = message_number(number, digits);
    add(text, shown, strlen(shown));
}

/* The number in `{123}`, and how long that is; 0 if it is none. */
static int parse_owner(const char *at, size_t *length)
{
    int owner = 0;
    const char *digit = at + 1;
    for (; *at == '{' && *digit >= '0' && *digit <= '9' && owner < 100000000; digit++)
        owner = owner * 10 + (*digit - '0');
    *length = (size_t)(digit + 1 - at);
    return *digit == '}' ? owner : 0;
}

/* What stands behind a percent sign: NULL and its LENGTH, or what is wrong with it. */
static const char *check_conversion(struct pattern *pattern, const char *at, bool *has_process, size_t *length)
{
    *length = 1;
    if (*at == '{') {
        pattern->owner = parse_owner(at, length);
        pattern->is_bound = true;
        return pattern->owner ? NULL : "behind %{ a process and } must stand";
    }
    if (*at == 'p')
        *has_process = true;
    return *at && strchr("pent%", *at) ? NULL : "known are %p, %e, %t, %n and %%";
}

/* A percent sign in the name of the current directory stands for itself. */
static void add_directory(struct text *text)
{
    char directory[SNAPFILE_PATH_MAX];
    if (!getcwd(directory, sizeof directory)) {
        text->is_whole = false;
        return;
    }
    for (const char *at = directory; *at; at++)
        add(text, *at == '%' ? "%%" : at, *at == '%' ? 2 : 1);
    add(text, "/", 1);
}

static void keep_name(struct pattern *pattern)
{
    size_t length = strlen(program_invocation_short_name);
    length = length < sizeof pattern->program ? length : sizeof pattern->program - 1;
    memcpy(pattern->program, program_invocation_short_name, length);
    pattern->program[length] = '\0';
}

const char *pattern_init(struct pattern *pattern, const char *value)
{
    struct text text = {.at = pattern->text, .is_whole = true};
    bool has_process = false;
    keep_name(pattern);
    pattern->owner = 0;
    pattern->is_bound = false;
    if (*value != '/')
        add_directory(&text);
    for (const char *at = value; (at = strchr(at, '%'));) {
        size_t length;
        const char *reason = check_conversion(pattern, at + 1, &has_process, &length);
        if (reason)
            return reason;
        at += 1 + length;
    }
    add(&text, value, strlen(value));
    if (!text.is_whole)
        return "the path is too long, or the current directory has none";
    if (!has_process && !pattern->is_bound)
        pattern->owner = getpid();
    return NULL;
}

bool pattern_is_ours(const struct pattern *pattern)
{
    return pattern->owner == 0 || pattern->owner == getpid();
}

static void add_conversion(struct text *text, char conversion, const char *program, unsigned long number)
{
    if (conversion == 'p')
        add_number(text, (unsigned long)getpid());
    else if (conversion == 'e')
        add(text, program, strlen(program));
    else if (conversion == 't')
        add_number(text, (unsigned long)(kernel_now() / 1000000000u));
    else if (conversion == 'n')
        add_number(text, number);
    else
        add(text, "%", 1);
}

bool pattern_expand(const struct pattern *pattern, unsigned long number, char *path)
{
    struct text text = {.at = path, .is_whole = true};
    for (const char *at = pattern->text; *at; at++) {
        if (*at != '%') {
            add(&text, at, 1);
        } else if (*++at == '{') {
            at = strchr(at, '}');
        } else {
            add_conversion(&text, *at, pattern->program, number);
        }
    }
    return text.is_whole;
}
