"""test_control.py: tm-start, tm-stop, tm-clear and tm-reset-peak: what they do, and when they are refused."""

from __future__ import annotations

import shutil
import subprocess
import unittest

from support import (GdbTest, Result, RUNTIME, Step, at_checkpoint, facts, gdb, line_of, new_directory, preload,
                     program, python, rows)

CONTROLS = ("tm-start", "tm-stop", "tm-clear", "tm-reset-peak")
SETTINGS = ("show scheduler-locking", "show unwindonsignal", "show language", "frame", "thread")
UNTRACED = ["set startup-with-shell off", f"set environment LD_PRELOAD {RUNTIME}"]
TURNS = python("answer = int(gdb.parse_and_eval('turns'))")
ENABLED = python("answer = [[b.number, b.enabled] for b in gdb.breakpoints()]")


def bystander(*steps: Step, before: list[str] | None = None) -> list[Result]:
    """What the steps give where bystander.c first stands at its checkpoint."""
    start = [*(UNTRACED if before is None else before), *at_checkpoint()]
    return gdb([*start, *steps], program("bystander", "-pthread"))[len(start):]


class StartAndStopTest(GdbTest):

    def test_blocks_are_known_from_the_start_on(self) -> None:
        results = bystander("tm-start 7", "tm-info", "continue", "continue", "finish", "tm-stats", "tm-start 9",
                            "tm-stop", "tm-info", "tm-stats", "continue", "tm-start", "tm-info", "tm-stop", "tm-stop")
        start, info, *_, stats, again, stop, stopped, refused, _, start_anew, info_anew, _, stop_again = results
        self.assertIn("(bystander) is tracing now, up to 7 frames a traceback\n", start.output)
        self.assertEqual(facts(info.output)["Tracing"], "yes, up to 7 frames a traceback")
        self.assertEqual(facts(info.output)["Blocks"], "0")
        line = line_of("bystander.c", "keep")
        self.assertEqual(rows(stats.output), [f"bystander.c:{line}: size=200 B, count=2, average=100 B"])
        self.assertIn("is tracing already, up to 7 frames a traceback; for another number, tm-stop first", again.output)
        self.assertIn("is not tracing any more; 2 blocks, 200 B, are forgotten", stop.output)
        self.assertEqual([facts(stopped.output)[name] for name in ("Tracing", "Blocks", "Current", "Peak")],
                         ["no, stopped (up to 7 frames a traceback when it was)", "0", "0 B", "0 B"])
        self.assertRefused(refused, "is not tracing", "tm-start")
        self.assertIn("is tracing now, up to 7 frames a traceback as before; for another number, ", start_anew.output)
        self.assertEqual(facts(info_anew.output)["Blocks"], "0")
        self.assertIn("is not tracing\n", stop_again.output)

    def test_clear_and_reset_peak(self) -> None:
        results = bystander("continue", "finish", "tm-clear", "tm-info", "tm-reset-peak", "tm-info", before=preload())
        cleared, after_clear, reset, after_reset = results[-4:]
        self.assertRegex(cleared.output, r"\(bystander\) goes on tracing; \d+ blocks, \d+ B, are forgotten\n")
        self.assertEqual([facts(after_clear.output)[name] for name in ("Blocks", "Current")], ["0", "0 B"])
        self.assertTrue(facts(after_clear.output)["Tracing"].startswith("yes"))
        self.assertIn("is 0 B now\n", reset.output)
        self.assertEqual(facts(after_reset.output)["Peak"], "0 B")

    def test_a_comparison_across_a_clear_says_so(self) -> None:
        for forget in (["tm-clear"], ["tm-stop", "tm-start"]):
            with self.subTest(forget=forget):
                commands = ["tm-snapshot save a.snap", "tm-compare a.snap", *forget, "tm-compare a.snap"]
                results = bystander("continue", "finish", *commands, before=preload())
                self.assertNotIn("started anew", results[-len(forget) - 2].output)
                self.assertIn("Note: tracing was started anew or cleared between a.snap and ", results[-1].output)

    def test_reset_peak_keeps_the_blocks(self) -> None:
        results = gdb([*preload(), *at_checkpoint(), "tm-reset-peak", "tm-info"], program("known"))
        info = facts(results[-1].output)
        self.assertEqual(info["Peak"], info["Current"])
        self.assertRegex(results[-2].output, r"^the peak of process \d+ \(known\) was .* and is .* now\n$")
        self.assertGreater(int(info["Blocks"].replace(",", "")), 1000)

    def test_functions_of_the_package(self) -> None:
        results = bystander(python("""
import tm
answer = []
def state():
    answer.append([tm.is_tracing(), tm.get_traceback_limit()])
for call in (tm.start, lambda: tm.start(3), tm.clear_traces, tm.reset_peak, tm.stop, lambda: tm.start(nframe=3),
             tm.stop, tm.stop, tm.clear_traces):
    answer.append(call())
    state()
for wrong in (0, -1, 65536, 1 << 40, "5", 2.0):
    try:
        tm.start(wrong)
    except (ValueError, TypeError) as error:
        answer.append([type(error).__name__, str(error)])
"""))
        answer = results[-1].answer
        self.assertIsNone(results[-1].error)
        self.assertEqual(answer[:18:2], [None] * 9)
        self.assertEqual(answer[1:18:2], [[True, 1], [True, 1], [True, 1], [True, 1], [False, 1], [True, 3],
                                          [False, 3], [False, 3], [False, 3]])
        self.assertEqual([kind for kind, _ in answer[18:]], ["ValueError"] * 4 + ["TypeError"] * 2)
        self.assertEqual(answer[18][1], "the number of frames must be in range [1; 65535], not 0")

    def test_without_a_number_it_is_the_one_before_or_25(self) -> None:
        never, _, again = bystander("tm-start", "tm-stop", "tm-start")
        self.assertRegex(never.output, r"\) is tracing now, up to 25 frames a traceback\n$")
        self.assertIn("up to 25 frames a traceback as before", again.output)
        told = bystander("tm-stop", "tm-start", "tm-info", before=preload(frames=3))[1:]
        self.assertIn("is tracing now, up to 3 frames a traceback as before", told[0].output)
        self.assertEqual(facts(told[1].output)["Tracing"], "yes, up to 3 frames a traceback")

    def test_numbers_of_frames(self) -> None:
        words = ("0", "-1", "65536", "99999999999999999999")
        results = bystander(*(f"tm-start {word}" for word in words), "tm-start many", "tm-start 1 2", "tm-stop now",
                            "tm-clear now", "tm-reset-peak now", "tm-info", "tm-start 65535")
        for word, result in zip(words, results):
            self.assertRefused(result, f"the number of frames must be in range [1; 65535], not {word}")
        self.assertRefused(results[4], "many", "1 to 65535")
        self.assertRefused(results[5], '"2"')
        for result in results[6:9]:
            self.assertRefused(result, 'takes no argument, but "now" is given')
        self.assertEqual(facts(results[9].output)["Tracing"], "no")
        self.assertIsNone(results[10].error)

    def test_a_stripped_runtime(self) -> None:
        stripped = new_directory() / RUNTIME.name
        shutil.copy(RUNTIME, stripped)
        subprocess.run(["strip", str(stripped)], check=True)
        results = bystander("tm-start 3", "tm-info", "tm-stop", "tm-info",
                            before=["set startup-with-shell off", f"set environment LD_PRELOAD {stripped}"])
        self.assertWorked(results)
        self.assertEqual(facts(results[1].output)["Tracing"], "yes, up to 3 frames a traceback")
        self.assertTrue(facts(results[3].output)["Tracing"].startswith("no"))


