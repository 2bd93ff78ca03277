"""test_recording.py: GDB's reverse execution: every answer is that of the moment that the program was taken back to."""

from __future__ import annotations

import unittest

from support import GdbTest, Result, Step, gdb, line_of, preload, program, python

# GDB records no AVX instructions, which libc picks where the processor has them.
PLAIN = ["set environment LD_BIND_NOW 1",
         "set environment GLIBC_TUNABLES glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,"
         "-FSRM,-XSAVE,-XSAVEC"]
MOMENT = """
import tm
names = ("step", "truth", "$tm_count()", "$tm_traced()", "$tm_peak()", "$tm_size(slots[0])")
answer = [int(gdb.parse_and_eval(name)) for name in names]
answer.append([[row.size, row.count] for row in tm.take_snapshot().statistics("filename")])
"""


class RecordingTest(GdbTest):

    def recorded(self, *steps: Step) -> list[Result]:
        """The steps' results where churn.c is recorded from its first turn on; the first step goes to the second."""
        start = ["set confirm off", *preload(), *PLAIN, "break checkpoint", "run", "delete",
                 f"break churn.c:{line_of('churn.c', 'step')}", "continue", "record full"]
        where = python("answer = gdb.selected_frame().name()")
        first, stop, *others = gdb([*start, steps[0], where, *steps[1:]], program("churn"))[len(start):]
        if stop.answer != "main":
            self.skipTest("GDB cannot record the instructions that libc uses on this processor")
        return [first, *others]

    def test_there_and_back(self) -> None:
        turns = 6
        there: list[Step] = [step for _ in range(turns) for step in ("continue", python(MOMENT))]
        back: list[Step] = [step for _ in range(turns - 1) for step in ("reverse-continue", python(MOMENT))]
        results = self.recorded(*there, *back, "continue", python(MOMENT), "record goto end", python(MOMENT))
        self.assertWorked(results)
        moments = [result.answer for result in results[1::2]]
        for step, truth, count, *_ in moments:
            self.assertEqual(truth, count)
        forth, reverse, once_more, end = moments[:turns], moments[turns:-2], moments[-2], moments[-1]
        self.assertEqual(len({moment[3] for moment in forth}), turns)
        self.assertEqual(reverse, forth[-2::-1])
        self.assertEqual(once_more, forth[1])
        self.assertEqual(end, forth[-1])

    def test_back_through_malloc(self) -> None:
        walk = """
import re
from tm.reader import Reader
answer = []
for _ in range(int(re.search(r"Log contains (\\d+)", gdb.execute("info record", to_string=True))[1]) // 3):
    gdb.execute("reverse-stepi 3", to_string=True)
    reader = Reader()
    answer.append([sum(reader.tables.count_blocks().counts), reader.tables.state.blocks, *reader.notes])
"""
        results = self.recorded("continue", python(walk), python(MOMENT))
        self.assertWorked(results)
        counts = results[1].answer
        self.assertGreater(len(counts), 50)
        self.assertEqual(counts[0], [1, 1])
        self.assertEqual([count for count, _ in counts], sorted((count for count, _ in counts), reverse=True))
        self.assertEqual(results[-1].answer[:4], [0, 0, 0, 0])

    def test_the_past_is_not_changed(self) -> None:
        results = self.recorded("continue", "reverse-continue", "tm-stop", "tm-clear", "tm-reset-peak",
                                "info record", "record goto end", "tm-reset-peak")
        for function, result in zip(("tm_stop", "tm_clear_traces", "tm_reset_peak"), results[2:5]):
            self.assertRefused(result, function, "record goto end")
        self.assertIn("Replay mode", results[5].output)
        self.assertWorked(results[7:])


if __name__ == "__main__":
    unittest.main()
