"""viewing.py: the time until a person sees the top ten of many live blocks, and the memory it takes."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

from looking import Looker, kept
from report import print_markdown
from workloads import Figures

_STAYS = 3600  # seconds; it is ended before
_HEADER = ["", "first", "again", "whole process", "GDB's memory, B/block"]
_MEANING = (
    "Of hoard's blocks. `first`: the first tm-stats in a GDB that is attached or has the core, symbols still unread; "
    "`again`: the next ones; `whole process`: from the shell and back, start of GDB, attaching or load of the core "
    "included. Memory: what GDB's grows by at its highest during the first, for each block.")

Rows = dict[str, list[Figures]]


class Viewing:
    """Makes a core and a heaptrack file of each size once, and times the views of them in rounds."""

    def __init__(self, library: Path, scratch: Path, looker: Looker) -> None:
        self.runtime, self.scratch, self.looker = library, scratch, looker
        self.hoard = str(scratch / "plain" / "hoard")

    def print_table(self, sizes: list[int], rounds: int, with_peers: bool) -> None:
        print(f"### Until a person sees the top ten\n\n{_MEANING}\n")
        rows = [_HEADER]
        for blocks in sizes:
            figures = self._measure(blocks, rounds, with_peers)
            rows += [[name, *_cells(runs, blocks)] for name, runs in figures.items() if runs]
        print_markdown(rows)

    def _measure(self, blocks: int, rounds: int, with_peers: bool) -> Rows:
        core, recorded = self.scratch / "hoard.core", self.scratch / "hoard.heaptrack"
        live, dead, peer = (f"{blocks:,} blocks, {what}" for what in ("live", "core", "heaptrack_print"))
        figures: Rows = {live: [], dead: [], peer: []}
        if with_peers:
            self._record(blocks, recorded)
        with kept([self.hoard, str(blocks), "1", str(_STAYS)], self.runtime) as pid:
            self.looker.gdb(["-p", pid, "-ex", f"generate-core-file {core}"])
            for _ in range(rounds):
                figures[live] += self._in_gdb(["-p", pid])
                figures[dead] += self._in_gdb([self.hoard, str(core)])
                figures[peer] += self._heaptrack(recorded)
        for path in self.scratch.glob("hoard.*"):
            path.unlink()
        return figures

    def _in_gdb(self, what: list[str]) -> list[Figures]:
        """The times inside GDB, and the whole process's of another GDB."""
        inside = self.looker.figures(what, "in_gdb.py")
        whole = self.looker.gdb([*what, "-ex", "tm-stats"])
        return [inside | {"whole": whole.seconds}] if inside and not whole.problem else []

    def _record(self, blocks: int, recorded: Path) -> None:
        if shutil.which("heaptrack") and shutil.which("heaptrack_print"):
            self.looker.run(["heaptrack", "-o", str(recorded), self.hoard, str(blocks)])

    def _heaptrack(self, recorded: Path) -> list[Figures]:
        """heaptrack adds the compression's suffix to the file's name."""
        for path in recorded.parent.glob(f"{recorded.name}.*"):
            outcome = self.looker.run(["heaptrack_print", str(path)])
            return [{"whole": outcome.seconds}] if not outcome.problem else []
        return []


def _cells(runs: list[Figures], blocks: int) -> list[str]:
    cells = []
    for name in ("first", "again", "whole"):
        figures = [figures[name] for figures in runs if name in figures]
        cells.append(f"{statistics.median(figures):.3f} s" if figures else "")
    added = [figures["added"] for figures in runs if "added" in figures]
    return [*cells, f"{statistics.median(added) / blocks:.1f}" if added else ""]
