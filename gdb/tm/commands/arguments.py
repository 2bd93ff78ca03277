"""arguments.py: a command's words and its options, in GDB's style: `tm-stats filename -limit 20`."""

from __future__ import annotations

from typing import Mapping, Sequence

import gdb

from ..model import KEY_TYPES
from . import settings

# What follows an option; options that nothing follows are switches.
VALUES = {"-limit": "N", "-lineno": "N", "-site": "N", "-domain": "D", "-sort": "KEY"}


class Arguments:
    """The words, and the options among them, spelled out."""

    def __init__(self, words: list[str], options: Mapping[str, str]) -> None:
        self.words = words
        self._options = options

    def has(self, option: str) -> bool:
        return option in self._options

    def text(self, option: str) -> str | None:
        return self._options.get(option)

    def number(self, option: str) -> int | None:
        """GdbError if what follows the option is no number."""
        word = self.text(option)
        if word is not None and not (word.isascii() and word.isdigit()):
            raise gdb.GdbError(f"{option} {word}: give a number, as in {option} 12")
        return None if word is None else int(word)

    @property
    def limit(self) -> int | None:
        """How many rows to print; None for no limit."""
        word = self.text("-limit")
        if word is None:
            return settings.limit()
        if word in ("0", "unlimited"):
            return None
        if not (word.isascii() and word.isdigit()):
            raise gdb.GdbError(f"-limit {word}: give how many rows to print, as in -limit 20; 0 or unlimited prints "
                               "all")
        return int(word)

    @property
    def is_cumulative(self) -> bool:
        return self.has("-cumulative")


def parse(text: str, known: Sequence[str]) -> Arguments:
    """`known` are the command's options; they may be shortened. GdbError names what is wrong."""
    words: list[str] = []
    options: dict[str, str] = {}
    rest = iter(gdb.string_to_argv(text))
    for word in rest:
        if not word.startswith("-"):
            words.append(word)
            continue
        option = _option(word, known)
        value = next(rest, None) if option in VALUES else ""
        if value is None:
            what = {"N": "a number", "D": "a domain", "KEY": "a key"}[VALUES[option]]
            raise gdb.GdbError(f"{option} without {what}: write {option} {VALUES[option]}")
        options[option] = value
    return Arguments(words, options)


def _option(word: str, known: Sequence[str]) -> str:
    options = [option for option in known if option.startswith(word) and word != "-"]
    if not known:
        raise gdb.GdbError(f"unknown option {word}: none is known here")
    if len(options) != 1 and word not in known:
        shown = [" ".join((option, VALUES[option])) if option in VALUES else option for option in known]
        raise gdb.GdbError(f"unknown option {word}: use {' or '.join(shown)}")
    return word if word in known else options[0]


def grouping(words: list[str], is_cumulative: bool) -> str:
    """The one grouping among `words`, lineno if there are none. GdbError names what is wrong."""
    if len(words) > 1:
        raise gdb.GdbError(f"one grouping too many: {words[1]}; give one of {', '.join(KEY_TYPES)}")
    key_type = words[0] if words else "lineno"
    if key_type not in KEY_TYPES:
        raise gdb.GdbError(f"unknown grouping {key_type}: use one of {', '.join(KEY_TYPES)}")
    if is_cumulative and key_type in ("traceback", "domain"):
        raise gdb.GdbError(f"-cumulative does not go with {key_type}, which counts each block once as it is: "
                           "use it with filename or lineno")
    return key_type
