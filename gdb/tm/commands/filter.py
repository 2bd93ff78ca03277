"""filter.py: tm-filter, which blocks the other commands show."""

from __future__ import annotations

import re
from typing import Iterable, Iterator, NamedTuple, Sequence

import gdb

from .. import domains
from ..model import BaseFilter, DomainFilter, Filter, Snapshot
from ..reader import Reader
from ..symbols import known_files
from . import settings
from .arguments import Arguments, is_number, one_of, parse, refuse_more
from .command import Command
from .rows import count, notes, print_table

_OPTIONS = ("-lineno", "-all-frames", "-domain")
_WITH_OPTIONS = ("include", "exclude")
_USAGE = "tm-filter include|exclude PATTERN [-lineno N] [-all-frames] [-domain D], tm-filter list|clear, or " \
         "tm-filter delete N...|all"


class Entry(NamedTuple):
    """One filter as the user gave it."""

    is_inclusive: bool
    pattern: str | None  # None: any file
    lineno: int | None
    all_frames: bool
    domain: str | None  # a number or a name

    def cells(self) -> list[str]:
        """What the list shows of it."""
        return ["include" if self.is_inclusive else "exclude", self.pattern or "*",
                f"line {self.lineno}" if self.lineno is not None else "",
                "all frames" if self.all_frames else "", f"domain {self.domain}" if self.domain is not None else ""]

    def filters(self, domain: int | None) -> Iterator[BaseFilter]:
        """The model's filters; `domain` is what the domain's name means in the snapshot."""
        if self.pattern is None and domain is not None:
            yield DomainFilter(self.is_inclusive, domain)
            return
        pattern = self.pattern or "*"
        yield Filter(self.is_inclusive, pattern, self.lineno, self.all_frames, domain)
        # The commands show paths without their first directories, so they take them like that.
        if not pattern.startswith(("/", "*")):
            yield Filter(self.is_inclusive, f"*/{pattern}", self.lineno, self.all_frames, domain)


_entries: dict[int, Entry] = {}  # by number; a number stays a filter's own as long as there are any


def number() -> int:
    """How many filters hold."""
    return len(_entries)


def filtered(snapshot: Snapshot) -> tuple[Snapshot, list[str]]:
    """What the filters leave of a snapshot, and a sentence on each that cannot hold there."""
    names = domains.names_in(snapshot.info)
    filters: list[BaseFilter] = []
    missing = []
    for number, entry in _entries.items():
        domain = None if entry.domain is None else domains.number_of(entry.domain, names)
        if entry.domain is not None and domain is None:
            missing.append(f"filter {number} finds no domain that is named {entry.domain}")
            # No domain has this number, as none has the name.
            domain = -1
        filters += entry.filters(domain)
    return (snapshot.filter_traces(filters) if filters else snapshot), missing


class FilterCommand(Command):
    """Which blocks tm-stats, tm-traces and the others show.
Usage: tm-filter include [PATTERN] [-lineno N] [-all-frames] [-domain D]
       tm-filter exclude [PATTERN] [-lineno N] [-all-frames] [-domain D]
       tm-filter list
       tm-filter delete N...|all
       tm-filter clear

PATTERN is a file name with * and ?, with as many of its directories as you
like: server.c, net/*.c. A block matches whose innermost frame lies in such a
file; the wrappers of malloc (set tm wrappers) do not count. Shown is what
matches any include, if there is one, and no exclude. How much that is of the
selected program is told at once.

  -lineno N
    Only that line matches; server.c:59 is short for server.c -lineno 59.
  -all-frames
    Any frame of the traceback may match, not only the innermost.
  -domain D
    Only blocks of that domain match; D is its number or its name. PATTERN may
    then be left out.

The filters hold for tm-stats, tm-compare, tm-traces and tm-export. list, or
tm-filter alone, lists them, delete drops those with the given numbers; clear,
or delete all, drops all.

Example:
  (gdb) tm-filter exclude libcrypto.so*
  filter 1: exclude libcrypto.so*
  shown: 9,345 of 12,345 blocks, from 80 of 87 sites
  (gdb) tm-stats
  (gdb) tm-filter include server.c:212
  (gdb) tm-filter include -domain textures
  (gdb) tm-filter delete 1"""

    name = "tm-filter"
    options = _OPTIONS

    def run(self, argument: str) -> None:
        words = gdb.string_to_argv(argument)
        action = one_of(words[0], _ACTIONS, "action of tm-filter") if words else "list"
        _ACTIONS[action](action, argument)

    def operands(self, words: Sequence[str], start: str) -> Iterable[str]:
        if not words:
            return _ACTIONS
        action = _action(words)
        if action == "delete" and len(words) == 1:
            return [*map(str, _entries), "all"]
        if action == "delete":
            return [] if "all" in words else [str(number) for number in _entries if str(number) not in words]
        return sorted(known_files()) if action in _WITH_OPTIONS and len(words) == 1 else ()

    def options_behind(self, words: Sequence[str]) -> Sequence[str]:
        return _OPTIONS if _action(words) in _WITH_OPTIONS else ()


