"""tables.py: what lies in the runtime's slabs: live blocks and sites.

Knows nothing of GDB: it is given a Read (memory.py). What it reads is not trusted: every pointer may be NULL or
garbage, every count and number is bounded. Damage gives a partial answer, described in `Tables.notes`.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from itertools import groupby
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Sequence

from .layout import (FRAMES_MAX, REGION_SHIFT, REGION_TABLE, SEGMENT_FIRST, SEGMENT_MASK, SEGMENT_SHIFT, SEGMENT_SIZE,
                     SITE, SITE_CUT, SITE_PACKED, SITE_UNIT, SIZE_BITS, SIZE_MASK, SLAB, SLAB_HEADER, SLAB_MAGIC,
                     WIDTHS, Module, Record, Site, Slab, Width)
from .memory import Data, Read, Unreadable, pieces, words

_REGION_MASK = (1 << REGION_SHIFT) - 1


class Counted(NamedTuple):
    """The live blocks by (site, size): three columns of one length. `sites` holds every number in `numbers`."""

    numbers: array[int]
    sizes: array[int]
    counts: array[int]
    sites: dict[int, Site]
    missing: int  # bytes of the runtime's tables that could not be read


class Stretch(NamedTuple):
    """Part of a slab's payload; it begins with a whole struct. `data` is None where it cannot be read."""

    kind: int
    address: int
    length: int
    data: memoryview | None


class Tables:
    """The slabs of one stopped program or core. Valid until the program runs on.

    A subclass knows where the slabs and the segments of sites are. `notes` collects one sentence for each kind of
    damage that was met; `head` is the address of the skiplist's head, 0 where it is not known.
    """

    def __init__(self, read: Read, byteorder: str, pointer_size: int) -> None:
        self.read = read
        self.byteorder = byteorder
        self.order = "<" if byteorder == "little" else ">"
        self.pointer_size = pointer_size
        self.head = 0
        self.notes: list[str] = []
        self._segments: dict[int, _Segment] = {}
        self._unpacked: dict[int, _Unpacked | None] = {}

    def slabs(self) -> Sequence[Slab]:
        raise NotImplementedError

    def segment_address(self, index: int) -> int:
        """Where the segment of sites with that number is said to lie; 0 if there is none."""
        raise NotImplementedError

    def outdated_lines(self) -> list[tuple[int, int]]:
        """Where (start, end) entries lie that no node leads to: those that a thread was copying when it was stopped."""
        return []

    def modules(self) -> list[Module]:
        """The unloaded modules that are known, oldest first."""
        return []

    def domain_names(self) -> dict[int, str]:
        """The names that the program gave its domains."""
        return {}

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def record(self, kind: Record, address: int) -> dict[str, Any]:
        """The record at `address`, which may be NULL or garbage: Unreadable then, or nonsense."""
        return kind.unpack(self.order, self.read(address, kind.size))

    def count_blocks(self, copy: Iterable[Stretch] | None = None) -> Counted:
        """All live blocks, grouped by (site, size). `copy` holds the slabs' payload where it was read already."""
        counter, missing = self._count_entries(self._stretches() if copy is None else copy)
        entries = array("Q", (entry for entry, count in counter.items() if entry >> SIZE_BITS and count > 0))
        numbers = array("Q", (entry >> SIZE_BITS for entry in entries))
        sizes = array("Q", (entry & SIZE_MASK for entry in entries))
        counts = array("Q", map(counter.__getitem__, entries))
        sites = self.sites(set(numbers))
        if any(site.size_high for site in sites.values()):
            sizes = array("Q", (size | sites[number].size_high << SIZE_BITS for number, size in zip(numbers, sizes)))
        return Counted(numbers, sizes, counts, sites, missing)

    def _stretches(self) -> Iterator[Stretch]:
        """What holds the entries, in pieces that are read as they are taken."""
        for slab in self.slabs():
            if slab.kind in WIDTHS:
                granule = WIDTHS[slab.kind].record.size
                for piece in pieces(self.read, slab.address + SLAB_HEADER, slab.used, granule):
                    yield Stretch(slab.kind, *piece)

    def _count_entries(self, stretches: Iterable[Stretch]) -> tuple[Counter[int], int]:
        """How often each entry occurs, dead ones included, and the bytes that could not be read."""
        counters: dict[Width, Counter[int]] = {width: Counter() for width in WIDTHS.values()}
        missing = 0
        outdated = self.outdated_lines()
        for kind, address, length, data in stretches:
            width = WIDTHS.get(kind)
            if width is None:
                continue
            if data is None:
                missing += length
                continue
            for column in _columns(width, data, self.byteorder):
                counters[width].update(column)
            for start, end in outdated:
                part = data[max(start - address, 0):max(end - address, 0)]
                for column in _columns(width, part, self.byteorder):
                    counters[width].subtract(column)
        together: Counter[int] = Counter()
        for width, counter in counters.items():
            for entry, count in counter.items():
                together[width.widen(entry)] += count
        return together, missing

    def sites(self, numbers: Iterable[int]) -> dict[int, Site]:
        """The sites of these numbers; one that cannot be read, or makes no sense, comes without frames."""
        sites: dict[int, Site] = {}
        unknown = 0
        for index, group in groupby(sorted(numbers), key=lambda number: number >> SEGMENT_SHIFT):
            segment = self._segment(index)
            for number in group:
                unit = number & SEGMENT_MASK
                site = segment.site(unit) if unit >= SEGMENT_FIRST else None
                unknown += site is None
                sites[number] = site or Site(0, (), True, 0, 0)
        if unknown:
            self.note(f"{unknown} site{'s' * (unknown > 1)} cannot be read; blocks from there are shown at <unknown>")
        return sites

    def site(self, number: int) -> Site:
        """As `sites`, for one, without reading all of its segment."""
        segment = self.segment_address(number >> SEGMENT_SHIFT)
        site = self._site_at(segment, number & SEGMENT_MASK) if segment else None
        return site or self.sites((number,))[number]

    def _site_at(self, segment: int, unit: int) -> Site | None:
        address = segment + unit * SITE_UNIT
        if unit < SEGMENT_FIRST:
            return None
        try:
            fields = self.record(SITE, address)
            size = 4 if fields["flags"] & SITE_PACKED else 8
            data = self.read(address, SITE.size + size * min(fields["nframe"], FRAMES_MAX))
            return _Segment(self.order, data, [], self._unpacked_of(segment)).site(0)
        except Unreadable:
            return None

    def _unpacked_of(self, segment: int) -> _Unpacked | None:
        """What the packed frames of a segment's sites mean; None where that cannot be read."""
        if segment not in self._unpacked:
            try:
                starts = self.record(REGION_TABLE, segment + SLAB_HEADER)["starts"]
                self._unpacked[segment] = _Unpacked(starts)
            except Unreadable:
                self._unpacked[segment] = None
        return self._unpacked[segment]

    def _segment(self, index: int) -> _Segment:
        segment = self._segments.get(index)
        if segment is None:
            segment = self._segments[index] = self._read_segment(index)
        return segment

    def _read_segment(self, index: int) -> _Segment:
        address = self.segment_address(index)
        if not address:
            return _Segment(self.order, b"", [], None)
        data = bytearray()
        holes = []
        for start, part_length, part in pieces(self.read, address, self._used_of_segment(address), SITE_UNIT):
            data += bytes(part_length) if part is None else part
            if part is None:
                holes.append((start - address, start - address + part_length))
        return _Segment(self.order, bytes(data), holes, self._unpacked_of(address))

    def _used_of_segment(self, address: int) -> int:
        """How far the segment at `address` holds sites. As its slab says now: a thread that runs may have made more
        since the list of slabs was read."""
        try:
            slab = self.record(SLAB, address)
        except Unreadable:
            return SEGMENT_SIZE
        end: int = SLAB_HEADER + slab["used"]
        return end if slab["magic"] == SLAB_MAGIC and end <= SEGMENT_SIZE else SEGMENT_SIZE


