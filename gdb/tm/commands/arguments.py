"""arguments.py: a command's words and its options, in GDB's style: `tm-stats filename -limit 20`."""

from __future__ import annotations

from typing import NamedTuple

import gdb

from ..model import KEY_TYPES

OPTIONS = ("-cumulative", "-limit")
DEFAULT_LIMIT = 10


class Arguments(NamedTuple):
    words: list[str]
    is_cumulative: bool
    limit: int | None  # None: no limit


def parse(text: str) -> Arguments:
    """The words, and the options among them; an option may be shortened. GdbError names what is wrong."""
    words: list[str] = []
    is_cumulative = False
    limit: int | None = DEFAULT_LIMIT
    rest = iter(gdb.string_to_argv(text))
    for word in rest:
        if not word.startswith("-"):
            words.append(word)
        elif _option(word) == "-cumulative":
            is_cumulative = True
        else:
            limit = _limit(next(rest, None))
    return Arguments(words, is_cumulative, limit)


def _option(word: str) -> str:
    options = [option for option in OPTIONS if option.startswith(word) and word != "-"]
    if len(options) != 1:
        raise gdb.GdbError(f"unknown option {word}: use -cumulative or -limit N")
    return options[0]


def _limit(word: str | None) -> int | None:
    if word in ("0", "unlimited"):
        return None
    if word is None or not (word.isascii() and word.isdigit()):
        raise gdb.GdbError(f"-limit {'without a number' if word is None else word}: give how many rows to print, "
                           "as in -limit 20, or unlimited")
    return int(word)


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
