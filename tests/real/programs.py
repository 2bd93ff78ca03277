"""programs.py: runs programs that nobody here wrote without the library, with it, and with a witness behind it.

Each run has the same directory, freshly filled, and the same environment; what it printed, how it ended and what it
left behind must be the same. The witness (witness.c) keeps books of every block beneath the library, and at each
process's end holds the library's tables against them, and the books against mallinfo2.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Callable, Mapping, NamedTuple, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gdb"))

from support import BUILD, RUNTIME, SOURCE, compile_file, new_directory, work_directory  # noqa: E402

HERE = Path(__file__).resolve().parent
TIMEOUT = 120
Fill = Callable[[Path], object]

# One heap and no caches in front of it: then mallinfo2 counts nothing but blocks, and a fixed piece a thread.
_ACCOUNTABLE = "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1"


class Outcome(NamedTuple):
    status: int
    output: str
    error: str
    files: dict[str, str]


class Sum(NamedTuple):
    blocks: int
    bytes: int


class Report(NamedTuple):
    """What a witness wrote of one process."""

    program: str
    threads: int
    tracing: bool
    lost: int
    agreed: Sum
    ghosts: Sum
    resized: Sum
    missing: Sum
    early: Sum
    chunks: Sum
    in_use: int  # uordblks + hblkhd
    examples: str

    @property
    def unexplained(self) -> int:
        """What mallinfo2 counts beside the blocks of the books."""
        return self.in_use - self.chunks.bytes


def need(*programs: str) -> None:
    for program in programs:
        find(program)


def find(program: str, *other_names: str) -> str:
    """Its path, also where bootstrap unpacks what it does not install; skips the test where it is nowhere."""
    places = os.pathsep.join([os.environ["PATH"], "/usr/sbin", str(BUILD / "build" / "parts" / "usr" / "sbin")])
    for name in (program, *other_names):
        path = shutil.which(name, path=places)
        if path:
            return path
    raise unittest.SkipTest(f"{program} is not installed")


@functools.lru_cache(maxsize=None)
def witness() -> Path:
    return compile_file(HERE / "witness.c", new_directory() / "witness.so", "-O2", "-fPIC", "-shared", "-I",
                        str(SOURCE / "runtime"))


def plain() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC", "HOME": str(run_directory()), "PYTHONHASHSEED": "0",
            "PERL_HASH_SEED": "0"}


def traced() -> dict[str, str]:
    return {**plain(), "LD_PRELOAD": str(RUNTIME), "TRACEMALLOC": "25"}


def witnessed(reports: Path) -> dict[str, str]:
    return {**traced(), "LD_PRELOAD": f"{RUNTIME} {witness()}", "WITNESS": str(reports),
            "GLIBC_TUNABLES": _ACCOUNTABLE}


def run_directory() -> Path:
    return work_directory() / "run"


def fresh_run_directory() -> Path:
    shutil.rmtree(run_directory(), ignore_errors=True)
    run_directory().mkdir()
    return run_directory()


def run(command: Sequence[str], environment: Mapping[str, str], fill: Fill | None = None) -> Outcome:
    directory = fresh_run_directory()
    if fill:
        fill(directory)
    process = subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, text=True,
                               errors="surrogateescape", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    try:
        output, error = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, error = process.communicate()
        raise AssertionError(f"{command} hung: {output[-2000:]}{error[-2000:]}")
    return Outcome(process.returncode, output, error, files_in(directory))


def files_in(directory: Path) -> dict[str, str]:
    """A digest of each file."""
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*")) if path.is_file() and not path.is_symlink()}


def read_report(text: str) -> Report:
    facts = {name: value for name, _, value in (line.partition(" ") for line in text.splitlines())}
    sums = {name: Sum(*map(int, facts[name].split()))
            for name in ("agreed", "ghosts", "resized", "missing", "early", "chunks")}
    return Report(facts["program"], int(facts["threads"]), facts["tracing"] == "1", int(facts["lost"]), **sums,
                  in_use=int(facts["uordblks"]) + int(facts["hblkhd"]), examples=facts["examples"])


@functools.lru_cache(maxsize=None)
def piece_of_a_thread() -> int:
    """What malloc keeps for itself in its heap for each thread: what a program of one block leaves unexplained."""
    directory = new_directory()
    (directory / "one.c").write_text("#include <stdlib.h>\nint main(void) { return !malloc(1); }\n")
    program, reports = compile_file(directory / "one.c", directory / "one"), new_directory()
    subprocess.run([str(program)], env=witnessed(reports), check=True)
    report, = (read_report(path.read_text()) for path in reports.iterdir())
    if not 0 <= report.unexplained < 4096:
        raise AssertionError(f"this malloc cannot be accounted for: {report}")
    return report.unexplained


class ProgramTest(unittest.TestCase):
    maxDiff = 4000

    @classmethod
    def setUpClass(cls) -> None:
        if not RUNTIME.exists():
            raise unittest.SkipTest(f"the runtime is not built: {RUNTIME}")

    def assertSame(self, command: Sequence[str], fill: Fill | None = None, *, reports_of: str,
                   status: int = 0, at_least: int = 1, left_out: Sequence[str] = (), slack: int = 0,
                   **variables: str) -> Outcome:
        """The command does the same in all three runs, and the witness of at least one process of the program
        REPORTS_OF saw AT_LEAST so many blocks at its end. LEFT_OUT are files whose bytes differ from run to run.
        SLACK is for assertReportIsClean."""
        def clean(outcome: Outcome) -> Outcome:
            return outcome._replace(files={
                name: "" if any(Path(name).match(pattern) for pattern in left_out) else digest
                for name, digest in outcome.files.items()})

        reports = new_directory()
        expected = clean(run(command, {**plain(), **variables}, fill))
        self.assertEqual(status, expected.status, expected.error)
        self.assertEqual(expected, clean(run(command, {**traced(), **variables}, fill)))
        self.assertEqual(expected, clean(run(command, {**witnessed(reports), **variables}, fill)))
        self.assertAccounted(reports, reports_of, at_least, slack)
        return expected

    def assertAccounted(self, reports: Path, program: str, at_least: int, slack: int = 0) -> list[Report]:
        found = [read_report(path.read_text()) for path in reports.iterdir()]
        for report in found:
            self.assertReportIsClean(report, slack)
        of_program = [report for report in found if report.program == program]
        most = max((report.agreed.blocks for report in of_program), default=-1)
        self.assertGreaterEqual(most, at_least, [report.program for report in found])
        return of_program

    def assertReportIsClean(self, report: Report, slack: int = 0) -> None:
        """SLACK: bytes a thread that mallinfo2 may count beyond the blocks where more than one thread is left."""
        self.assertTrue(report.tracing, report)
        self.assertEqual((0, 0, 0), (report.lost, report.ghosts.blocks, report.resized.blocks), report)
        # Other threads that are about to record the block they just took.
        self.assertLess(report.missing.blocks, report.threads, report)
        allowed = (report.threads - 1) * piece_of_a_thread() + (slack * report.threads if report.threads > 1 else 0)
        self.assertTrue(0 <= report.unexplained - piece_of_a_thread() <= allowed, report)
