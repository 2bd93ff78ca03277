"""snapshot.py: tm-snapshot, the live blocks kept in a file."""

from __future__ import annotations

from typing import Sequence

import gdb

from .. import snapfile
from ..model import format_size
from .arguments import one_file, parse
from .command import Command, tracing_reader
from .completion import filenames
from .rows import count, notes

_ACTION = "save"
_USAGE = "tm-snapshot save FILE"


class SaveSnapshot(Command):
    """Save the live blocks to a file, for tm-compare, or python3.
Usage: tm-snapshot save FILE

The file is written whole or not at all; one of that name is replaced. Reading
it needs neither the program nor GDB. All blocks are saved with their
tracebacks, whatever tm-filter says. A file name that has a space is quoted.

Example:
  (gdb) tm-snapshot save a.snap
  saved a.snap: 9 blocks, 1640 B, from 7 sites; the file has 876 B
  (gdb) continue
  (gdb) tm-compare a.snap
  (gdb) tm-snapshot save "before the upload.snap"
  $ python3
  >>> import tm
  >>> tm.Snapshot.load("a.snap").statistics("lineno")[:3]"""

    name = "tm-snapshot"

    def run(self, argument: str) -> None:
        words = parse(argument, ()).words
        if not words:
            raise gdb.GdbError(f"what to do is missing: {_USAGE}")
        if not words[0] or not _ACTION.startswith(words[0]):
            raise gdb.GdbError(f'"{words[0]}" is nothing that tm-snapshot does: {_USAGE}')
        filename = one_file(words[1:], "tm-snapshot save", _USAGE)
        if filename == "-":
            raise gdb.GdbError("a snapshot is no text for GDB's output: give a file name, ./- for one that is called -")
        snapshot = tracing_reader().take_snapshot(with_addresses=False)
        file_size = snapfile.save(snapshot, filename)
        size, blocks = snapshot.rows.sums()
        print(f"saved {filename}: {count(blocks, 'block')}, {format_size(size, False)}, "
              f"from {count(len(snapshot.rows.sites), 'site')}; the file has {format_size(file_size, False)}")
        notes(snapshot.notes)

    def operands(self, words: Sequence[str], start: str) -> Sequence[str]:
        return filenames(start) if len(words) == 1 else () if words else (_ACTION,)


def register() -> None:
    SaveSnapshot()
