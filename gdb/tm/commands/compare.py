"""compare.py: tm-compare, what grew and what shrank."""

from __future__ import annotations

import os.path
import time
from typing import Iterator, Sequence

import gdb

from .. import domains
from ..model import KEY_TYPES, Snapshot, StatisticDiff, format_size
from ..snapfile import TIME_FORMAT, time_of
from .arguments import Arguments, grouping, parse
from .command import Command, complete_word, tracing_reader
from .rows import GROUPS, notes, print_rows, sizes
from .view import look, remarks

OPTIONS = ("-cumulative", "-limit")
_USAGE = "tm-compare FILE [GROUPING] or tm-compare OLD NEW [GROUPING]"


class Compare(Command):
    """What grew and what shrank: the program now against a saved snapshot, or two saved snapshots.
Usage: tm-compare FILE [GROUPING] [-cumulative] [-limit N]
       tm-compare OLD NEW [GROUPING] [-cumulative] [-limit N]

GROUPING and the options are those of tm-stats, and so are tm-filter's filters and the wrappers, on both sides. The
greatest change of size comes first; groups that did not change are only counted. With two files no process is needed.
A file that is named as a grouping is written ./lineno.

Example:
  (gdb) tm-snapshot save a.snap
  (gdb) continue
  (gdb) tm-compare a.snap -limit 3
  a.snap (15:36:59) -> process 4711 (server), 14 s later: 7 of 8 lines changed
  1  server.c:212: size=42.1 MiB (+30.0 MiB), count=8012 (+5700), average=5509 B
         item->body = malloc(size);
  ..."""

    name = "tm-compare"

    def run(self, argument: str) -> None:
        arguments = parse(argument, OPTIONS)
        old, new, key_type = chosen(arguments)
        _print_comparison(old, new, key_type, arguments)

    def complete(self, text: str, word: str) -> list[str] | int:
        words = text.split()
        is_first = not words or (len(words) == 1 and not text[-1].isspace())
        if is_first and not text.startswith("-"):
            return gdb.COMPLETE_FILENAME
        return complete_word(text, word, (*KEY_TYPES, *OPTIONS))


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
    is_second_a_file = len(words) > 1 and words[1] not in KEY_TYPES
    if is_second_a_file and not os.path.exists(os.path.expanduser(words[1])):
        raise gdb.GdbError(f"{words[1]} is neither a file nor a grouping ({', '.join(KEY_TYPES)})")
    files = 2 if is_second_a_file else 1
    return list(words[:files]), list(words[files:])


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
    notes(warnings(old, new))
    for side, view in zip((old, new), views):
        notes(f"{side.name}: {note}" for note in view.notes)
    shown = changed[:limit]
    print_rows(shown, key_type, {**domains.names_in(was.info), **domains.names_in(now.info)})
    if len(shown) < len(changed):
        print(_left_out(changed[len(shown):], arguments.is_cumulative))
    (old_size, old_blocks), (size, blocks) = sizes(was), sizes(now)
    print(f"Total: {format_size(size, False)} ({format_size(size - old_size, True)}) in "
          f"{blocks:,} blocks ({blocks - old_blocks:+,})")


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


def warnings(old: _Side, new: _Side) -> Iterator[str]:
    """What a reader of the comparison must know first."""
    yield from _programs(old, new)
    yield from _started_anew(old, new)


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


def _left_out(diffs: Sequence[StatisticDiff], is_cumulative: bool) -> str:
    if is_cumulative:
        return f"... {len(diffs):,} more changed"
    size = sum(diff.size_diff for diff in diffs)
    blocks = sum(diff.count_diff for diff in diffs)
    return f"... {len(diffs):,} more changed: {format_size(size, True)} in {blocks:+,} blocks"


def register() -> None:
    Compare()
