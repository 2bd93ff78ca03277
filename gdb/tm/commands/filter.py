"""filter.py: tm-filter, which blocks the other commands show."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Sequence

import gdb

from .. import domains
from ..model import BaseFilter, DomainFilter, Filter, Snapshot
from .arguments import Arguments, parse
from .command import Command, complete_word
from .rows import count, print_table

_ACTIONS = ("include", "exclude", "list", "delete")
_OPTIONS = ("-lineno", "-all-frames", "-domain")
_USAGE = ("tm-filter include|exclude PATTERN [-lineno N] [-all-frames] [-domain D], tm-filter list, or "
          "tm-filter delete N|all")


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


_entries: list[Entry] = []


def number() -> int:
    """How many filters hold."""
    return len(_entries)


def filtered(snapshot: Snapshot) -> tuple[Snapshot, list[str]]:
    """What the filters leave of a snapshot, and a sentence on each that cannot hold there."""
    names = domains.names_in(snapshot.info)
    filters: list[BaseFilter] = []
    notes = []
    for number, entry in enumerate(_entries, 1):
        domain = None if entry.domain is None else domains.number_of(entry.domain, names)
        if entry.domain is not None and domain is None:
            notes.append(f"filter {number} finds no domain that is named {entry.domain}")
            # No domain has this number, as none has the name.
            domain = -1
        filters += entry.filters(domain)
    return (snapshot.filter_traces(filters) if filters else snapshot), notes


class FilterCommand(Command):
    """Which blocks tm-stats, tm-compare, tm-traces and tm-export show, by where they were allocated.
Usage: tm-filter include [PATTERN] [-lineno N] [-all-frames] [-domain D]
       tm-filter exclude [PATTERN] [-lineno N] [-all-frames] [-domain D]
       tm-filter list
       tm-filter delete N|all

PATTERN is a file name with * and ?, with as many of its directories as you like: server.c, net/*.c. Blocks whose
innermost frame lies in such a file match. Shown is what matches any include, if there is one, and no exclude.

  -lineno N    only that line matches.
  -all-frames  any frame of the traceback may match, not only the innermost.
  -domain D    only blocks of that domain match; D is its number or its name. PATTERN may then be left out.

Example:
  (gdb) tm-filter exclude libcrypto.so*
  filter 1: exclude libcrypto.so*
  (gdb) tm-stats"""

    name = "tm-filter"

    def run(self, argument: str) -> None:
        action = (gdb.string_to_argv(argument) or [""])[0]
        arguments = parse(argument, _OPTIONS if action in ("include", "exclude") else ())
        words = arguments.words[1:]
        if action in ("include", "exclude"):
            _add(_entry(action == "include", words, arguments))
        elif action == "list":
            _refuse_more(words)
            _print_list()
        elif action == "delete":
            _delete(words)
        else:
            what = f"{action} is nothing that tm-filter does" if action else "what to do is missing"
            raise gdb.GdbError(f"{what}: {_USAGE}")

    def complete(self, text: str, word: str) -> list[str]:
        words = text.split()
        is_first = not words or (len(words) == 1 and not text[-1].isspace())
        if is_first:
            return complete_word(text, word, _ACTIONS)
        if words[0] == "delete":
            return complete_word(text, word, (*map(str, range(1, number() + 1)), "all"))
        return complete_word(text, word, _OPTIONS) if words[0] in ("include", "exclude") else []


def _entry(is_inclusive: bool, words: Sequence[str], arguments: Arguments) -> Entry:
    domain = arguments.text("-domain")
    if not words and domain is None:
        raise gdb.GdbError(f"a pattern of file names is missing: {_USAGE}")
    _refuse_more(words[1:])
    return Entry(is_inclusive, words[0] if words else None, arguments.number("-lineno"), arguments.has("-all-frames"),
                 domain)


def _refuse_more(words: Sequence[str]) -> None:
    if words:
        raise gdb.GdbError(f"one word too many: {words[0]}; use {_USAGE}")


def _add(entry: Entry) -> None:
    _entries.append(entry)
    print(f"filter {number()}: {' '.join(filter(None, entry.cells()))}")


def _print_list() -> None:
    if not _entries:
        print("no filters: all blocks are shown")
        return
    print_table([[str(number), *entry.cells()] for number, entry in enumerate(_entries, 1)], "><<<<<")


def _delete(words: Sequence[str]) -> None:
    if not words:
        raise gdb.GdbError("which filter to delete is missing: give its number in tm-filter list, or all")
    _refuse_more(words[1:])
    if words[0] == "all":
        print(f"{count(number(), 'filter')} deleted")
        _entries.clear()
        return
    if not (words[0].isascii() and words[0].isdigit() and 1 <= int(words[0]) <= number()):
        raise gdb.GdbError(f"there is no filter {words[0]}: tm-filter list shows {number() or 'none'}")
    del _entries[int(words[0]) - 1]
    print(f"filter {words[0]} deleted, {count(number(), 'filter')} left")


def register() -> None:
    FilterCommand()
