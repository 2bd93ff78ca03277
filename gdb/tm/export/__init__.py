"""Snapshots in formats that other tools read. doc/export-formats.md says what each of them holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from ..model import Snapshot
from ..wholefile import Path, write_whole
from . import folded, json, pprof


class Format(NamedTuple):
    """write puts a whole snapshot into a file that is open for bytes."""

    write: Callable[[Snapshot, BinaryIO], None]
    is_text: bool  # of whole lines in UTF-8, each written at once
    purpose: str


FORMATS = {
    "folded": Format(folded.write, True, "one line a stack, for flamegraph.pl and speedscope"),
    "pprof": Format(pprof.write, False, "profile.proto, gzipped, for pprof and what else reads it"),
    "json": Format(json.write, True, "everything that is known, for programs of your own"),
}


def save(snapshot: Snapshot, format_name: str, path: Path) -> int:
    """Write a snapshot to a file, whole or not at all, and return the number of bytes.

    ValueError for an unknown format and where a file must not be replaced; OSError as by open.
    """
    if format_name not in FORMATS:
        raise ValueError(f"unknown format {format_name}: use one of {', '.join(FORMATS)}")
    return write_whole(path, lambda file: FORMATS[format_name].write(snapshot, file))
