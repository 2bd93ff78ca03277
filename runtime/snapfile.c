/* snapfile.c: a buffer, a running CRC-32, and the rename at the end. */

#define _GNU_SOURCE
#include "snapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t header[16] = {0x89, 't', 'm', 's', 'n', 'a', 'p', '\n', 1};

static uint32_t crc_table[256];

static void make_crc_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xedb88320) : 0);
        crc_table[byte] = crc;
    }
}

void snapfile_drain(struct snapfile *file)
{
    size_t done = 0;
    while (!file->error && done < file->used) {
        ssize_t n = write(file->fd, file->buffer + done, file->used - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            file->error = errno;
    }
    file->used = 0;
}

static void put_unchecked(struct snapfile *file, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        size_t room = sizeof file->buffer - file->used;
        size_t part = size < room ? size : room;
        memcpy(file->buffer + file->used, bytes, part);
        file->used += part;
        bytes += part;
        size -= part;
        if (file->used == sizeof file->buffer)
            snapfile_drain(file);
    }
}

void snapfile_put(struct snapfile *file, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    uint32_t crc = file->crc;
    for (size_t i = 0; i < size; i++)
        crc = crc >> 8 ^ crc_table[(crc ^ at[i]) & 0xff];
    file->crc = crc;
    put_unchecked(file, at, size);
}

void snapfile_number(struct snapfile *file, uint64_t number, unsigned width)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < width; i++)
        bytes[i] = (uint8_t)(number >> 8 * i);
    snapfile_put(file, bytes, width);
}

/* PATH with `.PID.tmp` behind it: the same directory, so that the rename is atomic. */
static int name_temporary(struct snapfile *file)
{
    size_t length = strlen(file->path);
    char digits[24];
    size_t count = 0;
    if (length == 0 || length + sizeof digits + 8 > sizeof file->temporary)
        return EINVAL;
    for (unsigned long number = (unsigned long)getpid(); number > 0; number /= 10)
        digits[count++] = (char)('0' + number % 10);
    memcpy(file->temporary, file->path, length);
    file->temporary[length++] = '.';
    while (count > 0)
        file->temporary[length++] = digits[--count];
    memcpy(file->temporary + length, ".tmp", 5);
    return 0;
}

/* Never one of the standard three, which other threads may write to unasked. */
static int open_beyond_standard(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    int higher = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int error = errno;
    close(fd);
    errno = error;
    return higher;
}

/* A device, a pipe or a socket: the rename would put a file in its place, for all who use it. */
static bool is_special(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

void snapfile_start(struct snapfile *file, const char *path)
{
    make_crc_table();
    file->path = path;
    file->used = 0;
    file->crc = UINT32_MAX;
    file->fd = -1;
    file->error = is_special(path) ? EOPNOTSUPP : name_temporary(file);
    if (!file->error) {
        file->fd = open_beyond_standard(file->temporary);
        file->error = file->fd < 0 ? errno : 0;
    }
    snapfile_put(file, header, sizeof header);
}

void snapfile_begin(struct snapfile *file, const char *kind, uint32_t size)
{
    snapfile_put(file, kind, 4);
    snapfile_number(file, size, 4);
}

void snapfile_end(struct snapfile *file)
{
    uint32_t crc = file->crc;
    uint8_t bytes[4] = {(uint8_t)~crc, (uint8_t)(~crc >> 8), (uint8_t)(~crc >> 16), (uint8_t)(~crc >> 24)};
    put_unchecked(file, bytes, sizeof bytes);
}

int snapfile_finish(struct snapfile *file, uint64_t blocks)
{
    snapfile_begin(file, "END ", 8);
    snapfile_number(file, blocks, 8);
    snapfile_end(file);
    snapfile_drain(file);
    if (file->fd < 0)
        return file->error;
    if (!file->error && fsync(file->fd) != 0 && errno != EINVAL && errno != EROFS)
        file->error = errno;
    if (close(file->fd) != 0 && !file->error)
        file->error = errno;
    if (!file->error && rename(file->temporary, file->path) != 0)
        file->error = errno;
    if (file->error)
        unlink(file->temporary);
    return file->error;
}
