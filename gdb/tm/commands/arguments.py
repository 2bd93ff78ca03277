"""arguments.py: a command's words and its options, in GDB's style: `tm-stats filename -limit 20`."""

from __future__ import annotations

import os.path
from typing import Iterable, Mapping, Sequence

import gdb

from ..model import KEY_TYPES
from . import settings

# What follows an option; options that nothing follows are switches.
VALUES = {"-limit": "N", "-lineno": "N", "-site": "N", "-domain": "D", "-sort": "KEY"}

_WHAT = {"N": "a number", "D": "a domain", "KEY": "a key"}


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
        if word is not None and not is_number(word):
            raise gdb.GdbError(f'"{word}" is no number: write {option} 12')
        return None if word is None else int(word)

    @property
    def limit(self) -> int | None:
        """How many rows to print; None for no limit."""
        word = self.text("-limit")
        if word is None:
            return settings.limit()
        if word == "0" or word and "unlimited".startswith(word):
            return None
        if not is_number(word):
            raise gdb.GdbError(f'"{word}" is no number of rows: write -limit 20, or -limit unlimited for all')
        return int(word)

    @property
    def is_cumulative(self) -> bool:
        return self.has("-cumulative")


def is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def parse(text: str, known: Sequence[str]) -> Arguments:
    """`known` are the command's options; they may be shortened, have their value behind `=`, and end at `--`. GdbError
    names what is wrong."""
    words: list[str] = []
    options: dict[str, str] = {}
    rest = iter(gdb.string_to_argv(text))
    for word in rest:
        if word == "--":
            words += rest
        elif word == "|":
            raise gdb.GdbError('"|" goes in front of the command that is piped: | tm-stats | less')
        elif not word.startswith("-") or word == "-":
            words.append(word)
        else:
            option, equals, value = word.partition("=")
            option = find_option(option, known)
            options[option] = _value(option, value if equals else None, rest)
    return Arguments(words, options)


def _value(option: str, given: str | None, rest: Iterable[str]) -> str:
    """What belongs to an option: what stands behind its `=`, else the next word."""
    if option not in VALUES:
        if given is not None:
            raise gdb.GdbError(f'{option} takes no value, but "{given}" is given')
        return ""
    value = next(iter(rest), None) if given is None else given
    if not value:
        raise gdb.GdbError(f"{option} needs {_WHAT[VALUES[option]]}: write {option} {VALUES[option]}")
    return value


def find_option(word: str, known: Sequence[str]) -> str:
    """The option that `word` is or begins."""
    if not known:
        raise gdb.GdbError(f'"{word}" is no option here, for there are none; -- goes before a word that begins with -')
    found = [word] if word in known else [option for option in known if option.startswith(word)]
    if len(found) == 1:
        return found[0]
    shown = alternatives(" ".join((option, VALUES[option])) if option in VALUES else option
                         for option in found or known)
    raise gdb.GdbError(f'"{word}" may be {shown}' if found else f'"{word}" is no option here: use {shown}')


def one_of(word: str, choices: Iterable[str], what: str) -> str:
    """The one of `choices` that `word` is or begins; GdbError if it is none of them, or may be several."""
    choices = list(choices)
    found = [word] if word in choices else [choice for choice in choices if word and choice.startswith(word)]
    if len(found) == 1:
        return found[0]
    raise gdb.GdbError(f'"{word}" may be {alternatives(found)}' if found else
                       f'"{word}" is no {what}: use {alternatives(choices)}')


def alternatives(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def refuse_more(words: Sequence[str], usage: str) -> None:
    """GdbError if there are words that nothing is to be done with."""
    if words:
        raise gdb.GdbError(f'"{words[0]}" is one word too many: the usage is {usage}')


def one_file(words: Sequence[str], command: str, usage: str) -> str:
    """The file name that is the one word; GdbError if there are none or more."""
    if len(words) != 1:
        given = f"{len(words)} are" if words else "none is"
        raise gdb.GdbError(f"{command} needs one file name, but {given} given: {usage}")
    return os.path.expanduser(words[0])


def refuse_any(command: str, text: str) -> None:
    """GdbError if there is any argument."""
    if text.strip():
        raise gdb.GdbError(f'{command} takes no argument, but "{text.strip()}" is given')


def grouping(words: list[str], is_cumulative: bool) -> str:
    """The one grouping among `words`, lineno if there are none. GdbError names what is wrong."""
    if len(words) > 1:
        raise gdb.GdbError(f'"{words[1]}" is one grouping too many: give one of {alternatives(KEY_TYPES)}')
    key_type = one_of(words[0], KEY_TYPES, "grouping") if words else "lineno"
    if is_cumulative and key_type in ("traceback", "domain"):
        raise gdb.GdbError(f"-cumulative does not go with {key_type}, which counts each block once as it is: "
                           "use it with filename or lineno")
    return key_type
