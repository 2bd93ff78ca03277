"""layout.py: the structs and constants of runtime/layout.h, and the records that they are decoded to."""

from __future__ import annotations

import struct
from typing import Any, Iterator, NamedTuple

MAGIC = b"tracemalloc\0\xa7TMC"
BYTE_ORDER = 0x01020304
ABI_MAJOR = 1
ABI_MINOR = 0

SLAB_MAGIC = 0x544d534c
SLAB_HEADER = 64
SLAB_KINDS = range(6)
SLAB_OTHER, SLAB_NODE, SLAB_ENTRY, SLAB_SITE, SLAB_PAGE, SLAB_WIDE = SLAB_KINDS
SLAB_SIZE_MAX = 1 << 36
SLABS_MAX = 1 << 20

ADDRESS_MASK = (1 << 64) - 1
PAGE_SHIFT = 12
PHASE_MASK = 15
OFFSET_SHIFT = 4

SIZE_BITS = 38
SIZE_MASK = (1 << SIZE_BITS) - 1
SITE_BITS = 26
NARROW_SIZE_BITS = 13
SITE_UNIT = 64
SEGMENT_SHIFT = 14
SEGMENT_MASK = (1 << SEGMENT_SHIFT) - 1
SEGMENT_COUNT = 1 << (SITE_BITS - SEGMENT_SHIFT)
SEGMENT_SIZE = SITE_UNIT << SEGMENT_SHIFT
SITE_CUT = 1
SITE_PACKED = 4
SEGMENT_FIRST = 3
REGIONS = 16
REGION_SHIFT = 28
FRAMES_MAX = 65535
UNKNOWN_SITE = -1  # the number of one that cannot be read

LINE_ENTRIES = 12
WIDE_ENTRIES = 7
LINES_MASK = 63
LINES_MOST = 22
WIDE_MOST = 37
LINES_BEHIND = 2
PAGE_OFFSETS = 256
LEVELS = 16
LANES = 64
LANE_STEP = 64 << 10  # bytes that a lane may move before it looks at the peak
CLAIM_FREE, CLAIM_TAKEN, CLAIM_PAUSED = range(3)

MODE_OFF, MODE_TRACING, MODE_FORKING = range(3)

BUILD_ID_MAX = 32
MODULE_PATH_MAX = 440
MODULES_MAX = 1 << 16
DOMAIN_NAME_MAX = 60
DOMAINS_MAX = 1 << 16


class Record:
    """A C struct of fixed-width fields without padding: names and struct-module codes, in order."""

    def __init__(self, name: str, *fields: tuple[str, str]) -> None:
        self.name = name
        self.fields = fields
        self._codes = "".join(code for _, code in fields)
        self.size = struct.calcsize("<" + self._codes)
        self.offsets: dict[str, int] = {}
        offset = 0
        for field, code in fields:
            self.offsets[field] = offset
            offset += struct.calcsize("<" + code)

    def unpack(self, order: str, data: bytes | memoryview, offset: int = 0) -> dict[str, Any]:
        """The fields by name; arrays of numbers are tuples. `order` is "<" or ">"."""
        values = iter(struct.unpack_from(order + self._codes, data, offset))
        return {field: next(values) if len(code) == 1 or code[-1] == "s"
                else tuple(next(values) for _ in range(int(code[:-1]))) for field, code in self.fields}

    def iter_unpack(self, order: str, data: bytes | memoryview, *fields: str) -> Iterator[tuple[Any, ...]]:
        """These fields of each record of an array, which are single numbers; quicker than `unpack`."""
        codes = "".join(code if field in fields else f"{struct.calcsize('<' + code)}x" for field, code in self.fields)
        return struct.iter_unpack(order + codes, data)


LAYOUT = Record("tm_layout", ("magic", "16s"), ("byte_order", "I"), ("abi_major", "H"), ("abi_minor", "H"),
                ("pointer_size", "H"), ("layout_size", "H"), ("state_size", "I"), ("self", "Q"), ("state", "Q"))
