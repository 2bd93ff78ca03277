"""stats.py: tm-stats, who holds the memory."""

from __future__ import annotations

import os.path
import re
from typing import Iterator, Sequence

from .. import domains
from ..model import KEY_TYPES, Frame, Site, Snapshot, Statistic, format_size
from . import settings
from .arguments import Arguments, grouping, parse
from .command import Command, tracing_reader
from .rows import GROUPS, count, left_out, notes, print_rows, recursion
from .view import SKIPPING, look, remarks

OPTIONS = ("-cumulative", "-limit")

# From this share on, one place says too little.
_MOST = 0.8
# What the names of functions have that allocate for their callers. Only such names are to be typed as they are.
_ALLOCATING = re.compile(r"(?=[\w:.]+$).*(alloc|dup|new)", re.IGNORECASE)


class Stats(Command):
    """Who holds the memory: live blocks by where they were allocated.
Usage: tm-stats [GROUPING] [-cumulative] [-limit N]

GROUPING is one of these, or the beginning of one; lineno unless given:
  lineno      the lines of source that allocated
  function    the functions that allocated
  filename    the files of source that allocated
  module      the program and the shared libraries that called the allocator
  traceback   the whole calls, from main to the allocation
  domain      the heap, and the pools that the program tracks itself

The largest groups come first.

  -cumulative
    Count a block at every frame of its traceback, not only where it was
    allocated: what a function and all that it calls hold. Goes with lineno,
    function, filename and module.
  -limit N
    Print N rows, 10 unless given (set tm limit). 0 or unlimited prints all.

By line, file and function, a block counts for the innermost frame that is no
wrapper of malloc (set tm wrappers). tm-filter chooses the blocks. Works on a
live process and on a core.

Example:
  (gdb) tm-stats lineno -limit 3
  process 4711 (server), started by GDB: 45.6 MiB in 12,345 blocks from 87 lines
  1  server.c:212: size=42.1 MiB, count=8012, average=5509 B
         item->body = malloc(size);
  ...
  (gdb) tm-stats function -cumulative
  (gdb) | tm-stats -limit unlimited | grep parser.c"""

    name = "tm-stats"
    options = OPTIONS
    repeats = True

    def run(self, argument: str) -> None:
        arguments = parse(argument, OPTIONS)
        key_type = grouping(arguments.words, arguments.is_cumulative)
        reader = tracing_reader()
        _print_stats(reader.process.description(), reader.take_snapshot(with_addresses=False), key_type,
                     arguments)

    def operands(self, words: Sequence[str], start: str) -> Sequence[str]:
        return () if words else KEY_TYPES


def _print_stats(source: str, snapshot: Snapshot, key_type: str, arguments: Arguments) -> None:
    limit = arguments.limit
    view = look(snapshot, key_type, arguments.is_cumulative)
    statistics = view.snapshot.statistics(key_type, arguments.is_cumulative)
    size, blocks = view.snapshot.rows.sums()
    total = f"{format_size(size, False)} in {count(blocks, 'block')}"
    groups = GROUPS[key_type] if len(statistics) != 1 else GROUPS[key_type][:-1]
    how = ", counted at every frame of their tracebacks" if arguments.is_cumulative else ""
    print(f"{source}: {total} from {len(statistics):,} {groups}{how}{remarks([view])}")
    notes(view.notes)
    if key_type == "lineno" and not arguments.is_cumulative:
        notes(_advice(statistics, size, snapshot))
    if key_type in SKIPPING and not arguments.is_cumulative and settings.wrapper_patterns():
        notes(_wrapper_advice(view.snapshot, blocks))
    shown = statistics[:limit]
    print_rows(shown, key_type, domains.names_in(snapshot.info))
    if arguments.is_cumulative:
        notes(recursion(shown, size, blocks))
    if len(shown) < len(statistics):
        print(left_out(statistics[len(shown):], arguments.is_cumulative))
    print(f"Total: {total}")


def _advice(statistics: Sequence[Statistic], size: int, snapshot: Snapshot) -> Iterator[str]:
    """What else to look at, where nearly all comes from one place that has no name, as in a stripped library."""
    first = statistics[0] if statistics else None
    if first is None or not first.traceback or first.size <= _MOST * size:
        return
    frame = first.traceback[0]
    if frame.function or frame.lineno or not frame.module:
        return
    advice = (f"{100 * first.size / size:.0f} % of the bytes come from one caller without a symbol, {frame.filename}: "
              "tm-stats traceback, or -cumulative, shows who calls it")
    if frame.module != snapshot.info.get("program"):
        advice += f"; set tm wrappers add */{os.path.basename(frame.module)} counts for the callers of that module"
    yield advice


def _wrapper_advice(snapshot: Snapshot, blocks: int) -> Iterator[str]:
    """Which function to skip, where most blocks come from one that allocates for others, by its name and callers."""
    counts: dict[str, int] = {}
    callers: dict[str, set[Frame]] = {}
    for index, _, count_there in snapshot.rows.totals():
        function, caller = _allocating(snapshot.rows.sites[index])
        if caller is not None:
            counts[function] = counts.get(function, 0) + count_there
            callers.setdefault(function, set()).add(caller)
    function = max(counts, key=lambda one: counts[one], default="")
    if function and counts[function] > _MOST * blocks and len(callers[function]) > 1:
        yield (f"{100 * counts[function] / blocks:.0f} % of the blocks come from {function}: "
               f"set tm wrappers add {function} counts for its callers")


def _allocating(site: Site) -> tuple[str, Frame | None]:
    """The function that the site's blocks count for, and its caller; None where it is not known or no wrapper."""
    innermost = site.innermost
    if innermost is None:
        return "", None
    function = Frame(innermost).function or ""
    if not _ALLOCATING.match(function):
        return "", None
    outer = map(Frame, site.frames[site.frames.index(innermost) + 1:])
    return function, next((frame for frame in outer if frame.function != function), None)


def register() -> None:
    Stats()