class CallsTest(GdbTest):
    """A call leaves GDB and the program's other threads as they were."""

    def test_other_threads_stand_still(self) -> None:
        # The four functions are over before another thread gets going, so this calls one that takes its time.
        sleep = python("from tm import control; answer = control._call('usleep', 'int', 100000)")
        results = bystander(TURNS, sleep, TURNS, "call (int) usleep(100000)", TURNS)
        self.assertWorked(results)
        self.assertEqual(results[0].answer, results[2].answer)
        self.assertGreater(results[4].answer, results[2].answer)

    def test_settings_frame_and_breakpoints_stay(self) -> None:
        steps = ["break tm_start", "break tm_stop", "disable 3", "set language pascal", "thread 2", "thread 1", "up",
                 "down", "watch kept[5]", "catch syscall mmap", *SETTINGS, ENABLED, "tm-start 65536", "tm-start",
                 "tm-clear", "tm-stop", "tm-start 100", *SETTINGS, ENABLED]
        results = bystander(*steps)
        before, after = results[-17:-11], results[-6:]
        self.assertEqual([result.output for result in before], [result.output for result in after])
        self.assertEqual(before[-1].answer, after[-1].answer)
        self.assertIn([3, False], before[-1].answer)
        self.assertWorked(results[-9:])

    def test_other_settings_stay_as_well(self) -> None:
        results = bystander("set scheduler-locking step", "set unwindonsignal on", "tm-start", *SETTINGS)
        self.assertWorked(results)
        self.assertIn('"step"', results[3].output)
        self.assertIn("is on", results[4].output)

    def test_a_signal_in_between(self) -> None:
        send = python("import os, signal; os.kill(gdb.selected_inferior().pid, signal.SIGUSR1)")
        results = bystander("thread 1", send, "tm-start", "bt 1", *SETTINGS[:2], "tm-info", "tm-start", "continue",
                            python("answer = int(gdb.parse_and_eval('caught'))"), "tm-info")
        self.assertRefused(results[2], "tm_start was interrupted by SIGUSR1", "continue", "again")
        self.assertRegex(results[3].output, r"^#0 .* main \(")
        self.assertIn('"replay"', results[4].output)
        self.assertIn("is off", results[5].output)
        self.assertEqual(facts(results[6].output)["Tracing"], "no")
        self.assertIsNone(results[7].error)
        self.assertEqual(results[-2].answer, 1)
        self.assertTrue(facts(results[-1].output)["Tracing"].startswith("yes"))

    def test_ctrl_c_does_not_stop_within_a_call(self) -> None:
        # What is locked there would stay locked. The four functions are over in no time; this one waits for the signal.
        call = python("""
import subprocess
from tm import control
killer = subprocess.Popen(["sh", "-c", f"until [ -e called ]; do sleep 0.01; done; "
                                       f"kill -INT {gdb.selected_inferior().pid}; touch signalled"])
answer = control._call("wait_for_signal", "int")
killer.wait()
""")
        handled, confirm = "info signals SIGINT", "show confirm"
        before, _, result, after, confirmed, info, *_ = bystander(
            handled, "set confirm on", call, handled, confirm, "tm-info")
        self.assertIsNone(result.error)
        self.assertEqual(result.answer, 1)
        self.assertEqual(before.output, after.output)
        self.assertIn("is on", confirmed.output)
        self.assertIsNone(info.error)
        custom = bystander("handle SIGINT nostop noprint pass", handled, "tm-start", handled)
        self.assertEqual(custom[1].output, custom[3].output)

    def test_ctrl_c_at_the_end_leaves_no_setting(self) -> None:
        language, lock = bystander(*(python(f"""
from tm import holding, process
execute, left = gdb.execute, [True]
def interrupted(command, *rest, **more):
    if command == "set {name} {before}" and left:
        left.clear()
        raise KeyboardInterrupt
    return execute(command, *rest, **more)
gdb.execute = interrupted
try:
    with holding.held("{name}", "{within}"):
        answer = [gdb.parameter("{name}")]
except KeyboardInterrupt:
    answer += ["Ctrl-C", gdb.parameter("{name}"), left]
""") for name, before, within in (("language", "auto", "c"), ("scheduler-locking", "replay", "on"))))
        self.assertEqual(language.answer, ["c", "Ctrl-C", "auto", []])
        self.assertEqual(lock.answer, ["on", "Ctrl-C", "replay", []])


