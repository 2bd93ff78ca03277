"""The snapshot file: a snapshot of the model, written whole or not at all, and read without trust.

doc/snapshot-format.md describes every byte.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import sys
import time
from array import array
from binascii import crc32
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, islice
from typing import Any, BinaryIO, NoReturn, cast, overload

from .columns import reaches
from .layout import Module
from .model import RawFrame, RawFrames, Rows, Site, Snapshot
from .numbering import Numbers
from .offline import Modules, RawSites, symbolised
from .wholefile import NotReplaceable, Path, shown_path, write_whole

MAGIC = b"\x89tmsnap\n"
MAJOR = 1
MINOR = 0

_HEADER = struct.Struct("<8sHHI")
_SECTION = struct.Struct("<4sI")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

# Columns of the table that opens a section.
_COLUMNS = {b"STRS": 1, b"FRAM": 6, b"SITE": 3, b"STAK": 1, b"ROWS": 3, b"ADDR": 1, b"PCS ": 1, b"AGES": 1, b"MODS": 6}
_FRAME_KINDS = (b"STRS", b"FRAM", b"STAK")
_RAW_KINDS = (b"PCS ", b"AGES", b"MODS")

_WIDE_FRAME = 1
_HAS_PC = 2

_CHUNK = 1 << 16  # rows of a section as we write it
_MAX_INFO = 1 << 22
_MAX_BLOCKS = 1 << 48
_MAX_MODULES = 1 << 16
_MAX_UNLOADED = 1 << 12
_TYPECODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_AGAIN = "use another copy of the file or save a new snapshot"

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


class SnapshotError(ValueError):
    """What is wrong with a snapshot file, or with a snapshot that is to be saved, and what to do, in one line."""


def save(snapshot: Snapshot, path: Path) -> int:
    """Write a snapshot to a file, whole or not at all, and return the number of bytes.

    SnapshotError for a snapshot that the format cannot hold; OSError as by open.
    """
    try:
        return write_whole(path, lambda file: _write_sections(file, _sections(snapshot)))
    except NotReplaceable as error:
        raise SnapshotError(str(error)) from None
    except (OverflowError, UnicodeEncodeError) as error:
        raise SnapshotError(f"{shown_path(path)}: the snapshot has what the format cannot hold ({error}); "
                            "save one with numbers from 0 to 2**64 - 1 and names that a file system allows") from None


def load(path: Path) -> Snapshot:
    """Read a snapshot file. SnapshotError where it is none or is damaged; OSError as by open.

    Of a raw one the frames are looked up, in the program's files, when they are asked for.
    """
    try:
        with _open_regular(path) as file:
            return _Reader(file).snapshot()
    except _Damage as damage:
        raise SnapshotError(f"{shown_path(path)} {damage}") from None


def time_text(seconds: float) -> str:
    """A moment, in seconds since 1970, as the facts of a snapshot have it. ValueError or OSError for one too far."""
    return time.strftime(TIME_FORMAT, time.localtime(seconds))


def time_of(snapshot: Snapshot) -> time.struct_time | None:
    """When a snapshot was taken, in local time; None if it does not tell."""
    try:
        return time.strptime(str(snapshot.info.get("time")), TIME_FORMAT)
    except ValueError:
        return None


# ---- writing: the file ----

def _write_sections(file: BinaryIO, sections: Iterable[tuple[bytes, bytes]]) -> None:
    header = _HEADER.pack(MAGIC, MAJOR, MINOR, 0)
    file.write(header)
    # The stored checksums stay out: a CRC over what ends in its own CRC is always the same, and forgets the past.
    checksum = crc32(header)
    for kind, payload in sections:
        head = _SECTION.pack(kind, len(payload))
        checksum = crc32(payload, crc32(head, checksum))
        file.write(head)
        file.write(payload)
        file.write(_U32.pack(checksum))


# ---- writing: the sections ----

def _sections(snapshot: Snapshot) -> Iterator[tuple[bytes, bytes]]:
    rows = snapshot.rows
    used = [index for index, _, _ in rows.totals()]
    yield from _site_sections(rows, used)
    # Behind the sites: notes may come as their frames are looked up.
    yield b"INFO", _encode_info(snapshot)
    yield from _row_sections(rows, used)
    yield from _address_sections(rows)
    yield b"END ", _U64.pack(rows.block_count)


def _table(*columns: Sequence[int]) -> bytes:
    arrays = [_narrowed(column) for column in columns]
    if not any(arrays):
        arrays[0] = array("B", bytes(len(columns[0])))
    widths = bytes(column.itemsize if column else 0 for column in arrays)
    return b"".join([_U32.pack(len(columns[0])), widths, *map(_little_endian, arrays)])


def _narrowed(column: Sequence[int]) -> array[int]:
    """The column in the least width; empty where it is all zeros."""
    highest = max(column, default=0)
    if not highest:
        return array("B")
    return array(next(code for width, code in _TYPECODES.items() if highest < 1 << 8 * width), column)


def _little_endian(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _chunked_tables(kind: bytes, *columns: Sequence[int]) -> Iterator[tuple[bytes, bytes]]:
    for start in range(0, len(columns[0]), _CHUNK):
        yield kind, _table(*(column[start:start + _CHUNK] for column in columns))


def _site_sections(rows: Rows, used: list[int]) -> Iterator[tuple[bytes, bytes]]:
    frames: Numbers[RawFrame] = Numbers()
    domains, totals, depths, stack = array("Q"), array("Q"), array("Q"), array("Q")
    for index in used:
        site = rows.sites[index]
        raws = site.frames
        domains.append(site.domain)
        totals.append(0 if site.total_nframe is None else site.total_nframe + 1)
        depths.append(len(raws))
        stack.extend(map(frames.__getitem__, raws))
    yield from _frame_sections(frames)
    yield from _chunked_tables(b"SITE", domains, totals, depths)
    yield from _chunked_tables(b"STAK", stack)


def _frame_sections(frames: Iterable[RawFrame]) -> Iterator[tuple[bytes, bytes]]:
    strings: Numbers[str] = Numbers()
    columns = names, lines, functions, modules, pcs, flags = [array("Q") for _ in range(6)]
    for raw in frames:
        filename, lineno, *rest = raw
        function, module, pc = cast("tuple[str | None, str | None, int | None]", rest or (None, None, None))
        names.append(strings[filename])
        lines.append(lineno)
        functions.append(0 if function is None else strings[function] + 1)
        modules.append(0 if module is None else strings[module] + 1)
        pcs.append(pc or 0)
        flags.append((_WIDE_FRAME if rest else 0) | (0 if pc is None else _HAS_PC))
    texts = iter(strings)
    while chunk := [text.encode("utf-8", "surrogateescape") for text in islice(texts, _CHUNK)]:
        yield b"STRS", _table([len(text) for text in chunk]) + b"".join(chunk)
    yield from _chunked_tables(b"FRAM", *columns)


def _row_sections(rows: Rows, used: list[int]) -> Iterator[tuple[bytes, bytes]]:
    numbers = None if len(used) == len(rows.sites) else {index: number for number, index in enumerate(used)}
    for start in range(0, len(rows.sizes), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        indexes = rows.site_indexes[chunk]
        if numbers is not None:
            indexes = [numbers[index] for index in indexes]
        yield b"ROWS", _table(indexes, rows.sizes[chunk], rows.counts[chunk])


def _address_sections(rows: Rows) -> Iterator[tuple[bytes, bytes]]:
    addresses = rows.addresses()
    if addresses is not None:
        yield from _chunked_tables(b"ADDR", addresses)


def _encode_info(snapshot: Snapshot) -> bytes:
    attributes: dict[str, Any] = vars(snapshot)
    document = {"traceback_limit": snapshot.traceback_limit, "info": snapshot.info, "notes": list(snapshot.notes),
                "attributes": attributes}
    for name, value in {**attributes, **document}.items():
        if name in attributes and hasattr(Snapshot, name):
            raise SnapshotError(f"attribute {name!r} hides what every snapshot has; rename it to save the snapshot")
        if not _is_json(value):
            raise SnapshotError(f"attribute {name!r} is not made of JSON's types alone; convert or delete it to save")
    if not _fits(document):
        raise SnapshotError("traceback_limit must be an int, info a dict and notes strings; correct them to save")
    encoded = json.dumps(document).encode("ascii")
    if len(encoded) > _MAX_INFO:
        raise SnapshotError(f"info, notes and attributes are {len(encoded)} bytes of JSON, "
                            f"a file holds {_MAX_INFO}; shorten them to save the snapshot")
    return encoded


def _fits(document: dict[str, Any]) -> bool:
    """Whether what INFO holds has the types that a snapshot needs."""
    attributes = document["attributes"]
    return (type(document["traceback_limit"]) is int and type(document["info"]) is dict
            and type(document["notes"]) is list and all(type(note) is str for note in document["notes"])
            and type(attributes) is dict and not any(hasattr(Snapshot, name) for name in attributes))


def _is_json(value: Any, depth: int = 0) -> bool:
    """Whether a value comes back from JSON as what it was."""
    if depth > 100:
        return False
    if type(value) is dict:
        return all(type(key) is str and _is_json(item, depth + 1) for key, item in value.items())
    if type(value) is list:
        return all(_is_json(item, depth + 1) for item in value)
    if type(value) is float:
        return value - value == 0
    return value is None or type(value) in (str, int, bool)


# ---- reading: the file ----

class _Damage(Exception):
    """Why a file is not read: what follows its name in a sentence."""


def _refuse(what: str) -> NoReturn:
    raise _Damage(f"{what}; {_AGAIN}")


def _open_regular(path: Path) -> BinaryIO:
    # Without O_NONBLOCK a FIFO would wait for its writer.
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except IsADirectoryError:
        raise _Damage("is a directory; name a snapshot file") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _Damage("is not a regular file; name a snapshot file")
    return file


class _Reader:
    """Takes a file apart into columns, and puts them together once all references can be checked."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = os.fstat(file.fileno()).st_size
        self._place = 0
        self._checksum = 0
        self._minor = MINOR
        self._info: bytes | None = None
        self._strings: list[str] = []
        self._modules: list[Module] = []
        self._kinds: set[bytes] = set()
        self._parts: dict[bytes, list[list[array[int]]]] = {kind: [[] for _ in range(columns)]
                                                            for kind, columns in _COLUMNS.items()}

    def snapshot(self) -> Snapshot:
        self._read_header()
        kind = b""
        while kind != b"END ":
            start = self._place
            kind, payload = self._read_section()
            self._take(kind, payload, f"section {ascii(kind.decode('latin-1'))} at byte {start}")
        if self._left:
            _refuse(f"is damaged: {self._left} bytes follow its end")
        return self._assemble(_U64.unpack(payload)[0])

    def _read(self, size: int, what: str) -> bytes:
        data = self._file.read(size) if size <= self._left else b""
        if len(data) < size:
            _refuse(f"is cut short or damaged: {what} at byte {self._place} needs {size} bytes, {self._left} are left")
        self._left -= size
        self._place += size
        return data

    def _read_header(self) -> None:
        if not self._left:
            _refuse("is empty")
        start = self._file.read(len(MAGIC))
        if start[:1] == b"\x80" and start[1:2] <= b"\5":
            raise _Damage("looks like a pickle and is not opened, for a pickle can run any code; "
                          "save a new snapshot with tm-snapshot save")
        if start != MAGIC[:self._left]:
            raise _Damage("is not a snapshot file; name a file that tm-snapshot save wrote")
        self._file.seek(0)
        header = self._read(_HEADER.size, "the header")
        _, major, self._minor, _ = _HEADER.unpack(header)
        if major != MAJOR:
            raise _Damage(f"has snapshot format {major}.{self._minor}, this reader knows format {MAJOR}.{MINOR}; "
                          "read it with the version that wrote it or save a new snapshot")
        self._checksum = crc32(header)

    def _read_section(self) -> tuple[bytes, bytes]:
        start = self._place
        head = self._read(_SECTION.size, "the head of a section")
        kind, size = _SECTION.unpack(head)
        name = f"section {ascii(kind.decode('latin-1'))}"
        payload = self._read(size, name)
        self._checksum = crc32(payload, crc32(head, self._checksum))
        tail = self._read(_U32.size, f"the checksum of {name}")
        if _U32.unpack(tail)[0] != self._checksum:
            _refuse(f"is damaged: the checksum of {name} at byte {start} is wrong")
        return kind, payload

    def _take(self, kind: bytes, payload: bytes, where: str) -> None:
        self._kinds.add(kind)
        if kind in _COLUMNS:
            columns, rest = _parse_table(payload, _COLUMNS[kind], where)
            if kind == b"STRS":
                self._strings += _parse_strings(columns[0], rest, where)
            elif kind == b"MODS":
                self._modules += _parse_modules(columns, rest, where)
            elif rest:
                _refuse(f"is damaged: {where} is {len(rest)} bytes too long")
            for parts, column in zip(self._parts[kind], columns):
                parts.append(column)
        elif kind == b"INFO" and self._info is None and len(payload) <= _MAX_INFO:
            self._info = payload
        elif kind == b"END " and len(payload) != _U64.size or kind == b"INFO":
            _refuse(f"is damaged: {where} is not as it must be")
        elif kind != b"END " and self._minor <= MINOR:
            _refuse(f"is damaged: {where} is of no known kind")

    def _columns(self, kind: bytes) -> list[array[int]]:
        """The columns of all the sections of a kind."""
        return [_joined(parts) for parts in self._parts[kind]]

    def _assemble(self, block_count: int) -> Snapshot:
        document = _parse_info(self._info)
        is_raw = not self._kinds.isdisjoint(_RAW_KINDS)
        if is_raw and not self._kinds.isdisjoint(_FRAME_KINDS):
            _refuse("is damaged: it has both program counters and frames")
        sites, notes = self._raw_sites(document) if is_raw else self._named_sites(document)
        site_indexes, sizes, counts = self._columns(b"ROWS")
        addresses, = self._columns(b"ADDR")
        try:
            snapshot = Snapshot.from_columns(
                sites, site_indexes, sizes, counts, document["traceback_limit"], info=document["info"],
                notes=notes, addresses=(lambda: addresses) if addresses else None)
        except ValueError as error:
            _refuse(f"is damaged: {error}")
        blocks = snapshot.rows.block_count
        if blocks != block_count or blocks > _MAX_BLOCKS:
            _refuse(f"is damaged: it has {blocks} blocks and should have {block_count}, {_MAX_BLOCKS} at most")
        if addresses and len(addresses) != blocks:
            _refuse(f"is damaged: it has {len(addresses)} addresses for {blocks} blocks")
        vars(snapshot).update(document["attributes"])
        return snapshot

    def _named_sites(self, document: dict[str, Any]) -> tuple[Sequence[Site], list[str]]:
        frames = _Frames(self._strings, self._columns(b"FRAM"))
        return _Sites(frames, self._columns(b"SITE"), *self._columns(b"STAK")), document["notes"]

    def _raw_sites(self, document: dict[str, Any]) -> tuple[Sequence[Site], list[str]]:
        """The sites and the notes, to which more may come; completes the facts in `document`."""
        domains, totals, depths = self._columns(b"SITE")
        ages, = self._columns(b"AGES")
        pcs, = self._columns(b"PCS ")
        _check_sum("program counters of sites", depths, len(pcs))
        if len(ages) != len(domains):
            _refuse(f"is damaged: it has {len(ages)} ages for {len(domains)} sites")
        unloaded = [module for module in self._modules if module.unload >= 0]
        if len(self._modules) > _MAX_MODULES or len(unloaded) > _MAX_UNLOADED:
            _refuse(f"is damaged: it has {len(self._modules)} modules, {len(unloaded)} of them unloaded, and may have "
                    f"{_MAX_MODULES} and {_MAX_UNLOADED}")
        modules = Modules((module for module in self._modules if module.unload < 0), unloaded)
        sites, by = symbolised(RawSites(domains, totals, depths, ages, pcs), modules)
        by.notes[:0] = document["notes"]
        document["info"].setdefault("build_ids", by.build_ids)
        _name_moment(document["info"])
        return sites, by.notes


