"""folded.py: collapsed stacks, one a line: `main;parse;xmalloc 4096`, the outermost frame first, then the bytes."""

from __future__ import annotations

from collections import Counter
from typing import BinaryIO

from ..model import UNKNOWN, RawFrame, Snapshot
from .names import label


class _Names(dict[RawFrame, str]):
    """What frames are called here."""

    def __missing__(self, raw: RawFrame) -> str:
        # A semicolon separates frames. stackcollapse-perf.pl has the same way out.
        return self.setdefault(raw, label(raw).replace(";", ":"))


def write(snapshot: Snapshot, file: BinaryIO) -> None:
    """Stacks that read the same are one line. Lines are in the order of their text."""
    names = _Names()
    weights: Counter[str] = Counter()
    for index, size, _ in snapshot.rows.totals():
        frames = snapshot.rows.sites[index].frames or (UNKNOWN,)
        weights[";".join(map(names.__getitem__, reversed(frames)))] += size
    for stack, size in sorted(weights.items()):
        file.write(f"{stack} {size}\n".encode())
