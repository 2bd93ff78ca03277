"""elf.py: what an ELF file on disk tells of its code, for modules that GDB does not know: names, bytes, build-id."""

from __future__ import annotations

import os
import stat
import struct
from bisect import bisect_right
from typing import Iterator, NamedTuple

_SHT_SYMTAB, _SHT_NOTE, _SHT_DYNSYM = 2, 7, 11
_STT_FUNC, _STT_GNU_IFUNC = 2, 10
_NT_GNU_BUILD_ID = 3
_PT_LOAD = 1
_NOTES_MAX = 1 << 20

# By e_machine, as GDB names the architecture's family.
_ARCHITECTURES = {3: "i386", 62: "i386:x86-64", 183: "aarch64"}

_DAMAGE = (ValueError, IndexError, struct.error)


class _Section(NamedTuple):
    type: int
    offset: int
    size: int
    link: int


class _Function(NamedTuple):
    address: int
    size: int
    name: bytes


class ElfFile:
    """One file, which may be anything. A file that is missing, another build, no ELF file or damaged tells nothing.

    A build-id, where one is given, must be the file's own: another build's names would be wrong.
    """

    def __init__(self, path: str, build_id: bytes = b"") -> None:
        self.path = path
        self.architecture = ""  # as GDB names its family; empty if it is not known
        self.problem = ""       # why the file is not used; empty if it is
        self.build_id = b""     # the file's own; empty if it has none or is not used
        self._image: _Image | None = None
        self._functions: list[_Function] | None = None  # by address
        self._starts: list[int] = []
        try:
            self._image = self._open(build_id)
        except (FileNotFoundError, NotADirectoryError):
            self.problem = "no such file"
        except OSError as error:
            self.problem = error.strerror or "it cannot be read"
        except _DAMAGE:
            self.problem = "not a whole ELF file"

    def _open(self, build_id: bytes) -> _Image | None:
        image = _Image(self.path)
        own = image.build_id()
        if build_id and own != build_id:
            self.problem = "another build-id than the program's"
            return None
        self.build_id = own
        self.architecture = _ARCHITECTURES.get(image.machine, "")
        return image

    def function_at(self, address: int) -> tuple[str, int] | None:
        """(name, offset in it) of the function that holds the file's own `address`."""
        if self._functions is None:
            self._functions = self._read_functions()
            self._starts = [function.address for function in self._functions]
        index = bisect_right(self._starts, address) - 1
        if index >= 0:
            start, size, name = self._functions[index]
            if address - start < size:
                return name.decode("utf-8", "replace"), address - start
        return None

    def _read_functions(self) -> list[_Function]:
        try:
            functions = self._image.functions() if self._image else iter(())
            # Of aliases GDB shows the one whose name is the greatest.
            return sorted(functions, key=lambda one: (one.address, one.size > 0, one.name))
        except (OSError, *_DAMAGE):
            return []

    def code_at(self, address: int, length: int) -> bytes:
        """The file's bytes for its own `address`; empty where it has none."""
        try:
            return self._image.code_at(address, length) if self._image else b""
        except (OSError, *_DAMAGE):
            return b""


class _Image:
    """The bytes of an ELF file, not trusted: struct.error, ValueError or IndexError where they lie."""

    def __init__(self, path: str) -> None:
        # Without O_NONBLOCK a FIFO would wait for its writer.
        self._file = open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
        status = os.fstat(self._file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        self._size = status.st_size
        header = self._read(0, 64)
        if header[:4] != b"\x7fELF":
            raise ValueError("not an ELF file")
        self._is_64 = header[4] == 2
        self._order = ">" if header[5] == 2 else "<"
        self.machine, = struct.unpack_from(self._order + "H", header, 18)
        self._segments = list(self._read_segments(header))
        self._sections = list(self._read_sections(header))

    def _read(self, offset: int, size: int) -> bytes:
        if offset + size > self._size:
            raise ValueError("beyond the end of the file")
        return os.pread(self._file.fileno(), size, offset)

    def _unpack(self, codes: str, data: bytes, offset: int = 0) -> tuple[int, ...]:
        return struct.unpack_from(self._order + codes, data, offset)

    def _read_segments(self, header: bytes) -> Iterator[tuple[int, int, int]]:
        """(address, offset in the file, size in the file) of what is mapped."""
        table, = self._unpack("Q", header, 32) if self._is_64 else self._unpack("I", header, 28)
        entry_size, count = self._unpack("HH", header, 54 if self._is_64 else 42)
        entries = self._read(table, entry_size * count)
        for index in range(count):
            fields = self._unpack("IIQQQQ" if self._is_64 else "IIIII", entries, index * entry_size)
            if fields[0] == _PT_LOAD and self._is_64:
                yield fields[3], fields[2], fields[5]
            elif fields[0] == _PT_LOAD:
                yield fields[2], fields[1], fields[4]

    def _read_sections(self, header: bytes) -> Iterator[_Section]:
        table, = self._unpack("Q", header, 40) if self._is_64 else self._unpack("I", header, 32)
        entry_size, count = self._unpack("HH", header, 58 if self._is_64 else 46)
        entries = self._read(table, entry_size * count)
        for index in range(count):
            fields = self._unpack("IIQQQQI" if self._is_64 else "IIIIIII", entries, index * entry_size)
            yield _Section(fields[1], fields[4], fields[5], fields[6])

    def build_id(self) -> bytes:
        """The GNU build-id, empty if there is none."""
        for section in self._sections:
            if section.type != _SHT_NOTE or section.size > _NOTES_MAX:
                continue
            data = self._read(section.offset, section.size)
            place = 0
            while place + 12 <= len(data):
                name_size, size, kind = self._unpack("III", data, place)
                name = place + 12
                content = name + (name_size + 3 & ~3)
                if kind == _NT_GNU_BUILD_ID and data[name:name + name_size] == b"GNU\0":
                    return data[content:content + size]
                place = content + (size + 3 & ~3)
        return b""

    def functions(self) -> Iterator[_Function]:
        """From the full symbol table where the file has one, else from the dynamic one."""
        tables = {section.type: section for section in self._sections}
        table = tables.get(_SHT_SYMTAB) or tables.get(_SHT_DYNSYM)
        if table is None:
            return
        strings = self._sections[table.link]
        names = self._read(strings.offset, strings.size)
        entry = struct.Struct(self._order + ("IBBHQQ" if self._is_64 else "IIIBBH"))
        data = self._read(table.offset, table.size // entry.size * entry.size)
        for fields in entry.iter_unpack(data):
            if self._is_64:
                name, info, _, section, address, size = fields
            else:
                name, address, size, info, _, section = fields
            if info & 15 in (_STT_FUNC, _STT_GNU_IFUNC) and section:
                yield _Function(address, size, names[name:names.index(b"\0", name)])

    def code_at(self, address: int, length: int) -> bytes:
        for start, offset, size in self._segments:
            if start <= address and address + length <= start + size:
                return self._read(offset + address - start, length)
        return b""
