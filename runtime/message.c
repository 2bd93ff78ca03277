/* message.c: the pieces are joined first, so that lines of several processes do not mix. */

#define _GNU_SOURCE
#include "message.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 5120

/* glibc 2.32. strerror allocates and translates. */
extern const char *strerrordesc_np(int error) __attribute__((weak));

void message_write(int fd, const char *const pieces[])
{
    static const char prefix[] = "tracemalloc: ";
    char line[LINE_MAX_BYTES];
    size_t used = sizeof prefix - 1;
    memcpy(line, prefix, used);
    for (; *pieces; pieces++) {
        size_t length = strlen(*pieces);
        if (length > sizeof line - 1 - used)
            length = sizeof line - 1 - used;
        memcpy(line + used, *pieces, length);
        used += length;
    }
    line[used++] = '\n';
    int error = errno;
    while (write(fd, line, used) < 0 && errno == EINTR)
        ;
    errno = error;
}

const char *message_of(int error)
{
    const char *text = &strerrordesc_np ? strerrordesc_np(error) : NULL;
    return text ? text : "it cannot be written";
}

const char *message_number(unsigned long number, char digits[24])
{
    char *at = digits + 23;
    *at = '\0';
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return at;
}
