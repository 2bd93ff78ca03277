"""The meaning of a snapshot: blocks, tracebacks, statistics, comparisons and filters, as in CPython's tracemalloc.

A snapshot is kept in columns. Row i stands for counts[i] blocks of sizes[i] bytes each, all from
sites[site_indexes[i]]; a site is a domain and a traceback. Traces become objects only when they are asked for.

A raw frame is (filename, lineno) or (filename, lineno, function, module, pc). Raw frames run most recent first,
the public Traceback runs oldest first. In comparison and hash a frame is its filename and lineno alone. A raw frame
of five with lineno 0 has no line and prints without one: `libc.so.6(getdelim+0x15a)`.
"""

from __future__ import annotations

import fnmatch
import linecache
import os.path
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import total_ordering
from itertools import accumulate, compress, repeat
from operator import itemgetter
from typing import Any, Optional, Tuple, Union, cast, overload

from .columns import has_zero, reaches, summed

Pair = Tuple[str, int]
WideFrame = Tuple[str, int, Optional[str], Optional[str], Optional[int]]
RawFrame = Union[Pair, WideFrame]
RawFrames = Tuple[RawFrame, ...]
RawTrace = Union[Tuple[int, int, RawFrames], Tuple[int, int, RawFrames, Optional[int]]]
Total = Tuple[int, int, int]

UNKNOWN: RawFrame = ("<unknown>", 0)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def format_size(size: float, sign: bool) -> str:
    """A number of bytes in at most five digits and a unit; with sign, a + before what is not negative."""
    unit = 0
    while abs(size) >= 10 * 1024 and unit < len(_UNITS) - 1:
        size /= 1024
        unit += 1
    digits = 1 if unit and abs(size) < 100 else 0
    return f"{size:{'+' if sign else ''}.{digits}f} {_UNITS[unit]}"


def exact_size(size: int) -> str:
    """`1.2 MiB (1,258,291 B)`, and where that says it all, `107 B`."""
    text = format_size(size, False)
    return text if text.endswith(" B") else f"{text} ({size:,} B)"


# What a frame compares as. An itemgetter is three times faster here than a function of ours.
_pair: Callable[[RawFrame], Pair] = itemgetter(slice(2))


def wide(raw: RawFrame) -> WideFrame:
    """The raw frame with all that a frame of ours has; None where it is not known."""
    return cast(WideFrame, raw) if len(raw) > 2 else (raw[0], raw[1], None, None, None)


def _has_line(raw: RawFrame) -> bool:
    return len(raw) == 2 or bool(raw[1])


def file_of(raw: RawFrame) -> str:
    """The file a raw frame counts for: its module where its filename only names a place in the module."""
    filename, lineno, _, module, _ = wide(raw)
    if module and not lineno and filename.startswith(os.path.basename(module) + "("):
        return module
    return filename


@total_ordering
class Frame:
    """One frame of a traceback. function, module and pc are None where they are not known."""

    __slots__ = ("_frame",)

    def __init__(self, frame: RawFrame) -> None:
        self._frame = frame

    @property
    def filename(self) -> str:
        return self._frame[0]

    @property
    def lineno(self) -> int:
        return self._frame[1]

    @property
    def function(self) -> str | None:
        return wide(self._frame)[2]

    @property
    def module(self) -> str | None:
        return wide(self._frame)[3]

    @property
    def pc(self) -> int | None:
        return wide(self._frame)[4]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frame):
            return NotImplemented
        return _pair(self._frame) == _pair(other._frame)

    def __lt__(self, other: Frame) -> bool:
        if not isinstance(other, Frame):
            return NotImplemented
        return _pair(self._frame) < _pair(other._frame)

    def __hash__(self) -> int:
        return hash(_pair(self._frame))

    def __str__(self) -> str:
        return f"{self.filename}:{self.lineno}" if _has_line(self._frame) else self.filename

    def __repr__(self) -> str:
        return f"<Frame filename={self.filename!r} lineno={self.lineno!r}>"


