"""test_commands.py: each command on a live process, attached, and on cores: the same answers everywhere."""

from __future__ import annotations

import shutil
import subprocess
import unittest
from pathlib import Path

from support import (DOOR, GdbTest, PROGRAMS, Result, RUNTIME, STATIC_RUNTIME, at_checkpoint, facts, gdb,
                     kernel_core, line_of, new_directory, preload, program, python, rows, run_traced)

TRUTH = python("answer = [int(gdb.parse_and_eval(name)) for name in ('expected_blocks', 'expected_bytes')]")
TOTALS = python("import tm; s = tm.take_snapshot(); "
                "answer = [len(s.traces), sum(t.size for t in s.traces), *tm.get_traced_memory()]")


def answers(steps: list[str]) -> list[str]:
    """Commands whose answers must not depend on how the program was come by."""
    return ["tm-stats", "tm-stats filename", "tm-stats traceback -limit 3", "tm-stats lineno -cumulative", *steps]


class LiveTest(GdbTest):
    """One GDB session on known.c, asserted from many sides."""

    directory: Path
    results: dict[str, Result]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.directory = new_directory()
        steps = [*preload(), *at_checkpoint(), TRUTH, TOTALS, "tm-info", *answers([]), "tm-snapshot save a.snap",
                 "tm-traceback leaks[7]", "tm-traceback leaks[7]+5", "tm-traceback *pairs", "tm-traceback &pairs[2]",
                 "tm-traceback deep", "tm-traceback (long) aligned + 8191", "tm-traceback expected_blocks",
                 "tm-stats -limit 0", "tm-stats -limit 1", "tm-stats function", "tm-stats module", "tm-stats domain",
                 "continue", "finish", "tm-compare a.snap", "tm-compare a.snap a.snap",
                 "tm-compare a.snap traceback -limit 1", "tm-snapshot save b.snap"]
        results = gdb(steps, program("known"), directory=cls.directory)
        cls.results = {str(step): result for step, result in zip(steps, results)}

    def output(self, command: str) -> str:
        result = self.results[command]
        self.assertIsNone(result.error)
        return result.output

    def test_blocks_and_bytes_are_the_programs_own_count(self) -> None:
        blocks, size = self.results[str(TRUTH)].answer
        self.assertEqual(self.results[str(TOTALS)].answer[:3], [blocks, size, size])

    def test_info(self) -> None:
        blocks, size = self.results[str(TRUTH)].answer
        info = facts(self.output("tm-info"))
        self.assertIn("(known), started by GDB", info["Program"])
        self.assertEqual(info["Tracing"], "yes, up to 25 frames a traceback")
        self.assertEqual(info["Blocks"], f"{blocks:,}")
        self.assertIn(f"({size:,} B)", info["Current"])
        self.assertEqual(info["Lost"], "0 blocks")
        self.assertEqual(info["Threads inside"], "none")

    def test_peak_of_one_thread_is_exact(self) -> None:
        # All leaks and the last realloc, which frees its old block after the new one is there, or grows in place.
        leaks = sum(100 + number for number in range(1000))
        peak = self.results[str(TOTALS)].answer[3]
        self.assertGreaterEqual(peak, leaks + (1 << 20))
        self.assertLessEqual(peak, leaks + (1 << 20) + (1 << 19) + 16384)

    def test_stats_by_line(self) -> None:
        output = self.output("tm-stats")
        self.assertIn(f"known.c:{line_of('known.c', 'leak')}: size=", output)
        self.assertIn("count=999, average=600 B", output)
        self.assertIn(f"known.c:{line_of('known.c', 'grow')}: size=1024 KiB, count=1, average=1024 KiB", output)
        self.assertIn("grown = realloc(grown, size);", output)
        blocks = self.results[str(TRUTH)].answer[0]
        self.assertRegex(output.splitlines()[-1], rf"^Total: .* in {blocks:,} blocks$")

    def test_stats_by_file(self) -> None:
        output = self.output("tm-stats filename")
        self.assertTrue(rows(output)[0].startswith("known.c: size="), output)

    def test_stats_by_traceback(self) -> None:
        output = self.output("tm-stats traceback -limit 3")
        self.assertRegex(output, rf"#0  leak at known\.c:{line_of('known.c', 'leak')}\n.*\n"
                                 rf" +#1  main at known\.c:{line_of('known.c', 'main leak')}\n")
        self.assertIn("... ", output)

    def test_stats_cumulative_counts_recursion(self) -> None:
        line = line_of("known.c", "recurse")
        row = next(row for row in rows(self.output("tm-stats -limit 0")) if row.startswith(f"known.c:{line}:"))
        self.assertIn("count=1,", row)
        cumulative = next(row for row in rows(self.output("tm-stats lineno -cumulative"))
                          if row.startswith(f"known.c:{line}:"))
        self.assertIn("count=25,", cumulative)

    def test_limit_says_what_is_left_out(self) -> None:
        everything = self.output("tm-stats -limit 0")
        self.assertNotIn("...", everything)
        one = self.output("tm-stats -limit 1")
        self.assertEqual(rows(one), rows(everything)[:1])
        blocks = self.results[str(TRUTH)].answer[0]
        self.assertRegex(one, rf"\.\.\. {len(rows(everything)) - 1} more: \S+ \S+ in {blocks - 1:,} blocks")

    def test_traceback_of_a_block(self) -> None:
        output = self.output("tm-traceback leaks[7]")
        self.assertRegex(output, r"^0x[0-9a-f]+ is the start of a 107-byte block\n#0  leak at known\.c:")
        self.assertRegex(self.output("tm-traceback leaks[7]+5"),
                         r"^0x[0-9a-f]+ is 5 bytes into the 107-byte block at 0x[0-9a-f]+\n")
        self.assertIn("is the start of a 400-byte block", self.output("tm-traceback *pairs"))
        self.assertIn("is 16 bytes into the 400-byte block", self.output("tm-traceback &pairs[2]"))
        self.assertIn("is 8191 bytes into the 8192-byte block", self.output("tm-traceback (long) aligned + 8191"))

    def test_traceback_ends_at_main(self) -> None:
        self.assertEqual(self.output("tm-traceback leaks[7]").count("\n#"), 2)

    def test_traceback_that_was_cut_says_so(self) -> None:
        output = self.output("tm-traceback deep")
        self.assertIn("#24 ", output)
        self.assertNotIn("#25 ", output)
        self.assertIn("(the stack was deeper than the 25 program counters that were kept)", output)

    def test_traceback_of_no_block(self) -> None:
        self.assertIn("is in no traced block", self.output("tm-traceback expected_blocks"))

    def test_snapshot_says_what_it_saved(self) -> None:
        blocks = self.results[str(TRUTH)].answer[0]
        file_size = (self.directory / "a.snap").stat().st_size
        self.assertRegex(self.output("tm-snapshot save a.snap"),
                         rf"^saved a\.snap: {blocks:,} blocks, .*B, from \d+ sites; the file has .*B\n$")
        self.assertGreater(file_size, 0)

    def test_compare_with_now(self) -> None:
        output = self.output("tm-compare a.snap")
        self.assertRegex(rows(output)[0], rf"^known\.c:{line_of('known.c', 'leak')}: "
                                          r"size=.* \(\+10\.7 KiB\), count=1009 \(\+10\), average=")
        self.assertEqual(len(rows(output)), 1)
        self.assertRegex(output.splitlines()[-1], r"^Total: .* \(\+10\.7 KiB\) in .* blocks \(\+10\)$")

    def test_compare_by_traceback(self) -> None:
        self.assertIn(f"#1  main at known.c:{line_of('known.c', 'second leak')}",
                      self.output("tm-compare a.snap traceback -limit 1"))

    def test_compare_of_two_files_needs_no_process(self) -> None:
        self.assertEqual(rows(self.output("tm-compare a.snap a.snap")), [])
        result, = gdb(["tm-compare a.snap b.snap"], directory=self.directory)
        self.assertEqual(rows(result.output), rows(self.output("tm-compare a.snap")))

    def test_the_other_groupings(self) -> None:
        self.assertTrue(rows(self.output("tm-stats function"))[1].startswith("leak (known.c): size="))
        self.assertTrue(rows(self.output("tm-stats module"))[0].startswith("known: size="))
        self.assertTrue(rows(self.output("tm-stats domain"))[0].startswith("heap (domain 0): size="))


