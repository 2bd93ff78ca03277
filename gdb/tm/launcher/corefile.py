"""corefile.py: which program a core is of, by the core's own notes. What is read is not trusted."""

from __future__ import annotations

import os
import struct
from typing import Iterator, NamedTuple

_ET_CORE = 4
_PT_LOAD, _PT_NOTE = 1, 4
_NT_PRPSINFO, _NT_AUXV, _NT_FILE, _NT_GNU_BUILD_ID = 3, 6, 0x46494c45, 3
_AT_ENTRY, _AT_EXECFN = 9, 31
_READ_MAX = 64 << 20   # bytes at once; the notes of a core with very many threads are less
_NOTES_MAX = 64 << 20  # bytes of all notes
_PATH_MAX = 4096
_SEGMENTS_BEYOND = 0xffff  # so many segments: the number is in section 0

_DAMAGE = (OSError, ValueError, IndexError, struct.error)


class _Mapping(NamedTuple):
    start: int
    end: int
    offset: int
    path: str


class _Segment(NamedTuple):
    type: int
    offset: int
    address: int
    size: int  # in the file


def is_elf(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def is_core(path: str) -> bool:
    """Whether the file is an ELF core; OSError if it cannot be read."""
    with open(path, "rb") as file:
        header = file.read(20)
    if len(header) < 20 or not header.startswith(b"\x7fELF"):
        return False
    return struct.unpack_from(">H" if header[5] == 2 else "<H", header, 16) == (_ET_CORE,)


class CoreFile:
    """One core, which may be cut short or damaged: what it does not tell is empty."""

    def __init__(self, path: str) -> None:
        self.program = ""    # the path of the program's file where it ran
        self.build_id = b""  # that the program's file had; empty if the core does not tell
        self.command = ""    # the first 16 characters of its name
        with open(path, "rb") as file:
            self._file = file.fileno()
            self._size = os.fstat(self._file).st_size
            self._notes_left = _NOTES_MAX
            try:
                self._read()
            except _DAMAGE:
                pass

    def _read(self) -> None:
        header = self._bytes(0, 64)
        self._is_64 = header[4] == 2
        self._order = ">" if header[5] == 2 else "<"
        self._segments = list(self._read_segments(header))
        auxiliary: dict[int, int] = {}
        mappings: list[_Mapping] = []
        for segment in self._segments:
            if segment.type != _PT_NOTE:
                continue
            for kind, content in self._notes(self._bytes(segment.offset, segment.size)):
                if kind == _NT_AUXV:
                    auxiliary = {key: value for key, value in self._pairs(content)}
                elif kind == _NT_FILE:
                    mappings = list(self._read_mappings(content))
                elif kind == _NT_PRPSINFO:
                    self.command = content[40 if self._is_64 else 28:][:16].partition(b"\0")[0].decode(errors="replace")
        self._find_program(auxiliary, mappings)

    def _find_program(self, auxiliary: dict[int, int], mappings: list[_Mapping]) -> None:
        """The file that holds the program's entry; its name when it was executed where that is not to be had."""
        entry = auxiliary.get(_AT_ENTRY, 0)
        holding = next((mapping for mapping in mappings if mapping.start <= entry < mapping.end), None)
        if holding:
            self.program = holding.path
            self.build_id = self._build_id(min(one.start for one in mappings
                                               if one.path == holding.path and one.offset == 0))
        elif _AT_EXECFN in auxiliary:
            name = os.fsdecode(self._memory(auxiliary[_AT_EXECFN], _PATH_MAX).partition(b"\0")[0])
            self.program = name if os.path.isabs(name) else ""

    def _bytes(self, offset: int, size: int) -> bytes:
        """As many as the file has of them."""
        size = min(size, self._size - offset)
        if size > _READ_MAX:
            raise ValueError(f"{size} bytes at once")
        return os.pread(self._file, size, offset) if size > 0 else b""

    def _unpack(self, codes: str, data: bytes, place: int = 0) -> tuple[int, ...]:
        return struct.unpack_from(self._order + codes, data, place)

    def _read_segments(self, header: bytes) -> Iterator[_Segment]:
        word = "Q" if self._is_64 else "I"
        table, sections = self._unpack(2 * word, header, 32 if self._is_64 else 28)
        size, count = self._unpack("HH", header, 54 if self._is_64 else 42)
        if count == _SEGMENTS_BEYOND:
            count, = self._unpack("I", self._bytes(sections, 64), 44 if self._is_64 else 28)
        if size < (56 if self._is_64 else 32):
            raise ValueError(f"segments of {size} bytes")
        data = self._bytes(table, size * count)
        for place in range(0, len(data) - size + 1, size):
            if self._is_64:
                kind, _, offset, address, _, length = self._unpack("IIQQQQ", data, place)
            else:
                kind, offset, address, _, length = self._unpack("IIIII", data, place)
            yield _Segment(kind, offset, address, length)

    def _notes(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        self._notes_left -= len(data)
        if self._notes_left < 0:
            raise ValueError("more notes than any core has")
        place = 0
        while place + 12 <= len(data):
            name_size, size, kind = self._unpack("III", data, place)
            content = place + 12 + (name_size + 3 & ~3)
            yield kind, data[content:content + size]
            place = content + (size + 3 & ~3)

    def _pairs(self, data: bytes) -> Iterator[tuple[int, ...]]:
        pair = struct.Struct(self._order + ("QQ" if self._is_64 else "II"))
        return pair.iter_unpack(data[:len(data) // pair.size * pair.size])

    def _read_mappings(self, data: bytes) -> Iterator[_Mapping]:
        word = struct.Struct(self._order + ("Q" if self._is_64 else "I"))
        count, page_size = (word.unpack_from(data, place)[0] for place in (0, word.size))
        names = data[(2 + 3 * count) * word.size:].split(b"\0")
        for number in range(min(count, len(names))):
            start, end, offset = (word.unpack_from(data, (2 + 3 * number + field) * word.size)[0] for field in range(3))
            yield _Mapping(start, end, offset * page_size, os.fsdecode(names[number]))

    def _memory(self, address: int, size: int) -> bytes:
        """The program's memory, as far as the core has it."""
        for segment in self._segments:
            if segment.type == _PT_LOAD and segment.address <= address < segment.address + segment.size:
                inside = address - segment.address
                return self._bytes(segment.offset + inside, min(size, segment.size - inside))
        return b""

    def _build_id(self, start: int) -> bytes:
        """By the program's own header, which a core has by default."""
        header = self._memory(start, 64)
        if not header.startswith(b"\x7fELF"):
            return b""
        table, = self._unpack("Q" if self._is_64 else "I", header, 32 if self._is_64 else 28)
        size, count = self._unpack("HH", header, 54 if self._is_64 else 42)
        entries = self._memory(start + table, size * count)
        for place in range(0, len(entries) - size + 1, size):
            kind, = self._unpack("I", entries, place)
            offset, = self._unpack("Q" if self._is_64 else "I", entries, place + (8 if self._is_64 else 4))
            length, = self._unpack("Q" if self._is_64 else "I", entries, place + (32 if self._is_64 else 16))
            if kind == _PT_NOTE:
                for note, content in self._notes(self._memory(start + offset, length)):
                    if note == _NT_GNU_BUILD_ID:
                        return content
        return b""
