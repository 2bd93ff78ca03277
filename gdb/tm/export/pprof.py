"""pprof.py: a profile as google/pprof's profile.proto describes it, gzipped.

A site is a sample. Program counters are locations, which have a line for each function that was inlined there; the
snapshot knows all names already, so readers need not look for the program's files.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any, BinaryIO

from .. import domains
from ..model import UNKNOWN, RawFrame, RawFrames, Site, Snapshot, file_of, wide
from ..numbering import Numbers
from ..snapfile import time_of
from .names import printable

_SAMPLE_TYPES = (("inuse_objects", "count"), ("inuse_space", "bytes"))
_PREFERRED = "inuse_space"
_MASK = (1 << 64) - 1

# (module, pc) of a raw frame, () of one that has neither.
_code: Callable[[RawFrame], Sequence[Any]] = itemgetter(slice(3, None))


class _Profile:  # fields of the message Profile
    SAMPLE_TYPE, SAMPLE, MAPPING, LOCATION, FUNCTION, STRING_TABLE = 1, 2, 3, 4, 5, 6
    TIME_NANOS, PERIOD_TYPE, PERIOD, COMMENT, DEFAULT_SAMPLE_TYPE = 9, 11, 12, 13, 14


class _Sample:
    LOCATION_ID, VALUE, LABEL = 1, 2, 3


class _Label:
    KEY, STR = 1, 2


class _Mapping:
    ID, FILENAME, BUILD_ID = 1, 5, 6
    HAS_FUNCTIONS, HAS_FILENAMES, HAS_LINE_NUMBERS, HAS_INLINE_FRAMES = 7, 8, 9, 10


class _Location:
    ID, MAPPING_ID, ADDRESS, LINE = 1, 2, 3, 4


class _Line:
    FUNCTION_ID, LINE = 1, 2


class _Function:
    ID, NAME, SYSTEM_NAME, FILENAME = 1, 2, 3, 4


class _ValueType:
    TYPE, UNIT = 1, 2


def write(snapshot: Snapshot, file: BinaryIO) -> None:
    """Writes sample by sample; each site has one."""
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        for message in _Encoder(snapshot).messages():
            packed.write(message)


# ---- the wire format ----

@lru_cache(maxsize=1 << 16)
def _varint(number: int) -> bytes:
    number &= _MASK
    encoded = bytearray()
    while number > 0x7f:
        encoded.append(number & 0x7f | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _number(field: int, number: int) -> bytes:
    """0 is what a field has that is left out."""
    return _varint(field << 3) + _varint(number) if number else b""


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _packed(field: int, numbers: Iterable[int]) -> bytes:
    return _bytes(field, b"".join(map(_varint, numbers)))


# ---- the profile ----

class _Encoder:
    """Makes the messages, and numbers what they refer to. Ids are these numbers plus 1."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._domain_names = domains.names_in(snapshot.info)
        self._strings: Numbers[str] = Numbers({"": 0})
        self._mappings: Numbers[str] = Numbers()
        self._functions: Numbers[tuple[str, str]] = Numbers()
        self._locations: Numbers[RawFrames] = Numbers()

    def messages(self) -> Iterator[bytes]:
        """The fields of the message Profile. What others refer to comes behind them."""
        for name, unit in _SAMPLE_TYPES:
            yield _bytes(_Profile.SAMPLE_TYPE, self._value_type(name, unit))
        for index, size, count in self._snapshot.rows.totals():
            yield _bytes(_Profile.SAMPLE, self._sample(self._snapshot.rows.sites[index], size, count))
        yield from self._facts()
        program = self._snapshot.info.get("program")
        if program and isinstance(program, str):
            self._mappings[program]  # the first mapping is that of the program
        for frames, number in self._locations.items():
            yield _bytes(_Profile.LOCATION, self._location(number + 1, frames))
        for (name, filename), number in self._functions.items():
            yield _bytes(_Profile.FUNCTION, self._function(number + 1, name, filename))
        for module, number in self._mappings.items():
            yield _bytes(_Profile.MAPPING, self._mapping(number + 1, module))
        for text in self._strings:
            yield _bytes(_Profile.STRING_TABLE, text.encode())

    def _string(self, text: str) -> int:
        return self._strings[printable(text)]

    def _value_type(self, name: str, unit: str) -> bytes:
        return _number(_ValueType.TYPE, self._string(name)) + _number(_ValueType.UNIT, self._string(unit))

    def _facts(self) -> Iterator[bytes]:
        yield _number(_Profile.DEFAULT_SAMPLE_TYPE, self._string(_PREFERRED))
        # Every block is there: nothing was sampled, nothing is to be scaled.
        yield _bytes(_Profile.PERIOD_TYPE, self._value_type("space", "bytes"))
        yield _number(_Profile.PERIOD, 1)
        yield _number(_Profile.TIME_NANOS, _seconds(self._snapshot) * 10**9)
        yield _packed(_Profile.COMMENT, map(self._string, self._snapshot.notes))

    def _sample(self, site: Site, size: int, count: int) -> bytes:
        ids = (self._locations[frames] + 1 for frames in _locations(site.frames or (UNKNOWN,)))
        sample = _packed(_Sample.LOCATION_ID, ids) + _packed(_Sample.VALUE, (count, size))
        if not site.domain:
            return sample
        name = self._domain_names.get(site.domain) or str(site.domain)
        return sample + _bytes(_Sample.LABEL, _number(_Label.KEY, self._string("domain"))
                               + _number(_Label.STR, self._string(name)))

    def _location(self, number: int, frames: RawFrames) -> bytes:
        module, pc = wide(frames[0])[3:]
        lines = (_bytes(_Location.LINE, self._line(raw)) for raw in frames)
        return b"".join((_number(_Location.ID, number),
                         _number(_Location.MAPPING_ID, self._mappings[module] + 1 if module else 0),
                         _number(_Location.ADDRESS, pc or 0), *lines))

    def _line(self, raw: RawFrame) -> bytes:
        function = self._functions[wide(raw)[2] or raw[0], file_of(raw)]
        return _number(_Line.FUNCTION_ID, function + 1) + _number(_Line.LINE, raw[1])

    def _function(self, number: int, name: str, filename: str) -> bytes:
        name_index = self._string(name)
        return (_number(_Function.ID, number) + _number(_Function.NAME, name_index)
                + _number(_Function.SYSTEM_NAME, name_index) + _number(_Function.FILENAME, self._string(filename)))

    def _mapping(self, number: int, module: str) -> bytes:
        """Without the range of its addresses, which a snapshot does not know."""
        build_id = _build_id(self._snapshot.info, module)
        # These keep a reader from looking names up itself, in files that may have changed.
        resolution = (_Mapping.HAS_FUNCTIONS, _Mapping.HAS_FILENAMES, _Mapping.HAS_LINE_NUMBERS,
                      _Mapping.HAS_INLINE_FRAMES)
        return b"".join((_number(_Mapping.ID, number), _number(_Mapping.FILENAME, self._string(module)),
                         _number(_Mapping.BUILD_ID, self._string(build_id)),
                         *(_number(field, True) for field in resolution)))


def _seconds(snapshot: Snapshot) -> int:
    """When the snapshot was taken, since 1970; 0 if it does not tell."""
    moment = time_of(snapshot)
    if moment is not None:
        with suppress(OverflowError):
            return int(time.mktime(moment))
    return 0


def _build_id(info: dict[str, Any], module: str) -> str:
    build_ids = info.get("build_ids")
    build_id = build_ids.get(module) if isinstance(build_ids, dict) else None
    return build_id if isinstance(build_id, str) else ""


def _locations(frames: RawFrames) -> Iterator[RawFrames]:
    """The frames, those that were inlined at one program counter together."""
    for code, neighbours in groupby(frames, _code):
        run = tuple(neighbours)
        is_known = bool(code) and code[1] is not None
        step = _period(run) if is_known and len(run) > 1 else 1
        for start in range(0, len(run), step):
            yield run[start:start + step]


def _period(run: RawFrames) -> int:
    """After how many frames they repeat: a function that calls itself has one program counter again and again."""
    return next(step for step in range(1, len(run) + 1) if run[step:] == run[:-step])
