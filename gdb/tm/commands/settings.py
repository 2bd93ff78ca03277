"""settings.py: `set tm …` and `show tm …`: what holds for all commands until it is set anew."""

from __future__ import annotations

import textwrap
from typing import Any, Callable

import gdb

from ..wrappers import DEFAULT, PATTERNS, described, expanded

_LIMIT = 10
_MANY = 10  # patterns beyond this number do not go into one line
_NONE = "none"
_NO_WRAPPERS = "No wrappers: every block counts for the frame that called the allocator."


class _SetPrefix(gdb.Command):
    """Set what the tm- commands show.

Example:
  (gdb) set tm limit 20
  (gdb) set tm wrappers add pool_get
  (gdb) with tm limit unlimited -- tm-stats"""

    def __init__(self) -> None:
        super().__init__("set tm", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)

    def invoke(self, argument: str, from_tty: bool) -> None:
        if argument.strip():
            raise gdb.GdbError(_unknown(argument, "set"))
        gdb.execute("help set tm")


class _ShowPrefix(gdb.Command):
    """Show the settings of the tm- commands."""

    def __init__(self) -> None:
        super().__init__("show tm", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)

    def invoke(self, argument: str, from_tty: bool) -> None:
        if argument.strip():
            raise gdb.GdbError(_unknown(argument, "show"))
        for name in _settings:
            gdb.execute(f"show tm {name}")


def _unknown(argument: str, action: str) -> str:
    known = [f"{action} tm {name}" for name in _settings]
    return f'"{argument.split()[0]}" is no setting: use {", ".join(known[:-1])} or {known[-1]}'


class _Limit(gdb.Parameter):
    """How many rows tm-stats, tm-compare and tm-traces print: 10 unless set.

0 or unlimited prints all. The option -limit N of these commands holds for one
time.

Example:
  (gdb) set tm limit 20"""

    set_doc = "Set how many rows the tm- commands print."
    show_doc = "Show how many rows the tm- commands print."

    def __init__(self) -> None:
        super().__init__("tm limit", gdb.COMMAND_DATA, gdb.PARAM_UINTEGER)
        self.value = _LIMIT

    def get_set_string(self) -> str:
        return ""

    def get_show_string(self, value: str) -> str:
        return f"The tm- commands print {value} rows."


class _SourceLines(gdb.Parameter):
    """Whether a place's source line is printed below it: on unless set.

This holds for tm-stats, tm-compare and tm-traceback. A line is cut where the
terminal ends (set width).

Example:
  (gdb) set tm source-lines off"""

    set_doc = "Set whether the tm- commands print source lines."
    show_doc = "Show whether the tm- commands print source lines."

    def __init__(self) -> None:
        super().__init__("tm source-lines", gdb.COMMAND_DATA, gdb.PARAM_BOOLEAN)
        self.value = True

    def get_set_string(self) -> str:
        return ""

    def get_show_string(self, value: str) -> str:
        return f"The tm- commands print source lines: {value}."


class _Wrappers(gdb.Parameter):
    """Patterns of functions, files and modules, with * and ?.
Usage: set tm wrappers PATTERN...
       set tm wrappers add PATTERN...
       set tm wrappers remove PATTERN...
       set tm wrappers default
       set tm wrappers none

Statistics by line, file and function, and tm-traces, count a block for the
innermost frame of its traceback whose function, file and module match none of
the patterns. Tracebacks stay whole. Patterns alone replace those that held
before. The word default stands for operator new, the C++ standard library,
libc, and the usual names such as xmalloc and g_malloc. With none, every block
counts for the frame that called the allocator. A pattern that has a space is
quoted.

Example:
  (gdb) set tm wrappers add pool_get */libsqlite3.so.*
  Wrappers: default pool_get */libsqlite3.so.*
  (gdb) set tm wrappers default
  Wrappers: default"""

    set_doc = "Set which functions allocate on behalf of their callers."
    show_doc = "Show which functions allocate on behalf of their callers."

    def __init__(self) -> None:
        super().__init__("tm wrappers", gdb.COMMAND_DATA, gdb.PARAM_STRING_NOESCAPE)
        self._held = [DEFAULT]
        self.value = DEFAULT

    def get_set_string(self) -> str:
        try:
            self._held = _changed(self._held, gdb.string_to_argv(str(self.value or "")))
        finally:
            self.value = _joined(self._held)
        return _in_force(self._held)

    def get_show_string(self, value: str) -> str:
        if len(self._held) > _MANY:
            lines = ["Wrappers:", *_wrapped(list(map(_quoted, self._held)), " ")]
        else:
            lines = [_in_force(self._held)]
        if DEFAULT in self._held:
            lines += [f"{DEFAULT} is, with __ before the names of libc as well:", *_wrapped(described(), ", ")]
        return "\n".join(lines)


def _changed(held: list[str], words: list[str]) -> list[str]:
    """The patterns that hold after `set tm wrappers WORDS`."""
    action = {"add": _added, "remove": _removed}.get(words[0] if words else "")
    if action is None:
        return [] if words == [_NONE] else list(dict.fromkeys(words))
    if not words[1:]:
        raise gdb.GdbError(f"a pattern is missing: set tm wrappers {words[0]} PATTERN...")
    return action(held, words[1:])


def _added(held: list[str], words: list[str]) -> list[str]:
    return list(dict.fromkeys([*held, *words]))


def _removed(held: list[str], words: list[str]) -> list[str]:
    """Where one of the patterns behind `default` is to go, the others are spelled out."""
    if DEFAULT in held and not set(words) <= set(held):
        place = held.index(DEFAULT)
        held = [*held[:place], *PATTERNS, *held[place + 1:]]
    for word in words:
        if word not in held:
            raise gdb.GdbError(f'"{word}" is none of the wrappers: show tm wrappers lists them')
    return [pattern for pattern in held if pattern not in words]


def _joined(patterns: list[str]) -> str:
    """As gdb.string_to_argv takes it apart."""
    return " ".join(map(_quoted, patterns))


def _quoted(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'" if escaped != pattern or any(one.isspace() or one == '"' for one in pattern) else pattern


def _in_force(patterns: list[str]) -> str:
    if not patterns:
        return _NO_WRAPPERS
    shown = _joined(patterns) if len(patterns) <= _MANY else f"{len(patterns)} patterns (show tm wrappers)"
    lost = "" if DEFAULT in patterns else "; default holds no more (set tm wrappers add default)"
    return f"Wrappers: {shown}{lost}"


def _wrapped(words: list[str], separator: str) -> list[str]:
    return textwrap.wrap(separator.join(words), 79, initial_indent="  ", subsequent_indent="  ",
                         break_long_words=False, break_on_hyphens=False)


_settings: dict[str, Any] = {}


def limit() -> int | None:
    """How many rows to print; None for no limit."""
    value = _settings["limit"].value
    return None if value is None else int(value)


def shows_source_lines() -> bool:
    return bool(_settings["source-lines"].value)


def wrappers() -> str:
    """The setting as it can be typed."""
    return str(_settings["wrappers"].value or "")


def wrapper_patterns() -> list[str]:
    return list(expanded(gdb.string_to_argv(wrappers())))


def register() -> None:
    _SetPrefix()
    _ShowPrefix()
    makers: dict[str, Callable[[], Any]] = {"limit": _Limit, "source-lines": _SourceLines, "wrappers": _Wrappers}
    _settings.update((name, make()) for name, make in makers.items())