# ---- reading: what the sections hold ----

def _parse_table(payload: bytes, count: int, where: str) -> tuple[list[array[int]], bytes]:
    """The columns of the table that opens a payload, and what follows it."""
    place = _U32.size + count
    if len(payload) < place:
        _refuse(f"is damaged: {where} is too short")
    rows, = _U32.unpack_from(payload)
    widths = payload[_U32.size:place]
    # At least a byte a row: what is read stays in proportion to the file.
    if not all(width in (0, *_TYPECODES) for width in widths) or not any(widths):
        _refuse(f"is damaged: {where} has columns of {', '.join(map(str, widths))} bytes")
    if rows * sum(widths) > len(payload) - place:
        _refuse(f"is damaged: {where} is too short for {rows} rows")
    columns = []
    for width in widths:
        columns.append(_parse_column(payload[place:place + rows * width], width, rows))
        place += rows * width
    return columns, payload[place:]


def _parse_column(data: bytes, width: int, rows: int) -> array[int]:
    if not width:
        return array("B", bytes(rows))
    column = array(_TYPECODES[width], data)
    if sys.byteorder == "big":
        column.byteswap()
    return column


def _joined(parts: list[array[int]]) -> array[int]:
    if len({part.typecode for part in parts}) > 1:
        parts = [array("Q", part) for part in parts]
    joined = array(parts[0].typecode if parts else "B")
    for part in parts:
        joined.extend(part)
    return joined


