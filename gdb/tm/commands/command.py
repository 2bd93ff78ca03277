"""command.py: what every tm- command does alike: errors and Ctrl-C become one line, words complete."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import Any, Iterable, Iterator, Sequence

import gdb

from .. import domains
from ..errors import in_one_line
from ..reader import Reader
from . import progress
from .arguments import VALUES, find_option
from .completion import Cursor


class Command(gdb.Command):
    """A command's docstring is its `help` text."""

    name = ""
    options: Sequence[str] = ()
    # Whether Enter alone does the command once more, as GDB's own do which only show something.
    repeats = False

    def __init__(self, completer_class: int | None = None) -> None:
        if completer_class is None:
            super().__init__(self.name, gdb.COMMAND_DATA)
        else:
            super().__init__(self.name, gdb.COMMAND_DATA, completer_class)

    def run(self, argument: str) -> None:
        """Does the command's work with the text behind its name. May raise what `invoke` knows."""
        raise NotImplementedError

    def operands(self, words: Sequence[str], start: str) -> Iterable[str]:
        """What the word at the cursor may become that begins with `start`, behind these words, options aside."""
        return ()

    def options_behind(self, words: Sequence[str]) -> Sequence[str]:
        """The options that may stand behind these words."""
        return self.options

    def values(self, option: str) -> Iterable[str]:
        """What may follow an option of this command."""
        if option == "-limit":
            return ("unlimited",)
        return domain_names() if option == "-domain" else ()

    def invoke(self, argument: str, from_tty: bool) -> None:
        if not self.repeats:
            self.dont_repeat()
        with in_one_line(self.name), progress.shown(self.name), _no_interrupt_lost():
            self.run(argument)

    def complete(self, text: str, word: str | None) -> list[str]:
        if word is None:  # GDB only asks how to find the word
            return []
        cursor = Cursor.of(text)
        return cursor.answers(word, self._candidates(cursor))

    def _candidates(self, cursor: Cursor) -> Iterable[str]:
        has_ended = "--" in cursor.before
        words, waiting = self._without_options(cursor.before)
        if not has_ended and cursor.last.startswith("-"):
            option, equals, _ = cursor.last.partition("=")
            if not equals:
                return self.options_behind(words)
            return [f"{option}={value}" for value in self.values(self._spelled(option))]
        if waiting:
            return self.values(waiting)
        found = list(self.operands(words, cursor.last))
        return found if found or has_ended or cursor.last else self.options_behind(words)

    def _without_options(self, before: Sequence[str]) -> tuple[list[str], str]:
        """The operands among complete words, and the option that waits for its value, if one does."""
        words: list[str] = []
        waiting = ""
        rest = iter(before)
        for word in rest:
            if word == "--":
                return words + list(rest), ""
            if waiting:
                waiting = ""
            elif word.startswith("-"):
                waiting = "" if "=" in word else self._spelled(word)
            else:
                words.append(word)
        return words, waiting

    def _spelled(self, word: str) -> str:
        """The option with a value that `word` is or begins; empty for any other."""
        try:
            option = find_option(word, self.options)
        except gdb.GdbError:
            return ""
        return option if option in VALUES else ""


@contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Ctrl-C in a destructor or a weak reference's callback: Python would print its traceback and go on."""
    lost: list[bool] = []
    before = sys.unraisablehook

    def keep(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            lost.append(True)
        else:
            before(unraisable)

    sys.unraisablehook = keep
    try:
        yield
    finally:
        sys.unraisablehook = before
    if lost:
        raise KeyboardInterrupt


def domain_names() -> Iterator[str]:
    """The domains of the selected program by name, or by number where they have none; nothing where there is none."""
    try:
        tables = Reader().tables
        names = tables.domain_names()
        used = {site.domain for site in tables.count_blocks().sites.values()}
    except (RuntimeError, gdb.error):
        return
    for domain in sorted(used | {0}):
        yield names.get(domain) or (domains.HEAP if domain == 0 else str(domain))


def tracing_reader() -> Reader:
    """The selected program, if it is tracing; GdbError with what to do if it is not."""
    found = Reader()
    if found.is_tracing:
        return found
    if found.process.kind == "core":
        raise gdb.GdbError(f"{found.process.name} was not tracing when the core was written: run the program "
                           "with TRACEMALLOC=25 in its environment, so that the next core tells")
    raise gdb.GdbError(f"{found.process.name} is not tracing: tm-start lets it record blocks from now on, "
                       "TRACEMALLOC=25 in its environment from its start")
