"""snapshot.py: tm-snapshot, the live blocks kept in a file."""

from __future__ import annotations

import os.path

import gdb

from .. import snapfile
from ..model import format_size
from .command import Command, complete_filename, complete_word, tracing_reader
from .rows import count, notes, sizes

_USAGE = "tm-snapshot save FILE"


class SaveSnapshot(Command):
    """Save the live blocks with their tracebacks to a file, for tm-compare or for python3's `import tm`.
Usage: tm-snapshot save FILE

The file is written whole or not at all; one of that name is replaced. Reading it needs neither the program nor GDB.

Example:
  (gdb) tm-snapshot save a.snap
  saved a.snap: 12,345 blocks, 45.6 MiB, from 87 sites; the file has 9876 B
  (gdb) continue
  (gdb) tm-compare a.snap"""

    name = "tm-snapshot"

    def run(self, argument: str) -> None:
        words = gdb.string_to_argv(argument)
        if not words:
            raise gdb.GdbError(f"what to do is missing: {_USAGE}")
        if words[0] != "save":
            raise gdb.GdbError(f"{words[0]} is nothing that tm-snapshot does: {_USAGE}")
        if len(words) != 2:
            raise gdb.GdbError(f"one file name is needed, {len(words) - 1} are given: {_USAGE}")
        filename = os.path.expanduser(words[1])
        snapshot = tracing_reader().take_snapshot(with_addresses=False)
        file_size = snapfile.save(snapshot, filename)
        size, blocks = sizes(snapshot)
        print(f"saved {filename}: {count(blocks, 'block')}, {format_size(size, False)}, "
              f"from {count(len(snapshot.rows.sites), 'site')}; the file has {format_size(file_size, False)}")
        notes(snapshot.notes)

    def complete(self, text: str, word: str) -> list[str]:
        if text.split()[:1] == ["save"] and text != "save":
            return complete_filename(text, word)
        return complete_word(text, word, ("save",))


def register() -> None:
    SaveSnapshot()
