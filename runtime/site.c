/* site.c: sites lie in segments, found by number; a hash table of numbers finds them by content.

   The table is open addressing with linear probing. A cell is 8 bytes, the hash's upper half and the number, written by
   one store after the site is whole; that half also says where the search starts, so that growing need not look at the
   sites, which are in no cache. A search starts at the first of CELLS_TOGETHER cells, which are compared without a
   branch: where among them a site is found is random. Growing builds a larger table beside the old one and switches by
   one store; the old one stays, since another thread may be reading it: all old ones together are smaller than the
   new.

   Frames come packed to four bytes each where the walk could do so (packing.h), else whole. A segment begins with a
   copy of what unpacks them. */

#include "site.h"

#include "arena.h"
#include "state.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define FIRST_CELLS 1024
#define FEW_CELLS 16384
#define CELLS_TOGETHER 8 /* one cache line */
#define UNITS_PER_SEGMENT (1u << TM_SEGMENT_SHIFT)
#define HASH_LANES 4

struct table {
    uint64_t start_mask; /* of the cells at which a search starts */
    uint64_t padding[CELLS_TOGETHER - 1];
    uint64_t cells[];
};

/* The writer's mark, beside TM_SITE_CUT in tm_site.flags. */
#define SITE_RETIRED 2u

static struct tm_segment segments[TM_SEGMENT_COUNT];
static struct lock site_lock;
static STATE_OFTEN_READ struct table *table; /* published; replaced by site_lock */
static uint32_t segment_count;               /* by site_lock */
static uint32_t unit_used;                   /* of the last segment, its header included; by site_lock */
static uint64_t cells_used;                  /* by site_lock */
STATE_OFTEN_READ bool site_any_high;

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

/* Several independent chains hide the multiply's latency: one chain costs about 6 cycles a frame. */
uint64_t site_hash_frames(void *const *frames, uint32_t nframe)
{
    uint64_t lanes[HASH_LANES] = {1, 2, 3, 4};
    uint32_t i = 0;
    for (; i + HASH_LANES <= nframe; i += HASH_LANES)
        for (int lane = 0; lane < HASH_LANES; lane++)
            lanes[lane] = mix(lanes[lane], (uintptr_t)frames[i + lane]);
    for (; i < nframe; i++)
        lanes[i % HASH_LANES] = mix(lanes[i % HASH_LANES], (uintptr_t)frames[i]);
    return mix(mix(mix(lanes[0], lanes[1]), lanes[2]), lanes[3]);
}

static uint64_t hash_of(uint32_t domain, uint32_t size_high, const struct traceback *traceback)
{
    return mix(traceback->hash + (uint64_t)domain * 8 + (uint64_t)size_high * 2, traceback->cut);
}

static struct tm_site *site_at(uint32_t number)
{
    char *segment = (char *)state_load(segments[number >> TM_SEGMENT_SHIFT].sites);
    return (struct tm_site *)(segment + (size_t)(number & (UNITS_PER_SEGMENT - 1)) * TM_SITE_UNIT);
}

const struct tm_site *site_get(uint32_t number)
{
    return site_at(number);
}

static uint32_t flags_of(const struct traceback *traceback)
{
    return (traceback->cut ? TM_SITE_CUT : 0) | (traceback->packed ? TM_SITE_PACKED : 0);
}

/* Sixteen bytes that need not be aligned. */
typedef uint64_t pair __attribute__((vector_size(16), aligned(4), may_alias));

static inline pair difference(const void *one, const void *other, size_t at)
{
    return *(const pair *)((const char *)one + at) ^ *(const pair *)((const char *)other + at);
}

/* Whether SIZE bytes are the same, with one branch at the end; the last sixteen may be looked at twice. */
static inline bool is_same(const void *one, const void *other, size_t size)
{
    if (state_unlikely(size < sizeof(pair)))
        return memcmp(one, other, size) == 0;
    pair differs = difference(one, other, size - sizeof(pair));
    for (size_t at = 0; at + sizeof(pair) < size; at += sizeof(pair))
        differs |= difference(one, other, at);
    return (differs[0] | differs[1]) == 0;
}

