/* snapshot.c: tm_take_snapshot: a snapshot without a debugger, raw: program counters and the modules they lie in.

   Blocks are read a page at a time and written before their sites, since other threads go on making both; the
   sites that are written last hold all that the blocks named. */

#define _GNU_SOURCE
#include "snapshot.h"

#include "arena.h"
#include "kernel.h"
#include "modules.h"
#include "record.h"
#include "site.h"
#include "skiplist.h"
#include "snapfile.h"
#include "state.h"
#include "tracemalloc.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define BATCH 4096
#define FRAMES_IN_BATCH (1 << 20)

struct batch {
    uint32_t count;
    uint32_t sites[BATCH];
    uint64_t sizes[BATCH];
    uint64_t addresses[BATCH];
};

/* What a snapshot takes: too much for a stack, kept for the next one. */
struct work {
    struct snapfile file;
    struct batch batch;
    struct skiplist_block page[TM_PAGE_OFFSETS];
    const struct tm_site *sites[BATCH];
    char program[SNAPFILE_PATH_MAX];
    char text[256 << 10];
};

static struct lock snapshot_lock;
static struct work *work; /* by snapshot_lock */

/* TEXT with room for MOST, LENGTH used. */
struct text {
    char *at;
    size_t length;
    size_t most;
};

static void add(struct text *text, const char *piece)
{
    size_t length = strlen(piece);
    if (length > text->most - text->length)
        length = text->most - text->length;
    memcpy(text->at + text->length, piece, length);
    text->length += length;
}