def _columns(width: Width, data: memoryview, byteorder: str) -> Iterator[Sequence[int]]:
    """The entries of whole lines, slot by slot."""
    entries = words(data, byteorder, width.code)
    for first in range(width.words - width.entries, width.words):
        yield entries[first::width.words]


class _Unpacked(Dict[int, int]):
    """Program counters by what they are packed to; LookupError for one whose region makes no sense. `starts`:
    tm_regions.starts."""

    def __init__(self, starts: Sequence[int]) -> None:
        super().__init__()
        self._starts = starts

    def __missing__(self, packed: int) -> int:
        start = self._starts[packed >> REGION_SHIFT]
        if start & _REGION_MASK != 1:
            raise LookupError(packed)
        pc = self[packed] = start - 1 + (packed & _REGION_MASK)
        return pc


class _Segment:
    """A copy of one segment of sites; `holes` are the (start, end) offsets that could not be read; `unpacked` is None
    where packed frames cannot be read."""

    def __init__(self, order: str, data: Data, holes: list[tuple[int, int]], unpacked: _Unpacked | None) -> None:
        self._order = order
        self._data = data
        self._holes = holes
        self._header = struct.Struct(order + "IIIIII")
        self._unpacked = unpacked

    def site(self, unit: int) -> Site | None:
        """The site at that unit, or None where there cannot be one."""
        start = unit * SITE_UNIT
        frames = start + SITE.size
        if frames > len(self._data):
            return None
        domain, nframe, flags, size_high, unloads, number = self._header.unpack_from(self._data, start)
        is_packed = flags & SITE_PACKED
        end = frames + (4 if is_packed else 8) * nframe
        if nframe > FRAMES_MAX or end > len(self._data) or (is_packed and self._unpacked is None):
            return None
        if any(start < hole_end and hole_start < end for hole_start, hole_end in self._holes):
            return None
        pcs = struct.unpack_from(f"{self._order}{nframe}{'I' if is_packed else 'Q'}", self._data, frames)
        if is_packed and self._unpacked is not None:
            try:
                pcs = tuple(map(self._unpacked.__getitem__, pcs))
            except LookupError:
                return None
        return Site(domain, pcs, bool(flags & SITE_CUT), size_high & (1 << 64 - SIZE_BITS) - 1, unloads, number)