static bool has_wide_frames(const struct tm_site *site, const struct traceback *traceback)
{
#if UINTPTR_MAX == UINT64_MAX
    return is_same(site->frames, traceback->frames, traceback->nframe * sizeof(uint64_t));
#else
    for (uint32_t i = 0; i < traceback->nframe; i++)
        if (site->frames[i] != (uintptr_t)traceback->frames[i])
            return false;
    return true;
#endif
}

static inline bool has_frames(const struct tm_site *site, const struct traceback *traceback)
{
    if (state_likely(traceback->packed != NULL))
        return is_same(site->frames, traceback->packed, traceback->nframe * sizeof(uint32_t));
    return has_wide_frames(site, traceback);
}

static inline bool site_is(const struct tm_site *site, uint32_t domain, uint32_t size_high,
                           const struct traceback *traceback)
{
    return site->domain == domain && site->size_high == size_high && site->nframe == traceback->nframe &&
           state_peek(site->flags) == flags_of(traceback) && has_frames(site, traceback);
}

static uint64_t table_mask(const struct table *in)
{
    return in->start_mask | (CELLS_TOGETHER - 1);
}

static uint64_t table_start(const struct table *in, uint64_t hash)
{
    return hash >> 32 & in->start_mask;
}

#ifdef __SSE2__
/* Whose upper halves are WANTED. */
static inline __attribute__((no_sanitize("thread"))) unsigned which_of_four(const uint64_t *cells, __m128i wanted)
{
    __m128 first = _mm_load_ps((const float *)cells), second = _mm_load_ps((const float *)(cells + 2));
    __m128i halves = _mm_castps_si128(_mm_shuffle_ps(first, second, _MM_SHUFFLE(3, 1, 3, 1)));
    return (unsigned)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(halves, wanted)));
}
#endif

/* Which of the CELLS_TOGETHER cells have the hash's upper half. A hint: a cell is yet to be loaded as others' stores
   require. */
static inline __attribute__((no_sanitize("thread"))) unsigned which_cells(const uint64_t *cells, uint64_t hash)
{
#ifdef __SSE2__
    __m128i wanted = _mm_shuffle_epi32(_mm_set_epi64x(0, (int64_t)hash), _MM_SHUFFLE(1, 1, 1, 1));
    return which_of_four(cells, wanted) | which_of_four(cells + 4, wanted) << 4;
#else
    unsigned same = 0;
    for (int i = 0; i < CELLS_TOGETHER; i++)
        same |= (unsigned)(state_peek(cells[i]) >> 32 == hash >> 32) << i;
    return same;
#endif
}

/* The number in the last of the cells that SAME says: a site made anew lies after those that were retired. */
static inline uint32_t last_number(const uint64_t *cells, unsigned same)
{
    return (uint32_t)state_load(cells[31 - __builtin_clz(same)]);
}

/* The number found, or 0. Cells are used up from the first of those together to the last, so one that is free ends the
   search. */
static uint32_t find(const struct table *in, uint64_t hash, uint32_t domain, uint32_t size_high,
                     const struct traceback *traceback)
{
    if (!in)
        return 0;
    for (uint64_t at = table_start(in, hash);; at = (at + CELLS_TOGETHER) & in->start_mask) {
        const uint64_t *cells = &in->cells[at];
        for (unsigned same = which_cells(cells, hash); same; same ^= 1u << (31 - __builtin_clz(same))) {
            uint32_t number = last_number(cells, same);
            if (number != 0 && site_is(site_at(number), domain, size_high, traceback))
                return number;
        }
        if (state_load(cells[CELLS_TOGETHER - 1]) == 0)
            return 0;
    }
}

static void table_put(struct table *in, uint64_t cell)
{
    uint64_t at = table_start(in, cell);
    while (in->cells[at] != 0)
        at = (at + 1) & table_mask(in);
    state_publish(in->cells[at], cell);
}

static struct table *table_make(uint64_t cells)
{
    const size_t alignment = CELLS_TOGETHER * sizeof(uint64_t);
    char *memory = arena_take_table(alignment + sizeof(struct table) + cells * sizeof(uint64_t));
    if (!memory)
        return NULL;
    struct table *made = (struct table *)(memory + (-(uintptr_t)memory & (alignment - 1)));
    made->start_mask = cells - CELLS_TOGETHER;
    return made;
}

