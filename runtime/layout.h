/* layout.h: what a debugger reads of a traced program, live or in a core.

   Only fixed-width fields, no code. gdb/tm/layout.py holds the matching formats and a test compares the
   two field by field. doc/debugger-layout.md tells the same story in prose.

   Glossary
     block      a piece of memory between its allocation and its release, in one domain
     site       an interned (domain, traceback): where blocks come from
     entry      what describes one live block: its size and its site; site 0 means no block. 8 bytes, or 4 in a line of
                narrow ones
     page       4096 bytes of the program's address space
     phase      address & 15. malloc's blocks have phase 0; tracked addresses may have any
     node       the skiplist's element: all live blocks of one domain that start in one page, in one phase
     line       64 bytes with entries of a node's blocks: those that start in one part of its page, as far as there is
                room, and what the lines before had no room for. All lines of a node are narrow, or wide
     slot       an entry's place in its line
     slab       a piece of anonymous memory that the runtime took from the kernel

   How a reader finds the live blocks
     - Start at `tm_layout`; when no symbol leads there, search memory for its magic: the copy that is
       meant holds its own address in `self`.
     - For statistics: walk the slabs from `tm_state.slabs`. Those of kinds ENTRY and WIDE are nothing but lines, and
       every entry in them whose site is not 0 is a live block; only of the lines that a lane says it moves
       (tm_lane.growing), those that the node does not lead to are to be left out.
     - For addresses and order: walk `next` from `tm_state.head`; the nodes rise by (domain, key). `page->lines` leads
       to a node's lines, and says in its low bits how many there are, of which width. The block of an entry starts at
       (key & ~15) + offset * 16 + (key & 15), where offset is the entry's byte of `offsets` in its line.

   Publication: every field that a reader follows is written by one aligned store, after what it leads to.
   A stop at any instruction shows a block either present or absent. What moves is copied first and then
   switched by one store. */

#ifndef TM_LAYOUT_H
#define TM_LAYOUT_H

#include <stdint.h>

/* An address of the program, 8 bytes wide whatever the pointer size, so that one set of formats reads all. */
#if UINTPTR_MAX == UINT64_MAX
#define TM_ADDRESS(type, name) type *name
#elif __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define TM_ADDRESS(type, name)                                                                                         \
    type *name;                                                                                                        \
    uint32_t name##_high
#else
#define TM_ADDRESS(type, name)                                                                                         \
    uint32_t name##_high;                                                                                              \
    type *name
#endif

#define TM_LAYOUT_MAGIC "tracemalloc\0\xa7TMC" /* 16 bytes, no terminator */
#define TM_BYTE_ORDER UINT32_C(0x01020304)
#define TM_ABI_MAJOR 1 /* changes when an old reader would misread */
#define TM_ABI_MINOR 0 /* grows when fields are added at an end */

#define TM_SLAB_MAGIC UINT32_C(0x544d534c)
#define TM_PAGE_SHIFT 12
#define TM_PHASE_MASK 15
#define TM_OFFSET_SHIFT 4 /* offsets count units of 16 bytes */
#define TM_PAGE_OFFSETS (1 << (TM_PAGE_SHIFT - TM_OFFSET_SHIFT))

/* entry = site << TM_SIZE_BITS | low bits of the size; the site's size_high holds the bits above.
   A narrow one is site << TM_NARROW_SIZE_BITS | size. */
#define TM_SIZE_BITS 38
#define TM_SITE_BITS 26
#define TM_NARROW_SIZE_BITS 13

/* Sites are numbered by their place: site id s lies at segment[s >> TM_SEGMENT_SHIFT] + (s & mask) * 64. */
#define TM_SITE_UNIT 64
#define TM_SEGMENT_SHIFT 14
#define TM_SEGMENT_COUNT (1 << (TM_SITE_BITS - TM_SEGMENT_SHIFT))
#define TM_SEGMENT_FIRST 3 /* the first site's place, behind the slab's header and tm_regions */

/* A node's n lines part its page evenly: a block at `offset` is in line offset * n >> 8, or, where that was full, in
   one of the next TM_LINES_BEHIND; behind the last comes the first. */
#define TM_LINE_ENTRIES 12
#define TM_WIDE_ENTRIES 7
#define TM_LINES_BEHIND 2
#define TM_LINES_MASK 63 /* lines are aligned to 64 bytes; these bits of tm_page.lines say how many there are: */
#define TM_LINES_MOST 22 /* 1..TM_LINES_MOST: so many narrow ones; */
#define TM_WIDE_MOST 37  /* TM_LINES_MOST + 1..TM_LINES_MOST + TM_WIDE_MOST: so many less TM_LINES_MOST wide ones */
#define TM_LEVELS 16