class SameAnswersTest(GdbTest):
    """A core, and an attached process, answer as the live process does."""

    def assertSame(self, live: list[Result], other: list[Result]) -> None:
        self.assertWorked(live)
        self.assertWorked(other)
        for ours, theirs in zip(live, other):
            # The headline names the source, and "Note:" lines what a core lacks.
            self.assertEqual(ours.output.splitlines()[1:], theirs.output.splitlines()[1:])

    def test_core_by_gdb(self) -> None:
        directory = new_directory()
        live = gdb([*preload(), *at_checkpoint(), "tm-info", *answers(["tm-traceback leaks[9]+1"]),
                    "generate-core-file known.core"], program("known"), directory=directory)
        core = gdb(["tm-info", *answers(["tm-traceback leaks[9]+1"])], program("known"), directory / "known.core")
        self.assertSame(live[-7:-1], core)
        self.assertIn("known.core of known", facts(core[0].output)["Program"])

    def test_core_by_the_kernel(self) -> None:
        path = kernel_core(program("known"), "abort")
        core = gdb(answers(["tm-traceback leaks[9]+1"]), program("known"), path)
        live = gdb([*preload(), "set args abort", "run", *answers(["tm-traceback leaks[9]+1"])], program("known"))
        self.assertWorked(core)
        for ours, theirs in zip(live[-5:-1], core[:-1]):
            self.assertEqual(ours.output.splitlines()[1:], theirs.output.splitlines()[1:])
        self.assertIn("is 1 byte into the 109-byte block", core[-1].output)

    def test_attached(self) -> None:
        live = gdb([*preload(), *at_checkpoint(2), *answers([])], program("known"))
        process = run_traced(program("known"), "wait")
        try:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), b"ready\n")
            attached = gdb([f"attach {process.pid}", "tm-info", *answers([]), "detach"])
            self.assertIn(f"process {process.pid} (known), attached", attached[1].output)
            self.assertSame(live[-4:], attached[2:-1])
            self.assertIsNone(process.poll())
        finally:
            process.kill()
            process.communicate()

    def test_stripped_runtime(self) -> None:
        stripped = new_directory() / RUNTIME.name
        shutil.copy(RUNTIME, stripped)
        subprocess.run(["strip", str(stripped)], check=True)
        live = gdb([*preload(stripped), *at_checkpoint(), TRUTH, TOTALS, *answers([])], program("known"))
        self.assertEqual(live[-6].answer, live[-5].answer[:2])
        self.assertWorked(live)

    def test_core_without_the_files(self) -> None:
        removed = Path(shutil.copy(program("known"), new_directory()))
        path = kernel_core(removed, "abort")
        removed.unlink()
        results = gdb(["set sysroot /nowhere", f"core-file {path}", "tm-info", "tm-stats", TOTALS])
        self.assertWorked(results)
        live = gdb([*preload(), *at_checkpoint(2), TRUTH], program("known"))
        self.assertEqual(results[-1].answer[:2], live[-1].answer)
        self.assertRegex(rows(results[-2].output)[0], r"^known\(\+0x[0-9a-f]+\): size=")

    def test_static_program_without_symbols(self) -> None:
        if not STATIC_RUNTIME.exists():
            self.skipTest("there is no static runtime")
        whole = ("-Wl,--whole-archive", str(STATIC_RUNTIME), "-Wl,--no-whole-archive", "-pthread", "-ldl")
        linked = program("known", *whole)
        environment = ["set environment TRACEMALLOC 25"]
        truth = gdb([*environment, *at_checkpoint(2), TRUTH, TOTALS], linked)
        self.assertEqual(truth[-2].answer, truth[-1].answer[:2])
        stripped = new_directory() / "known"
        subprocess.run(["strip", "-o", str(stripped), str(linked)], check=True)
        results = gdb([*environment, "set args abort", "run", TOTALS, "tm-stats"], stripped)
        self.assertEqual(results[-2].answer[:2], truth[-2].answer)
        self.assertRegex(rows(results[-1].output)[0], r"^known\(\+0x[0-9a-f]+\): size=")


