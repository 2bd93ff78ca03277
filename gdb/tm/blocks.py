"""blocks.py: all live blocks with their addresses, in columns, from one copy of the runtime's tables.

skiplist.py finds few blocks fast; this reads all of them in bulk. Knows nothing of GDB: it is given Tables. What it
reads is not trusted: pointers may be NULL or garbage, and damage costs the blocks it hits.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections import defaultdict
from typing import Iterator, NamedTuple, Sequence

from .layout import (ADDRESS_MASK, LINE, LINE_ENTRIES, LINE_WORDS, NODE, OFFSET_SHIFT, PAGE, SIZE_BITS, SLAB_ENTRY,
                     SLAB_HEADER, SLAB_NODE, SLAB_PAGE, are_lines, can_be_in, lines_range)
from .memory import pieces, words
from .tables import Stretch, Tables

_GRANULES = {SLAB_NODE: NODE.size, SLAB_PAGE: PAGE.size, SLAB_ENTRY: LINE.size}


class Columns(NamedTuple):
    """One row a block. `entries` are the runtime's: site << SIZE_BITS | low bits of the size."""

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
        for kind, _, length, data in self.stretches:
            if kind == SLAB_NODE and data is not None:
                whole = data[:length // NODE.size * NODE.size]
                for key, page in NODE.iter_unpack(self._order, whole, "key", "page"):
                    self._add_page(columns, key, page)
        return columns

    def _add_page(self, columns: Columns, key: int, page: int) -> None:
        data = self._lines_of(page)
        entries = words(data, self._byteorder)
        count = len(data) // LINE.size
        for number in range(count):
            first, at = number * LINE_WORDS, number * LINE.size
            offsets = data[at:at + LINE_ENTRIES] if self._byteorder == "little" else data[at + LINE_ENTRIES:at:-1]
            for entry, offset in zip(entries[first + 1:first + LINE_WORDS], offsets):
                # What lies anywhere else is no entry of this page.
                if entry >> SIZE_BITS and can_be_in(number, offset, count):
                    columns.addresses.append(key + (offset << OFFSET_SHIFT) & ADDRESS_MASK)
                    columns.entries.append(entry)

    def _lines_of(self, page: int) -> memoryview:
        """All lines of a page; nothing where one of them is missing."""
        data = self._bytes(page, PAGE.size)
        if len(data) == PAGE.size:
            _, lines = self._page.unpack(data)
            start, end = lines_range(lines)
            found = self._bytes(start, end - start) if are_lines(lines) else data[:0]
            if len(found) == end - start:
                return found
        return memoryview(b"")

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