def _action(words: Sequence[str]) -> str:
    """The action that the first word is or begins; empty for any other."""
    return next((action for action in _ACTIONS if words and action.startswith(words[0])), "")


def _add(action: str, argument: str) -> None:
    arguments = parse(argument, _OPTIONS)
    entry = _entry(action == "include", arguments.words[1:], arguments)
    number = max(_entries, default=0) + 1
    _entries[number] = entry
    print(f"filter {number}: {' '.join(filter(None, entry.cells()))}")
    _print_what_remains()


def _entry(is_inclusive: bool, words: Sequence[str], arguments: Arguments) -> Entry:
    domain = arguments.text("-domain")
    if not words and domain is None:
        action = "include" if is_inclusive else "exclude"
        raise gdb.GdbError(f"tm-filter {action} needs a pattern of file names, as in tm-filter {action} server.c")
    refuse_more(words[1:], _USAGE)
    pattern, lineno = (words[0] if words else None), arguments.number("-lineno")
    place = re.fullmatch(r"(.*):(\d+)", pattern or "")
    if place is not None and lineno is None:
        pattern, lineno = place[1] or "*", int(place[2])
    return Entry(is_inclusive, pattern, lineno, arguments.has("-all-frames"), domain)


def _print_what_remains() -> None:
    """What the filters leave of the selected program; nothing where there is none that is tracing."""
    try:
        reader = Reader()
        if not reader.is_tracing:
            return
        snapshot = reader.take_snapshot(with_addresses=False)
    except RuntimeError:
        return
    patterns = settings.wrapper_patterns()
    remaining, missing = filtered(snapshot.skip_wrappers(patterns) if patterns else snapshot)
    left = remaining.rows
    every = snapshot.rows
    print(f"shown: {left.block_count:,} of {count(every.block_count, 'block')}, from {len(left.totals()):,} of "
          f"{count(len(every.totals()), 'site')}")
    notes(f"{note}; a name with blanks is quoted, as in -domain 'my pool'" for note in missing)
    if not missing and every.block_count and not left.block_count:
        print("Note: the filters leave nothing; a pattern is the name of a file as tm-stats filename has it, or of a "
              "module where there is none.")


def _list(action: str, argument: str) -> None:
    refuse_more(parse(argument, ()).words[1:], _USAGE)
    if not _entries:
        print("no filters: all blocks are shown")
        return
    print_table([[str(number), *entry.cells()] for number, entry in _entries.items()], "><<<<<")


def _delete(action: str, argument: str) -> None:
    words = parse(argument, ()).words[1:]
    if not words:
        raise gdb.GdbError("which filter to delete is missing: give its number in tm-filter list, or all")
    if words == ["all"]:
        _clear("clear", "clear")
        return
    for word in words:
        if not is_number(word) or int(word) not in _entries:
            raise gdb.GdbError(f'there is no filter "{word}": tm-filter list shows those that there are')
    for one in set(map(int, words)):
        del _entries[one]
    deleted = "filter" if len(words) == 1 else "filters"
    print(f"{deleted} {', '.join(words)} deleted, {count(number(), 'filter')} left")
    _print_what_remains()


def _clear(action: str, argument: str) -> None:
    refuse_more(parse(argument, ()).words[1:], _USAGE)
    print(f"{count(number(), 'filter')} deleted: all blocks are shown")
    _entries.clear()


_ACTIONS = {"include": _add, "exclude": _add, "list": _list, "delete": _delete, "clear": _clear}


def register() -> None:
    FilterCommand()