def _parse_strings(lengths: array[int], data: bytes, where: str) -> Iterator[str]:
    ends = list(accumulate(lengths))
    if (ends[-1] if ends else 0) != len(data):
        _refuse(f"is damaged: {where} does not hold the strings it names")
    return (data[end - length:end].decode("utf-8", "surrogateescape") for length, end in zip(lengths, ends))


def _parse_modules(columns: list[array[int]], data: bytes, where: str) -> Iterator[Module]:
    """The modules; those that are still mapped have an `unload` of -1."""
    if sum(columns[4]) + sum(columns[5]) != len(data):
        _refuse(f"is damaged: {where} does not hold the paths it names")
    place = 0
    for start, end, bias, unload, id_length, path_length in zip(*columns):
        if start > end:
            _refuse(f"is damaged: {where} has a module that ends before it starts")
        path = place + id_length
        build_id, place = data[place:path], path + path_length
        yield Module(start, end, bias, unload - 1, build_id, data[path:place].decode("utf-8", "surrogateescape"))


def _name_moment(info: dict[str, Any]) -> None:
    """Makes the time, which a raw snapshot has in seconds since 1970, a text."""
    if type(info.get("time")) is int:
        with suppress(ValueError, OverflowError, OSError):
            info["time"] = time_text(info["time"])


