"""memory.py: reads of a program's memory that survive holes, such as a core that was cut short has."""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Callable, Iterable, Iterator, Sequence, Union

Data = Union[bytes, memoryview]

# Gives exactly `length` bytes of the program at `address`, or raises Unreadable. All or nothing.
Read = Callable[[int, int], Data]

PIECE = 1 << 20
CACHED_PIECE = 1 << 16
CACHED_PIECES = 1024


class LayoutError(RuntimeError):
    """What lies in the program is not what layout.h promises. The text is one sentence for the user."""


class Unreadable(LayoutError):
    """Memory that the process does not have, or that the core does not hold."""

    def __init__(self, address: int, length: int, what: str = "") -> None:
        super().__init__(f"cannot read {what or f'{length} bytes'} at {address:#x}")


def is_readable(read: Read, address: int) -> bool:
    try:
        read(address, 1)
    except Unreadable:
        return False
    return True


def pieces(read: Read, address: int, length: int, granule: int = 8) -> Iterator[tuple[int, int, memoryview | None]]:
    """Yields the range in order as (address, length, bytes), with None for the bytes where it cannot be read.

    A piece that cannot be read is halved and tried again, down to `granule` bytes; all cuts are at multiples of
    `granule` from `address`. A range whose both ends cannot be read counts as missing as a whole, so that a large
    hole costs few reads: what a core that was cut short holds is the front of each range.
    """
    end = address + length
    most = PIECE // granule * granule
    for start in range(address, end, most):
        for part in _halves(read, start, min(most, end - start), granule):
            is_whole_piece = part[:2] == (start, min(most, end - start))
            if part[2] is None and is_whole_piece and not is_readable(read, end - 1):
                yield start, end - start, None
                return
            yield part


def _halves(read: Read, address: int, length: int, granule: int) -> Iterator[tuple[int, int, memoryview | None]]:
    try:
        yield address, length, memoryview(read(address, length)).cast("B")
        return
    except Unreadable:
        pass
    if length <= granule or not (is_readable(read, address) or is_readable(read, address + length - 1)):
        yield address, length, None
        return
    half = max(granule, length // 2 // granule * granule)
    yield from _halves(read, address, half, granule)
    yield from _halves(read, address + half, length - half, granule)


def words(data: memoryview, byteorder: str, code: str = "Q") -> Sequence[int]:
    """The words of `data`, which is contiguous, of 8 bytes or what the struct module's `code` says; bytes beyond the
    last whole word are left out."""
    size = struct.calcsize("<" + code)
    whole = data[:len(data) // size * size]
    if byteorder == sys.byteorder:
        return whole.cast(code)
    swapped = array(code, whole.tobytes())
    swapped.byteswap()
    return swapped


def find(read: Read, pattern: bytes, ranges: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Yields the addresses of `pattern` within the (start, end) ranges; what cannot be read is passed over."""
    for start, end in ranges:
        tail, tail_end = b"", start
        for address, _, data in pieces(read, start, end - start, 4096):
            if data is None:
                continue
            # A match may lie across two pieces that touch.
            before = tail if tail_end == address else b""
            text = before + data.tobytes()
            position = text.find(pattern)
            while position >= 0:
                yield address - len(before) + position
                position = text.find(pattern, position + 1)
            tail, tail_end = text[-len(pattern) + 1:], address + len(data)


class Cache:
    """A Read that serves many small reads from few large ones. The program must not run while it is in use."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._pieces: dict[int, Data] = {}

    def __call__(self, address: int, length: int) -> Data:
        start = address - address % CACHED_PIECE
        offset = address - start
        if offset + length > CACHED_PIECE:
            return self._read(address, length)
        data = self._pieces.get(start)
        if data is None:
            data = self._fill(start)
        return data[offset:offset + length] if data else self._read(address, length)

    def _fill(self, start: int) -> Data:
        """The piece at `start`, empty where it cannot be read as a whole."""
        if len(self._pieces) >= CACHED_PIECES:
            self._pieces.clear()
        try:
            data = self._read(start, CACHED_PIECE)
        except Unreadable:
            data = b""
        self._pieces[start] = data
        return data
