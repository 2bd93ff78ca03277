"""test_bad_input.py: bad input gets one clear line, never a Python traceback, never a hang."""

from __future__ import annotations

import pickle
import unittest

from support import GdbTest, RUNTIME, Result, at_checkpoint, gdb, kernel_core, new_directory, preload, program

COMMANDS = ("tm-info", "tm-stats", "tm-traces", "tm-snapshot save x.snap", "tm-traceback 16")


class NothingToReadTest(GdbTest):

    def test_no_process(self) -> None:
        for result in gdb(COMMANDS, program("known")):
            self.assertRefused(result, "no process", "run", "attach", "core-file")

    def test_a_process_that_ended(self) -> None:
        for result in gdb([*preload(), "run", *COMMANDS], program("known"))[-len(COMMANDS):]:
            self.assertRefused(result, "no process")

    def test_a_process_without_the_runtime(self) -> None:
        for result in gdb([*at_checkpoint(), *COMMANDS], program("known"))[-len(COMMANDS):]:
            self.assertRefused(result, "no tracemalloc runtime in process", "(known)", "LD_PRELOAD", "-ltracemalloc")

    def test_a_core_without_the_runtime(self) -> None:
        directory = new_directory()
        gdb([*at_checkpoint(), "generate-core-file plain.core"], program("known"), directory=directory)
        for result in gdb(COMMANDS, program("known"), directory / "plain.core"):
            self.assertRefused(result, "no tracemalloc runtime found in core", "plain.core")

    def test_a_program_that_has_hardly_begun(self) -> None:
        for result in gdb([*preload(), "starti", *COMMANDS], program("known"))[-len(COMMANDS):]:
            self.assertRefused(result, "no tracemalloc runtime")

    def test_a_program_that_runs(self) -> None:
        results = gdb(["set non-stop on", "set args wait", "run &", *COMMANDS, "kill"], program("known"))
        for result in results[3:-1]:
            self.assertRefused(result, "the program is running", "interrupt")

    def test_not_tracing(self) -> None:
        results = gdb([f"set environment LD_PRELOAD {RUNTIME}", *at_checkpoint(), *COMMANDS], program("known"))
        self.assertIsNone(results[-5].error)
        self.assertIn("no", results[-5].output)
        for result in results[-4:]:
            self.assertRefused(result, "(known) is not tracing", "TRACEMALLOC=25", "tm-start")


class WordsTest(GdbTest):
    """Words that make no sense are named, and so are those that would."""

    results: dict[str, Result]

    def refused(self, command: str, *words: str) -> None:
        with self.subTest(command=command):
            self.assertRefused(self.results[command], *words)

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cases = ["tm-stats colour", "tm-stats lineno filename", "tm-stats -fast", "tm-stats -limit",
                 "tm-stats -limit -3", "tm-stats -limit ten", "tm-stats traceback -cumulative", "tm-info now",
                 "tm-traceback", "tm-traceback no_such_variable", "tm-traceback 1 +", "tm-traceback 1.5",
                 "tm-traceback main(", "tm-traceback (void) 0", 'tm-traceback "abc"', "tm-snapshot",
                 "tm-snapshot keep x", "tm-snapshot save", "tm-snapshot save a b", "tm-snapshot save /nowhere/a.snap",
                 "tm-snapshot save /", "tm-compare", "tm-compare a.snap colour", "tm-compare a.snap a.snap colour"]
        results = gdb([*preload(), *at_checkpoint(), "tm-snapshot save a.snap", *cases], program("known"))
        cls.results = dict(zip(cases, results[-len(cases):]))

    def test_groupings(self) -> None:
        self.refused("tm-stats colour", "colour", "filename", "lineno", "traceback")
        self.refused("tm-stats lineno filename", "filename")
        self.refused("tm-stats traceback -cumulative", "-cumulative", "traceback")

    def test_options(self) -> None:
        self.refused("tm-stats -fast", "-fast", "-cumulative", "-limit")
        self.refused("tm-stats -limit", "-limit", "number")
        self.refused("tm-stats -limit -3", "-3")
        self.refused("tm-stats -limit ten", "ten")
        self.refused("tm-info now", "now")

    def test_expressions(self) -> None:
        self.refused("tm-traceback", "tm-traceback EXPR")
        self.refused("tm-traceback no_such_variable", "no_such_variable")
        self.refused("tm-traceback 1 +", "1 +")
        self.refused("tm-traceback 1.5", "1.5")
        self.refused("tm-traceback main(", "main(")
        self.refused("tm-traceback (void) 0", "(void) 0")
        self.refused('tm-traceback "abc"', "abc", "memory")

    def test_snapshot_words(self) -> None:
        self.refused("tm-snapshot", "tm-snapshot save FILE")
        self.refused("tm-snapshot keep x", "keep", "tm-snapshot save FILE")
        self.refused("tm-snapshot save", "tm-snapshot save FILE")
        self.refused("tm-snapshot save a b", "tm-snapshot save FILE")
        self.refused("tm-snapshot save /nowhere/a.snap", "/nowhere", "No such file or directory")
        self.refused("tm-snapshot save /", "/")

    def test_compare_words(self) -> None:
        self.refused("tm-compare", "tm-compare FILE")
        self.refused("tm-compare a.snap colour", "colour", "lineno")
        self.refused("tm-compare a.snap a.snap colour", "colour", "lineno")


class SnapshotFilesTest(GdbTest):

    def test_files_that_are_no_snapshots(self) -> None:
        directory = new_directory()
        gdb([*preload(), *at_checkpoint(), "tm-snapshot save good.snap"], program("known"), directory=directory)
        good = (directory / "good.snap").read_bytes()
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 0x10
        later = bytearray(good)
        later[8] += 1
        files = {"empty": b"", "cut": good[:-7], "flipped": bytes(flipped), "later": bytes(later),
                 "pickle": pickle.dumps([1, 2, 3]), "text": b"hello\n"}
        for name, content in files.items():
            (directory / name).write_bytes(content)
        names = [*files, "missing", "/"]
        results = gdb([f"tm-compare good.snap ./{name}" for name in names] + [f"tm-compare {name}" for name in names],
                      directory=directory)
        for name, result in zip(names * 2, results):
            with self.subTest(name=name):
                self.assertRefused(result, name)


class CutCoreTest(GdbTest):
    """A core that was cut short gives what it holds, and says what is missing."""

    def test_a_core_cut_at_many_places(self) -> None:
        whole = kernel_core(program("known"), "abort")
        core = whole.read_bytes()
        blocks = gdb(["tm-stats"], program("known"), whole)[0].output.splitlines()[-1]
        answered = partial = 0
        for percent in (5, 30, 60, 70, 80, 85, 90, 95, 99):
            with self.subTest(percent=percent):
                cut = whole.with_name("cut.core")
                cut.write_bytes(core[:len(core) * percent // 100])
                for result in gdb(["tm-stats", "tm-traces", "tm-info", "tm-traceback leaks[9]"], program("known"), cut):
                    if result.error is not None:
                        self.assertRefused(result, "the core was cut short" if percent > 5 else "c")
                        continue
                    answered += 1
                    if "cut short" in result.output:
                        partial += 1
                    elif result.output.startswith("core "):
                        self.assertEqual(result.output.splitlines()[-1], blocks)
        self.assertGreater(answered, 3)
        self.assertGreater(partial, 0)


if __name__ == "__main__":
    unittest.main()
