"""json.py: a JSON object of our own with all that a snapshot knows but the blocks' addresses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from ..model import Frame, RawFrame, Rows, Snapshot
from ..numbering import Numbers

FORMAT = "tracemalloc snapshot"
VERSION = 1


def write(snapshot: Snapshot, file: BinaryIO) -> None:
    """A line for each frame, site and row."""
    rows = snapshot.rows
    totals = rows.totals()
    frames: Numbers[RawFrame] = Numbers()
    file.write(b"{\n")
    for name, value in (("format", FORMAT), ("version", VERSION), ("traceback_limit", snapshot.traceback_limit),
                        ("info", snapshot.info), ("size", sum(size for _, size, _ in totals)),
                        ("count", rows.block_count)):
        file.write(f"{_text(name)}: {_text(value)},\n".encode())
    _write_list(file, "sites", _sites(rows, frames))
    # Behind the sites: frames get their numbers there, and notes may come as frames are looked up.
    _write_list(file, "frames", map(_frame, frames))
    _write_list(file, "rows", _rows(rows))
    file.write(f"{_text('notes')}: {_text(list(snapshot.notes))}\n}}\n".encode())


def _text(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _write_list(file: BinaryIO, name: str, items: Iterable[Any]) -> None:
    file.write(f"{_text(name)}: [".encode())
    separator = "\n"
    for item in items:
        file.write(f"{separator}{_text(item)}".encode())
        separator = ",\n"
    file.write(b"\n],\n")


def _sites(rows: Rows, frames: Numbers[RawFrame]) -> Iterator[dict[str, Any]]:
    for index, size, count in rows.totals():
        site = rows.sites[index]
        yield {"domain": site.domain, "size": size, "count": count, "total_nframe": site.total_nframe,
               "frames": [frames[raw] for raw in site.frames]}


def _frame(raw: RawFrame) -> dict[str, Any]:
    frame = Frame(raw)
    # JavaScript keeps only 53 bits of a number.
    pc = None if frame.pc is None else hex(frame.pc)
    return {"filename": frame.filename, "lineno": frame.lineno, "function": frame.function, "module": frame.module,
            "pc": pc}


def _rows(rows: Rows) -> Iterator[tuple[int, int, int]]:
    numbers = {index: number for number, (index, _, _) in enumerate(rows.totals())}
    for index, size, count in zip(rows.site_indexes, rows.sizes, rows.counts):
        yield numbers[index], size, count