@total_ordering
class Traceback(Sequence[Frame]):
    """Frames, oldest first, made from raw frames that run most recent first.

    total_nframe is the depth of the stack, or None where it is not known. It takes no part in comparison.
    """

    __slots__ = ("_frames", "_total_nframe", "_pairs")

    def __init__(self, frames: Sequence[RawFrame], total_nframe: int | None = None) -> None:
        self._frames = tuple(reversed(frames))
        self._total_nframe = total_nframe
        self._pairs: tuple[Pair, ...] | None = None

    @property
    def total_nframe(self) -> int | None:
        return self._total_nframe

    def _key(self) -> tuple[Pair, ...]:
        """What comparison sees."""
        if self._pairs is None:
            self._pairs = tuple(map(_pair, self._frames))
        return self._pairs

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Frame, ...]: ...

    def __getitem__(self, index: int | slice) -> Frame | tuple[Frame, ...]:
        if isinstance(index, slice):
            return tuple(map(Frame, self._frames[index]))
        return Frame(self._frames[index])

    def __contains__(self, frame: object) -> bool:
        return isinstance(frame, Frame) and _pair(frame._frame) in self._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Traceback):
            return NotImplemented
        return self._key() == other._key()

    def __lt__(self, other: Traceback) -> bool:
        if not isinstance(other, Traceback):
            return NotImplemented
        return self._key() < other._key()

    def __str__(self) -> str:
        return str(Frame(self._frames[0] if self._frames else UNKNOWN))

    def __repr__(self) -> str:
        depth = "" if self._total_nframe is None else f" total_nframe={self._total_nframe}"
        return f"<Traceback {tuple(self)}{depth}>"

    def format(self, limit: int | None = None, most_recent_first: bool = False) -> list[str]:
        """Lines of text, with source lines where the files are at hand.

        A positive limit keeps the most recent frames, any other drops that many from the recent end.
        """
        if limit is None:
            frames = self[:]
        else:
            frames = self[-limit:] if limit > 0 else self[:limit]
        lines = []
        for frame in reversed(frames) if most_recent_first else frames:
            lines += _format_frame(frame)
        return lines


def _format_frame(frame: Frame) -> list[str]:
    place = f'  File "{frame.filename}"'
    if _has_line(frame._frame):
        place += f", line {frame.lineno}"
    source = linecache.getline(frame.filename, frame.lineno).strip()
    return [place, f"    {source}"] if source else [place]


class Statistic:
    """What the blocks of one group sum up to."""

    __slots__ = ("traceback", "size", "count")

    def __init__(self, traceback: Traceback, size: int, count: int) -> None:
        self.traceback = traceback
        self.size = size
        self.count = count

    def _fields(self) -> tuple[Any, ...]:
        return self.traceback, self.size, self.count

    def _sort_key(self) -> tuple[Any, ...]:
        return self.size, self.count, self.traceback._key()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Statistic):
            return NotImplemented
        return self._fields() == other._fields()

    def __str__(self) -> str:
        return f"{self.traceback}: size={format_size(self.size, False)}, count={self.count}{_average(self)}"

    def __repr__(self) -> str:
        return f"<Statistic traceback={self.traceback!r} size={self.size} count={self.count}>"


class StatisticDiff:
    """What the blocks of one group sum up to, and how that differs from an older snapshot."""

    __slots__ = ("traceback", "size", "size_diff", "count", "count_diff")

    def __init__(self, traceback: Traceback, size: int, size_diff: int, count: int, count_diff: int) -> None:
        self.traceback = traceback
        self.size = size
        self.size_diff = size_diff
        self.count = count
        self.count_diff = count_diff

    def _fields(self) -> tuple[Any, ...]:
        return self.traceback, self.size, self.size_diff, self.count, self.count_diff

    def _sort_key(self) -> tuple[Any, ...]:
        return abs(self.size_diff), self.size, abs(self.count_diff), self.count, self.traceback._key()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StatisticDiff):
            return NotImplemented
        return self._fields() == other._fields()

    def __str__(self) -> str:
        return (f"{self.traceback}: size={format_size(self.size, False)} ({format_size(self.size_diff, True)}), "
                f"count={self.count} ({self.count_diff:+d}){_average(self)}")

    def __repr__(self) -> str:
        return (f"<StatisticDiff traceback={self.traceback!r} size={self.size} ({self.size_diff:+d}) "
                f"count={self.count} ({self.count_diff:+d})>")


def _average(statistic: Statistic | StatisticDiff) -> str:
    if not statistic.count:
        return ""
    return f", average={format_size(statistic.size / statistic.count, False)}"


