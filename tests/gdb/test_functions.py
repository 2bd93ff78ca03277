"""test_functions.py: $tm_traced and its like, in expressions and in the conditions of breakpoints."""

from __future__ import annotations

import platform
import unittest

from support import (GdbTest, LINKED, Result, Step, at_checkpoint, facts, gdb, line_of, new_directory, preload, program,
                     python)

FIGURES = ("$tm_traced()", "$tm_peak()", "$tm_count()")
LOOKUPS = ("$tm_size", "$tm_base")
TRUTH = python("answer = [int(gdb.parse_and_eval(name)) for name in ('expected_bytes', 'expected_blocks')]")


def values(*expressions: str) -> Step:
    """A step whose answer are these expressions' values."""
    return python(f"answer = [int(gdb.parse_and_eval(text)) for text in {expressions!r}]")


def known(*steps: Step, checkpoint: int = 1) -> list[Result]:
    start = [*preload(), *at_checkpoint(checkpoint)]
    return gdb([*start, *steps], program("known"))[len(start):]


class FiguresTest(GdbTest):

    def test_they_are_what_the_program_knows(self) -> None:
        for checkpoint in (1, 2):
            info, truth, figures = known("tm-info", TRUTH, values(*FIGURES), checkpoint=checkpoint)
            size, blocks = truth.answer
            self.assertEqual([figures.answer[0], figures.answer[2]], [size, blocks])
            peak = facts(info.output)["Peak"]
            self.assertIn(f"({figures.answer[1]:,} B)", peak)

    def test_a_core_answers_too(self) -> None:
        directory = new_directory()
        steps = [values(*FIGURES, "$tm_size(leaks[7] + 1)", "$tm_base(leaks[7] + 1) == leaks[7]")]
        live = gdb([*preload(), *at_checkpoint(), "generate-core-file a.core", *steps], program("known"),
                   directory=directory)[-1]
        core = gdb(steps, program("known"), directory / "a.core")[-1]
        self.assertIsNone(core.error)
        self.assertEqual(core.answer, live.answer)
        self.assertEqual(core.answer[-2:], [107, 1])

    def test_they_count_all_domains(self) -> None:
        truth, figures = gdb(["set environment TRACEMALLOC 25", *at_checkpoint(), TRUTH, values(*FIGURES)],
                             program("domains", *LINKED))[-2:]
        self.assertEqual([figures.answer[0], figures.answer[2]], truth.answer)

    def test_several_threads(self) -> None:
        truth, figures = gdb([*preload(), *at_checkpoint(), "tm-filter include */threads.c", TRUTH, values(*FIGURES)],
                             program("threads", "-pthread"))[-2:]
        threads = 8  # whose control blocks are libc's
        self.assertEqual(figures.answer[2], truth.answer[1] + threads)

    def test_differences_of_figures_may_be_negative(self) -> None:
        below, large = known(values("$tm_traced() - $tm_peak() - 1"), values("$tm_traced() * 100000 > 0"))
        self.assertLess(below.answer[0], 0)
        self.assertEqual(large.answer, [1])

    def test_not_tracing_is_nothing(self) -> None:
        figures, size = known("tm-stop", values(*FIGURES), values("$tm_size(leaks[7])"))[1:]
        self.assertEqual(figures.answer, [0, 0, 0])
        self.assertEqual(size.answer, [0])

    def test_a_figure_reads_little(self) -> None:
        """Of 80,000 blocks as of one: nothing but the counters."""
        reads = """
from tm.process import Process
before, answer = Process.read, []
def read(self, address, length):
    answer.append(length)
    return before(self, address, length)
Process.read = read
gdb.parse_and_eval("$tm_traced() + $tm_peak()")
"""
        result = gdb([*preload(), *at_checkpoint(), values("$tm_traced()"), python(reads)],
                     program("threads", "-pthread"))[-1]
        self.assertIsNone(result.error)
        self.assertLessEqual(len(result.answer), 6)
        self.assertLessEqual(sum(result.answer), 32 << 10)


class LookupsTest(GdbTest):

    def test_blocks_and_what_lies_in_them(self) -> None:
        results = known(values("$tm_size(leaks[7])", "$tm_size(leaks[7] + 106)", "$tm_size(&leaks[7][50])",
                               "$tm_size((unsigned long) leaks[7])", "$tm_size(*pairs)", "$tm_size(grown + 1000000)"),
                        values("$tm_base(leaks[7] + 106) == leaks[7]", "$tm_base(grown + 1048575) == grown",
                               "$tm_base(pairs + 49) == pairs"))
        self.assertEqual(results[0].answer, [107, 107, 107, 107, 400, 1 << 20])
        self.assertEqual(results[1].answer, [1, 1, 1])

    def test_no_block_is_nothing(self) -> None:
        none = ("0", "leaks[7] + 107", "&leaks", "-1", "main")
        sizes, bases = known(*(values(*(f"{function}({one})" for one in none)) for function in LOOKUPS))
        self.assertEqual([sizes.answer, bases.answer], [[0] * 5] * 2)

    def test_a_base_is_a_pointer(self) -> None:
        result, = known("output $tm_base(leaks[7] + 3)")
        self.assertRegex(result.output, r"^\(void \*\) 0x[0-9a-f]+$")

    def test_tracked_blocks(self) -> None:
        results = gdb(["set environment TRACEMALLOC 25", *at_checkpoint(),
                       values("$tm_size(0xfedc00000003)", "$tm_base(0xfedc00000003)")], program("domains", *LINKED))
        self.assertEqual(results[-1].answer, [5 << 40, 0xfedc00000000])

    def test_other_languages(self) -> None:
        results = known("set var $p = leaks[7]", "set language ada", values("$tm_size($p)", "$tm_traced()"),
                        "set language pascal", values("$tm_size($p)", "$tm_traced()"), "show language")
        for result in (results[2], results[4]):
            self.assertEqual(result.answer, [107, results[2].answer[1]])
        self.assertIn("pascal", results[-1].output)


