"""compare.py: tm-compare, what grew and what shrank."""

from __future__ import annotations

import os.path
import time
from typing import Iterator, Sequence

import gdb

from .. import domains
from ..model import KEY_TYPES, Frame, Snapshot, StatisticDiff, format_size
from ..snapfile import TIME_FORMAT, time_of
from .arguments import Arguments, alternatives, grouping, one_of, parse
from .command import Command, tracing_reader
from .completion import filenames
from .rows import GROUPS, count, notes, print_rows, recursion
from .view import View, look, remarks

OPTIONS = ("-cumulative", "-limit")
_USAGE = "tm-compare FILE [GROUPING] or tm-compare OLD NEW [GROUPING]"


class Compare(Command):
    """What grew and what shrank since a snapshot, or between two.
Usage: tm-compare FILE [GROUPING] [-cumulative] [-limit N]
       tm-compare OLD NEW [GROUPING] [-cumulative] [-limit N]

GROUPING and the options are those of tm-stats, and so are tm-filter's filters
and the wrappers, on both sides. The greatest change of size comes first; groups
that did not change are only counted. With one file, that moment is compared
with the program now; with two files no process is needed. A file name that has
a space is quoted; a file that is called as a grouping is written ./lineno.

Example:
  (gdb) tm-snapshot save a.snap
  (gdb) continue
  (gdb) tm-compare a.snap -limit 3
  a.snap (15:36:59) -> process 4711 (server), 14 s later: 7 of 8 lines changed
  1  server.c:212: size=42.1 MiB (+30.0 MiB), count=8012 (+5700), average=5509 B
         item->body = malloc(size);
  ...
  (gdb) tm-compare a.snap b.snap function"""

    name = "tm-compare"
    options = OPTIONS
    repeats = True

    def run(self, argument: str) -> None:
        arguments = parse(argument, self.options)
        old, new, key_type = chosen(arguments)
        _print_comparison(old, new, key_type, arguments)

    def operands(self, words: Sequence[str], start: str) -> Sequence[str]:
        if len(words) > 1 and words[-1] in KEY_TYPES or len(words) > 2:
            return ()
        return [*(KEY_TYPES if words else ()), *(filenames(start) if len(words) < 2 else ())]


class _Side:
    """A snapshot with what to call it."""

    def __init__(self, name: str, snapshot: Snapshot) -> None:
        self.name = name
        self.snapshot = snapshot
        self.time = time_of(snapshot)

    @property
    def program(self) -> str:
        """Its path; empty if the snapshot does not tell."""
        return str(self.snapshot.info.get("program", ""))