class Trace:
    """One block, made from a raw (domain, size, frames) or (domain, size, frames, total_nframe).

    address is None where it is not known. It takes no part in comparison.
    """

    __slots__ = ("_trace", "_address")

    def __init__(self, trace: RawTrace, address: int | None = None) -> None:
        self._trace = trace
        self._address = address

    @property
    def domain(self) -> int:
        return self._trace[0]

    @property
    def size(self) -> int:
        return self._trace[1]

    @property
    def traceback(self) -> Traceback:
        return Traceback(*self._trace[2:])

    @property
    def address(self) -> int | None:
        return self._address

    def _key(self) -> Hashable:
        domain, size, frames, *rest = self._trace
        return domain, size, tuple(map(_pair, frames)), rest[0] if rest else None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        return f"{self.traceback}: {format_size(self.size, False)}"

    def __repr__(self) -> str:
        return (f"<Trace domain={self.domain} size={format_size(self.size, False)}, "
                f"traceback={self.traceback!r}>")


class Site:
    """Where blocks come from: a domain and a traceback.

    A subclass may override frames, innermost and total_nframe to find them only when they are asked for. Who needs
    the innermost frame alone asks for innermost alone.
    """

    __slots__ = ("domain", "_frames", "_total_nframe")

    def __init__(self, domain: int, frames: RawFrames, total_nframe: int | None) -> None:
        self.domain = domain
        self._frames = frames
        self._total_nframe = total_nframe

    @property
    def frames(self) -> RawFrames:
        """Most recent first."""
        return self._frames

    @property
    def innermost(self) -> RawFrame | None:
        """The frame that the site's blocks count for; None where no frame is known."""
        frames = self.frames
        return frames[0] if frames else None

    @property
    def total_nframe(self) -> int | None:
        return self._total_nframe

    @property
    def unskipped(self) -> Site:
        """The site whose innermost frame is the one that called the allocator."""
        return self

    @property
    def wants_frames(self) -> bool:
        """Whether the traceback was cut among its wrappers."""
        return False


class _SkippingSite(Site):
    """A site whose blocks count for another of its frames."""

    __slots__ = ("_site", "_innermost", "_wants_frames")

    def __init__(self, site: Site, innermost: RawFrame, wants_frames: bool) -> None:
        super().__init__(site.domain, (), None)
        self._site = site
        self._innermost = innermost
        self._wants_frames = wants_frames

    @property
    def unskipped(self) -> Site:
        return self._site

    @property
    def wants_frames(self) -> bool:
        return self._wants_frames

    @property
    def frames(self) -> RawFrames:
        return self._site.frames

    @property
    def innermost(self) -> RawFrame | None:
        return self._innermost

    @property
    def total_nframe(self) -> int | None:
        return self._site.total_nframe


class Rows:
    """The columns of a snapshot. They do not change.

    addresses() gives one address per block, rows expanded in order, or None where they are not known; it is read at
    most once.
    """

    def __init__(self, sites: Sequence[Site], site_indexes: Sequence[int], sizes: Sequence[int],
                 counts: Sequence[int], addresses: Callable[[], Sequence[int] | None] | None = None,
                 totals: list[Total] | None = None) -> None:
        self.sites = sites
        self.site_indexes = site_indexes
        self.sizes = sizes
        self.counts = counts
        self.block_count = summed(counts) if isinstance(counts, array) else sum(counts)
        self.has_addresses = addresses is not None
        self._read_addresses = addresses
        self._addresses: Sequence[int] | None = None
        self._starts: Sequence[int] | None = None
        self._totals = totals

    def addresses(self) -> Sequence[int] | None:
        if self._read_addresses is not None:
            addresses = self._read_addresses()
            if addresses is not None and len(addresses) != self.block_count:
                raise ValueError(f"{len(addresses)} addresses for {self.block_count} blocks: give one for each")
            self._addresses, self._read_addresses = addresses, None
        return self._addresses

    def starts(self) -> Sequence[int]:
        """The number of the first block of every row, and at the end the number of blocks."""
        if self._starts is None:
            if self.block_count == len(self.counts):
                self._starts = range(self.block_count + 1)
            else:
                self._starts = array("Q", accumulate(self.counts, initial=0))
        return self._starts

    def totals(self) -> list[Total]:
        """(site index, bytes, blocks) of every site that has blocks."""
        if self._totals is None:
            sizes = [0] * len(self.sites)
            counts = [0] * len(self.sites)
            for index, size, count in zip(self.site_indexes, self.sizes, self.counts):
                # Most rows are one block, and a product takes time.
                sizes[index] += size if count == 1 else size * count
                counts[index] += count
            self._totals = [total for total in zip(range(len(counts)), sizes, counts) if total[2]]
        return self._totals

    def sums(self) -> tuple[int, int]:
        """(bytes, blocks) of all sites."""
        totals = self.totals()
        return sum(size for _, size, _ in totals), sum(blocks for _, _, blocks in totals)

    def with_sites(self, sites: Sequence[Site]) -> Rows:
        """The same blocks, other objects for their sites."""
        addresses = self.addresses if self.has_addresses else None
        return Rows(sites, self.site_indexes, self.sizes, self.counts, addresses, self._totals)

    def of_sites(self, kept: set[int]) -> Rows:
        """The rows of those sites alone."""
        chosen = [index in kept for index in self.site_indexes]

        def column(values: Sequence[int]) -> array[int]:
            return array("Q", compress(values, chosen))

        def addresses() -> array[int] | None:
            all_addresses = self.addresses()
            blocks = (block for keep, count in zip(chosen, self.counts) for block in repeat(keep, count))
            return None if all_addresses is None else array("Q", compress(all_addresses, blocks))

        return Rows(self.sites, column(self.site_indexes), column(self.sizes), column(self.counts),
                    addresses if self.has_addresses else None)