enum tm_slab_kind {
    TM_SLAB_OTHER = 0, /* writer's tables; nothing that a reader scans */
    TM_SLAB_NODE = 1,  /* struct tm_node, one after the other */
    TM_SLAB_ENTRY = 2, /* struct tm_line, one after the other */
    TM_SLAB_SITE = 3,  /* one segment of sites */
    TM_SLAB_PAGE = 4,  /* struct tm_page, where nodes lead to */
    TM_SLAB_WIDE = 5,  /* struct tm_wide_line, one after the other */
};

/* A slab's first bytes. Its payload starts at the slab's address + TM_SLAB_HEADER. Slabs are never returned
   to the kernel. `used` rises; payload beyond it is zero. All but `used` and `filled` is constant once it is linked. */
#define TM_SLAB_HEADER 64
struct tm_slab {
    uint32_t magic; /* TM_SLAB_MAGIC */
    uint32_t kind;  /* enum tm_slab_kind */
    uint64_t size;  /* bytes, header included */
    uint64_t used;  /* bytes of payload handed out so far */
    TM_ADDRESS(struct tm_slab, next);
    uint64_t number; /* SITE: the index of its segment, so that a core without tm_state still tells; else 0 */
    uint64_t filled; /* the writer's: bytes, header included, whose pages were asked for */
    uint64_t reserved[2];
};

/* By the lock of its node. An entry is written after its offset. `used` is the writer's (line.h). */
struct tm_line {
    uint8_t offsets[TM_LINE_ENTRIES];
    uint16_t used;
    uint16_t reserved;
    uint32_t entries[TM_LINE_ENTRIES]; /* narrow; site 0: no block */
};

struct tm_wide_line {
    uint8_t offsets[TM_WIDE_ENTRIES];
    uint8_t used;
    uint64_t entries[TM_WIDE_ENTRIES]; /* site 0: no block */
};

struct tm_node;

/* What of a node changes with its blocks. */
struct tm_page {
    TM_ADDRESS(struct tm_node, node);  /* the writer's: NULL or the page's, and its lock in bit 0 */
    TM_ADDRESS(struct tm_line, lines); /* their address | their shape; replaced by others as the page fills */
};

struct tm_level {
    TM_ADDRESS(struct tm_node, next);
};

struct tm_node {
    uint64_t key; /* page address | phase */
    uint32_t domain;
    uint32_t height;                    /* levels this node is linked in, 1..TM_LEVELS */
    TM_ADDRESS(struct tm_node, next);   /* level 0 */
    TM_ADDRESS(struct tm_level, tower); /* next nodes of levels 1..height-1, 8 bytes each; NULL at height 1 */
    TM_ADDRESS(struct tm_page, page);   /* NULL in the head, and in a node that is not in use */
};

/* What a segment begins with, behind its slab's header: where its packed frames lie. */
#define TM_REGIONS 16
#define TM_REGION_SHIFT 28
struct tm_regions {
    uint64_t starts[TM_REGIONS]; /* multiples of 1 << TM_REGION_SHIFT, | 1; 0: not in use */
};

/* Program counters are return addresses, most recent call first. A frame that a signal interrupted is
   preceded by the signal trampoline's. */
struct tm_site {
    uint32_t domain;
    uint32_t nframe;    /* frames stored, 0..65535 */
    uint32_t flags;     /* TM_SITE_* */
    uint32_t size_high; /* bits of the size from TM_SIZE_BITS up */
    uint32_t unloads;   /* tm_state.unloads when the site was made: which modules' frames these may be */
    uint32_t number;    /* how many were made before it */
    uint64_t frames[];  /* of a packed site uint32_t: region << TM_REGION_SHIFT | what its start is to be added to */
};
#define TM_SITE_CUT 1u    /* the walk ended before the outermost frame: at the limit, or for want of unwind data */
#define TM_SITE_PACKED 4u /* its frames take 4 bytes each */

/* A module that was mapped when it was unloaded by dlclose. */
#define TM_BUILD_ID_MAX 32
#define TM_MODULE_PATH_MAX 440
struct tm_module {
    uint64_t start; /* of its mapped range */
    uint64_t end;
    uint64_t bias;   /* add to its file's addresses */
    uint64_t when;   /* CLOCK_REALTIME, nanoseconds */
    uint32_t unload; /* the value of tm_state.unloads before this unload: sites with a greater one are newer */
    uint32_t build_id_length;
    uint8_t build_id[TM_BUILD_ID_MAX];
    char path[TM_MODULE_PATH_MAX]; /* terminated; cut at the front by "..." where it is longer */
};