static bool table_grow(void)
{
    uint64_t cells = table ? table_mask(table) + 1 : 0;
    struct table *larger = table_make(table ? cells * 2 : FIRST_CELLS);
    if (!larger)
        return false;
    for (uint64_t i = 0; i < cells; i++)
        if (table->cells[i] != 0)
            table_put(larger, table->cells[i]);
    state_publish(table, larger);
    return true;
}

static bool open_segment(void)
{
    if (segment_count == TM_SEGMENT_COUNT)
        return false;
    struct tm_slab *slab = arena_take_segment(segment_count);
    if (!slab)
        return false;
    state_publish(tm_state.segments, segments);
    state_publish(segments[segment_count].sites, (struct tm_site *)slab);
    segment_count++;
    unit_used = TM_SEGMENT_FIRST;
    return true;
}

static uint32_t units_of(uint32_t nframe, uint32_t flags)
{
    size_t frame = flags & TM_SITE_PACKED ? sizeof(uint32_t) : sizeof(uint64_t);
    return (uint32_t)((sizeof(struct tm_site) + nframe * frame + TM_SITE_UNIT - 1) / TM_SITE_UNIT);
}

/* The next site will be written where this one ends, and mostly be as large: it need not wait for the memory then. */
static void expect_next(const char *place)
{
    for (size_t i = 0; i < 2; i++)
        __builtin_prefetch(place + i * TM_SITE_UNIT, 1);
}

/* Room for a site: its number, or 0. */
static uint32_t take_number(uint32_t units)
{
    if ((segment_count == 0 || unit_used + units > UNITS_PER_SEGMENT) && !open_segment())
        return 0;
    struct tm_slab *slab = (struct tm_slab *)segments[segment_count - 1].sites;
    uint64_t used = (uint64_t)(unit_used + units) * TM_SITE_UNIT - TM_SLAB_HEADER;
    if (!arena_fill(slab, used)) {
        unit_used = UNITS_PER_SEGMENT;
        return take_number(units);
    }
    uint32_t number = (segment_count - 1) << TM_SEGMENT_SHIFT | unit_used;
    unit_used += units;
    state_publish(slab->used, used);
    expect_next((char *)slab + TM_SLAB_HEADER + used);
    return number;
}

/* How many of the table's cells are used before it grows: fewer while it is small, so that few sites lie elsewhere than
   where their search starts; later the memory counts for more. */
static uint64_t cells_to_use(void)
{
    uint64_t cells = table ? table_mask(table) + 1 : 0;
    return cells < FEW_CELLS ? cells / 2 : cells / 4 * 3;
}

static void put_frames(struct tm_site *site, const struct traceback *traceback)
{
    if (traceback->packed)
        memcpy(site->frames, traceback->packed, traceback->nframe * sizeof(uint32_t));
    else
        for (uint32_t i = 0; i < traceback->nframe; i++)
            site->frames[i] = (uintptr_t)traceback->frames[i];
}

/* A segment can be read without the runtime's state. */
static void tell_regions(uint32_t number)
{
    struct tm_slab *slab = (struct tm_slab *)segments[number >> TM_SEGMENT_SHIFT].sites;
    struct tm_regions *told = (struct tm_regions *)(slab + 1);
    for (unsigned i = 0; i < TM_REGIONS; i++)
        state_publish(told->starts[i], state_peek(packing_regions.starts[i]));
}

static uint32_t make(uint64_t hash, uint32_t domain, uint32_t size_high, const struct traceback *traceback)
{
    if (cells_used >= cells_to_use() && !table_grow() && (!table || cells_used == table_mask(table)))
        return 0;
    uint32_t flags = flags_of(traceback), number = take_number(units_of(traceback->nframe, flags));
    if (number == 0)
        return 0;
    struct tm_site *site = site_at(number);
    site->domain = domain;
    site->nframe = traceback->nframe;
    site->flags = flags;
    site->size_high = size_high;
    site->unloads = state_load(tm_state.unloads);
    site->number = (uint32_t)tm_state.site_count;
    put_frames(site, traceback);
    tell_regions(number);
    if (size_high)
        state_publish(site_any_high, true);
    table_put(table, (hash >> 32 << 32) | number);
    cells_used++;
    state_publish(tm_state.site_count, tm_state.site_count + 1);
    return number;
}

