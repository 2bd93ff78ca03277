"""TRACEMALLOC in a preloaded program's environment: what starts tracing, and what is refused in one line."""

from __future__ import annotations

import os
import subprocess
import unittest
from pathlib import Path

BUILD = Path(os.environ.get("TM_TOP_BUILDDIR", Path(__file__).resolve().parents[2]))
LIBRARY = BUILD / "runtime/.libs/libtracemalloc.so"


def run(value: str | None) -> subprocess.CompletedProcess[str]:
    """`echo on` with the library preloaded, as a program that knows nothing of it."""
    environment = {**os.environ, "LD_PRELOAD": str(LIBRARY)}
    environment.pop("TRACEMALLOC", None)
    if value is not None:
        environment["TRACEMALLOC"] = value
    return subprocess.run(["/bin/echo", "on"], env=environment, capture_output=True, text=True, timeout=30)


class Environment(unittest.TestCase):
    def test_programs_run_as_ever(self) -> None:
        for value in (None, "", "0", "1", "25", "65535", "00025"):
            with self.subTest(value=value):
                done = run(value)
                self.assertEqual((0, "on\n", ""), (done.returncode, done.stdout, done.stderr))

    def test_what_is_no_limit_is_named_and_the_program_runs_on(self) -> None:
        for value in ("abc", "-1", "65536", "25x", " 25", "1e3", "99999999999999999999"):
            with self.subTest(value=value):
                done = run(value)
                self.assertEqual((0, "on\n"), (done.returncode, done.stdout))
                self.assertEqual(f"tracemalloc: TRACEMALLOC={value}: the number of frames must be from 1 to 65535 "
                                 "(0: off); not tracing\n", done.stderr)