class SessionTest(GdbTest):
    """How the commands behave as parts of GDB."""

    def test_help_and_completion(self) -> None:
        commands = ["tm-info", "tm-stats", "tm-snapshot", "tm-compare", "tm-traceback", "tm-traces", "tm-filter",
                    "tm-export", "tm-start", "tm-stop", "tm-clear", "tm-reset-peak"]
        results = gdb([*(f"help {command}" for command in commands), "complete tm-stats f", "complete tm-stats -",
                       "complete tm-snapshot s", "complete tm-compare a.snap tr"])
        self.assertWorked(results)
        for command, result in zip(commands, results):
            self.assertIn(f"Usage: {command}", result.output)
            self.assertIn("Example:", result.output)
        self.assertEqual([result.output.split("\n")[:-1] for result in results[len(commands):]], [
            ["tm-stats filename", "tm-stats function"], ["tm-stats -cumulative", "tm-stats -limit"],
            ["tm-snapshot save"], ["tm-compare a.snap traceback"]])

    def test_loading_twice_is_harmless(self) -> None:
        results = gdb([f"source {DOOR}", f"source {DOOR}", *preload(), *at_checkpoint(), "tm-info"], program("known"))
        self.assertWorked(results)
        self.assertEqual(results[1].output, "")

    def test_the_door_without_its_package(self) -> None:
        alone = shutil.copy(DOOR, new_directory())
        result, = gdb([f"source {alone}"], load=False)
        self.assertEqual(result.output.count("\n"), 1, result.output)
        self.assertIn("does not find its package tm", result.output)

    def test_info_names_the_thread_inside_and_leaves_the_selection(self) -> None:
        into = python("""
for _ in range(1000):
    gdb.execute("stepi", to_string=True)
    if "libtracemalloc" in (gdb.solib_name(gdb.selected_frame().pc()) or ""):
        break
answer = gdb.selected_frame().name()
""")
        results = gdb([*preload(), *at_checkpoint(), into, "up", "tm-info", "frame", "tm-stats"], program("churn"))
        self.assertWorked(results)
        self.assertRegex(results[-3].output, r"Threads inside: +1 \(.*\): the block that it works on may be missing")
        self.assertTrue(results[-2].output.startswith("#1 "), results[-2].output)

    def test_interrupt(self) -> None:
        results = gdb([*preload(), *at_checkpoint(), python("""
import os, signal, threading, time, tm.reader
def slow(self, with_addresses):
    end = time.time() + 60
    while time.time() < end:
        pass
tm.reader.Reader.take_snapshot = slow
threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
"""), "tm-stats", "tm-info"], program("known"), timeout=30)
        self.assertRefused(results[-2], "Quit")
        self.assertIsNone(results[-1].error)

    def test_interrupt_where_python_cannot_raise(self) -> None:
        results = gdb([*preload(), *at_checkpoint(), python("""
import tm.reader
class Dying:
    def __del__(self):
        raise KeyboardInterrupt
survey = tm.reader.Reader.survey
def dying(self, with_addresses=False):
    Dying()
    return survey(self, with_addresses)
tm.reader.Reader.survey = dying
"""), "tm-stats", "tm-info"], program("known"))
        self.assertRefused(results[-2], "Quit")
        self.assertNotIn("Traceback", results[-2].output + results[-1].output)
        self.assertIsNone(results[-1].error)

    def test_another_abi_is_refused(self) -> None:
        results = gdb([*preload(), *at_checkpoint(), "set language c", "set var ((short *) &tm_layout)[10] = 9",
                       "set var ((short *) &tm_layout)[11] = 4", "tm-stats"], program("known"))
        self.assertWorked(results[:-1])
        self.assertRefused(results[-1], "layout version 9.4", "1.x")