class RefusalTest(GdbTest):

    def test_nothing_to_read(self) -> None:
        expressions = (*FIGURES, *(f"{function}(1)" for function in LOOKUPS))
        steps = [f"output {expression}" for expression in expressions]
        for result in gdb(steps, program("known")):
            self.assertRefused(result, "no process")
        for result in gdb([*at_checkpoint(), *steps], program("known"))[-len(steps):]:
            self.assertRefused(result, "no tracemalloc runtime in process", "LD_PRELOAD")
        running = ["set non-stop on", "set args wait", "run &", *steps, "kill"]
        for result in gdb([*preload(), *running], program("known"))[-len(steps) - 1:-1]:
            self.assertRefused(result, "the program is running", "interrupt")

    def test_arguments(self) -> None:
        many, none, two, text, number = known("output $tm_traced(1)", "output $tm_size()", "output $tm_base(1, 2)",
                                              'output $tm_size("text")', "output $tm_size(2.5)")
        self.assertRefused(many, "$tm_traced()", "no arguments, not 1")
        self.assertRefused(none, "$tm_size(ptr)", "one argument, not 0")
        self.assertRefused(two, "$tm_base(ptr)", "one argument, not 2")
        self.assertRefused(text, "char [5]", "no address")
        self.assertRefused(number, "double", "no address")

    def test_a_cut_core(self) -> None:
        """Counting what is left of it would be a wrong count."""
        directory = new_directory()
        gdb([*preload(), *at_checkpoint(), "generate-core-file a.core"], program("known"), directory=directory)
        core = directory / "a.core"
        refused = 0
        for share in (90, 75, 60, 50):
            cut = directory / f"{share}.core"
            cut.write_bytes(core.read_bytes()[:core.stat().st_size * share // 100])
            result = gdb(["output $tm_count()"], program("known"), cut)[0]
            if result.error is None:
                self.assertEqual(result.output, "1003")
            else:
                self.assertRefused(result)
                refused += 1
        self.assertGreater(refused, 0)

    def test_help(self) -> None:
        listed, *each = gdb(["help function", *(f"help function tm_{name}"
                                                for name in ("traced", "peak", "count", "size", "base"))])
        for name, result in zip(("traced", "peak", "count", "size", "base"), each):
            self.assertIn(f"function tm_{name} -- ", listed.output)
            self.assertIn(f"Usage: $tm_{name}(", result.output)
            self.assertIn("Example:\n", result.output)


class ConditionTest(GdbTest):

    def test_it_stops_when_the_heap_has_grown_so_far(self) -> None:
        limit = 100_000
        place = f"known.c:{line_of('known.c', 'leak')}"
        stop = gdb([*preload(), f"break {place} if $tm_traced() > {limit}", "run",
                    values("expected_bytes", "$tm_traced()", "number")], program("known"))[-1]
        size, traced, number = stop.answer
        self.assertEqual(traced, size)
        self.assertGreater(size, limit)
        self.assertLessEqual(size - (100 + number - 1), limit)

    def test_counts_and_sizes(self) -> None:
        place = f"known.c:{line_of('known.c', 'leak')}"
        count = gdb([*preload(), f"break {place} if $tm_count() == 500", "run", values("number")], program("known"))[-1]
        self.assertEqual(count.answer, [500])

    @unittest.skipUnless(platform.machine() == "x86_64", "the condition names x86_64's register of arguments")
    def test_a_condition_on_a_register(self) -> None:
        size = gdb([*preload(), "break free if $tm_size($rdi) == 100", "run", values("$rdi == leaks[0]")],
                   program("known"))[-1]
        self.assertEqual(size.answer, [1])

    def test_other_threads_run_meanwhile(self) -> None:
        condition = "$tm_size(block) != 100 || $tm_base(block + 99) != block || $tm_traced() <= 0 || $tm_count() <= 0"
        results = gdb([*preload(), f"break show if {condition}", "break checkpoint", "run", "bt 1",
                       values("$tm_size(kept[0])")], program("busy", "-pthread"))
        self.assertWorked(results)
        self.assertIn("checkpoint ()", results[-2].output)
        self.assertEqual(results[-1].answer, [100])

    def test_a_breakpoint_of_python(self) -> None:
        source = """
import tm
seen = []
class At(gdb.Breakpoint):
    def stop(self):
        seen.append(tm.get_traced_memory()[0] - int(gdb.parse_and_eval("expected_bytes")))
        return len(seen) == 20
At("known.c:%d")
gdb.execute("run")
answer = seen
""" % line_of("known.c", "leak")
        result = gdb([*preload(), python(source)], program("known"))[-1]
        self.assertIsNone(result.error)
        self.assertEqual(result.answer, [0] * 20)


if __name__ == "__main__":
    unittest.main()