class RefusalTest(GdbTest):

    def assertAdvised(self, result: Result, function: str, thread: str) -> None:
        self.assertRefused(result, "cannot be called now", f"inside {function}", f"thread {thread}", "`finish`",
                           "`continue`", "try again")

    def test_a_thread_in_the_runtime(self) -> None:
        into = python("""
for _ in range(1000):
    gdb.execute("stepi", to_string=True)
    if "libtracemalloc" in (gdb.solib_name(gdb.selected_frame().pc()) or ""):
        break
""")
        changes = ["tm-clear", "tm-reset-peak", "tm-stop"]
        results = gdb([*preload(), *at_checkpoint(), into, *changes, "finish", *changes, into, "tm-start", "finish",
                       "tm-start"], program("churn"))
        for result in (*results[-11:-8], results[-3]):
            self.assertAdvised(result, "malloc", "1 (churn)")
        self.assertWorked([*results[-8:-3], *results[-2:]])

    def test_another_thread_in_libc(self) -> None:
        changes = ["tm-clear", "tm-reset-peak", "tm-stop"]
        results = bystander("set var use_libc = 1", "break __libc_malloc", "thread 2", "set scheduler-locking on",
                            "continue", "set scheduler-locking replay", "thread 1", *changes, "tm-info", "thread",
                            "set scheduler-locking on", "thread 2", "frame 0", "finish",
                            "set scheduler-locking replay", *changes, before=preload())
        for result in results[7:10]:
            self.assertAdvised(result, "", "2 (bystander)")
            self.assertIn("`frame 0`", result.error or "")
        self.assertEqual(facts(results[10].output)["Threads inside"], "none")
        self.assertIn("Current thread is 1 ", results[11].output)
        self.assertWorked(results[-8:])

    def test_advice_to_a_deeper_frame_helps(self) -> None:
        results = gdb([*preload(), *at_checkpoint(), "break __libc_malloc", "continue", "tm-stop", python("""
import re
try:
    gdb.execute("tm-stop", to_string=True)
except gdb.error as error:
    steps = re.findall("`([a-z]+ \\\\d+|finish)`", str(error))
gdb.execute("delete")
for step in steps:
    gdb.execute(step, to_string=True)
answer = steps
"""), "tm-stop"], program("churn"))
        self.assertAdvised(results[-3], "malloc", "1 (churn)")
        steps = results[-2].answer
        self.assertEqual((steps[0], steps[2:]), ("thread 1", ["finish"]))
        self.assertGreater(int(steps[1].split()[1]), 0)
        self.assertIn("is not tracing any more", results[-1].output)

    def test_a_core_cannot_run(self) -> None:
        directory = new_directory()
        gdb([*preload(), *at_checkpoint(), "generate-core-file known.core"], program("known"), directory=directory)
        call = python("""
import tm
answer = []
for name in ("start", "stop", "clear_traces", "reset_peak"):
    try:
        getattr(tm, name)()
    except RuntimeError as error:
        answer.append(str(error))
""")
        results = gdb([*CONTROLS, call], program("known"), directory / "known.core")
        for result, error in zip(results, results[-1].answer):
            self.assertRefused(result, "needs a live process", "a core cannot run", "known.core")
            self.assertEqual(result.error, error)
        self.assertEqual(len(results[-1].answer), 4)

    def test_no_process_and_no_runtime(self) -> None:
        for result in gdb(CONTROLS, program("known")):
            self.assertRefused(result, "no process")
        for result in gdb([*at_checkpoint(), *CONTROLS], program("known"))[-4:]:
            self.assertRefused(result, "no tracemalloc runtime")


if __name__ == "__main__":
    unittest.main()
