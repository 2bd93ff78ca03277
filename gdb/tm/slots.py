"""slots.py: the blocks in the lines of a page.

Knows nothing of GDB. What it is given is not trusted.
"""

from __future__ import annotations

from typing import Iterator

from .layout import LINES_BEHIND, OFFSET_SHIFT, PAGE_OFFSETS, Width
from .memory import words


def live_slots(width: Width, data: memoryview, byteorder: str) -> Iterator[tuple[int, int, bool]]:
    """Of all blocks in a page's lines, which are DATA: how far they are from the node's key, the entry as it is in a
    line of that width, and whether it can be there: in the block's own line, or one behind it."""
    entries = words(data, byteorder, width.code)
    size, count = width.record.size, len(data) // width.record.size
    for number in range(count):
        offsets = data[number * size:number * size + width.entries]
        end = (number + 1) * width.words
        for entry, offset in zip(entries[end - width.entries:end], offsets):
            if entry >> width.size_bits:
                is_near = (number - offset * count // PAGE_OFFSETS) % count <= LINES_BEHIND
                yield offset << OFFSET_SHIFT, entry, is_near
