"""preloaded.py: builds the programs of tests/programs and runs them with the library preloaded, and without."""

from __future__ import annotations

import atexit
import functools
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Sequence

TOP = Path(os.environ.get("TM_TOP_SRCDIR", Path(__file__).resolve().parents[2])).resolve()
BUILD = Path(os.environ.get("TM_TOP_BUILDDIR", TOP)).resolve()
CC = os.environ.get("CC", "cc").split()
PROGRAMS = TOP / "tests" / "programs"
LIBRARY = BUILD / "runtime/.libs/libtracemalloc.so"
ARCHIVE = BUILD / "runtime/.libs/libtracemalloc.a"
TIMEOUT = 240

OWN_WALK = LIBRARY.exists() and b"libunwind.so" not in LIBRARY.read_bytes()
needs_own_walk = unittest.skipUnless(OWN_WALK, "the walk is libunwind's, which does this otherwise")

# TRACEMALLOC's values: dormant, the shortest tracebacks, the usual ones.
LIMITS = ("0", "1", "25")


@functools.lru_cache(maxsize=None)
def directory() -> Path:
    """Lives as long as the tests."""
    made = tempfile.TemporaryDirectory(prefix="tm-test-")
    atexit.register(made.cleanup)
    return Path(made.name).resolve()


def static_options() -> list[str]:
    """What `pkg-config --static --libs tracemalloc` adds, from the build tree."""
    text = (BUILD / "runtime/tracemalloc.pc").read_text()
    lines = re.findall(r"^Libs\.private: (.*)$", text, re.MULTILINE)
    if len(lines) != 1:
        raise AssertionError(f"tracemalloc.pc has {len(lines)} lines of Libs.private")
    return [str(ARCHIVE), *lines[0].split()]


def build(name: str, sources: Sequence[str], *options: str, compiler: Sequence[str] = CC) -> Path:
    """A program, or with -shared a library, from files of tests/programs."""
    output = directory() / name
    standard = "-std=gnu11" if sources[0].endswith(".c") else "-std=gnu++17"
    subprocess.run([*compiler, standard, "-w", "-g", "-O1", "-fno-builtin", "-I", str(PROGRAMS),
                    *(str(PROGRAMS / source) for source in sources), "-o", str(output), *options], check=True)
    return output


def run(command: Sequence[str | Path], *preloaded: str | Path, limit: str = "0",
        cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRACEMALLOC": limit}
    environment.pop("LD_PRELOAD", None)
    if preloaded:
        environment["LD_PRELOAD"] = " ".join(map(str, preloaded))
    return subprocess.run([str(word) for word in command], env=environment, timeout=TIMEOUT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=cwd)


class PreloadTest(unittest.TestCase):
    """A test that compares a program's runs."""

    def assert_same(self, command: Sequence[str | Path], before: Sequence[str | Path] = (),
                    behind: Sequence[str | Path] = (), limits: Sequence[str] = LIMITS, status: int = 0) -> None:
        """Output and status of COMMAND, BEFORE and BEHIND preloaded anyway, are the same with our library between."""
        alone = run(command, *before, *behind)
        self.assertEqual((status, ""), (alone.returncode, alone.stderr), alone.stdout)
        for limit in limits:
            with self.subTest(command=command, limit=limit):
                traced = run(command, *before, LIBRARY, *behind, limit=limit)
                self.assertEqual((status, alone.stdout, ""), (traced.returncode, traced.stdout, traced.stderr))
