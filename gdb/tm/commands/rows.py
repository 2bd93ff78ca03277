"""rows.py: statistics and tracebacks as text for people."""

from __future__ import annotations

import contextlib
import linecache
import os.path
import re
from typing import Iterable, Mapping, Sequence, Union

from .. import domains
from ..model import Frame, Statistic, StatisticDiff, Traceback, format_size
from ..symbols import source_file
from . import settings, terminal
from .terminal import Styles, columns_of

GROUPS = {"filename": "files", "lineno": "lines", "traceback": "tracebacks", "function": "functions",
          "module": "modules", "domain": "domains"}

Row = Union[Statistic, StatisticDiff]

_ELLIPSIS = "..."


def count(number: int, noun: str) -> str:
    """`1 block`, `12,345 blocks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def notes(lines: Iterable[str]) -> None:
    """Prints what is missing or partial; it is never left out."""
    for line in lines:
        print(f"Note: {line}.")


def print_table(rows: Sequence[Sequence[str]], alignments: str) -> None:
    """Cells in columns, each to the left or right as its character of `alignments` says, < or >."""
    widths = [max(map(columns_of, column)) for column in zip(*rows)]
    for row in rows:
        cells = []
        for cell, side, width in zip(row, alignments, widths):
            blanks = " " * (width - columns_of(cell))
            cells.append(blanks + cell if side == ">" else cell + blanks)
        print("  ".join(cells).rstrip())


def print_rows(rows: Sequence[Row], key_type: str, domain_names: Mapping[int, str]) -> None:
    """Numbered rows in CPython's words, with the source line where it is to be had."""
    names = ShortNames((frame.filename for row in rows for frame in row.traceback), Styles())
    width = len(str(len(rows)))
    for number, row in enumerate(rows, 1):
        # A statistic's text is its place and, behind a colon, its figures.
        figures = str(row)[len(str(row.traceback)) + 2:]
        if key_type == "traceback":
            print(f"{number:{width}}  {figures}")
            print_traceback(row.traceback, names, indent=width + 2)
            continue
        frame = row.traceback[0]
        place = _domain(frame, domain_names) if key_type == "domain" else names.place(frame)
        print(f"{number:{width}}  {place}: {figures}")
        _print_source(frame, width + 6)
    notes(newer_sources(frame for row in rows for frame in row.traceback))


def newer_sources(frames: Iterable[Frame]) -> list[str]:
    """What to say of source files that were changed after their module was built: GDB's lines are the module's."""
    newer: dict[str, str] = {}
    for frame in frames if settings.shows_source_lines() else ():
        if not frame.lineno or not frame.module:
            continue
        path = source_file(frame.filename)
        with contextlib.suppress(OSError):
            if os.path.getmtime(path) > os.path.getmtime(frame.module):
                newer[os.path.basename(path)] = os.path.basename(frame.module)
    return [f"{source} was changed after {module} was built: its lines may not be those that were compiled"
            for source, module in newer.items()]


def _domain(frame: Frame, names: Mapping[int, str]) -> str:
    """The name of a group by domain."""
    return domains.shown(int(frame.filename.rpartition(" ")[2]), names)


def frame_text(frame: Frame, names: ShortNames) -> str:
    """`item_create at server.c:212`; a place without a line tells its function itself."""
    function = f"{names.styles('function', frame.function)} at " if frame.function and frame.lineno else ""
    return function + names.place(frame)


def print_traceback(traceback: Traceback, names: ShortNames, indent: int = 0) -> None:
    """The frames as GDB's bt numbers them, innermost first."""
    frames = list(reversed(traceback))
    width = len(f"#{len(frames) - 1}")
    for number, frame in enumerate(frames):
        print(f"{' ' * indent}{f'#{number}':{width}}  {frame_text(frame, names)}")
        _print_source(frame, indent + width + 6)


def _print_source(frame: Frame, indent: int) -> None:
    if not frame.lineno or not settings.shows_source_lines():
        return
    path = source_file(frame.filename)
    linecache.checkcache(path)
    line = linecache.getline(path, frame.lineno).strip()
    if line:
        print(f"{' ' * indent}{_cut(line.expandtabs(4), indent)}")


def _cut(line: str, indent: int) -> str:
    """A source line as far as it goes into one line of the terminal; the last column is left free."""
    width = terminal.width()
    room = len(line) if width is None else max(width - indent - 1, len(_ELLIPSIS))
    return line if len(line) <= room else line[:room - len(_ELLIPSIS)] + _ELLIPSIS


class ShortNames:
    """Paths without the directories that are not needed to tell them apart from each other."""

    def __init__(self, filenames: Iterable[str], styles: Styles | None = None) -> None:
        self.styles = styles or Styles(False)
        paths = {path for path in map(_path_in, filenames) if path}
        self._short = {path: os.path.basename(path) for path in paths}
        for depth in range(2, max((path.count("/") for path in paths), default=0) + 1):
            taken: dict[str, list[str]] = {}
            for path, short in self._short.items():
                taken.setdefault(short, []).append(path)
            for alike in taken.values():
                if len(alike) > 1:
                    self._short.update((path, "/".join(path.split("/")[-depth:])) for path in alike)

    def place(self, frame: Frame) -> str:
        """Where the frame is, in short: `server.c:59`, `item_create (server.c)`, `server.c`, `libc.so.6(+0x2a1f0)`."""
        line = f":{frame.lineno}" if frame.lineno else ""
        path = _path_in(frame.filename)
        if not path:
            return self._bare_place(frame.filename) + line
        before, _, after = frame.filename.partition(path)
        function = before[:-2] if before.endswith(" (") else ""
        return (self.styles("function", function) + before[len(function):]
                + self.styles("filename", self._short.get(path, path)) + after + line)

    def _bare_place(self, filename: str) -> str:
        """`libc.so.6(getdelim+0x15a)`, or a file without a directory."""
        match = re.fullmatch(r"([^(\[]+)(\()?(.*?)((?:\+0x[0-9a-f]+)?\).*)?", filename)
        if match is None:
            return filename
        module, opening, function, rest = match.groups("")
        return self.styles("filename", module) + opening + self.styles("function", function) + rest


def _path_in(filename: str) -> str:
    """The path in a frame's filename, which may be that of a group by function; empty if there is none."""
    match = re.fullmatch(r"(?:.* \()?([^()]*/[^()]*)\)?", filename)
    return match[1] if match else ""


def left_out(rows: Sequence[Statistic], is_cumulative: bool) -> str:
    """`... 12 more: 1.2 MiB in 340 blocks`."""
    if is_cumulative:
        return f"... {len(rows):,} more"
    blocks = sum(row.count for row in rows)
    return f"... {len(rows):,} more: {format_size(sum(row.size for row in rows), False)} in {count(blocks, 'block')}"


def recursion(rows: Iterable[Row], size: int, blocks: int) -> list[str]:
    """What to say where a cumulative row is more than the total."""
    if not any(abs(row.size) > size or row.count > blocks for row in rows):
        return []
    return ["a block counts once for each frame of its traceback that belongs to a row: so a row can be more than the "
            "total"]
