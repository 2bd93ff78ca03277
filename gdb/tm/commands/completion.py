"""completion.py: what the word at the cursor may become, with the quotes and backslashes that it needs."""

from __future__ import annotations

import os
from typing import Iterable, NamedTuple

import gdb

_QUOTES = "'\""


class Cursor(NamedTuple):
    """A command's text up to the cursor, taken apart as gdb.string_to_argv does."""

    before: list[str]  # the words that are complete
    last: str          # what the word at the cursor says so far; empty behind a blank
    quote: str         # the quotation mark that is open there, if one is

    @classmethod
    def of(cls, text: str) -> Cursor:
        start, quote, is_escaped, last = 0, "", False, ""
        for place, character in enumerate(text):
            if is_escaped:
                is_escaped, last = False, last + character
            elif character == "\\":
                is_escaped = True
            elif quote:
                quote, last = ("", last) if character == quote else (quote, last + character)
            elif character in _QUOTES:
                quote = character
            elif character.isspace():
                start, last = place + 1, ""
            else:
                last += character
        return cls(gdb.string_to_argv(text[:start]), last, quote)

    def answers(self, word: str, candidates: Iterable[str]) -> list[str]:
        """For GDB, which knows of the last word only its tail `word`: what may stand there instead."""
        # GDB itself closes quotes right before what it takes for the word.
        is_closed = word == self.last
        return [word + self._written(candidate[len(self.last):], is_closed) for candidate in candidates
                if candidate.startswith(self.last)]

    def _written(self, rest: str, is_closed: bool) -> str:
        """What is to be typed behind the cursor for `rest`."""
        if not self.quote:
            return "".join("\\" + one if one.isspace() or one in _QUOTES or one == "\\" else one for one in rest)
        escaped = "".join("\\" + one if one in (self.quote, "\\") else one for one in rest)
        return escaped if is_closed or rest.endswith("/") else escaped + self.quote


def filenames(start: str) -> list[str]:
    """The paths that begin so; what lies in a directory if it is the only one."""
    directory, slash, name = start.rpartition("/")
    folder = os.path.expanduser(directory + slash) or "."
    try:
        names = sorted(one for one in os.listdir(folder) if one.startswith(name) and (name or one[0] != "."))
    except OSError:
        return []
    paths = [directory + slash + one + ("/" if os.path.isdir(os.path.join(folder, one)) else "") for one in names]
    # The blank that readline puts behind a single answer would end the path.
    return (filenames(paths[0]) or paths) if len(paths) == 1 and paths[0].endswith("/") else paths
