"""export.py: tm-export, the live blocks for other tools."""

from __future__ import annotations

import sys
from typing import Sequence

import gdb

from .. import export
from ..model import format_size
from .arguments import alternatives, one_file, one_of, parse
from .command import Command, tracing_reader
from .completion import filenames
from .rows import count, notes
from .view import look, remarks

_USAGE = "tm-export FORMAT FILE"
_FORMATS = alternatives(export.FORMATS)
_OUTPUT = "-"


class Export(Command):
    __doc__ = f"""Write the live blocks to a file that other tools read.
Usage: {_USAGE}

FORMAT is one of:
{chr(10).join(f"  {name:8}{form.purpose}" for name, form in export.FORMATS.items())}

tm-filter chooses the blocks; tracebacks stay whole. The file is written whole
or not at all; one of that name is replaced. With - for FILE, folded and json go
to GDB's output instead, for a pipe. A file name that has a space is quoted.
Works on a live process and on a core.

Example:
  (gdb) tm-export pprof heap.pb.gz
  exported heap.pb.gz as pprof: 9 blocks, 164 B, from 7 sites; the file has 76 B
  (gdb) shell pprof -top heap.pb.gz
  (gdb) | tm-export folded - | flamegraph.pl > heap.svg"""

    name = "tm-export"

    def run(self, argument: str) -> None:
        format_name, filename = _names(parse(argument, ()).words)
        view = look(tracing_reader().take_snapshot(with_addresses=False), "traceback")
        if filename == _OUTPUT:
            export.FORMATS[format_name].write(view.snapshot, _Output())  # type: ignore[arg-type]
            # What is printed belongs to the export.
            for note in view.notes:
                gdb.write(f"Note: {note}.\n", gdb.STDERR)
            return
        file_size = export.save(view.snapshot, format_name, filename)
        size, blocks = view.snapshot.rows.sums()
        print(f"exported {filename} as {format_name}: {count(blocks, 'block')}, {format_size(size, False)}, "
              f"from {count(len(view.snapshot.rows.totals()), 'site')}; the file has {format_size(file_size, False)}"
              f"{remarks([view])}")
        notes(view.notes)

    def operands(self, words: Sequence[str], start: str) -> Sequence[str]:
        return filenames(start) if len(words) == 1 else () if words else list(export.FORMATS)


class _Output:
    """GDB's output as a file for a text format."""

    def write(self, data: bytes) -> int:
        sys.stdout.write(data.decode())
        return len(data)


def _names(words: list[str]) -> tuple[str, str]:
    """The format and the file; GdbError says what is wrong with them."""
    if not words:
        raise gdb.GdbError(f"a format is missing, {_FORMATS}: {_USAGE}")
    format_name = one_of(words[0], export.FORMATS, "format")
    filename = one_file(words[1:], f"tm-export {format_name}", _USAGE)
    if filename == _OUTPUT and not export.FORMATS[format_name].is_text:
        raise gdb.GdbError(f"{format_name} is no text for GDB's output: give a file name, ./- for one that is called -")
    return format_name, filename


def register() -> None:
    Export()
