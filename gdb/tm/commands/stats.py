"""stats.py: tm-stats, who holds the memory."""

from __future__ import annotations

from ..model import KEY_TYPES, Snapshot, format_size
from .arguments import OPTIONS, Arguments, grouping, parse
from .command import Command, complete_word, tracing_reader
from .rows import GROUPS, count, left_out, notes, print_rows, sizes


class Stats(Command):
    """Who holds the memory: the live blocks, grouped by where they were allocated, the largest groups first.
Usage: tm-stats [filename|lineno|traceback|function|module|domain] [-cumulative] [-limit N]

  -cumulative  counts a block at every frame of its traceback, not only where it was allocated.
  -limit N     prints N rows, 10 by default; 0 or unlimited prints all.

Without a grouping the lines that allocated (lineno) are listed. Works on a live process and on a core.

Example:
  (gdb) tm-stats lineno -limit 3
  process 4711 (server), started by GDB: 45.6 MiB in 12,345 blocks from 87 lines
  1  server.c:212: size=42.1 MiB, count=8012, average=5509 B
         item->body = malloc(size);
  ..."""

    name = "tm-stats"

    def run(self, argument: str) -> None:
        arguments = parse(argument)
        key_type = grouping(arguments.words, arguments.is_cumulative)
        reader = tracing_reader()
        _print_stats(reader.process.description(), reader.take_snapshot(), key_type, arguments)

    def complete(self, text: str, word: str) -> list[str]:
        return complete_word(text, word, (*KEY_TYPES, *OPTIONS))


def _print_stats(source: str, snapshot: Snapshot, key_type: str, arguments: Arguments) -> None:
    statistics = snapshot.statistics(key_type, arguments.is_cumulative)
    size, blocks = sizes(snapshot)
    total = f"{format_size(size, False)} in {count(blocks, 'block')}"
    groups = GROUPS[key_type] if len(statistics) != 1 else GROUPS[key_type][:-1]
    how = ", counted at every frame of their tracebacks" if arguments.is_cumulative else ""
    print(f"{source}: {total} from {len(statistics):,} {groups}{how}")
    notes(snapshot.notes)
    shown = statistics[:arguments.limit]
    print_rows(shown, key_type)
    if len(shown) < len(statistics):
        print(left_out(statistics[len(shown):], arguments.is_cumulative))
    print(f"Total: {total}")


def register() -> None:
    Stats()
