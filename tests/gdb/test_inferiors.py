"""test_inferiors.py: several programs in one GDB: every answer is the selected one's, whatever GDB follows."""

from __future__ import annotations

import unittest

from support import GdbTest, PROGRAMS, Result, Step, facts, gdb, line_of, preload, program, python, rows

# What the selected program itself knows, and what we say of it.
TRUTH = python("""
answer = [int(gdb.parse_and_eval(name)) for name in ("expected_blocks", "expected_bytes")]
answer += [int(gdb.parse_and_eval(name)) for name in ("$tm_count()", "$tm_traced()")]
""")
SAME = [str(PROGRAMS / "same_a.c"), str(PROGRAMS / "same_b.c")]
PLACES = "import os, tm\nanswer = [[os.path.basename(str(row.traceback)) for row in %s.statistics('lineno')]]"
PARENT, CHILD = [13, 10 * 100 + 3 * 77777], [15, 10 * 100 + 5 * 1000]


class InferiorsTest(GdbTest):

    def assertTrue_of(self, result: Result, blocks_and_bytes: list[int] | None = None) -> None:
        """The counts of the selected program are its own, and those."""
        self.assertIsNone(result.error)
        self.assertEqual(result.answer[:2], result.answer[2:])
        if blocks_and_bytes is not None:
            self.assertEqual(result.answer[:2], blocks_and_bytes)

    def family(self, *steps: Step) -> list[Result]:
        start = ["set breakpoint pending on", "set print inferior-events off", *preload(), "break checkpoint"]
        return gdb([*start, *steps], program("family"))[len(start):]


class TwoProgramsTest(InferiorsTest):

    def two(self, *steps: Step) -> list[Result]:
        """Known is inferior 1, same is inferior 2; both stand at their checkpoints, 2 is selected."""
        start = [*preload(), "break checkpoint", "run", f"add-inferior -exec {program('same', *SAME)}",
                 "inferior 2", *preload(), "run"]
        return gdb([*start, *steps], program("known"))[len(start):]

    def test_counts_are_the_selected_ones(self) -> None:
        first, stats, _, second, second_stats, _, again = self.two(TRUTH, "tm-stats", "inferior 1", TRUTH, "tm-stats",
                                                                   "inferior 2", "tm-stats")
        self.assertTrue_of(first, [2, 30])
        self.assertTrue_of(second)
        self.assertIn("(same), started by GDB: 30 B in 2 blocks", stats.output)
        self.assertIn("(known), started by GDB", second_stats.output)
        self.assertEqual(rows(second_stats.output)[1].partition(":")[0], "known.c")
        self.assertEqual(again.output, stats.output)

    def test_one_of_them_does_not_run(self) -> None:
        refused, *_, stats = self.two("kill", "tm-stats", "output $tm_count()", "inferior 1", "tm-stats")[1:]
        self.assertRefused(refused, "no process")
        self.assertIn("(known)", stats.output)

    def test_a_snapshot_stays_its_own_programs(self) -> None:
        """Its frames are looked up late; by then another program may be selected, run or be gone."""
        take = python("import tm; tm.kept = tm.take_snapshot()")
        places = python(PLACES % "tm.kept")
        truth = self.two("inferior 1", take, places)[-1].answer
        self.assertEqual(len(truth[0]), 5)
        for between in (["inferior 2"], ["inferior 2", "next"], ["inferior 2", "kill"], ["continue", "inferior 2"],
                        ["kill", "inferior 2"], ["detach", "inferior 2"]):
            with self.subTest(between=between):
                results = self.two("inferior 1", take, *between, places, "tm-info")
                self.assertEqual(results[-2].answer, truth)
                if "kill" not in between[1:]:
                    self.assertIn("(same)", facts(results[-1].output)["Program"])

    def test_the_lookup_leaves_the_selection(self) -> None:
        take = python("import tm; tm.kept = tm.take_snapshot()")
        where = python("answer = [gdb.selected_inferior().num, gdb.selected_thread().global_num, "
                       "gdb.selected_frame().name()]")
        results = self.two("inferior 1", take, "inferior 2", "up", where, python(PLACES % "tm.kept"), where)
        self.assertEqual(results[-3].answer, results[-1].answer)
        self.assertEqual(results[-1].answer[0::2], [2, "main"])

    def test_names_found_for_one_are_not_the_others(self) -> None:
        take = python("import tm; tm.kept = tm.take_snapshot()")
        results = self.two("inferior 1", take, "inferior 2", "next", "inferior 1", "tm-stats")
        self.assertEqual([row.partition(":")[0] for row in rows(results[-1].output)], ["known.c"] * 5)


class ForkTest(InferiorsTest):

    def test_the_parent(self) -> None:
        self.assertTrue_of(self.family("set follow-fork-mode parent", "run", TRUTH)[-1], PARENT)

    def test_the_child(self) -> None:
        results = self.family("set follow-fork-mode child", "run", TRUTH, "tm-stats")
        self.assertTrue_of(results[-2], CHILD)
        place = f"family.c:{line_of('family.c', 'keep')}"
        self.assertEqual(rows(results[-1].output), [f"{place}: size=6000 B, count=15, average=400 B"])

    def test_both(self) -> None:
        results = self.family("set detach-on-fork off", "run", TRUTH, "inferior 2",
                              python("answer = int(gdb.parse_and_eval('$tm_count()'))"), "continue", TRUTH, "tm-stats",
                              "inferior 1", TRUTH, "tm-stats")
        self.assertTrue_of(results[2], PARENT)
        self.assertEqual(results[4].answer, 10)
        self.assertTrue_of(results[6], CHILD)
        self.assertIn("in 15 blocks", results[7].output)
        self.assertTrue_of(results[9], PARENT)
        self.assertIn("in 13 blocks", results[10].output)

    def test_both_at_once(self) -> None:
        results = self.family("set detach-on-fork off", "set schedule-multiple on", "run", TRUTH, "info inferiors")
        self.assertTrue_of(results[-2])

    def test_an_exec_in_place_and_anew(self) -> None:
        for mode in ("same", "new"):
            with self.subTest(mode=mode):
                results = self.family(f"set args {program('known')}", "set follow-fork-mode child",
                                      f"set follow-exec-mode {mode}", "run", TRUTH, "continue", TRUTH, "tm-stats",
                                      "continue", TRUTH)
                self.assertTrue_of(results[4], CHILD)
                self.assertTrue_of(results[6])
                self.assertIn("(known), started by GDB", results[7].output)
                self.assertTrue_of(results[9])
                self.assertEqual(results[9].answer[0], results[6].answer[0] + 10)


class NonStopTest(InferiorsTest):

    def test_one_thread_stops_and_another_runs(self) -> None:
        stats, info, size, *rest = gdb(
            ["set non-stop on", *preload(), "break show if block == kept[100]", "run", "tm-stats", "tm-info",
             python("answer = [int(gdb.parse_and_eval(text)) for text in "
                    "('$tm_size(block)', '$tm_base(block) == block', '$tm_count() > 100')]"),
             "tm-traceback block", "continue &", "tm-stats", "kill"],
            program("busy", "-pthread"))[6:]
        self.assertWorked([stats, info, size, rest[0]])
        for result in (stats, info):
            self.assertIn("Note: 1 thread is running: what it changes meanwhile may be missing.\n", result.output)
        self.assertEqual(size.answer, [100, 1, 1])
        self.assertIn("is the start of a 100-byte block", rest[0].output)
        self.assertRefused(rest[2], "the program is running", "interrupt")


if __name__ == "__main__":
    unittest.main()