static void add_number(struct text *text, uint64_t number)
{
    char reversed[24];
    unsigned count = 0;
    do {
        reversed[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0) {
        char digit[2] = {reversed[--count], 0};
        add(text, digit);
    }
}

/* How many bytes the UTF-8 character at AT has, 0 if it is none. */
static unsigned utf8_length(const char *at)
{
    const unsigned char *byte = (const unsigned char *)at;
    unsigned length = byte[0] < 0x80   ? 1
                      : byte[0] < 0xc2 ? 0
                      : byte[0] < 0xe0 ? 2
                      : byte[0] < 0xf0 ? 3
                      : byte[0] < 0xf5 ? 4
                                       : 0;
    for (unsigned i = 1; i < length; i++)
        if ((byte[i] & 0xc0) != 0x80)
            return 0;
    bool is_overlong = (byte[0] == 0xe0 && byte[1] < 0xa0) || (byte[0] == 0xf0 && byte[1] < 0x90);
    bool is_surrogate = byte[0] == 0xed && byte[1] >= 0xa0;
    bool is_beyond = byte[0] == 0xf4 && byte[1] >= 0x90;
    return is_overlong || is_surrogate || is_beyond ? 0 : length;
}

/* As a JSON string. Control characters and what is no UTF-8 become `?`. */
static void add_string(struct text *text, const char *string)
{
    add(text, "\"");
    while (*string) {
        unsigned length = utf8_length(string);
        char piece[6] = "?";
        if (*string == '"' || *string == '\\')
            memcpy(piece, (char[]){'\\', *string, 0}, 3);
        else if (length > 0 && ((unsigned char)*string >= ' ' && *string != 0x7f))
            memcpy(piece, string, length);
        add(text, piece);
        string += length > 0 ? length : 1;
    }
    add(text, "\"");
}

/* Number and name of each domain that has one; of several names the last one counts, for JSON's readers too.
   Returns how many had no room. */
static uint64_t add_domains(struct text *text)
{
    uint64_t count = state_load(tm_state.domain_count);
    const struct tm_domain *domains = state_load(tm_state.domains);
    uint64_t i = 0;
    add(text, ", \"domains\": {");
    for (; i < count && text->most - text->length > 4 * TM_DOMAIN_NAME_MAX + 512; i++) {
        add(text, i > 0 ? ", \"" : "\"");
        add_number(text, domains[i].domain);
        add(text, "\": ");
        add_string(text, domains[i].name);
    }
    add(text, "}");
    return count - i;
}

static void find_program(struct work *with)
{
    ssize_t length = readlink("/proc/self/exe", with->program, SNAPFILE_PATH_MAX - 1);
    with->program[length > 0 ? length : 0] = '\0';
}

static void write_info(struct work *with)
{
    struct text text = {.at = with->text, .most = sizeof with->text};
    struct utsname host;
    add(&text, "{\"traceback_limit\": ");
    add_number(&text, state_peek(tm_state.frame_limit));
    add(&text, ", \"info\": {\"program\": ");
    add_string(&text, with->program);
    add(&text, ", \"pid\": ");
    add_number(&text, (uint64_t)getpid());
    add(&text, ", \"limit\": ");
    add_number(&text, state_peek(tm_state.frame_limit));
    add(&text, ", \"time\": ");
    add_number(&text, kernel_now() / 1000000000u);
    add(&text, ", \"since\": ");
    add_number(&text, state_peek(tm_state.started));
    if (uname(&host) == 0) {
        add(&text, ", \"host\": ");
        add_string(&text, host.nodename);
    }
    uint64_t left_out = add_domains(&text);
    add(&text, "}, \"notes\": [");
    if (left_out > 0) {
        add(&text, "\"the names of ");
        add_number(&text, left_out);
        add(&text, " domains had no room\"");
    }
    add(&text, "], \"attributes\": {}}");
    snapfile_begin(&with->file, "INFO", (uint32_t)text.length);
    snapfile_put(&with->file, text.at, text.length);
    snapfile_end(&with->file);
}

static void begin_table(struct snapfile *file, const char *kind, uint32_t rows, const uint8_t *widths, unsigned columns)
{
    uint32_t row = 0;
    for (unsigned i = 0; i < columns; i++)
        row += widths[i];
    snapfile_begin(file, kind, 4 + columns + rows * row);
    snapfile_number(file, rows, 4);
    snapfile_put(file, widths, columns);
}

static void write_batch(struct snapfile *file, struct batch *batch)
{
    static const uint8_t row_widths[] = {4, 8, 1}, address_widths[] = {8};
    if (batch->count == 0)
        return;
    begin_table(file, "ROWS", batch->count, row_widths, 3);
    for (uint32_t i = 0; i < batch->count; i++)
        snapfile_number(file, batch->sites[i], 4);
    for (uint32_t i = 0; i < batch->count; i++)
        snapfile_number(file, batch->sizes[i], 8);
    for (uint32_t i = 0; i < batch->count; i++)
        snapfile_number(file, 1, 1);
    snapfile_end(file);
    begin_table(file, "ADDR", batch->count, address_widths, 1);
    for (uint32_t i = 0; i < batch->count; i++)
        snapfile_number(file, batch->addresses[i], 8);
    snapfile_end(file);
    batch->count = 0;
}

static void add_block(struct batch *batch, const struct skiplist_block *block)
{
    const struct tm_site *site = site_get((uint32_t)(block->entry >> TM_SIZE_BITS));
    batch->sites[batch->count] = site->number;
    batch->sizes[batch->count] =
        (uint64_t)site->size_high << TM_SIZE_BITS | (block->entry & ((UINT64_C(1) << TM_SIZE_BITS) - 1));
    batch->addresses[batch->count] = block->address;
    batch->count++;
}

static uint64_t write_blocks(struct work *with)
{
    struct skiplist_cursor cursor = {.started = false};
    uint64_t blocks = 0;
    unsigned count;
    with->batch.count = 0;
    while (skiplist_read_node(&cursor, with->page, &count)) {
        if (with->batch.count + count > BATCH)
            write_batch(&with->file, &with->batch);
        for (unsigned i = 0; i < count; i++)
            add_block(&with->batch, &with->page[i]);
        blocks += count;
    }
    write_batch(&with->file, &with->batch);
    return blocks;
}

static void write_sites(struct snapfile *file, const struct tm_site *const *sites, uint32_t count, uint32_t frames)
{
    static const uint8_t widths[] = {4, 4, 4}, age_widths[] = {4}, pc_widths[] = {8};
    begin_table(file, "SITE", count, widths, 3);
    for (uint32_t i = 0; i < count; i++)
        snapfile_number(file, sites[i]->domain, 4);
    for (uint32_t i = 0; i < count; i++)
        snapfile_number(file, state_peek(sites[i]->flags) & TM_SITE_CUT ? 0 : sites[i]->nframe + 1, 4);
    for (uint32_t i = 0; i < count; i++)
        snapfile_number(file, sites[i]->nframe, 4);
    snapfile_end(file);
    begin_table(file, "AGES", count, age_widths, 1);
    for (uint32_t i = 0; i < count; i++)
        snapfile_number(file, sites[i]->unloads, 4);
    snapfile_end(file);
    begin_table(file, "PCS ", frames, pc_widths, 1);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t frame = 0; frame < sites[i]->nframe; frame++)
            snapfile_number(file, site_frame(sites[i], frame), 8);
    snapfile_end(file);
}

