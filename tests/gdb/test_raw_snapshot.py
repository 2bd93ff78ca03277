"""test_raw_snapshot.py: what a program wrote of itself against what GDB reads of it: the same, group by group."""

from __future__ import annotations

import unittest
from pathlib import Path

from support import GdbTest, PROGRAMS, RUNTIME, SOURCE, compile_file, gdb, new_directory, python

GROUPINGS = ("lineno", "traceback", "filename -cumulative", "function", "module", "domain")

# Looking a raw snapshot's names up takes a GDB of its own, as often as the file is loaded.
LOAD_ONCE = python("""
import functools
from tm import model, snapfile
model.Snapshot.load = functools.lru_cache(maxsize=None)(snapfile.load)
""")


class RawSnapshotTest(GdbTest):

    def compare(self, *options: str) -> None:
        """The program's file, GDB's file and the live process must not differ, with these compiler options."""
        directory = new_directory()
        compile_file(PROGRAMS / "plugin.c", directory / "libplugin.so", "-shared", "-fPIC", *options)
        program = compile_file(PROGRAMS / "raw.c", directory / "raw", "-I", str(SOURCE / "runtime"), str(RUNTIME),
                               f"-Wl,-rpath,{Path(RUNTIME).parent}", "-ldl", "-pthread", *options)
        # Each file is looked up from scratch for the one and for the other comparison, innermost frames first or last.
        steps = [LOAD_ONCE, *(f"tm-compare raw.snap {grouping}" for grouping in GROUPINGS),
                 LOAD_ONCE, *(f"tm-compare raw.snap gdb.snap {grouping}" for grouping in reversed(GROUPINGS))]
        results = gdb(["set startup-with-shell off", "set environment TRACEMALLOC 25", "set width 0",
                       "handle SIGSEGV nostop noprint pass", "break checkpoint", "run raw.snap",
                       "tm-snapshot save gdb.snap", *steps, python("""
import tm
answer = [sorted([frame.pc, frame.function, frame.module, str(frame)] for trace in tm.Snapshot.load(name).traces
                 for frame in trace.traceback if frame.function) for name in ('gdb.snap', 'raw.snap')]
""")], program, directory=directory)
        self.assertWorked(results)
        for step, result in zip(steps, results[-len(steps) - 1:]):
            if step is LOAD_ONCE:
                continue
            self.assertRegex(result.output, r": 0 of \d+ \w+ changed", step)
            self.assertNotIn("Note:", result.output)
        by_gdb, by_program = results[-1].answer
        self.assertEqual(by_gdb, by_program)
        self.assertGreater(len(by_gdb), 100)

    def test_with_debug_information(self) -> None:
        self.compare()

    def test_optimised(self) -> None:
        self.compare("-O2")

    def test_without_debug_information(self) -> None:
        self.compare("-g0")


if __name__ == "__main__":
    unittest.main()
