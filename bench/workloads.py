"""workloads.py: what runs: the C workloads of this folder and real programs, and what their runs tell."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from run import Outcome
from variants import BUILDS, CC, FRAMES

BENCH = Path(__file__).resolve().parent
SOURCE = BENCH.parent
CXX = os.environ.get("CXX", "c++").split()
C_WORKLOADS = ("churn", "hoard", "regrow", "handover", "release")
_NUMBERS = re.compile(r"^[-\d.]+(?: [-\d.]+)*$", re.MULTILINE)

Figures = dict[str, float]


@dataclass(frozen=True)
class Column:
    """One figure of a workload beside the untraced run's: the `ratio` to it, or what was `added`."""

    title: str
    figure: str
    how: str
    unit: str


@dataclass(frozen=True)
class Workload:
    """`argv` of a C workload begins with its name; `count`, if any, comes last."""

    group: str
    argv: tuple[str, ...]
    columns: tuple[Column, ...]
    read: Callable[[Outcome], Figures]
    is_program: bool = False
    count: int = 0
    threads: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    is_deep: bool = False
    is_heavy: bool = False  # too much for the slow variants
    missing: str = ""

    @property
    def title(self) -> str:
        return self.group if self.is_program else " ".join(self.argv)


@dataclass(frozen=True)
class Table:
    title: str
    meaning: str
    workloads: list[Workload]


def all_tables(quick: bool, scratch: Path) -> list[Table]:
    return [*(_churn_table(threads, quick) for threads in (1, 2, 4)), _kept_table(quick), _moved_table(quick),
            _programs_table(quick, scratch)]


def compile_c_workloads(scratch: Path) -> dict[str, str]:
    """Builds each workload in every way into a folder named after the way. Returns what could not be built and why."""
    problems = {}
    for build, options in BUILDS.items():
        (scratch / build).mkdir()
        for name in C_WORKLOADS:
            command = [*CC, "-std=gnu11", "-O2", "-g", *options, str(BENCH / f"{name}.c"), "-o",
                       str(scratch / build / name), "-lpthread"]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                problems[build] = f"{name}.c could not be built so: {result.stderr.strip().splitlines()[-1]}"
    return problems


def _numbers(outcome: Outcome) -> list[float]:
    """The first line that is nothing but numbers: a tracer may print lines of its own."""
    found = _NUMBERS.search(outcome.output)
    if not found:
        raise ValueError("it printed no figure")
    return [float(number) for number in found.group().split()]


def _printed_time(outcome: Outcome) -> Figures:
    return {"ns": _numbers(outcome)[0]}


def _wall_time(outcome: Outcome) -> Figures:
    return {"s": outcome.seconds}


def _hoard_figures(blocks: int) -> Callable[[Outcome], Figures]:
    def read(outcome: Outcome) -> Figures:
        seconds, before, after = _numbers(outcome)
        return {"s": seconds, "B": (after - before) * 1024 / blocks}
    return read


def _short(count: int) -> str:
    return f"{count // 10 ** 6}M" if count >= 10 ** 6 else f"{count // 1000}k"


def _churn(depth: int, live: int, threads: int, pairs: int) -> Workload:
    column = Column(f"depth {depth}, {_short(live)} live", "ns", "added", "ns")
    return Workload("churn", ("churn", str(depth), str(live), str(threads)), (column,), _printed_time, count=pairs,
                    threads=threads, is_deep=depth > FRAMES, is_heavy=live * threads > 1_000_000)


def _churn_table(threads: int, quick: bool) -> Table:
    pairs = (100_000 if quick else 2_000_000) // threads
    workloads = [_churn(depth, live, threads, pairs) for live in (1000, 100_000 if quick else 1_000_000)
                 for depth in (5, 15, 40)]
    counted = "" if threads == 1 else ", wall time over the pairs of one thread; the threads churn apart"
    return Table(f"A malloc/free pair, {threads} thread{'s' * (threads > 1)}",
                 f"Nanoseconds added to a pair{counted}. `live`: blocks that each thread keeps.", workloads)


def _hoard(blocks: int, is_heavy: bool) -> Workload:
    columns = (Column(f"{_short(blocks)} kept, time", "s", "ratio", "s"),
               Column(f"{_short(blocks)} kept, B/live", "B", "added", "B"))
    return Workload("hoard", ("hoard", str(blocks)), columns, _hoard_figures(blocks), is_heavy=is_heavy)


