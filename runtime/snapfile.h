/* snapfile.h: writes the sections of a snapshot file (doc/snapshot-format.md). Calls no malloc.

   The file is written under another name beside the wanted one and takes its place at the end, whole.
   Errors stick: the first one is kept, and snapfile_finish returns it. */

#ifndef TM_SNAPFILE_H
#define TM_SNAPFILE_H

#include <stddef.h>
#include <stdint.h>

#define SNAPFILE_PATH_MAX 4096

struct snapfile {
    int fd;
    int error;    /* errno of the first failure, 0: none */
    uint32_t crc; /* of all so far but the checksums, not yet inverted at the end */
    size_t used;
    const char *path;
    char temporary[SNAPFILE_PATH_MAX];
    uint8_t buffer[32 << 10];
};

/* Opens the temporary file and writes the header. PATH must live until snapfile_finish. */
void snapfile_start(struct snapfile *file, const char *path);

/* A section: its KIND (four characters) and the SIZE of its payload, then snapfile_put for exactly that, then end. */
void snapfile_begin(struct snapfile *file, const char *kind, uint32_t size);
void snapfile_put(struct snapfile *file, const void *bytes, size_t size);
void snapfile_end(struct snapfile *file);

/* A number of WIDTH bytes, little-endian. */
void snapfile_number(struct snapfile *file, uint64_t number, unsigned width);

/* Empties the buffer: the next 32 KiB then need no call of the kernel. */
void snapfile_drain(struct snapfile *file);

/* Writes END with the number of blocks and gives the file its name. Returns 0 or an errno; then there is no file
   but one that was there before. */
int snapfile_finish(struct snapfile *file, uint64_t blocks);

#endif
