"""CPython's own tracemalloc as the oracle: both trace one python3, and agree on every block, its size and its line.

With PYTHONMALLOC=malloc each of CPython's blocks is one of malloc's. CPython counts 0 bytes where it asks malloc for 1.
"""

from __future__ import annotations

import json
import subprocess
import unittest
from collections import Counter
from typing import NamedTuple

from programs import HERE, ProgramTest, fresh_run_directory, traced
from python_modules import interpreter
from support import SOURCE, compile_file, new_directory

TIMEOUT = 300

# The child of the fork has the same blocks as its parent at that moment, and is free to make more to look at them.
SCRIPT = """
import ctypes, gc, json, os, sys, tracemalloc, workload
oracle = ctypes.PyDLL(None)
if not oracle.oracle_can_compare():
    sys.exit("no oracle")
oracle.oracle_mark()
tracemalloc.start(1)
kept = workload.work()
gc.collect()
gc.disable()
if os.fork() == 0:
    statistics = tracemalloc.take_snapshot().statistics("lineno")
    lines = [(s.traceback[0].lineno, s.size, s.count) for s in statistics
             if s.traceback[0].filename == workload.__file__]
    with open("lines.json", "w") as file:
        json.dump(lines, file)
    os._exit(0)
os.wait()
oracle.oracle_compare(b"blocks")
"""


class Block(NamedTuple):
    address: int
    ours: int
    theirs: int  # -1: CPython does not know it
    is_early: bool
    line: int
    file: str


def read_block(line: str) -> Block:
    address, ours, theirs, early, number, file = line.split(maxsplit=5)
    return Block(int(address, 16), int(ours), int(theirs), early == "1", int(number), file)


class Oracle(ProgramTest):
    known: list[Block]
    unknown: list[Block]
    left: int
    lines: list[list[int]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        oracle = compile_file(HERE / "oracle.c", new_directory() / "oracle.so", "-O2", "-fPIC", "-shared", "-I",
                              str(SOURCE / "runtime"))
        environment = traced()
        environment.update(LD_PRELOAD=f"{environment['LD_PRELOAD']} {oracle}", PYTHONMALLOC="malloc",
                           PYTHONPATH=str(HERE), PYTHONDONTWRITEBYTECODE="1")
        directory = fresh_run_directory()
        done = subprocess.run([interpreter(), "-c", SCRIPT], env=environment, cwd=directory, text=True,
                              capture_output=True, timeout=TIMEOUT)
        if done.stderr.strip() == "no oracle":
            raise unittest.SkipTest("this python3 does not export the functions by which its books are read")
        if done.returncode or done.stderr:
            raise AssertionError(f"python3 ended with status {done.returncode}: {done.stderr}")
        *rows, last = (directory / "blocks").read_text().splitlines()
        blocks = [read_block(row) for row in rows]
        cls.known = [block for block in blocks if block.theirs >= 0]
        cls.unknown = [block for block in blocks if block.theirs < 0]
        cls.left = int(last.split()[1])
        cls.lines = json.loads((directory / "lines.json").read_text())

    def test_every_block_of_theirs_is_ours(self) -> None:
        self.assertEqual(0, self.left)
        self.assertGreater(len(self.known), 30_000)

    def test_every_size_is_the_same(self) -> None:
        self.assertEqual([], [block for block in self.known if block.ours != max(block.theirs, 1)])

    def test_every_line_has_the_same_sum(self) -> None:
        sizes: Counter[int] = Counter()
        counts: Counter[int] = Counter()
        for block in self.known:
            if block.file.endswith("workload.py"):
                sizes[block.line] += block.theirs
                counts[block.line] += 1
        self.assertGreater(len(sizes), 15)
        self.assertEqual(sorted(self.lines), [[line, sizes[line], counts[line]] for line in sorted(sizes)])

    def test_what_only_we_have_is_explained(self) -> None:
        """Blocks from before their start; and their own tables, which they leave out: two blocks for each trace and
        two for each traceback, also when its blocks are gone. A few are libc's, or at the place of an earlier block."""
        late = sum(not block.is_early for block in self.unknown)
        tracebacks = len({(block.file, block.line) for block in self.known})
        least = 2 * (len(self.known) + tracebacks)
        self.assertTrue(least - 100 <= late <= least + 1000, f"{late} blocks, and not about {least}")


if __name__ == "__main__":
    unittest.main()
