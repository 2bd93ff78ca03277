"""support.py: builds test programs and runs GDB on them.

Paths come from TM_TOP_SRCDIR, TM_TOP_BUILDDIR and CC; without these from this file's place, and cc.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, NamedTuple, Sequence, Union

SOURCE = Path(os.environ.get("TM_TOP_SRCDIR", Path(__file__).resolve().parents[2])).resolve()
BUILD = Path(os.environ.get("TM_TOP_BUILDDIR", SOURCE)).resolve()
CC = os.environ.get("CC", "cc").split()
PROGRAMS = SOURCE / "tests" / "programs"
sys.path.insert(0, str(SOURCE / "tests" / "support"))
DOOR = SOURCE / "gdb" / "libtracemalloc-gdb.py"
RUNTIME = BUILD / "runtime" / ".libs" / "libtracemalloc.so"
STATIC_RUNTIME = BUILD / "runtime" / ".libs" / "libtracemalloc.a"
# How to link a test program with the runtime.
LINKED = ("-I", str(SOURCE / "runtime"), "-L", str(RUNTIME.parent), "-ltracemalloc", f"-Wl,-rpath,{RUNTIME.parent}")
DRIVER = Path(__file__).with_name("driver.py")
TIMEOUT = 120

Step = Union[str, dict[str, str]]


class Result(NamedTuple):
    output: str
    error: str | None
    answer: Any


def python(source: str) -> Step:
    """A step that runs Python in GDB; it gives back what it puts into `answer`."""
    return {"python": source}


@functools.lru_cache(maxsize=None)
def work_directory() -> Path:
    """Lives as long as the tests."""
    directory = tempfile.TemporaryDirectory(prefix="tm-test-")
    atexit.register(directory.cleanup)
    return Path(directory.name).resolve()


def new_directory() -> Path:
    return Path(tempfile.mkdtemp(dir=work_directory()))


def compile_file(source: Path, output: Path, *options: str) -> Path:
    subprocess.run([*CC, "-std=gnu11", "-g", "-O1", "-fno-builtin", "-I", str(PROGRAMS), str(source), "-o",
                    str(output), *options], check=True)
    return output


@functools.lru_cache(maxsize=None)
def program(name: str, *options: str) -> Path:
    """tests/programs/NAME.c, built."""
    return compile_file(PROGRAMS / f"{name}.c", new_directory() / name, *options)


def line_of(source: str, mark: str) -> int:
    """The line of a test program that is marked with the comment `line: MARK`."""
    for number, line in enumerate((PROGRAMS / source).read_text().splitlines(), 1):
        if re.search(rf"/\* line: {re.escape(mark)} \*/", line):
            return number
    raise AssertionError(f"{source} has no line marked {mark}")


def preload(runtime: Path = RUNTIME, frames: int = 25) -> list[str]:
    """GDB commands that make the next `run` a traced one."""
    return ["set startup-with-shell off", f"set environment LD_PRELOAD {runtime}",
            f"set environment TRACEMALLOC {frames}"]


def traced_environment(runtime: Path = RUNTIME, frames: int = 25) -> dict[str, str]:
    return {**os.environ, "LD_PRELOAD": str(runtime), "TRACEMALLOC": str(frames)}


def at_checkpoint(number: int = 1) -> list[str]:
    """GDB commands that run the program to its NUMBERth checkpoint, and out of it."""
    return ["break checkpoint", "run", *["continue"] * (number - 1), "finish"]


def gdb(steps: Sequence[Step], *arguments: str | Path, directory: Path | None = None, load: bool = True,
        timeout: float = TIMEOUT, debugger: str = "gdb") -> list[Result]:
    """What each step gave in a GDB started with these arguments, the tm- commands loaded first."""
    directory = directory or new_directory()
    steps_file, results_file = directory / "steps.json", directory / "results.json"
    results_file.unlink(missing_ok=True)
    before = [f"source {DOOR}"] if load else []
    steps_file.write_text(json.dumps([*before, *steps]))
    environment = {**os.environ, "DEBUGINFOD_URLS": "", "TM_TEST_STEPS": str(steps_file),
                   "TM_TEST_RESULTS": str(results_file)}
    done = subprocess.run(
        [debugger, "-nx", "-q", "-batch", "-iex", "set auto-load off", *map(str, arguments), "-x", str(DRIVER)],
        cwd=directory, env=environment, timeout=timeout, stdin=subprocess.DEVNULL, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if not results_file.exists():
        raise AssertionError(f"GDB left no results:\n{done.stdout}")
    results = [Result(**result) for result in json.loads(results_file.read_text())]
    for result in results[:len(before)]:
        if result.error or result.output:
            raise AssertionError(f"the tm- commands are not to be had: {result.error or result.output}")
    return results[len(before):]


def kernel_core(program_path: Path, *arguments: str, runtime: Path = RUNTIME) -> Path:
    """The core that the kernel writes when the program dies; skips the test where it writes none to a file."""
    directory = new_directory()
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    subprocess.run([str(program_path), *arguments], cwd=directory, env=traced_environment(runtime),
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1])), check=False)
    cores = list(directory.glob("core*"))
    if not cores:
        raise unittest.SkipTest("the kernel writes no core file here (core_pattern, or the limit on cores)")
    return cores[0]


class GdbTest(unittest.TestCase):
    """A test that needs GDB and the built runtime."""

    maxDiff = None

    @classmethod
    def setUpClass(cls) -> None:
        if shutil.which("gdb") is None:
            raise unittest.SkipTest("there is no gdb here")
        if not RUNTIME.exists():
            raise unittest.SkipTest(f"the runtime is not built: {RUNTIME}")

    def assertWorked(self, results: Sequence[Result]) -> None:
        for result in results:
            self.assertIsNone(result.error)

    def assertRefused(self, result: Result, *words: str) -> None:
        """One clear line that holds these words, and no Python traceback."""
        error = result.error
        assert error is not None, f"no error but: {result.output}"
        self.assertNotIn("Traceback", error)
        self.assertNotIn("Python", error)
        self.assertNotIn("\n", error.strip())
        for word in words:
            self.assertIn(word, error)


def facts(info: str) -> dict[str, str]:
    """What tm-info printed, by name."""
    return {name: fact.strip() for name, _, fact in (line.partition(":") for line in info.splitlines())}


def rows(stats: str) -> list[str]:
    """The numbered rows that tm-stats or tm-compare printed, without their numbers."""
    return [match[1] for match in re.finditer(r"^ *\d+  (.*)$", stats, re.MULTILINE)]


def run_traced(program_path: Path, *arguments: str, runtime: Path = RUNTIME) -> subprocess.Popen[bytes]:
    return subprocess.Popen([str(program_path), *arguments], env=traced_environment(runtime), stdout=subprocess.PIPE)
