"""corefile.py: the memory that an ELF core file of this machine holds, to be read and to be damaged."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "gdb"))

from tm.memory import Unreadable  # noqa: E402

_LOAD = 1


class CoreFile:
    """`data` is the file's content; its owner may change or cut it."""

    def __init__(self, content: bytes) -> None:
        self.data = bytearray(content)
        self.reads = 0
        self._parts: list[tuple[int, int, int]] = []  # address, offset, length
        first, = struct.unpack_from("=Q", content, 32)
        size, count = struct.unpack_from("=HH", content, 54)
        for number in range(count):
            kind, _, offset, address, _, length = struct.unpack_from("=IIQQQQ", content, first + number * size)
            if kind == _LOAD and length:
                self._parts.append((address, offset, length))

    def ranges(self) -> list[tuple[int, int]]:
        """The (start, end) of the memory that the file says it holds."""
        return [(address, address + length) for address, _, length in self._parts]

    def offset_of(self, address: int, length: int) -> int:
        for start, offset, part_length in self._parts:
            if start <= address and address + length <= start + part_length:
                return offset + address - start
        raise Unreadable(address, length)

    def read(self, address: int, length: int) -> bytes:
        """A Read (tm/memory.py)."""
        self.reads += 1
        done = bytearray()
        while len(done) < length:
            piece = self._piece(address + len(done), length - len(done))
            if not piece:
                raise Unreadable(address, length)
            done += piece
        return bytes(done)

    def _piece(self, address: int, length: int) -> bytearray:
        """As much as lies there in one part; parts may follow one another without a gap."""
        for start, offset, part_length in self._parts:
            if start <= address < start + part_length:
                first = offset + address - start
                return self.data[first:first + min(length, start + part_length - address)]
        return bytearray()
