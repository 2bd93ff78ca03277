"""naming.py: the time until the blocks of a program with very many call sites are shown by line."""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path

from looking import Looker, kept
from report import print_markdown
from variants import CC
from workloads import BENCH, Figures

_CALLS_OF_PART = 10
_PARTS_OF_FILE = 20
_SIZE = 5  # of each part's table
_HEADER = ["", "first", "again", "GDB alone"]
_MEANING = (
    "Of a generated C program, {files} files compiled with -O1 -g, which calls malloc at as many places, 3 to 6 frames "
    "deep. `first`: the first tm-stats in a GDB that is attached or has the core, all debug information still unread; "
    "`again`: the next ones. `GDB alone`: what of the first is not ours, in a GDB of its own: gdb.find_pc_line at each "
    "of these places, where GDB reads the debug information.")


class Naming:
    """Compiles the program and makes a core of it once, and times the views of both in rounds."""

    def __init__(self, library: Path, scratch: Path, looker: Looker) -> None:
        self.runtime, self.folder, self.looker = library, scratch / "sites", looker

    def print_table(self, calls: int, rounds: int) -> None:
        self.folder.mkdir()
        sources = _write_sources(calls // _CALLS_OF_PART, self.folder)
        program, core = str(self.folder / "sites"), str(self.folder / "sites.core")
        subprocess.run([*CC, "-std=gnu11", "-O1", "-g", *sources, "-o", program], check=True)
        figures: dict[str, list[Figures]] = {"live": [], "core": []}
        with kept([program], self.runtime) as pid:
            self.looker.gdb(["-p", pid, "-ex", f"generate-core-file {core}"])
            for _ in range(rounds):
                figures["live"] += self._measure(["-p", pid])
                figures["core"] += self._measure([program, core])
        print(f"### Until {calls:,} call sites have names\n\n{_MEANING.format(files=len(sources))}\n")
        print_markdown([_HEADER, *([_title(runs, what), *_cells(runs)] for what, runs in figures.items() if runs)])

    def _measure(self, what: list[str]) -> list[Figures]:
        ours, alone = self.looker.figures(what, "in_gdb.py"), self.looker.figures(what, "lines_in_gdb.py")
        return [ours | alone] if ours and alone else []


def _title(runs: list[Figures], what: str) -> str:
    return f"{runs[0]['callers']:,} return addresses, {what}"


def _cells(runs: list[Figures]) -> list[str]:
    return [f"{statistics.median(figures[name] for figures in runs):.3f} s" for name in ("first", "again", "alone")]


def _write_sources(parts: int, folder: Path) -> list[str]:
    """Files of some parts each, the last with a main that calls all parts, says so, and stays."""
    part = (BENCH / "programs" / "sites.c.in").read_text()
    headers = "".join(f"#include <{name}.h>\n" for name in ("stdio", "stdlib", "string", "unistd"))
    paths, calls = [], []
    for start in range(0, parts, _PARTS_OF_FILE):
        numbers = range(start, min(start + _PARTS_OF_FILE, parts))
        text = headers + "".join(part.replace("@N@", str(number)) for number in numbers)
        text += _function(f"load_from{start}", [f"load{number}({_SIZE});" for number in numbers])
        calls.append(f"load_from{start}();")
        if numbers.stop == parts:
            text += "".join(f"void {call}\n" for call in calls)
            text += _function("main", [*calls, 'puts("");', "fflush(stdout);", "pause();"], "int")
        paths.append(folder / f"sites{start}.c")
        paths[-1].write_text(text)
    return list(map(str, paths))


def _function(name: str, statements: list[str], returns: str = "void") -> str:
    return f"\n{returns} {name}(void)\n{{\n" + "".join(f"    {statement}\n" for statement in statements) + "}\n"