class _BlockTrace(Trace):
    """A trace that looks its address up when it is asked for it."""

    __slots__ = ("_rows", "_block")

    def __init__(self, trace: RawTrace, rows: Rows, block: int) -> None:
        super().__init__(trace)
        self._rows = rows
        self._block = block

    @property
    def address(self) -> int | None:
        addresses = self._rows.addresses()
        return None if addresses is None else addresses[self._block]


class _Traces(Sequence[Trace]):
    """The blocks of a snapshot, made into traces one by one."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return self._rows.block_count

    @overload
    def __getitem__(self, index: int) -> Trace: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Trace, ...]: ...

    def __getitem__(self, index: int | slice) -> Trace | tuple[Trace, ...]:
        chosen = range(len(self))[index]
        if isinstance(chosen, range):
            return tuple(map(self._trace, chosen))
        return self._trace(chosen)

    def __iter__(self) -> Iterator[Trace]:
        block = 0
        for row, count in enumerate(self._rows.counts):
            raw = self._raw(row)
            for block in range(block, block + count):
                yield _BlockTrace(raw, self._rows, block)
            block += 1

    def __contains__(self, trace: object) -> bool:
        if not isinstance(trace, Trace):
            return False
        rows = self._rows
        alike = {index for index, _, _ in rows.totals()
                 if Trace(_raw_trace(rows.sites[index], trace.size)) == trace}
        return any(index in alike and size == trace.size for index, size in zip(rows.site_indexes, rows.sizes))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Traces):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other))

    def __repr__(self) -> str:
        return f"<Traces len={len(self)}>"

    def _raw(self, row: int) -> RawTrace:
        return _raw_trace(self._rows.sites[self._rows.site_indexes[row]], self._rows.sizes[row])

    def _trace(self, block: int) -> Trace:
        row = bisect_right(self._rows.starts(), block) - 1
        return _BlockTrace(self._raw(row), self._rows, block)


def _raw_trace(site: Site, size: int) -> RawTrace:
    return site.domain, size, site.frames, site.total_nframe


def _rows_of_traces(traces: Iterable[RawTrace]) -> Rows:
    """Raw traces in columns, in their order; equal neighbours share a row."""
    sites: list[Site] = []
    numbers: dict[tuple[int, RawFrames, int | None], int] = {}
    # Hashing a long traceback costs more than all the rest, and traces mostly share the tuple. `held` keeps every
    # tuple alive, so that no other can take its id.
    by_id: dict[tuple[int, int, int | None], int] = {}
    held: list[RawFrames] = []
    columns = site_indexes, sizes, counts = array("Q"), array("Q"), array("Q")
    site_sizes: list[int] = []
    site_counts: list[int] = []
    last = None
    for trace in traces:
        domain, size, frames, *rest = trace
        total_nframe = rest[0] if rest else None
        index = by_id.get((domain, id(frames), total_nframe))
        if index is None:
            held.append(frames)
            site = Site(domain, tuple(frames), total_nframe)
            index = numbers.setdefault((domain, site.frames, total_nframe), len(sites))
            by_id[domain, id(frames), total_nframe] = index
            if index == len(sites):
                sites.append(site)
                site_sizes.append(0)
                site_counts.append(0)
        site_sizes[index] += size
        site_counts[index] += 1
        if (index, size) == last:
            counts[-1] += 1
        else:
            last = index, size
            site_indexes.append(index)
            sizes.append(size)
            counts.append(1)
    return Rows(sites, *columns, totals=list(zip(range(len(sites)), site_sizes, site_counts)))


class BaseFilter:
    """What decides which traces stay. inclusive: those that match stay; else those that match go."""

    def __init__(self, inclusive: bool) -> None:
        self.inclusive = inclusive

    def _passes(self, site: Site) -> bool:
        """Whether this filter, for itself, lets the blocks of a site stay."""
        raise NotImplementedError


def _normalized(filename: str) -> str:
    filename = os.path.normcase(filename)
    return filename[:-1] if filename.endswith(".pyc") else filename


class Filter(BaseFilter):
    """Matches by the filename of the innermost frame, or of any frame, and maybe the line and the domain."""

    def __init__(self, inclusive: bool, filename_pattern: str, lineno: int | None = None,
                 all_frames: bool = False, domain: int | None = None) -> None:
        super().__init__(inclusive)
        self._filename_pattern = _normalized(filename_pattern)
        self._match = re.compile(fnmatch.translate(self._filename_pattern)).match
        self.lineno = lineno
        self.all_frames = all_frames
        self.domain = domain

    @property
    def filename_pattern(self) -> str:
        return self._filename_pattern

    def _matches(self, raw: RawFrame) -> bool:
        if self.lineno is not None and raw[1] != self.lineno:
            return False
        filename, file = raw[0], file_of(raw)
        return bool(self._match(_normalized(filename)) or file is not filename and self._match(_normalized(file)))

    def _match_frame(self, filename: str, lineno: int) -> bool:
        return self._matches((filename, lineno)) == bool(self.inclusive)

    def _match_traceback(self, frames: RawFrames) -> bool:
        return any(map(self._matches, frames if self.all_frames else frames[:1])) == bool(self.inclusive)

    def _passes(self, site: Site) -> bool:
        frames = site.frames if self.all_frames else (site.innermost or UNKNOWN,)
        passes = self._match_traceback(frames)
        if self.domain is None:
            return passes
        if self.inclusive:
            return passes and site.domain == self.domain
        return passes or site.domain != self.domain


class DomainFilter(BaseFilter):
    """Matches by the domain."""

    def __init__(self, inclusive: bool, domain: int) -> None:
        super().__init__(inclusive)
        self._domain = domain

    @property
    def domain(self) -> int:
        return self._domain

    def _passes(self, site: Site) -> bool:
        return (site.domain == self._domain) == bool(self.inclusive)


def _by_filename(raw: RawFrame) -> RawFrame:
    return file_of(raw), 0


def _by_function(raw: RawFrame) -> RawFrame:
    if raw is UNKNOWN:
        return raw
    _, _, function, module, _ = wide(raw)
    return f"{function or '??'} ({file_of(raw)})", 0, function, module, None


def _by_module(raw: RawFrame) -> RawFrame:
    module = wide(raw)[3]
    return module or UNKNOWN[0], 0, None, module, None


def _by_lineno(raw: RawFrame) -> RawFrame:
    return raw


# A group's own raw frame, from a raw frame that belongs to it. Groups are the same where these compare equal.
_FRAME_KEYS: dict[str, Callable[[RawFrame], RawFrame]] = {
    "filename": _by_filename,
    "lineno": _by_lineno,
    "function": _by_function,
    "module": _by_module,
}
KEY_TYPES = ("filename", "lineno", "traceback", "function", "module", "domain")


def _check_key(key_type: str, cumulative: bool) -> None:
    if key_type not in KEY_TYPES:
        raise ValueError(f"unknown key_type {key_type!r}: use one of {', '.join(KEY_TYPES)}")
    if cumulative and key_type not in _FRAME_KEYS:
        raise ValueError(f"key_type {key_type!r} has no cumulative statistics: use one of {', '.join(_FRAME_KEYS)}")


class _Groups(dict[Hashable, Statistic]):
    """Statistics by what their traceback compares as."""

    def add(self, frames: RawFrames, size: int, count: int) -> None:
        key = (_pair(frames[0]),) if len(frames) == 1 else tuple(map(_pair, reversed(frames)))
        statistic = self.get(key)
        if statistic is None:
            traceback = Traceback(frames)
            traceback._pairs = key
            self[key] = Statistic(traceback, size, count)
        else:
            statistic.size += size
            statistic.count += count


class Snapshot:
    """The blocks that lived at one moment, from raw traces.

    info holds facts by name (program, pid, time, ...), notes sentences on what is missing or partial, of which more may
    come as frames are looked up; both, and any attribute of JSON's types that a user sets, survive dump and load.
    """

    # What a user sets goes to __dict__, what is ours does not.
    __slots__ = ("rows", "traces", "traceback_limit", "info", "_notes", "__dict__")

    def __init__(self, traces: Iterable[RawTrace], traceback_limit: int) -> None:
        self._fill(_rows_of_traces(traces), traceback_limit, {}, ())

    @classmethod
    def from_columns(cls, sites: Sequence[Site], site_indexes: array[int], sizes: array[int], counts: array[int],
                     traceback_limit: int, *, info: dict[str, Any] | None = None, notes: Sequence[str] = (),
                     addresses: Callable[[], Sequence[int] | None] | None = None) -> Snapshot:
        """A snapshot that takes over three parallel columns; ValueError where they do not fit together.

        addresses, when it is called, gives one address per block, rows expanded in order, or None.
        """
        if not len(site_indexes) == len(sizes) == len(counts):
            raise ValueError(f"columns of {len(site_indexes)}, {len(sizes)} and {len(counts)} rows: give equal ones")
        if reaches(site_indexes, len(sites)):
            raise ValueError(f"site index {max(site_indexes)} of {len(sites)} sites: count sites from 0")
        if has_zero(counts):
            raise ValueError("a row of 0 blocks: leave it out")
        rows = Rows(sites, site_indexes, sizes, counts, addresses)
        return cls._of_rows(rows, traceback_limit, info or {}, notes)

    @classmethod
    def _of_rows(cls, rows: Rows, traceback_limit: int, info: dict[str, Any], notes: Sequence[str]) -> Snapshot:
        snapshot = cls.__new__(cls)
        snapshot._fill(rows, traceback_limit, info, notes)
        return snapshot

    def _fill(self, rows: Rows, traceback_limit: int, info: dict[str, Any], notes: Sequence[str]) -> None:
        self.rows = rows
        self.traces: Sequence[Trace] = _Traces(rows)
        self.traceback_limit = traceback_limit
        self.info = dict(info)
        self._notes = notes

    def _with_rows(self, rows: Rows) -> Snapshot:
        return self._of_rows(rows, self.traceback_limit, self.info, self._notes)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes)

    @property
    def skipped_blocks(self) -> int:
        """How many blocks skip_wrappers made count for another frame than the one that called the allocator."""
        return self._count_blocks(lambda site: site is not site.unskipped
                                  and site.innermost != site.unskipped.innermost)

    @property
    def wrapper_only_blocks(self) -> int:
        """How many blocks skip_wrappers left at a wrapper because their traceback was cut there: more frames would
        help them."""
        return self._count_blocks(lambda site: site.wants_frames)

    def _count_blocks(self, is_counted: Callable[[Site], bool]) -> int:
        return sum(count for index, _, count in self.rows.totals() if is_counted(self.rows.sites[index]))

    def dump(self, filename: str | os.PathLike[str]) -> None:
        """Write the snapshot to a file, whole or not at all."""
        from . import snapfile  # the format builds on the model, not the model on the format
        snapfile.save(self, filename)

    @staticmethod
    def load(filename: str | os.PathLike[str]) -> Snapshot:
        """Read a snapshot that dump wrote; a ValueError says what is wrong with the file."""
        from . import snapfile
        return snapfile.load(filename)

    def filter_traces(self, filters: Iterable[BaseFilter]) -> Snapshot:
        """A new snapshot of the traces that match any inclusive filter, if there is one, and no exclusive one."""
        if not isinstance(filters, Iterable):
            raise TypeError(f"filters is a {type(filters).__name__}: give a list of filters")
        filters = list(filters)
        include = [one for one in filters if one.inclusive]
        exclude = [one for one in filters if not one.inclusive]
        totals = self.rows.totals() if filters else []
        sites = self.rows.sites
        kept = {index for index, _, _ in totals
                if (not include or any(one._passes(sites[index]) for one in include))
                and all(one._passes(sites[index]) for one in exclude)}
        if len(kept) == len(totals):
            return self._with_rows(self.rows.with_sites(sites))
        return self._with_rows(self.rows.of_sites(kept))

    def skip_wrappers(self, patterns: Iterable[str]) -> Snapshot:
        """A new snapshot whose blocks count for the innermost frame that is no wrapper.

        A wrapper's function, filename or module matches one of the patterns. Where all frames are wrappers, the
        outermost counts. This holds for filters on the innermost frame and for statistics by line, file and function
        that are not cumulative; tracebacks stay whole, and a file keeps the tracebacks alone.
        """
        if isinstance(patterns, str):
            raise TypeError(f"patterns is the str {patterns!r}: give a list of patterns")
        is_wrapper = _wrapper_test(patterns)
        sites = list(self.rows.sites)
        for index, _, _ in self.rows.totals():
            site = sites[index] = sites[index].unskipped
            innermost = site.innermost
            if innermost is None or not is_wrapper(innermost):
                continue
            chosen = next((raw for raw in site.frames if not is_wrapper(raw)), None)
            is_cut = site.total_nframe is None or site.total_nframe > len(site.frames)
            sites[index] = _SkippingSite(site, chosen or site.frames[-1], chosen is None and is_cut)
        return self._with_rows(self.rows.with_sites(sites))

    def statistics(self, key_type: str, cumulative: bool = False) -> list[Statistic]:
        """One Statistic per group, the largest first. cumulative counts a block at every frame of its traceback."""
        return sorted(self._grouped(key_type, cumulative).values(), key=Statistic._sort_key, reverse=True)

    def compare_to(self, old_snapshot: Snapshot, key_type: str, cumulative: bool = False) -> list[StatisticDiff]:
        """One StatisticDiff per group of either snapshot, the greatest change of size first."""
        new = self._grouped(key_type, cumulative)
        old = old_snapshot._grouped(key_type, cumulative)
        diffs = []
        for key, now in new.items():
            was = old.pop(key, None)
            size, count = (was.size, was.count) if was else (0, 0)
            diffs.append(StatisticDiff(now.traceback, now.size, now.size - size, now.count, now.count - count))
        diffs += [StatisticDiff(was.traceback, 0, -was.size, 0, -was.count) for was in old.values()]
        return sorted(diffs, key=StatisticDiff._sort_key, reverse=True)

    def _grouped(self, key_type: str, cumulative: bool) -> _Groups:
        _check_key(key_type, cumulative)
        if cumulative:
            return self._grouped_cumulative(_FRAME_KEYS[key_type])
        groups, sites, group_of = _Groups(), self.rows.sites, _SITE_GROUPS[key_type]
        for index, size, count in self.rows.totals():
            groups.add(group_of(sites[index]), size, count)
        return groups

    def _grouped_cumulative(self, frame_key: Callable[[RawFrame], RawFrame]) -> _Groups:
        sums: dict[RawFrame, list[int]] = {}
        for index, size, count in self.rows.totals():
            for raw in self.rows.sites[index].frames:
                try:
                    total = sums[raw]
                except KeyError:
                    sums[raw] = [size, count]
                else:
                    total[0] += size
                    total[1] += count
        groups = _Groups()
        for raw, (size, count) in sums.items():
            groups.add((frame_key(raw),), size, count)
        return groups


# The raw frames that stand for the group of a site.
_SITE_GROUPS: dict[str, Callable[[Site], RawFrames]] = {
    "filename": lambda site: (_by_filename(site.innermost or UNKNOWN),),
    "lineno": lambda site: (site.innermost or UNKNOWN,),
    "function": lambda site: (_by_function(site.innermost or UNKNOWN),),
    "module": lambda site: (_by_module(site.unskipped.innermost or UNKNOWN),),
    "domain": lambda site: ((f"domain {site.domain}", 0, None, None, None),),
    "traceback": lambda site: site.frames,
}


def _wrapper_test(patterns: Iterable[str]) -> Callable[[RawFrame], bool]:
    match = re.compile("|".join(map(fnmatch.translate, patterns)) or "(?!)").match
    known: dict[str | None, bool] = {None: False, "": False}

    def matches(name: str | None) -> bool:
        if name not in known:
            known[name] = match(cast(str, name)) is not None
        return known[name]

    def is_wrapper(raw: RawFrame) -> bool:
        filename, _, function, module, _ = wide(raw)
        return matches(function) or matches(filename) or matches(module)

    return is_wrapper
