"""walks.py: a case whose programs run with each of their walks held against libunwind's."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

TOP = Path(os.environ.get("TM_TOP_SRCDIR", Path(__file__).resolve().parents[2]))
BUILD = Path(os.environ.get("TM_TOP_BUILDDIR", TOP))
CHECKER = BUILD / "tests/runtime/.libs/libwalkchecker.so"


class ComparedWalks(unittest.TestCase):
    every = 7  # one walk in so many is compared

    def setUp(self) -> None:
        if not CHECKER.exists():
            self.skipTest("libunwind's development files are missing, or the walk is libunwind's own")

    def check(self, program: str, *arguments: str, at_least: int, **environment: str) -> int:
        """How many walks were compared, which are so many at least, and not one differs. Some were recalled."""
        path = shutil.which(program)
        if path is None:
            self.skipTest(f"{program} is not installed")
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder) / "walks"
            variables = {**os.environ, "LD_PRELOAD": str(CHECKER), "TM_WALKS": str(results),
                         "TM_WALKS_EVERY": str(self.every), **environment}
            with open(TOP / "examples/rows.sql") as script:
                done = subprocess.run([path, *arguments], env=variables, stdin=script, cwd=folder, timeout=900,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            rows = [[int(word) for word in line.split()] for line in results.read_text().splitlines()]
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual(0, sum(row[1] for row in rows), done.stderr)
        self.assertGreater(sum(row[3] for row in rows), 0)
        walks = sum(row[0] for row in rows)
        self.assertGreaterEqual(walks, at_least)
        return walks