def chosen(arguments: Arguments) -> tuple[_Side, _Side, str]:
    """The older and the newer side, and the grouping."""
    files, groupings = _split(arguments.words)
    key_type = grouping(groupings, arguments.is_cumulative)
    return _load(files[0]), _load(files[1]) if len(files) == 2 else _now(), key_type


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The file names, one or two, and the words behind them."""
    if not words:
        raise gdb.GdbError(f"a snapshot's file name is missing: {_USAGE}")
    files = 2 if len(words) > 1 and _is_second_a_file(words[1]) else 1
    return list(words[:files]), list(words[files:])


def _is_second_a_file(word: str) -> bool:
    if word in KEY_TYPES:
        return False
    if os.path.exists(os.path.expanduser(word)):
        return True
    if not any(key_type.startswith(word) for key_type in KEY_TYPES):
        raise gdb.GdbError(f'"{word}" is neither a file nor a grouping: use {alternatives(KEY_TYPES)}')
    one_of(word, KEY_TYPES, "grouping")
    return False


def _load(filename: str) -> _Side:
    return _Side(filename, Snapshot.load(os.path.expanduser(filename)))


def _now() -> _Side:
    reader = tracing_reader()
    return _Side(reader.process.name, reader.take_snapshot(with_addresses=False))


def _print_comparison(old: _Side, new: _Side, key_type: str, arguments: Arguments) -> None:
    limit = arguments.limit
    views = [look(side.snapshot, key_type, arguments.is_cumulative) for side in (old, new)]
    was, now = (view.snapshot for view in views)
    diffs = now.compare_to(was, key_type, arguments.is_cumulative)
    changed = [diff for diff in diffs if diff.size_diff or diff.count_diff]
    how = ", counted at every frame of their tracebacks" if arguments.is_cumulative else ""
    print(f"{_moments(old, new)}: {len(changed):,} of {len(diffs):,} {GROUPS[key_type]} changed{how}{remarks(views)}")
    notes(warnings(old, new, views, key_type))
    for side, view in zip((old, new), views):
        notes(f"{side.name}: {note}" for note in view.notes)
    shown = changed[:limit]
    print_rows(shown, key_type, {**domains.names_in(was.info), **domains.names_in(now.info)})
    if arguments.is_cumulative:
        notes(recursion(shown, *now.rows.sums()))
    if len(shown) < len(changed):
        print(_left_out(changed[len(shown):], arguments.is_cumulative))
    (old_size, old_blocks), (size, blocks) = was.rows.sums(), now.rows.sums()
    print(f"Total: {format_size(size, False)} ({format_size(size - old_size, True)}) in "
          f"{count(blocks, 'block')} ({blocks - old_blocks:+,})")


def _moments(old: _Side, new: _Side) -> str:
    """`a.snap (15:36:59) -> process 4711 (server), 14 s later`."""
    if old.time is None or new.time is None:
        return f"{old.name} -> {new.name}"
    seconds = round(time.mktime(new.time) - time.mktime(old.time))
    is_same_day = old.time[:3] == new.time[:3]
    when = time.strftime("%H:%M:%S" if is_same_day else TIME_FORMAT, old.time)
    return f"{old.name} ({when}) -> {new.name}, {_span(abs(seconds))} {'later' if seconds >= 0 else 'earlier'}"


def _span(seconds: int) -> str:
    """A length of time in at most two units."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 1:
        return f"{seconds} s"
    if hours < 1:
        return f"{minutes} min {seconds % 60} s"
    if days < 1:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def warnings(old: _Side, new: _Side, views: Sequence[View], key_type: str) -> Iterator[str]:
    """What a reader of the comparison must know first."""
    yield from _programs(old, new)
    yield from _started_anew(old, new)
    if key_type not in ("module", "domain"):
        yield from _named_otherwise(old, new, views)


def _programs(old: _Side, new: _Side) -> Iterator[str]:
    """A warning where the two are not of one program."""
    if old.program and new.program and old.program != new.program:
        yield f"these are two programs: {old.name} is of {old.program}, {new.name} of {new.program}"


def _started_anew(old: _Side, new: _Side) -> Iterator[str]:
    """A warning where blocks of the older side are missing from the newer because the tracer forgot them."""
    was, now = ((side.snapshot.info.get("pid"), side.snapshot.info.get("since")) for side in (old, new))
    if was[0] == now[0] and was[1] and now[1] and was[1] != now[1]:
        yield (f"tracing was started anew or cleared between {old.name} and {new.name}: blocks from before are not "
               "known any more, as if they had been freed")


def _named_otherwise(old: _Side, new: _Side, views: Sequence[View]) -> Iterator[str]:
    """A warning where one side knows source lines of a module and the other has no file of it to find them in."""
    (old_lined, old_bare), (new_lined, new_bare) = (_modules(view.snapshot) for view in views)
    for knowing, other, modules in ((old, new, old_lined & new_bare), (new, old, new_lined & old_bare)):
        if modules:
            yield (f"{knowing.name} has lines in {', '.join(sorted(modules))}, {other.name} does not: one place "
                   "has two names, and seems to be gone under one and new under the other; give GDB the "
                   "program's file (`file PROGRAM`), or compare by module")


def _modules(snapshot: Snapshot) -> tuple[set[str], set[str]]:
    """The names of the modules that blocks count for: those with lines, and those without any."""
    frames = [Frame(raw) for raw in (snapshot.rows.sites[index].innermost for index, _, _ in snapshot.rows.totals())
              if raw]
    lined = {os.path.basename(frame.module) for frame in frames if frame.module and frame.lineno}
    return lined, {os.path.basename(frame.module) for frame in frames if frame.module} - lined


def _left_out(diffs: Sequence[StatisticDiff], is_cumulative: bool) -> str:
    if is_cumulative:
        return f"... {len(diffs):,} more changed"
    size = sum(diff.size_diff for diff in diffs)
    blocks = sum(diff.count_diff for diff in diffs)
    return (f"... {len(diffs):,} more changed: {format_size(size, True)} in {blocks:+,} "
            f"block{'' if abs(blocks) == 1 else 's'}")


def register() -> None:
    Compare()
