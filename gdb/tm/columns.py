"""columns.py: facts about long arrays of unsigned numbers, found by whole bytes, faster than one by one."""

from __future__ import annotations

import sys
from array import array

_ALL_BYTES = bytes(range(256))
_FEW = 16  # of so many numbers at most one is looked at by itself


def summed(column: array[int]) -> int:
    """The sum, fast where most numbers are 1 and take one byte."""
    if column.itemsize > 1:
        return sum(column)
    others = column.tobytes().translate(None, b"\1")
    return len(column) - len(others) + sum(others)


def has_zero(column: array[int]) -> bool:
    """Whether a number is 0."""
    if column.itemsize > 1:
        return 0 in column
    return 0 in column.tobytes()


def reaches(column: array[int], limit: int) -> bool:
    """Whether a number is `limit` or more."""
    width = column.itemsize
    if not column or limit <= 0 or limit >> 8 * width:
        return bool(column) and limit <= 0
    most = (limit - 1).to_bytes(width, "little")
    data = column.tobytes()
    for place in reversed(range(width)):
        plane = data[place if sys.byteorder == "little" else width - 1 - place::width]
        absent = _ALL_BYTES.translate(None, plane)
        highest = next(byte for byte in reversed(_ALL_BYTES) if byte not in absent)
        if highest != most[place]:
            return highest > most[place]
        if highest:
            return _reaches_among(column, limit, plane, highest)
    return False


def _reaches_among(column: array[int], limit: int, plane: bytes, byte: int) -> bool:
    """As reaches, where only numbers that have this byte in this plane can."""
    if plane.count(byte) * _FEW > len(plane):
        return max(column) >= limit
    place = plane.find(byte)
    while place >= 0:
        if column[place] >= limit:
            return True
        place = plane.find(byte, place + 1)
    return False
