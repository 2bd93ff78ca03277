"""Snapshots that a program writes because its environment says so: at exit, on a signal, at intervals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path
from typing import Any, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gdb"))

from support import CC, PROGRAMS, RUNTIME, new_directory, program  # noqa: E402

from tm import Snapshot  # noqa: E402

LIMIT = 60
HELD = 4321
IN_CHILD = 777


def environment(frames: str = "25", **variables: str) -> dict[str, str]:
    """TRACEMALLOC_NAME=value for each name=value."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRACEMALLOC")}
    named = {f"TRACEMALLOC_{name}": value for name, value in variables.items()}
    tracing = {"TRACEMALLOC": frames} if frames else {}
    return {**clean, "LD_PRELOAD": str(RUNTIME), **tracing, **named}


def sizes(path: Path) -> list[int]:
    """The sizes of the blocks in a snapshot, which must be whole. No names are looked up for that."""
    rows = Snapshot.load(path).rows
    return sorted(size for size, count in zip(rows.sizes, rows.counts) for _ in range(count))


class Held(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = new_directory()
        self.held = program("held", "-pthread")

    def command(self, words: Sequence[str]) -> list[str]:
        return [str(self.held), *words]

    def run_held(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(words), env=environment(**variables), cwd=self.directory, text=True,
                              capture_output=True, timeout=LIMIT, stdin=subprocess.DEVNULL)

    def start_held(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(self.command(words), env=environment(**variables), cwd=self.directory, text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        # A read from a child that hangs ends, too.
        watchdog = threading.Timer(LIMIT, child.kill)
        watchdog.start()
        self.addCleanup(self.end, child, watchdog)
        return child

    @staticmethod
    def end(child: subprocess.Popen[Any], watchdog: threading.Timer) -> None:
        watchdog.cancel()
        child.kill()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()
        child.wait()

    def files(self) -> list[str]:
        return sorted(os.listdir(self.directory))

    def await_file(self, name: str) -> Path:
        """Returns once a file of that name, a pattern, is there."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            found = sorted(self.directory.glob(name))
            if found:
                return found[0]
            time.sleep(0.02)
        raise AssertionError(f"no {name} came; there are {self.files()}")


class AtExit(Held):
    def test_what_is_held_after_the_last_handler(self) -> None:
        done = self.run_held("exit", SNAPSHOT="held.snap")
        self.assertEqual((7, "", ""), (done.returncode, done.stdout, done.stderr))
        self.assertEqual(["held.snap"], self.files())
        self.assertEqual([HELD], sizes(self.directory / "held.snap"))
        trace, = Snapshot.load(self.directory / "held.snap").traces
        self.assertEqual("main", trace.traceback[-1].function)

    def test_a_file_larger_than_may_be(self) -> None:
        """The kernel's signal for that ends programs."""
        done = subprocess.run(["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *self.command(["exit"])],
                              env=environment(SNAPSHOT="held.snap"), cwd=self.directory, text=True,
                              capture_output=True, timeout=LIMIT)
        self.assertEqual((7, 1, []), (done.returncode, len(done.stderr.splitlines()), self.files()))
        self.assertIn("File too large", done.stderr)

    def test_the_name_that_the_program_was_started_by(self) -> None:
        subprocess.run([program("renamed")], env=environment(SNAPSHOT="%e.snap"), cwd=self.directory, check=True,
                       timeout=LIMIT)
        self.assertEqual(["renamed.snap"], self.files())

    def test_libraries_free_before(self) -> None:
        library = self.directory / "liblate.so"
        subprocess.run([*CC, "-shared", "-fPIC", str(PROGRAMS / "late_free.c"), "-o", str(library)], check=True)
        for order in ([RUNTIME, library], [library, RUNTIME]):
            subprocess.run(self.command(["exit"]), cwd=self.directory, timeout=LIMIT, env={
                **environment(SNAPSHOT="held.snap"), "LD_PRELOAD": ":".join(map(str, order))})
            self.assertEqual([HELD], sizes(self.directory / "held.snap"))

    def test_nothing_where_no_handlers_run(self) -> None:
        self.assertEqual(5, self.run_held("_exit", SNAPSHOT="held.snap").returncode)
        self.assertEqual(-signal.SIGKILL, self.run_held("kill", SNAPSHOT="held.snap").returncode)
        self.assertEqual([], self.files())

    def test_nothing_while_not_tracing(self) -> None:
        done = subprocess.run(self.command(["exit"]), cwd=self.directory, text=True, capture_output=True, timeout=LIMIT,
                              env=environment(frames="", SNAPSHOT="held.snap"))
        self.assertEqual((7, ""), (done.returncode, done.stderr))
        self.assertEqual([], self.files())

    def test_an_old_file_is_replaced_whole(self) -> None:
        (self.directory / "held.snap").write_bytes(b"old" * 100000)
        self.run_held("exit", SNAPSHOT="held.snap")
        self.assertEqual([HELD], sizes(self.directory / "held.snap"))

    def test_a_file_that_cannot_be_written_is_named(self) -> None:
        done = self.run_held("exit", SNAPSHOT="nowhere/held.snap")
        self.assertEqual(7, done.returncode)
        self.assertEqual(f"tracemalloc: snapshot {self.directory}/nowhere/held.snap: No such file or directory; "
                         "it is not written\n", done.stderr)

    def test_the_standard_streams_may_be_closed(self) -> None:
        subprocess.run(["sh", "-c", f"exec {self.held} exit <&- >&- 2>&-"], cwd=self.directory, timeout=LIMIT,
                       env=environment(SNAPSHOT="held.snap"))
        self.assertEqual([HELD], sizes(self.directory / "held.snap"))

    def test_exit_from_a_signal_handler_inside_malloc_does_not_hang(self) -> None:
        for _ in range(15):
            done = self.run_held("exit-in-handler", SNAPSHOT="held.snap")
            self.assertEqual(9, done.returncode)
            self.assertIn(done.stderr, ("", "tracemalloc: exit was called by a signal handler inside malloc; "
                                            "no snapshot is written\n"))
        self.assertLessEqual(set(self.files()), {"held.snap"})


class Patterns(Held):
    def test_process_program_number_time_and_percent(self) -> None:
        before = int(time.time())
        self.run_held("exit", SNAPSHOT="%e.%p.%n.%t.100%%.snap")
        name, = self.files()
        match = re.fullmatch(r"held\.(\d+)\.1\.(\d+)\.100%\.snap", name)
        assert match is not None, name
        self.assertTrue(before <= int(match[2]) <= time.time())
        self.assertEqual(int(match[1]), Snapshot.load(self.directory / name).info["pid"])

    def test_a_relative_one_is_meant_from_the_start(self) -> None:
        odd = self.directory / "50% off"
        odd.mkdir()
        subprocess.run(self.command(["move"]), env=environment(SNAPSHOT="held.snap"), cwd=odd, timeout=LIMIT)
        self.assertEqual(["held.snap"], os.listdir(odd))

    def test_bad_values_are_told_and_the_program_runs(self) -> None:
        known = "known are %p, %e, %t, %n and %%; no snapshots are written"
        signals = ("give USR1, USR2, HUP, QUIT, URG, WINCH, IO, PWR, RTMIN+N or the number of one; "
                   "no snapshot on a signal")
        seconds = "give whole seconds, from 1 to a year (0: never); no snapshots at intervals"
        cases: list[tuple[dict[str, str], str]] = [
            ({"SNAPSHOT": "a%q"}, f"SNAPSHOT=a%q: {known}"), ({"SNAPSHOT": "a%"}, f"SNAPSHOT=a%: {known}"),
            ({"SNAPSHOT": "a%{x}"},
             "SNAPSHOT=a%{x}: behind %{ a process and } must stand; no snapshots are written"),
            ({"SNAPSHOT": "x" * 5000}, "too long"),
            ({"SIGNAL": "USR2"}, "SIGNAL=USR2: TRACEMALLOC_SNAPSHOT names no file to write; ignored"),
            ({"INTERVAL": "5"}, "INTERVAL=5: TRACEMALLOC_SNAPSHOT names no file to write; ignored"),
            *(({"SNAPSHOT": "a", "SIGNAL": value}, f"SIGNAL={value}: {signals}")
              for value in ("KILL", "SEGV", "9", "usr1", "999", "RTMIN+99", "RTMIN+x", "-1")),
            *(({"SNAPSHOT": "a", "INTERVAL": value}, f"INTERVAL={value}: {seconds}")
              for value in ("x", "-1", "1.5", "99999999999")),
            ({"CHILDREN": "no"}, "CHILDREN=no: give 0 or 1; children are traced")]
        for variables, message in cases:
            with self.subTest(variables=variables):
                done = self.run_held("exit", **variables)
                self.assertEqual((7, 1), (done.returncode, len(done.stderr.splitlines())))
                self.assertIn(message, done.stderr)
                self.assertTrue(done.stderr.startswith("tracemalloc: "))

    def test_good_values_are_not_told(self) -> None:
        for name in ("USR1", "SIGUSR2", "HUP", "12", "RTMIN", "SIGRTMIN+3", "40", ""):
            self.assertEqual("", self.run_held("exit", SNAPSHOT="a", SIGNAL=name).stderr, name)


class Children(Held):
    def test_one_file_a_process(self) -> None:
        done = self.run_held("fork", SNAPSHOT="%p.snap")
        child = int(done.stdout)
        self.assertEqual(3, done.returncode)
        parent, = set(self.files()) - {f"{child}.snap"}
        self.assertEqual([HELD], sizes(self.directory / parent))
        self.assertEqual([IN_CHILD, HELD], sizes(self.directory / f"{child}.snap"))

    def test_without_the_process_in_its_name_the_file_is_the_first_ones(self) -> None:
        for words in (["fork"], ["system", f"{self.held} exit; {self.held} exit; true"]):
            with self.subTest(words=words):
                self.run_held(*words, SNAPSHOT="held.snap")
                self.assertEqual(["held.snap"], self.files())
                self.assertEqual([HELD], sizes(self.directory / "held.snap"))

    def test_a_child_alone_leaves_no_file(self) -> None:
        # The process that was started becomes another program, which is not traced; its child would write.
        subprocess.run(["sh", "-c", f"{self.held} exit; kill -9 $$"], cwd=self.directory, timeout=LIMIT,
                       env=environment(SNAPSHOT="held.snap"))
        self.assertEqual([], self.files())

    def test_a_process_stays_the_first_one_when_it_executes_a_program(self) -> None:
        self.run_held("exec", "/bin/sh", "-c", f"exec {self.held} exit", SNAPSHOT="held.snap")
        self.assertEqual([HELD], sizes(self.directory / "held.snap"))

    def test_children_are_traced_unless_told_otherwise(self) -> None:
        show = "env | grep -E '^(TRACEMALLOC|LD_PRELOAD)' | sort"
        with_children = self.run_held("system", show, SNAPSHOT="%p.snap").stdout
        self.assertEqual(f"LD_PRELOAD={RUNTIME}\nTRACEMALLOC=25\nTRACEMALLOC_SNAPSHOT=%p.snap\n", with_children)
        self.assertEqual("", self.run_held("system", show, SNAPSHOT="%p.snap", CHILDREN="0").stdout)

    def test_what_else_is_preloaded_stays(self) -> None:
        library = self.directory / "liblate.so"
        subprocess.run([*CC, "-shared", "-fPIC", str(PROGRAMS / "late_free.c"), "-o", str(library)], check=True)
        for before in (f"{library}:{RUNTIME}", f"{RUNTIME} {library}"):
            done = subprocess.run(self.command(["system", "echo $LD_PRELOAD"]), capture_output=True, text=True,
                                  cwd=self.directory, timeout=LIMIT,
                                  env={**environment(CHILDREN="0"), "LD_PRELOAD": before})
            self.assertEqual(f"{library}\n", done.stdout)


class OnSignal(Held):
    def test_the_process_ends_with_the_programs_last_thread(self) -> None:
        for more in ({"SIGNAL": "USR2"}, {"INTERVAL": "60"}):
            done = subprocess.run([str(program("leaves_main", "-pthread"))], cwd=self.directory, text=True,
                                  env=environment(SNAPSHOT="%p.snap", **more), capture_output=True, timeout=LIMIT)
            self.assertEqual((0, "done\n", ""), (done.returncode, done.stdout, done.stderr))
        self.assertEqual(2, len(self.files()))

    def test_a_program_that_waits_writes_at_once(self) -> None:
        child = self.start_held("pause", SNAPSHOT="%n.snap", SIGNAL="USR2")
        assert child.stdout is not None and child.stdin is not None
        self.assertEqual("ready\n", child.stdout.readline())
        child.send_signal(signal.SIGUSR2)
        self.assertEqual([HELD], sizes(self.await_file("1.snap")))
        # pause was interrupted as by any handler, and the handler is still there.
        self.assertEqual("-1 1 1\n", child.stdout.readline())
        child.send_signal(signal.SIGUSR2)
        self.await_file("2.snap")
        child.stdin.close()
        self.assertEqual(0, child.wait(LIMIT))
        self.assertEqual(["1.snap", "2.snap", "3.snap"], self.files())

    def test_a_program_that_handles_the_signal_keeps_it(self) -> None:
        done = self.run_held("handler", SNAPSHOT="%n.snap", SIGNAL="USR2")
        self.assertEqual((0, "own handler\n", ""), (done.returncode, done.stdout, done.stderr))
        self.assertEqual(["1.snap"], self.files())

    def test_a_signal_that_is_ignored_stays_ignored(self) -> None:
        done = subprocess.run(["sh", "-c", f"trap '' USR2; exec {self.held} system 'kill -USR2 $PPID'"], text=True,
                              capture_output=True, cwd=self.directory, timeout=LIMIT,
                              env=environment(frames="", SNAPSHOT="%n.snap", SIGNAL="USR2"))
        self.assertEqual(0, done.returncode)
        self.assertIn("tracemalloc: TRACEMALLOC_SIGNAL=USR2: the signal is ignored or handled already; "
                      "no snapshot on a signal\n", done.stderr)

    def test_a_child_that_may_not_write_survives_the_signal(self) -> None:
        child = self.start_held("fork", "wait", SNAPSHOT="held.snap", SIGNAL="USR2")
        assert child.stdout is not None and child.stdin is not None
        os.kill(int(child.stdout.readline()), signal.SIGUSR2)
        child.stdin.close()
        self.assertEqual(3, child.wait(LIMIT))
        self.assertEqual([HELD], sizes(self.directory / "held.snap"))

    def test_a_forked_child_writes_too(self) -> None:
        child = self.start_held("fork", "wait", SNAPSHOT="%p.%n.snap", SIGNAL="USR2")
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        os.kill(pid, signal.SIGUSR2)
        # libc's printing may hold a block for a moment.
        self.assertLessEqual({IN_CHILD, HELD}, set(sizes(self.await_file(f"{pid}.1.snap"))))

    def test_threads_signals_and_forks_at_once(self) -> None:
        done = self.run_held("storm", "60", SNAPSHOT="%p.snap", SIGNAL="USR2", INTERVAL="1")
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        # The exit of a process waits for its thread: nothing half-written is left.
        self.assertEqual(61, len(self.files()), self.files())
        for name in self.files():
            self.assertIn(HELD, sizes(self.directory / name))


class AtIntervals(Held):
    def test_an_idle_program_writes_and_a_child_too(self) -> None:
        child = self.start_held("fork", "wait", SNAPSHOT="%p.%n.snap", INTERVAL="1")
        assert child.stdout is not None and child.stdin is not None
        pid = int(child.stdout.readline())
        for number in (1, 2):
            self.assertEqual([HELD], sizes(self.await_file(f"{child.pid}.{number}.snap")))
            self.assertLessEqual({IN_CHILD, HELD}, set(sizes(self.await_file(f"{pid}.{number}.snap"))))
        child.stdin.close()
        self.assertEqual(3, child.wait(LIMIT))

    def test_the_thread_takes_no_signals_and_no_descriptors(self) -> None:
        child = self.start_held("close", SNAPSHOT="%n.snap", INTERVAL="1")
        assert child.stdout is not None and child.stdin is not None
        # Nobody else may hold the pipe: the end comes while the program still runs.
        self.assertEqual("x", child.stdout.read())
        self.assertIsNone(child.poll())
        self.assertEqual([HELD], sizes(self.await_file("1.snap")))
        threads = {Path(f"/proc/{child.pid}/task/{thread}/comm").read_text().strip(): thread
                   for thread in os.listdir(f"/proc/{child.pid}/task")}
        self.assertEqual({"held", "tracemalloc"}, set(threads))
        # In a table of descriptors that the two shared, the program's close could hit the thread's file.
        self.assertEqual([], os.listdir(f"/proc/{child.pid}/task/{threads['tracemalloc']}/fd"))
        status = Path(f"/proc/{child.pid}/task/{threads['tracemalloc']}/status").read_text()
        blocked = int(re.findall(r"^SigBlk:\s*([0-9a-f]+)", status, re.MULTILINE)[0], 16)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGALRM):
            self.assertTrue(blocked >> number - 1 & 1, number)

    def test_without_either_there_is_no_thread(self) -> None:
        child = self.start_held("wait", SNAPSHOT="%n.snap")
        assert child.stdin is not None
        while "libtracemalloc" not in Path(f"/proc/{child.pid}/maps").read_text():
            time.sleep(0.01)
        child.stdin.close()
        child.wait(LIMIT)
        self.assertEqual(["1.snap"], self.files())


if __name__ == "__main__":
    unittest.main()
