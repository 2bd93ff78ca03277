"""settings.py: `set tm …` and `show tm …`: what holds for all commands until it is set anew."""

from __future__ import annotations

import textwrap
from typing import Any

import gdb

from ..wrappers import DEFAULT, described, expanded

_LIMIT = 10


class _SetPrefix(gdb.Command):
    """Settings of the tm- commands."""

    def __init__(self) -> None:
        super().__init__("set tm", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)


class _ShowPrefix(gdb.Command):
    """The settings of the tm- commands."""

    def __init__(self) -> None:
        super().__init__("show tm", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)

    def invoke(self, argument: str, from_tty: bool) -> None:
        if argument.strip():
            raise gdb.GdbError(f"unknown setting {argument.strip()}: use show tm limit or show tm wrappers")
        gdb.execute("show tm limit")
        gdb.execute("show tm wrappers")


class _Limit(gdb.Parameter):
    """How many rows the tm- commands print. 0 or unlimited prints all; -limit N overrides it."""

    set_doc = "Set how many rows the tm- commands print."
    show_doc = "Show how many rows the tm- commands print."

    def __init__(self) -> None:
        super().__init__("tm limit", gdb.COMMAND_DATA, gdb.PARAM_UINTEGER)
        self.value = _LIMIT

    def get_set_string(self) -> str:
        return ""

    def get_show_string(self, value: str) -> str:
        return f"The tm- commands print {value} rows."


class _Wrappers(gdb.Parameter):
    """Functions, files and modules that allocate on behalf of their callers, as patterns with * and ?.

Statistics by line, file and function, and tm-traces, count a block for the innermost frame of its traceback whose
function, file and module match none of the patterns. Tracebacks stay whole. The word default stands for operator new,
the C++ standard library, libc, and the usual names such as xmalloc and g_malloc. Nothing at all: every block counts
for the frame that called the allocator. A pattern that has a space is quoted.

Example:
  (gdb) set tm wrappers default pool_get */libsqlite3.so.*"""

    set_doc = "Set who allocates on behalf of a caller: set tm wrappers PATTERN..."
    show_doc = "Show who allocates on behalf of a caller."

    def __init__(self) -> None:
        super().__init__("tm wrappers", gdb.COMMAND_DATA, gdb.PARAM_STRING_NOESCAPE)
        self.value = DEFAULT

    def get_set_string(self) -> str:
        return ""

    def get_show_string(self, value: str) -> str:
        words = gdb.string_to_argv(value)
        if not words:
            return "No wrappers: every block counts for the frame that called the allocator."
        lines = [f"Wrappers: {value}"]
        if DEFAULT in words:
            lines += [f"{DEFAULT} is, with __ before the names of libc as well:", *textwrap.wrap(
                ", ".join(described()), 110, initial_indent="  ", subsequent_indent="  ",
                break_long_words=False, break_on_hyphens=False)]
        return "\n".join(lines)


_settings: dict[str, Any] = {}


def limit() -> int | None:
    """How many rows to print; None for no limit."""
    value = _settings["limit"].value
    return None if value is None else int(value)


def wrappers() -> str:
    """The setting as it was typed."""
    return str(_settings["wrappers"].value or "")


def wrapper_patterns() -> list[str]:
    return list(expanded(gdb.string_to_argv(wrappers())))


def register() -> None:
    _SetPrefix()
    _ShowPrefix()
    _settings.update(limit=_Limit(), wrappers=_Wrappers())
