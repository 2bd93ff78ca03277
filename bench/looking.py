"""looking.py: runs GDB on a traced process or on a core, and says what scripts inside it measured."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Iterator, Sequence

from run import Limits, Outcome, run
from variants import FRAMES
from workloads import BENCH, SOURCE, Figures

_GDB = ["gdb", "-nx", "-q", "-batch", "-x", str(SOURCE / "gdb" / "libtracemalloc-gdb.py")]


@contextlib.contextmanager
def kept(program: list[str], runtime: Path) -> Iterator[str]:
    """The process of a program that prints a line when it has all its blocks, and stays for as long as it is looked
    at."""
    environment = os.environ | {"LD_PRELOAD": str(runtime), "TRACEMALLOC": str(FRAMES)}
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            yield str(process.pid)
        finally:
            process.kill()


class Looker:
    """`problems` collects what went wrong."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.problems: list[str] = []

    def gdb(self, arguments: Sequence[str]) -> Outcome:
        """With our commands loaded."""
        return self.run([*_GDB, *arguments])

    def figures(self, what: Sequence[str], script: str) -> Figures:
        """What a script of this folder measured inside GDB; nothing if it failed."""
        output = self.gdb([*what, "-x", str(BENCH / script)]).output
        return next((json.loads(line.partition(" ")[2]) for line in output.splitlines() if line.startswith("BENCH")),
                    {})

    def run(self, argv: list[str]) -> Outcome:
        outcome = run(argv, {"DEBUGINFOD_URLS": "", "LC_ALL": "C"}, self._limits)
        if outcome.problem:
            self.problems.append(f"{os.path.basename(argv[0])}: {outcome.problem}")
        return outcome
