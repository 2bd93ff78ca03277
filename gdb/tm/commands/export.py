"""export.py: tm-export, the live blocks for other tools."""

from __future__ import annotations

import os.path

import gdb

from .. import export
from ..model import format_size
from .arguments import parse
from .command import Command, complete_filename, complete_word, tracing_reader
from .rows import count, notes, sizes
from .view import look, remarks

_USAGE = "tm-export FORMAT FILE"
_FORMATS = ", ".join(export.FORMATS)


class Export(Command):
    __doc__ = f"""Write the live blocks with their tracebacks to a file that other tools read.
Usage: {_USAGE}

FORMAT is one of:
{chr(10).join(f"  {name:8}{form.purpose}" for name, form in export.FORMATS.items())}

tm-filter chooses the blocks; tracebacks stay whole. The file is written whole or not at all; one of that name is
replaced. Works on a live process and on a core.

Example:
  (gdb) tm-export pprof heap.pb.gz
  exported heap.pb.gz as pprof: 12,345 blocks, 45.6 MiB, from 87 sites; the file has 9876 B
  (gdb) shell pprof -top heap.pb.gz"""

    name = "tm-export"

    def run(self, argument: str) -> None:
        format_name, filename = _names(parse(argument, ()).words)
        view = look(tracing_reader().take_snapshot(with_addresses=False), "traceback")
        file_size = export.save(view.snapshot, format_name, filename)
        size, blocks = sizes(view.snapshot)
        print(f"exported {filename} as {format_name}: {count(blocks, 'block')}, {format_size(size, False)}, "
              f"from {count(len(view.snapshot.rows.totals()), 'site')}; the file has {format_size(file_size, False)}"
              f"{remarks([view])}")
        notes(view.notes)

    def complete(self, text: str, word: str) -> list[str]:
        words = text.split()
        if len(words) > 1 or words and text[-1].isspace():
            return complete_filename(text, word)
        return complete_word(text, word, export.FORMATS)


def _names(words: list[str]) -> tuple[str, str]:
    """The format and the file; GdbError says what is wrong with them."""
    if not words:
        raise gdb.GdbError(f"a format is missing, one of {_FORMATS}: {_USAGE}")
    if words[0] not in export.FORMATS:
        raise gdb.GdbError(f"unknown format {words[0]}: use one of {_FORMATS}, as in {_USAGE}")
    if len(words) != 2:
        raise gdb.GdbError(f"one file name is needed, {len(words) - 1} are given: {_USAGE}")
    return words[0], os.path.expanduser(words[1])


def register() -> None:
    Export()
