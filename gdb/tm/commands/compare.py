"""compare.py: tm-compare, what grew and what shrank."""

from __future__ import annotations

import os.path
from typing import Sequence

import gdb

from ..model import KEY_TYPES, Snapshot, StatisticDiff, format_size
from .arguments import OPTIONS, Arguments, grouping, parse
from .command import Command, complete_word, tracing_reader
from .rows import GROUPS, notes, print_rows, sizes

_USAGE = "tm-compare FILE [GROUPING] or tm-compare OLD NEW [GROUPING]"


class Compare(Command):
    """What grew and what shrank: the program now against a saved snapshot, or two saved snapshots.
Usage: tm-compare FILE [GROUPING] [-cumulative] [-limit N]
       tm-compare OLD NEW [GROUPING] [-cumulative] [-limit N]

GROUPING and the options are those of tm-stats. The greatest change of size comes first; groups that did not change
are only counted. With two files no process is needed. A file that is named as a grouping is written ./lineno.

Example:
  (gdb) tm-snapshot save a.snap
  (gdb) continue
  (gdb) tm-compare a.snap -limit 3
  1  server.c:212: size=42.1 MiB (+30.0 MiB), count=8012 (+5700), average=5509 B
         item->body = malloc(size);
  ..."""

    name = "tm-compare"

    def run(self, argument: str) -> None:
        arguments = parse(argument)
        files, groupings = _split(arguments.words)
        key_type = grouping(groupings, arguments.is_cumulative)
        old = _load(files[0])
        if len(files) == 2:
            new = _load(files[1])
        else:
            reader = tracing_reader()
            new = _Named(reader.process.description(), reader.take_snapshot())
        _print_comparison(old, new, key_type, arguments)

    def complete(self, text: str, word: str) -> list[str] | int:
        words = text.split()
        is_first = not words or (len(words) == 1 and not text[-1].isspace())
        if is_first and not text.startswith("-"):
            return gdb.COMPLETE_FILENAME
        return complete_word(text, word, (*KEY_TYPES, *OPTIONS))


class _Named:
    """A snapshot with what to call it."""

    def __init__(self, name: str, snapshot: Snapshot) -> None:
        self.name = name
        self.snapshot = snapshot
        self.size, self.blocks = sizes(snapshot)


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The file names, one or two, and the words behind them."""
    if not words:
        raise gdb.GdbError(f"a snapshot's file name is missing: {_USAGE}")
    is_second_a_file = len(words) > 1 and words[1] not in KEY_TYPES
    if is_second_a_file and not os.path.exists(os.path.expanduser(words[1])):
        raise gdb.GdbError(f"{words[1]} is neither a file nor a grouping ({', '.join(KEY_TYPES)})")
    files = 2 if is_second_a_file else 1
    return list(words[:files]), list(words[files:])


def _load(filename: str) -> _Named:
    snapshot = Snapshot.load(os.path.expanduser(filename))
    program, time = os.path.basename(str(snapshot.info.get("program", ""))), str(snapshot.info.get("time", ""))
    facts = ", ".join(fact for fact in (program, time) if fact)
    return _Named(f"{filename} ({facts})" if facts else filename, snapshot)


def _print_comparison(old: _Named, new: _Named, key_type: str, arguments: Arguments) -> None:
    diffs = new.snapshot.compare_to(old.snapshot, key_type, arguments.is_cumulative)
    changed = [diff for diff in diffs if diff.size_diff or diff.count_diff]
    how = ", counted at every frame of their tracebacks" if arguments.is_cumulative else ""
    print(f"from {old.name} to {new.name}: {len(changed):,} of {len(diffs):,} {GROUPS[key_type]} changed{how}")
    for named in (old, new):
        notes(f"{named.name}: {note}" for note in named.snapshot.notes)
    shown = changed[:arguments.limit]
    print_rows(shown, key_type)
    if len(shown) < len(changed):
        print(_left_out(changed[len(shown):], arguments.is_cumulative))
    print(f"Total: {format_size(new.size, False)} ({format_size(new.size - old.size, True)}) in "
          f"{new.blocks:,} blocks ({new.blocks - old.blocks:+,})")


def _left_out(diffs: Sequence[StatisticDiff], is_cumulative: bool) -> str:
    if is_cumulative:
        return f"... {len(diffs):,} more changed"
    size = sum(diff.size_diff for diff in diffs)
    blocks = sum(diff.count_diff for diff in diffs)
    return f"... {len(diffs):,} more changed: {format_size(size, True)} in {blocks:+,} blocks"


def register() -> None:
    Compare()