STATE = Record("tm_state", ("mode", "I"), ("frame_limit", "I"), ("peak", "Q"), ("lost", "Q"),
               ("arena_bytes", "Q"), ("slabs", "Q"), ("head", "Q"), ("segments", "Q"), ("modules", "Q"),
               ("module_count", "I"), ("unloads", "I"), ("site_count", "Q"), ("node_count", "Q"),
               ("unloads_lost", "Q"), ("started", "Q"), ("domains", "Q"), ("domain_count", "Q"),
               ("resets", "Q"), ("reserved", "16Q"), ("lanes", f"{LANES * 128}s"))
LANE = Record("tm_lane", ("bytes", "q"), ("high", "q"), ("claimed", "I"), ("resets", "I"), ("walk", "Q"),
              ("looked", "q"), ("blocks", "q"), ("growing", "Q"), ("from", "Q"), ("to", "Q"), ("padding", "7Q"))
SLAB = Record("tm_slab", ("magic", "I"), ("kind", "I"), ("size", "Q"), ("used", "Q"), ("next", "Q"),
              ("number", "Q"), ("filled", "Q"), ("reserved", "2Q"))
REGION_TABLE = Record("tm_regions", ("starts", f"{REGIONS}Q"))
SITE = Record("tm_site", ("domain", "I"), ("nframe", "I"), ("flags", "I"), ("size_high", "I"), ("unloads", "I"),
              ("number", "I"))
MODULE = Record("tm_module", ("start", "Q"), ("end", "Q"), ("bias", "Q"), ("when", "Q"), ("unload", "I"),
                ("build_id_length", "I"), ("build_id", f"{BUILD_ID_MAX}s"), ("path", f"{MODULE_PATH_MAX}s"))
DOMAIN = Record("tm_domain", ("domain", "I"), ("name", f"{DOMAIN_NAME_MAX}s"))
LINE = Record("tm_line", ("offsets", f"{LINE_ENTRIES}s"), ("used", "H"), ("reserved", "H"),
              ("entries", f"{LINE_ENTRIES}I"))
WIDE_LINE = Record("tm_wide_line", ("offsets", f"{WIDE_ENTRIES}s"), ("used", "B"), ("entries", f"{WIDE_ENTRIES}Q"))
PAGE = Record("tm_page", ("node", "Q"), ("lines", "Q"))
NODE = Record("tm_node", ("key", "Q"), ("domain", "I"), ("height", "I"), ("next", "Q"), ("tower", "Q"), ("page", "Q"))


class Width(NamedTuple):
    """One of the two kinds of lines."""

    record: Record
    code: str       # of an entry, for the struct module
    words: int      # of the size of an entry, in a line
    entries: int    # in a line, at its end
    size_bits: int  # of an entry; its site is above

    def widen(self, entry: int) -> int:
        """The entry as it would be in a wide line."""
        return entry >> self.size_bits << SIZE_BITS | entry & (1 << self.size_bits) - 1


WIDTHS = {SLAB_ENTRY: Width(LINE, "I", LINE.size // 4, LINE_ENTRIES, NARROW_SIZE_BITS),
          SLAB_WIDE: Width(WIDE_LINE, "Q", WIDE_LINE.size // 8, WIDE_ENTRIES, SIZE_BITS)}


class Lines(NamedTuple):
    """Where a page's lines are."""

    start: int
    end: int
    width: Width


def lines_at(lines: int) -> Lines | None:
    """The lines that tm_page.lines leads to; None where it cannot."""
    start, shape = lines & ~LINES_MASK, lines & LINES_MASK
    if not start or not 1 <= shape <= LINES_MOST + WIDE_MOST:
        return None
    if shape > LINES_MOST:
        return Lines(start, start + (shape - LINES_MOST) * WIDE_LINE.size, WIDTHS[SLAB_WIDE])
    return Lines(start, start + shape * LINE.size, WIDTHS[SLAB_ENTRY])


class Slab(NamedTuple):
    address: int
    kind: int
    size: int
    used: int  # bytes of payload
    number: int  # of kind SITE: the index of its segment


class Site(NamedTuple):
    domain: int
    pcs: tuple[int, ...]  # return addresses, most recent call first
    is_cut: bool
    size_high: int
    unloads: int
    number: int = UNKNOWN_SITE  # how many sites were made before it


class Module(NamedTuple):
    """A module that dlclose unloaded."""

    start: int
    end: int
    bias: int
    unload: int
    build_id: bytes
    path: str
