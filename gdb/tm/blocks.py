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

from .layout import (ADDRESS_MASK, INDEX, NODE, NODE_CHUNKS, NODE_INLINE, NODE_SLOTS, OFFSET_SHIFT, SIZE_BITS,
                     SLAB_ENTRY, SLAB_HEADER, SLAB_NODE, SLAB_OTHER)
from .memory import pieces, words
from .tables import Stretch, Tables

_NODE_CODES = "4QQ8xQQQ4s4x6Q"  # entries, key, next, tower, index, offsets, chunks


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
        self._node = struct.Struct(tables.order + _NODE_CODES)
        self._index = struct.Struct(tables.order + "I")
        self.stretches = sorted(_copies(tables), key=lambda stretch: stretch.address)
        self._starts = [stretch.address for stretch in self.stretches]

    def columns(self) -> Columns:
        """All blocks whose address is known, in any order."""
        columns = Columns(array("Q"), array("Q"))
        for kind, _, length, data in self.stretches:
            if kind == SLAB_NODE and data is not None:
                for fields in self._node.iter_unpack(data[:length // NODE.size * NODE.size]):
                    self._add_node(columns, fields)
        return columns

    def _add_node(self, columns: Columns, fields: tuple[int, ...]) -> None:
        key, index = fields[NODE_INLINE], fields[NODE_INLINE + 3]
        offsets = self._offsets(index) if index else fields[NODE_INLINE + 4]
        for first, entries in self._runs(fields):
            for entry, offset in zip(entries, offsets[first:]):  # type: ignore[index]
                if entry >> SIZE_BITS:
                    columns.addresses.append(key + (offset << OFFSET_SHIFT) & ADDRESS_MASK)
                    columns.entries.append(entry)

    def _runs(self, fields: tuple[int, ...]) -> Iterator[tuple[int, Sequence[int]]]:
        """(first slot, entries) of the node's slots."""
        yield 0, fields[:NODE_INLINE]
        for chunk, address in enumerate(fields[-NODE_CHUNKS:]):
            if address:
                length = NODE_INLINE << chunk
                yield length, words(self._bytes(address, 8 * length), self._byteorder)

    def _offsets(self, address: int) -> memoryview:
        header = self._bytes(address, INDEX.size)
        if len(header) < INDEX.size:
            return header
        capacity, = self._index.unpack_from(header)
        return self._bytes(address + INDEX.size, min(capacity, NODE_SLOTS))

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
        if slab.kind not in (SLAB_NODE, SLAB_ENTRY, SLAB_OTHER):
            continue
        start, data = slab.address + SLAB_HEADER, bytearray()
        for address, length, piece in pieces(tables.read, start, slab.used, NODE.size):
            if piece is not None:
                data += piece
                continue
            yield Stretch(slab.kind, start, len(data), memoryview(data))
            yield Stretch(slab.kind, address, length, None)
            start, data = address + length, bytearray()
        yield Stretch(slab.kind, start, len(data), memoryview(data))