static uint32_t find_or_make(uint64_t hash, uint32_t domain, uint32_t size_high, const struct traceback *traceback)
{
    state_acquire(&site_lock);
    uint32_t number = find(table, hash, domain, size_high, traceback);
    if (number == 0)
        number = make(hash, domain, size_high, traceback);
    lock_release(&site_lock);
    return number;
}

static __attribute__((noinline)) uint32_t search_or_make(uint64_t hash, uint32_t domain, uint32_t size_high,
                                                         const struct traceback *traceback)
{
    uint32_t number = find(state_load(table), hash, domain, size_high, traceback);
    return number != 0 ? number : find_or_make(hash, domain, size_high, traceback);
}

/* The number of the site, made if it is new. */
static __attribute__((noinline)) uint32_t look_up(uint64_t hash, uint32_t domain, uint32_t size_high,
                                                  const struct traceback *traceback)
{
    const struct table *in = state_load(table);
    if (state_unlikely(!in))
        return search_or_make(hash, domain, size_high, traceback);
    const uint64_t *cells = &in->cells[table_start(in, hash)];
    unsigned same = which_cells(cells, hash);
    uint32_t number = state_likely(same) ? last_number(cells, same) : 0;
    if (state_likely(number != 0) && state_likely(site_is(site_at(number), domain, size_high, traceback)))
        return number;
    return search_or_make(hash, domain, size_high, traceback);
}

uint32_t site_intern(uint32_t domain, uint32_t size_high, const struct traceback *traceback)
{
    uint64_t hash = hash_of(domain, size_high, traceback);
    if (state_unlikely(!traceback->recent))
        return look_up(hash, domain, size_high, traceback);
    uint64_t *cell = &traceback->recent->cells[hash >> 32 & (SITE_RECENT - 1)];
    uint32_t number = (uint32_t)*cell;
    if (state_likely((*cell ^ hash) >> 32 == 0 && number != 0) &&
        state_likely(site_is(site_at(number), domain, size_high, traceback)))
        return number;
    number = look_up(hash, domain, size_high, traceback);
    if (state_likely(number != 0))
        *cell = hash >> 32 << 32 | number;
    return number;
}

static bool has_frame_in(const struct tm_site *site, uintptr_t start, uintptr_t end)
{
    for (uint32_t i = 0; i < site->nframe; i++)
        if (site_frame(site, i) - 1 >= start && site_frame(site, i) - 1 < end)
            return true;
    return false;
}

const struct tm_site *site_next(struct site_cursor *cursor)
{
    if (cursor->number == 0) {
        cursor->left = state_load(tm_state.site_count);
        cursor->number = TM_SEGMENT_FIRST;
    }
    if (cursor->left == 0)
        return NULL;
    /* A segment ends with its slab's used bytes, or is full to its last unit; the next site opens the next one. */
    for (;;) {
        if ((cursor->number & (UNITS_PER_SEGMENT - 1)) == 0)
            cursor->number += TM_SEGMENT_FIRST;
        struct tm_slab *slab = (struct tm_slab *)state_load(segments[cursor->number >> TM_SEGMENT_SHIFT].sites);
        uint64_t used = TM_SLAB_HEADER + state_load(slab->used);
        if ((uint64_t)(cursor->number & (UNITS_PER_SEGMENT - 1)) * TM_SITE_UNIT < used)
            break;
        cursor->number = ((cursor->number >> TM_SEGMENT_SHIFT) + 1) << TM_SEGMENT_SHIFT | TM_SEGMENT_FIRST;
    }
    const struct tm_site *site = site_at(cursor->number);
    cursor->number += units_of(site->nframe, state_peek(site->flags));
    cursor->left--;
    return site;
}

void site_retire_range(uintptr_t start, uintptr_t end)
{
    state_acquire(&site_lock);
    for (uint64_t i = 0; table && i <= table_mask(table); i++) {
        struct tm_site *site = table->cells[i] ? site_at((uint32_t)table->cells[i]) : NULL;
        if (site && has_frame_in(site, start, end))
            state_publish(site->flags, site->flags | SITE_RETIRED);
    }
    lock_release(&site_lock);
}

void site_quiesce(void)
{
    lock_await(&site_lock);
}

void site_reset_lock(void)
{
    lock_reset(&site_lock);
}