def _parse_info(payload: bytes | None) -> dict[str, Any]:
    if payload is None:
        _refuse("is damaged: it has no section 'INFO'")
    try:
        document = json.loads(payload)
        fits = _fits(document)
    except (ValueError, TypeError, KeyError, RecursionError):
        fits = False
    if not fits:
        _refuse("is damaged: its section 'INFO' is not as it must be")
    return cast("dict[str, Any]", document)


def _check_indexes(what: str, column: array[int], limit: int) -> None:
    if reaches(column, limit):
        _refuse(f"is damaged: {what} {max(column)} of {limit}")


def _check_sum(what: str, depths: array[int], length: int) -> None:
    if sum(depths) != length:
        _refuse(f"is damaged: it has {length} {what} and should have {sum(depths)}")


class _Frames:
    """The raw frames of a file, each made once it is asked for."""

    def __init__(self, strings: list[str], columns: list[array[int]]) -> None:
        names, _, functions, modules, _, _ = columns
        _check_indexes("filename", names, len(strings))
        _check_indexes("function", functions, len(strings) + 1)
        _check_indexes("module", modules, len(strings) + 1)
        self._strings = strings
        self._columns = columns
        self._made: list[RawFrame | None] = [None] * len(names)

    def __len__(self) -> int:
        return len(self._made)

    def __getitem__(self, index: int) -> RawFrame:
        made = self._made[index]
        if made is None:
            made = self._made[index] = self._make(index)
        return made

    def _make(self, index: int) -> RawFrame:
        name, line, function, module, pc, flags = (column[index] for column in self._columns)
        if not flags & _WIDE_FRAME:
            return self._strings[name], line
        return (self._strings[name], line, self._strings[function - 1] if function else None,
                self._strings[module - 1] if module else None, pc if flags & _HAS_PC else None)