/* In the order in which they were made, which is their number. */
static void write_all_sites(struct work *with)
{
    struct site_cursor cursor = {.number = 0};
    uint32_t count = 0, frames = 0;
    for (const struct tm_site *site = site_next(&cursor); site; site = site_next(&cursor)) {
        with->sites[count++] = site;
        frames += site->nframe;
        if (count == BATCH || frames > FRAMES_IN_BATCH) {
            write_sites(&with->file, with->sites, count, frames);
            count = frames = 0;
        }
    }
    if (count > 0)
        write_sites(&with->file, with->sites, count, frames);
}

static void write_module(void *argument, const struct tm_module *module, uint64_t unload)
{
    static const uint8_t widths[] = {8, 8, 8, 4, 1, 2};
    struct work *with = argument;
    const char *path = module->path[0] ? module->path : with->program;
    uint32_t length = (uint32_t)strlen(path);
    snapfile_begin(&with->file, "MODS", 4 + 6 + 31 + module->build_id_length + length);
    snapfile_number(&with->file, 1, 4);
    snapfile_put(&with->file, widths, sizeof widths);
    snapfile_number(&with->file, module->start, 8);
    snapfile_number(&with->file, module->end, 8);
    snapfile_number(&with->file, module->bias, 8);
    snapfile_number(&with->file, unload, 4);
    snapfile_number(&with->file, module->build_id_length, 1);
    snapfile_number(&with->file, length, 2);
    snapfile_put(&with->file, module->build_id, module->build_id_length);
    snapfile_put(&with->file, path, length);
    snapfile_end(&with->file);
}

static int take(const char *filename)
{
    if (!work)
        work = arena_take(TM_SLAB_OTHER, sizeof *work);
    if (!work)
        return ENOMEM;
    find_program(work);
    snapfile_start(&work->file, filename);
    write_info(work);
    uint64_t blocks = write_blocks(work);
    write_all_sites(work);
    snapfile_drain(&work->file); /* the visit holds the loader's lock, which is no place to wait for a disk */
    modules_visit(write_module, work);
    return snapfile_finish(&work->file, blocks);
}

void snapshot_reset_lock(void)
{
    lock_reset(&snapshot_lock);
}

TM_API int tm_take_snapshot(const char *filename)
{
    int error = EINVAL;
    if (state_is_tracing()) {
        bool was_busy = state_thread.is_busy;
        state_thread.is_busy = true;
        int kept = errno, cancel_state;
        sigset_t limit, before, pending; /* SIGXFSZ: a file larger than the program may write is an error here */
        sigemptyset(&limit);
        sigaddset(&limit, SIGXFSZ);
        sigpending(&pending);
        pthread_sigmask(SIG_BLOCK, &limit, &before);
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
        lock_acquire(&snapshot_lock);
        error = take(filename);
        lock_release(&snapshot_lock);
        if (!sigismember(&pending, SIGXFSZ))
            sigtimedwait(&limit, NULL, &(struct timespec){0});
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_setcancelstate(cancel_state, &cancel_state);
        errno = kept;
        state_thread.is_busy = was_busy;
    }
    if (error == 0)
        return 0;
    errno = error;
    return -1;
}