def _kept_table(quick: bool) -> Table:
    sizes = (100_000, 500_000) if quick else (1_000_000, 5_000_000, 10_000_000)
    return Table("Blocks that are kept",
                 "Wall time of taking them, as a ratio; and the resident bytes a live block takes, beyond those of the "
                 "untraced run (a peer's own allocator counts for or against it).",
                 [_hoard(blocks, blocks > sizes[0]) for blocks in sizes])


def _moved_table(quick: bool) -> Table:
    count = 100_000 if quick else 3_000_000
    depth = "15"
    return Table("Realloc and hand-over, depth 15",
                 "Nanoseconds added: to a realloc of buffers that grow; to a block that one thread allocates and "
                 "another frees at the same time; to a free alone, by the thread that allocated 100,000 blocks or by "
                 "another one, when all are allocated.",
                 [Workload("regrow", ("regrow", depth), (Column("realloc growth", "ns", "added", "ns"),),
                           _printed_time, count=count),
                  Workload("handover", ("handover", depth), (Column("hand-over", "ns", "added", "ns"),),
                           _printed_time, count=count),
                  *(Workload("release", ("release", depth, who), (Column(f"free of {whose}", "ns", "added", "ns"),),
                             _printed_time, count=count) for who, whose in (("own", "own"), ("other", "another's")))])


def _programs_table(quick: bool, scratch: Path) -> Table:
    return Table("Real programs", "Wall time of the whole process, start and end included, as a ratio.",
                 [_sqlite(), _jq(2_000 if quick else 20_000, scratch), _python(10 if quick else 100),
                  _perl(5_000 if quick else 60_000), _compiler(0 if quick else 2, scratch)])


def _program(name: str, argv: list[str], missing: str = "", **environment: str) -> Workload:
    return Workload(name, tuple(argv), (Column(name, "s", "ratio", "s"),), _wall_time, is_program=True,
                    environment=environment, missing=missing or _why_missing(argv[0]))


def _why_missing(program: str) -> str:
    return "" if shutil.which(program) else f"{program} is not installed"


def _sqlite() -> Workload:
    return _program("sqlite3", ["sqlite3", ":memory:", f".read {SOURCE / 'examples' / 'rows.sql'}"])


def _jq(records: int, scratch: Path) -> Workload:
    path = scratch / "records.json"
    path.write_text(json.dumps(_records(records)))
    return _program("jq", ["jq", "-f", str(BENCH / "programs" / "records.jq"), str(path)])


def _records(count: int) -> list[dict[str, object]]:
    source = random.Random(1)
    return [{"id": number, "name": f"person {number}", "city": f"city {source.randrange(97)}",
             "active": source.random() < 0.8, "tags": [f"tag {source.randrange(50)}" for _ in range(5)],
             "items": [{"name": f"item {source.randrange(1000)}", "price": source.randrange(100_000) / 100}
                       for _ in range(6)]} for number in range(count)]


# An interpreter whose hashes are random does other work in each run.
def _python(modules: int) -> Workload:
    """With the interpreter that runs this script: `python3` on the path may be a script of a version manager."""
    return _program("python3", [sys.executable, str(BENCH / "programs" / "analyse.py"), str(modules)],
                    PYTHONMALLOC="malloc", PYTHONHASHSEED="0")


def _perl(lines: int) -> Workload:
    return _program("perl", ["perl", str(BENCH / "programs" / "words.pl"), str(lines)],
                    PERL_HASH_SEED="0")


def _compiler(parts: int, scratch: Path) -> Workload:
    """The compiler proper on a preprocessed file: its driver would add two programs that hardly allocate."""
    source, preprocessed = scratch / "parts.cc", scratch / "parts.ii"
    source.write_text(_cplusplus(parts))
    try:
        proper = subprocess.run([*CXX, "-print-prog-name=cc1plus"], capture_output=True, text=True).stdout.strip()
        subprocess.run([*CXX, "-std=c++17", "-E", str(source), "-o", str(preprocessed)], check=True,
                       capture_output=True)
        missing = ""
    except (OSError, subprocess.CalledProcessError):
        proper, missing = "cc1plus", "there is no g++"
    return _program("cc1plus -O2", [proper, "-quiet", "-std=c++17", "-O2", "-fpreprocessed", str(preprocessed), "-o",
                                    os.devnull], missing)


def _cplusplus(parts: int) -> str:
    """A file of much standard library, each part with types of its own."""
    headers = "algorithm functional iostream map memory regex set sstream string unordered_map variant vector"
    part = (BENCH / "programs" / "part.cc.in").read_text()
    includes = "".join(f"#include <{header}>\n" for header in headers.split())
    return includes + "".join(part.replace("@N@", str(number)) for number in range(parts))
