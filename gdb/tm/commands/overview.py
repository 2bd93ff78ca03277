"""overview.py: tm, which leads to the other commands."""

from __future__ import annotations

from typing import Iterable, Iterator

import gdb

from ..preload import library_path
from .command import Command

# In the order in which they come to be used.
_ORDER = ("tm-info", "tm-stats", "tm-traces", "tm-traceback", "tm-snapshot", "tm-compare", "tm-filter", "tm-export",
          "tm-start", "tm-stop", "tm-clear", "tm-reset-peak")


def _summaries() -> Iterator[str]:
    commands = {command.name: command for command in _all(Command) if command.name}
    for name in _ORDER:
        yield f"  {name:15}{(commands[name].__doc__ or '').partition(chr(10))[0]}"


def _all(kind: type[Command]) -> Iterable[type[Command]]:
    for one in kind.__subclasses__():
        yield one
        yield from _all(one)


def register() -> None:
    """Comes last: the overview names the commands that there are."""

    class Overview(Command):
        __doc__ = f"""Who holds the memory of a C program: its live blocks, with their tracebacks.

{chr(10).join(_summaries())}

"set tm" and "show tm" have what holds for all of them. "help tm-stats" and its
like tell more. Options may be shortened: -limit 20, -limit=20, -l 20. With | in
front, another program reads: | tm-stats | less. "help function" has $tm_traced,
$tm_size and others for the conditions of breakpoints.

A program is traced which runs with libtracemalloc.so preloaded, or linked, and
TRACEMALLOC=25 in its environment, which keeps 25 frames of each traceback.

Example:
  (gdb) set environment LD_PRELOAD {library_path()}
  (gdb) set environment TRACEMALLOC 25
  (gdb) run
  (gdb) tm-stats"""

        name = "tm"
        repeats = True

        def run(self, argument: str) -> None:
            word = argument.split()[0] if argument.strip() else ""
            if f"tm-{word}" in _ORDER:
                raise gdb.GdbError(f'"tm {word}" is written tm-{word}')
            if word:
                raise gdb.GdbError(f'"{word}" is nothing that tm does: help tm lists the commands')
            gdb.execute("help tm")

    Overview()
