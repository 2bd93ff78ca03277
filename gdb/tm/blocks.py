"""blocks.py: all live blocks with their addresses, in columns, from one copy of the runtime's tables.

skiplist.py finds few blocks fast; this reads all of them in bulk. Knows nothing of GDB: it is given Tables. What it
reads is not trusted: pointers may be NULL or garbage, and damage costs the blocks it hits.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections import defaultdict
from typing import Dict, Iterator, NamedTuple, Sequence

from .layout import ADDRESS_MASK, NODE, PAGE, SLAB_HEADER, SLAB_NODE, SLAB_PAGE, WIDTHS, Lines, Width, lines_at
from .memory import pieces
from .slots import live_slots
from .tables import Stretch, Tables

_GRANULES = {SLAB_NODE: NODE.size, SLAB_PAGE: PAGE.size, **{kind: width.record.size for kind, width in WIDTHS.items()}}


class Columns(NamedTuple):
    """One row a block. `entries` are the runtime's, wide: site << SIZE_BITS | low bits of the size."""

    addresses: array[int]
    entries: array[int]

    def expanded(self, entries: Sequence[int], counts: Sequence[int]) -> array[int] | None:
        """The addresses of counts[0] blocks of entries[0], then those of entries[1], and so on; None where these are
        not all the blocks there are."""
        by_entry: dict[int, list[int]] = defaultdict(list)
        for entry, address in zip(self.entries, self.addresses):
            by_entry[entry].append(address)
        expanded = array("Q")
        for entry, count in zip(entries, counts):
            if len(by_entry[entry]) != count:
                return None
            expanded.extend(by_entry[entry])
        return expanded


class _Widened(Dict[int, int]):
    """Wide entries by those of a width."""

    def __init__(self, width: Width) -> None:
        super().__init__()
        self._width = width

    def __missing__(self, entry: int) -> int:
        wide = self[entry] = self._width.widen(entry)
        return wide


class BlockTable:
    """A copy of the tables that hold the live blocks: it stays as it is when the program runs on."""

    def __init__(self, tables: Tables) -> None:
        self._byteorder = tables.byteorder
        self._order = tables.order
        self._page = struct.Struct(tables.order + "QQ")  # node, lines
        self.stretches = sorted(_copies(tables), key=lambda stretch: stretch.address)
        self._starts = [stretch.address for stretch in self.stretches]

    def columns(self) -> Columns:
        """All blocks whose address is known, in any order."""
        columns = Columns(array("Q"), array("Q"))
        widened = {width: _Widened(width) for width in WIDTHS.values()}
        for kind, _, length, data in self.stretches:
            if kind == SLAB_NODE and data is not None:
                whole = data[:length // NODE.size * NODE.size]
                for key, page in NODE.iter_unpack(self._order, whole, "key", "page"):
                    lines = self._lines_of(page)
                    if lines:
                        self._add_page(columns, key, lines, widened[lines.width])
        return columns

    def _add_page(self, columns: Columns, key: int, lines: Lines, widened: _Widened) -> None:
        data = self._bytes(lines.start, lines.end - lines.start)
        if len(data) < lines.end - lines.start:
            return
        for offset, entry, is_near in live_slots(lines.width, data, self._byteorder):
            # What lies anywhere else is no entry of this page.
            if is_near:
                columns.addresses.append(key + offset & ADDRESS_MASK)
                columns.entries.append(widened[entry])

    def _lines_of(self, page: int) -> Lines | None:
        data = self._bytes(page, PAGE.size)
        return lines_at(self._page.unpack(data)[1]) if len(data) == PAGE.size else None

    def _bytes(self, address: int, length: int) -> memoryview:
        """What lies there, cut where the copy ends."""
        number = bisect_right(self._starts, address) - 1
        if number < 0:
            return memoryview(b"")
        _, start, _, data = self.stretches[number]
        return memoryview(b"") if data is None else data[address - start:address - start + length]


def _copies(tables: Tables) -> Iterator[Stretch]:
    """The slabs that blocks lie in, each as far as it goes without a hole: what a node points to must not be cut."""
    for slab in tables.slabs():
        if slab.kind not in _GRANULES:
            continue
        start, data = slab.address + SLAB_HEADER, bytearray()
        for address, length, piece in pieces(tables.read, start, slab.used, _GRANULES[slab.kind]):
            if piece is not None:
                data += piece
                continue
            yield Stretch(slab.kind, start, len(data), memoryview(data))
            yield Stretch(slab.kind, address, length, None)
            start, data = address + length, bytearray()
        yield Stretch(slab.kind, start, len(data), memoryview(data))