class ApiTest(GdbTest):
    """`import tm` in GDB's Python."""

    def test_functions(self) -> None:
        results = gdb([*preload(frames=7), *at_checkpoint(), TRUTH, python("""
import tm
block = gdb.parse_and_eval("leaks[3]")
traceback = tm.get_object_traceback(block)
answer = [tm.is_tracing(), tm.get_traceback_limit(), tm.get_traced_memory()[0], tm.get_tracemalloc_memory(),
          traceback.total_nframe, [frame.function for frame in traceback], traceback[-1].lineno,
          tm.get_object_traceback(int(block) + 1) == traceback, tm.get_object_traceback(8)]
""")], program("known"))
        self.assertWorked(results)
        is_tracing, limit, current, own, depth, functions, line, is_same, nothing = results[-1].answer
        self.assertIs(is_tracing, True)
        self.assertEqual(limit, 7)
        self.assertEqual(current, results[-2].answer[1])
        self.assertGreater(own, 4096)
        self.assertEqual((depth, functions, line), (2, ["main", "leak"], line_of("known.c", "leak")))
        self.assertIs(is_same, True)
        self.assertIsNone(nothing)

    def test_frames_know_file_function_module_and_pc(self) -> None:
        results = gdb([*preload(), *at_checkpoint(), python("""
import tm
frame = tm.get_object_traceback(gdb.parse_and_eval("leaks[3]"))[-1]
answer = [frame.filename, frame.function, frame.module, gdb.find_pc_line(frame.pc - 1).line == frame.lineno]
""")], program("known"))
        self.assertEqual(results[-1].answer, [str(PROGRAMS / "known.c"), "leak", str(program("known")), True])

    def test_a_kept_snapshot_outlives_the_stop(self) -> None:
        results = gdb([*preload(), *at_checkpoint(), python("import tm, __main__; __main__.old = tm.take_snapshot()"),
                       "delete", "continue", python("""
import __main__
answer = [str(row.traceback) for row in __main__.old.statistics('lineno')]
""")], program("known"))
        self.assertWorked(results[:-2])
        self.assertTrue(any(place.endswith(f"known.c:{line_of('known.c', 'leak')}") for place in results[-1].answer))

    def test_not_tracing(self) -> None:
        results = gdb([f"set environment LD_PRELOAD {RUNTIME}", *at_checkpoint(), python("""
import tm
try:
    tm.take_snapshot()
except RuntimeError as error:
    answer = [tm.is_tracing(), str(error)]
""")], program("known"))
        self.assertEqual(results[-1].answer, [
            False, "the tracemalloc module must be tracing memory allocations to take a snapshot"])


if __name__ == "__main__":
    unittest.main()
