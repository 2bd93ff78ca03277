"""salvage.py: the live blocks of a core that was cut short before the runtime's own state.

A core's lower addresses come first, and the runtime's slabs mostly lie below its library. They begin with a magic,
and those of sites say which segment they are: enough for all statistics, but not for what only tm_state knows.
"""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Sequence

from .layout import SLAB, SLAB_HEADER, SLAB_KINDS, SLAB_MAGIC, SLAB_SITE, SLAB_SIZE_MAX, Slab
from .memory import LayoutError, Read, pieces
from .tables import Tables

_PAGE = 4096


class Salvaged(Tables):
    """The slabs that are left of a runtime. Their order is that of their addresses."""

    def __init__(self, read: Read, ranges: Iterable[tuple[int, int]]) -> None:
        """`ranges` (start, end) are all memory there is, in whole pages. LayoutError if no slab lies there."""
        found = {byteorder: list(slabs) for byteorder, slabs in _slabs_by_byteorder(read, ranges).items()}
        byteorder = max(found, key=lambda byteorder: len(found[byteorder]))
        if not found[byteorder]:
            raise LayoutError("no slab of a tracemalloc runtime lies there")
        super().__init__(read, byteorder, 8)
        self._slabs = found[byteorder]
        self._segment_slabs = {slab.number: slab.address for slab in self._slabs if slab.kind == SLAB_SITE}
        self.note("the core is cut short and the runtime's own state is lost: these are the blocks in the tables that "
                  "are left, and some of them may be missing, or be there twice if a thread was just moving them")

    def slabs(self) -> Sequence[Slab]:
        return self._slabs

    def segment_address(self, index: int) -> int:
        return self._segment_slabs.get(index, 0)


def _slabs_by_byteorder(read: Read, ranges: Iterable[tuple[int, int]]) -> dict[str, list[Slab]]:
    found: dict[str, list[Slab]] = {"little": [], "big": []}
    for start, end in ranges:
        for address, _, data in pieces(read, start, end - start, _PAGE):
            if data is not None:
                for byteorder, slab in _slabs_in(address, data):
                    found[byteorder].append(slab)
    return found


def _slabs_in(address: int, data: memoryview) -> Iterator[tuple[str, Slab]]:
    """The slabs that begin in this piece of memory."""
    magics = {SLAB_MAGIC.to_bytes(4, "little"): ("little", "<"), SLAB_MAGIC.to_bytes(4, "big"): ("big", ">")}
    for offset in range(0, len(data) - SLAB.size + 1, _PAGE):
        orders = magics.get(bytes(data[offset:offset + 4]))
        if orders is not None:
            byteorder, order = orders
            fields = SLAB.unpack(order, data, offset)
            if _is_sound(fields):
                yield byteorder, Slab(address + offset, *(fields[name] for name in Slab._fields[1:]))


def _is_sound(fields: dict[str, Any]) -> bool:
    return (fields["kind"] in SLAB_KINDS and SLAB_HEADER <= fields["size"] <= SLAB_SIZE_MAX
            and fields["size"] % _PAGE == 0 and fields["used"] <= fields["size"] - SLAB_HEADER
            and fields["next"] % _PAGE == 0 and not any(fields["reserved"]))
