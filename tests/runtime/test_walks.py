"""Programs that nobody here wrote, each walk of theirs compared with libunwind's: zero differences."""

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

PYTHON = """
import json, re, threading
data = [{"a": i, "b": str(i) * 3} for i in range(5000)]
threads = [threading.Thread(target=lambda: json.loads(json.dumps(data))) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(re.findall("1+", json.dumps(data))))
"""
PERL = "my %h; $h{$_} = [1..5] for 1..20000; my @s = sort { $a cmp $b } keys %h; print scalar(@s);"


@unittest.skipUnless(CHECKER.exists(), "libunwind's development files are missing, or the walk is libunwind's own")
class RealPrograms(unittest.TestCase):
    def check(self, program: str, *arguments: str, at_least: int, **environment: str) -> None:
        path = shutil.which(program)
        if path is None:
            self.skipTest(f"{program} is not installed")
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder) / "walks"
            variables = {**os.environ, "LD_PRELOAD": str(CHECKER), "TM_WALKS": str(results), **environment}
            with open(TOP / "examples/rows.sql") as script:
                done = subprocess.run([path, *arguments], env=variables, stdin=script, cwd=folder, timeout=120,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            rows = [[int(word) for word in line.split()] for line in results.read_text().splitlines()]
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual(0, sum(row[1] for row in rows), done.stderr)
        self.assertGreaterEqual(sum(row[0] for row in rows), at_least)

    def test_sqlite3(self) -> None:
        self.check("sqlite3", ":memory:", at_least=20000)

    def test_python3(self) -> None:
        self.check("/usr/bin/python3", "-c", PYTHON, at_least=5000, PYTHONMALLOC="malloc")

    def test_perl(self) -> None:
        self.check("perl", "-e", PERL, at_least=2000)

    def test_gdb(self) -> None:
        self.check("gdb", "-nx", "-batch", "-ex", "info line compare",
                   "-ex", "info scope compare", "-ex", "info types walk", str(CHECKER), at_least=2000)

    def test_exceptions(self) -> None:
        compiler = shutil.which("g++")
        if compiler is None:
            self.skipTest("there is no g++ here")
        with tempfile.TemporaryDirectory() as folder:
            program = f"{folder}/exceptions"
            subprocess.run([compiler, "-O2", "-o", program, f"{TOP}/tests/programs/exceptions.cc"], check=True)
            self.check(program, at_least=2000)

    def test_compiler(self) -> None:
        compiler = os.environ.get("CC", "cc").split()[0]
        self.check(compiler, "-O2", f"-I{TOP}/runtime", "-c", "-o", "node.o", f"{TOP}/runtime/node.c", at_least=1000)
