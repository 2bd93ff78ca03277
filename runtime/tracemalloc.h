/* tracemalloc.h: tracemalloc for C, the public API.

   The library records every live heap block with the traceback of its allocation. A debugger reads them from
   a running process or a core; see tracemalloc-gdb. These functions let the program itself take part.

   All functions may be called from any thread at any time, also from several at once, except from signal
   handlers. None but tm_start and tm_take_snapshot changes errno. Sizes are in bytes, as the program asked for them. */

#ifndef TRACEMALLOC_H
#define TRACEMALLOC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TM_API __attribute__((visibility("default")))
#else
#define TM_API
#endif

/* Starts tracing: every block allocated from now on is recorded with a traceback of up to NFRAME frames,
   1 to 65535. Blocks that exist already stay unknown. While tracing already, does nothing: the first limit
   holds. Returns 0, or -1 with errno EINVAL (NFRAME is out of range) or ENOMEM (also for good in a child of a fork
   that another library's fork handler held up for so long that allocations had to go on).
   A program that is started with TRACEMALLOC=NFRAME in its environment traces from its start. */
TM_API int tm_start(int nframe);

/* Stops tracing and forgets all blocks, in all domains; current and peak become 0. */
TM_API void tm_stop(void);

/* Forgets all blocks, in all domains, and goes on tracing; current and peak become 0. */
TM_API void tm_clear_traces(void);

/* Makes the peak what is current now. */
TM_API void tm_reset_peak(void);

/* 1 while tracing, else 0. */
TM_API int tm_is_tracing(void);

/* The most frames a traceback may have: 1 before the first tm_start, and after tm_stop what it was. */
TM_API int tm_get_traceback_limit(void);

/* Bytes in traced blocks of all domains, now and at the most since tm_start, tm_clear_traces or
   tm_reset_peak. The current is exact; the peak is exact while one thread allocates, and with n of them
   it is off by up to (n - 1) * 64 KiB. Both are 0 while not tracing. Neither pointer may be NULL. */
TM_API void tm_get_traced_memory(size_t *current, size_t *peak);

/* Bytes of address space that the library took from the kernel for its own tables. */
TM_API size_t tm_get_tracemalloc_memory(void);

/* Fills FRAMES with up to MAX return addresses of the traceback with which the heap block that starts at PTR
   was allocated, most recent call first. Returns how many the block has stored, which may be more than MAX;
   0 when no traced block starts at PTR. FRAMES may be NULL when MAX is 0. */
TM_API int tm_get_object_traceback(const void *ptr, void **frames, int max);

/* Records a block of SIZE bytes at PTR in DOMAIN, with the caller's traceback: memory of a pool, of mmap, of
   a device. A record at the same (DOMAIN, PTR) is replaced. Domain 0 is the heap's own; programs use others.
   Returns 0, -1 when there is no memory for it (any record at (DOMAIN, PTR) is gone), -2 when not tracing. */
TM_API int tm_track(unsigned domain, uintptr_t ptr, size_t size);

/* Forgets what tm_track recorded at (DOMAIN, PTR). Returns 0, also when nothing was; -2 when not tracing. */
TM_API int tm_untrack(unsigned domain, uintptr_t ptr);

/* Writes a snapshot of all traced blocks to FILENAME, which `tm-compare` and `Snapshot.load` read. The file holds
   program counters; it is symbolised when it is read, with the program's files at hand. It appears whole or not at
   all. Other threads go on meanwhile: a block that comes or goes then is in it or not. Calls no malloc.
   Returns 0, or -1 and errno: EINVAL (not tracing; FILENAME is too long), EOPNOTSUPP (FILENAME is a device or a pipe),
   or the file system's. */
TM_API int tm_take_snapshot(const char *filename);

/* Gives DOMAIN a name of up to 59 bytes of UTF-8 that debuggers show; a longer one is cut. A later name of the same
   domain replaces it. The name is copied. Returns 0, or -1 when there is no memory or 65536 names were given. */
TM_API int tm_domain_name(unsigned domain, const char *name);

#ifdef __cplusplus
}
#endif

#endif