class _FileSite(Site):
    """A site of a file, whose frames are made once they are asked for."""

    __slots__ = ("_stack", "_table", "_made")

    def __init__(self, domain: int, total_nframe: int | None, stack: array[int], table: _Frames) -> None:
        super().__init__(domain, (), total_nframe)
        self._stack = stack
        self._table = table
        self._made: RawFrames | None = None

    @property
    def frames(self) -> RawFrames:
        if self._made is None:
            self._made = tuple(map(self._table.__getitem__, self._stack))
        return self._made

    @property
    def innermost(self) -> RawFrame | None:
        return self._table[self._stack[0]] if self._stack else None


class _Sites(Sequence[Site]):
    """The sites of a file, each made once it is asked for."""

    def __init__(self, frames: _Frames, columns: list[array[int]], stack: array[int]) -> None:
        self._domains, self._totals, depths = columns
        _check_indexes("frame", stack, len(frames))
        _check_sum("frames of sites", depths, len(stack))
        self._frames = frames
        self._starts = array("Q", accumulate(depths, initial=0))
        self._stack = stack
        self._made: dict[int, Site] = {}

    def __len__(self) -> int:
        return len(self._domains)

    @overload
    def __getitem__(self, index: int) -> Site: ...

    @overload
    def __getitem__(self, index: slice) -> list[Site]: ...

    def __getitem__(self, index: int | slice) -> Site | list[Site]:
        chosen = range(len(self))[index]
        if isinstance(chosen, range):
            return [self[number] for number in chosen]
        return self._made.get(chosen) or self._made.setdefault(chosen, self._make(chosen))

    def _make(self, index: int) -> Site:
        stack = self._stack[self._starts[index]:self._starts[index + 1]]
        return _FileSite(self._domains[index], self._totals[index] - 1 if self._totals[index] else None,
                         stack, self._frames)