/* A name that the program gave a domain. The last entry of a domain counts. */
#define TM_DOMAIN_NAME_MAX 60
struct tm_domain {
    uint32_t domain;
    char name[TM_DOMAIN_NAME_MAX]; /* UTF-8, terminated */
};

enum tm_claim {
    TM_CLAIM_FREE = 0,
    TM_CLAIM_TAKEN = 1,  /* a thread is inside: it records or forgets a block */
    TM_CLAIM_PAUSED = 2, /* a thread is inside and waits for a fork to end */
};

/* Threads count in lanes so that they do not meet: a lane belongs to the thread that claimed it.
   current = sum of bytes, in the sum of blocks. peak: see tm_state. */
#define TM_LANES 64
#define TM_LANE_STEP (64 << 10) /* bytes, up or down, after which a lane looks whether the sum of all is a new peak */
struct tm_lane {
    int64_t bytes;    /* of the blocks that were added under this lane, less those removed under it; by claim */
    int64_t high;     /* the most that bytes was since the lane looked, or since the peak was reset; by claim */
    uint32_t claimed; /* enum tm_claim */
    uint32_t
        resets; /* the tm_state.resets that `high` is of; where it is another, `high` counts for nothing; by claim */
    TM_ADDRESS(struct walk, walk);       /* the writer's: what it knows of stack walks; by claim */
    int64_t looked;                      /* what bytes was when the lane last looked at the peak; by claim */
    int64_t blocks;                      /* added under this lane, less those removed under it; by claim */
    TM_ADDRESS(struct tm_page, growing); /* whose blocks move from some lines to others, NULL: none; by claim */
    TM_ADDRESS(struct tm_line, from);    /* as tm_page.lines; valid while `growing` is not NULL; by claim */
    TM_ADDRESS(struct tm_line, to);      /* the same */
    uint64_t padding[7];
};

enum tm_mode {
    TM_MODE_OFF = 0,
    TM_MODE_TRACING = 1,
    TM_MODE_FORKING = 2,   /* set with TRACING or alone: a fork is under way, changes wait */
    TM_MODE_OVERTAKEN = 4, /* with FORKING: a change waited long enough and goes on */
    TM_MODE_ABANDONED = 8, /* alone: in the child of such a fork, where the tables may hold half a change */
};

/* The runtime's to write, a debugger's to read. */
struct tm_state {
    uint32_t mode;        /* enum tm_mode */
    uint32_t frame_limit; /* 1..65535 */
    uint64_t peak;        /* bytes; what the lanes still hold may make it more, see doc/debugger-layout.md */
    uint64_t lost;        /* blocks that could not be recorded, for want of memory or of site numbers */
    uint64_t arena_bytes; /* taken from the kernel */
    TM_ADDRESS(struct tm_slab, slabs);       /* newest first */
    TM_ADDRESS(struct tm_node, head);        /* before the first node; no blocks of its own, TM_LEVELS high */
    TM_ADDRESS(struct tm_segment, segments); /* TM_SEGMENT_COUNT of them, filled from the first */
    TM_ADDRESS(struct tm_module, modules);   /* unloaded ones, oldest first */
    uint32_t module_count;
    uint32_t unloads; /* how many modules were unloaded so far, those not kept in the table included */
    uint64_t site_count;
    uint64_t node_count;
    uint64_t unloads_lost; /* modules that the table had no room for */
    uint64_t started;      /* CLOCK_REALTIME of the last tm_start or tm_clear_traces, nanoseconds; 0: never */
    TM_ADDRESS(struct tm_domain, domains); /* names, oldest first */
    uint64_t domain_count;
    uint64_t resets; /* how often the peak was counted anew */
    uint64_t reserved[16];
    struct tm_lane lanes[TM_LANES]; /* at a multiple of 128 */
};

struct tm_segment {
    TM_ADDRESS(struct tm_site, sites); /* NULL: not there yet */
};

/* The one exported data symbol, read-only after relocation. */
struct tm_layout {
    uint8_t magic[16];
    uint32_t byte_order; /* TM_BYTE_ORDER as the program writes it */
    uint16_t abi_major;
    uint16_t abi_minor;
    uint16_t pointer_size; /* bytes: 4 or 8 */
    uint16_t layout_size;  /* sizeof(struct tm_layout) */
    uint32_t state_size;   /* sizeof(struct tm_state) */
    TM_ADDRESS(const struct tm_layout, self);
    TM_ADDRESS(struct tm_state, state);
};

extern const struct tm_layout tm_layout;

#endif
