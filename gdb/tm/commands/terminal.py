"""terminal.py: whether a person watches GDB's output, how wide it is there, and GDB's styles for it.

GDB does not say where its output goes at the moment, so this looks at what it has open: where a pipe, a caller in
Python or a second user interface may be the one that reads, the output is as for a file.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys

import gdb

_COLORS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_INTENSITIES = {"bold": "1", "dim": "2"}
_STYLE_END = "\x1b[m"
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def is_watched() -> bool:
    """Whether what is printed now goes to a terminal, as it is. Asked while a command runs."""
    return not _IS_FOR_MACHINE and os.isatty(1) and not _has_caller_in_python() and not _may_go_elsewhere()


def is_interactive() -> bool:
    """Whether GDB takes commands from a person, line by line: not from its command line alone, nor with windows."""
    return os.isatty(0) and not _IS_BATCH and not _has_windows()


def is_styled() -> bool:
    """Whether GDB itself would style what is printed now."""
    environment = os.environ
    can_style = environment.get("TERM") not in (None, "", "dumb") and not environment.get("NO_COLOR")
    return can_style and bool(gdb.parameter("style enabled")) and is_watched()


def width() -> int | None:
    """How many columns a line may take; None for any number."""
    columns = gdb.parameter("width")
    return int(columns) if columns and is_watched() else None


def _has_windows() -> bool:
    try:
        return "not active" not in str(gdb.execute("info win", to_string=True))
    except gdb.error:  # this GDB has no TUI
        return False


def _has_caller_in_python() -> bool:
    """gdb.execute may collect the output in a string."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
    # Where GDB itself called a command, the first frame is that: ours, or one that runs ours.
    ours = (f"{__package__}.command", "invoke")
    return (frame.f_globals.get("__name__"), frame.f_code.co_name) != ours


def _may_go_elsewhere() -> bool:
    """Whether GDB has `pipe COMMAND | ...` running, or another terminal open for a second user interface."""
    try:
        descriptors = _descriptors()
    except OSError:
        return True
    ours = {link for number, link in descriptors if number <= 2}
    readable = {link for number, link in descriptors if _mode(number) != os.O_WRONLY}
    pipes = {link for _, link in descriptors if link.startswith("pipe:")} - readable - _INHERITED
    terminals = {link for _, link in descriptors if link.startswith(("/dev/pts/", "/dev/tty"))} - ours - {"/dev/tty"}
    return bool(pipes or terminals)


def _descriptors() -> list[tuple[int, str]]:
    """The numbers and names of what GDB has open, but for the listing itself."""
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    return [(number, os.readlink(f"/proc/self/fd/{number}")) for number in numbers
            if os.path.lexists(f"/proc/self/fd/{number}")]


def _mode(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE


def _pipes_at_start() -> set[str]:
    try:
        return {link for _, link in _descriptors() if link.startswith("pipe:")}
    except OSError:
        return set()


def _command_line() -> list[str]:
    try:
        with open("/proc/self/cmdline", encoding="utf-8", errors="replace") as file:
            words = file.read().split("\0")
    except OSError:
        return []
    # Behind --args are the words of the program.
    return next((words[:place] for place, word in enumerate(words) if word in ("--args", "-args")), words)


def _is_for_machine(words: list[str]) -> bool:
    """Whether GDB was started with another interpreter than those for people."""
    for word, following in zip(words, [*words[1:], ""]):
        option, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and option and "interpreter".startswith(option):
            return not (value if equals else following).startswith(("console", "tui"))
    return False


_IS_FOR_MACHINE = _is_for_machine(_command_line())
_IS_BATCH = any(word.lstrip("-").startswith("batch") for word in _command_line() if word.startswith("-"))
# What GDB was started with is none of its `pipe` commands.
_INHERITED = _pipes_at_start()


class Styles:
    """GDB's styles as they are set when this is made; none where GDB would use none."""

    def __init__(self, is_on: bool | None = None) -> None:
        self._is_on = is_styled() if is_on is None else is_on
        self._starts: dict[str, str] = {}

    def __call__(self, style: str, text: str) -> str:
        """The text in one of GDB's styles: filename, function, address, title, metadata, ..."""
        start = self._start(style) if self._is_on and text else ""
        return f"{start}{text}{_STYLE_END}" if start else text

    def _start(self, style: str) -> str:
        if style not in self._starts:
            try:
                self._starts[style] = _sequence(*(str(gdb.parameter(f"style {style} {part}"))
                                                  for part in ("foreground", "background", "intensity")))
            except (RuntimeError, gdb.error):  # this GDB has no style of that name
                self._starts[style] = ""
        return self._starts[style]


def _sequence(foreground: str, background: str, intensity: str) -> str:
    """What makes a terminal write so; empty for its usual way."""
    codes = [str(base + _COLORS.index(color)) for base, color in ((30, foreground), (40, background))
             if color in _COLORS]
    if intensity in _INTENSITIES:
        codes.append(_INTENSITIES[intensity])
    return f"\x1b[{';'.join(codes)}m" if codes else ""


def columns_of(text: str) -> int:
    """How many columns a text takes that may be styled."""
    return len(_STYLE.sub("", text))
