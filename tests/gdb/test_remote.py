"""test_remote.py: the program runs under gdbserver, or its core is read by a GDB for many architectures."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import unittest
from contextlib import contextmanager
from typing import Iterator, Sequence

from support import (GdbTest, RUNTIME, Result, Step, at_checkpoint, facts, gdb, line_of, new_directory, preload,
                     program, python, rows, traced_environment)

TRUTH = python("answer = [int(gdb.parse_and_eval(text)) for text in "
               "('expected_blocks', 'expected_bytes', '$tm_count()', '$tm_traced()')]")
ANSWERS = ["tm-stats", "tm-stats traceback -limit 2", "tm-traceback leaks[7] + 3",
           python("answer = [int(gdb.parse_and_eval(text)) for text in ('$tm_size(leaks[7] + 3)', "
                  "'$tm_base(leaks[7] + 3) == leaks[7]')]")]


# Bytes in the slabs of blocks, of sites, and of all the rest that addresses are found by.
HELD = python("""
from tm import layout
from tm.reader import Reader
slabs = Reader().tables.slabs()
answer = [sum(slab.used for slab in slabs if slab.kind in kinds) for kinds in (
    layout.WIDTHS, (layout.SLAB_SITE,), (layout.SLAB_NODE, layout.SLAB_PAGE))]
""")
# What else a command reads: tm_layout, tm_state, the header of each slab, code at the frames.
BESIDE = 16 << 10


@contextmanager
def gdbserver(*options: str, command: Sequence[str] = ()) -> Iterator[str]:
    """The address of a gdbserver, which runs the command."""
    server = subprocess.Popen(["gdbserver", *options, "127.0.0.1:0", *command], text=True, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE)
    try:
        assert server.stderr is not None
        for line in server.stderr:
            port = re.search(r"Listening on port (\d+)", line)
            if port:
                break
        else:
            raise AssertionError("gdbserver does not listen")
        yield f"127.0.0.1:{port[1]}"
    finally:
        server.kill()
        server.communicate()


@contextmanager
def waiting(traced: bool) -> Iterator[int]:
    """A process that waits at its end."""
    environment = traced_environment() if traced else dict(os.environ)
    process = subprocess.Popen([str(program("known")), "wait"], env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.read(6)
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def bytes_read(log: bytes) -> int:
    """What GDB asked for of the program's memory, by a part of its remotelogfile."""
    return sum(int(length, 16) for length in re.findall(rb"^w \$[mx][0-9a-f]+,([0-9a-f]+)#", log, re.MULTILINE))


def without_headline(result: Result) -> str:
    return result.output.partition("\n")[2] if result.output.startswith("process ") else result.output


class RemoteTest(GdbTest):

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if shutil.which("gdbserver") is None:
            raise unittest.SkipTest("there is no gdbserver here")

    def assertTrue_of(self, result: Result) -> None:
        self.assertIsNone(result.error)
        self.assertEqual(result.answer[:2], result.answer[2:])

    def assertSame(self, left: list[Result], right: list[Result]) -> None:
        for one, other in zip(left, right):
            self.assertIsNone(one.error)
            self.assertEqual([without_headline(one), one.answer], [without_headline(other), other.answer])


class ProgramTest(RemoteTest):

    def test_the_answers_are_those_of_a_native_gdb(self) -> None:
        native = gdb([*preload(), *at_checkpoint(), *ANSWERS], program("known"))[-len(ANSWERS):]
        with gdbserver("--once", command=[str(program("known"))]) as address:
            untraced = gdb([f"target remote {address}", "break checkpoint", "continue", "tm-stats"], program("known"))
        self.assertRefused(untraced[-1], "no tracemalloc runtime in process", "remote")
        wrapper = ("--wrapper", "env", f"LD_PRELOAD={RUNTIME}", "TRACEMALLOC=25", "--")
        with gdbserver("--once", *wrapper, command=[str(program("known"))]) as address:
            results = gdb([f"target remote {address}", "break checkpoint", "continue", "finish", *ANSWERS, "tm-info",
                           TRUTH, "tm-snapshot save a.snap", "tm-compare a.snap", "tm-stop", "tm-start", "tm-info"],
                          program("known"))
        remote, (info, truth, _, compared, stop, start, again) = results[4:8], results[8:]
        self.assertSame(remote, native)
        self.assertTrue(facts(info.output)["Program"].endswith("(known), remote"))
        self.assertTrue_of(truth)
        self.assertIn(": 0 of 5 lines changed", compared.output)
        self.assertWorked([stop, start])
        self.assertEqual(facts(again.output)["Blocks"], "0")

    def test_the_tables_are_read_once(self) -> None:
        log = new_directory() / "packets"
        size = python(f"import os; answer = os.path.getsize({str(log)!r})")
        commands = ["tm-stats lineno", "tm-stats traceback", "tm-traces", "tm-traceback leaks[7]",
                    python("import tm; answer = len(tm.take_snapshot().traces)")]
        wrapper = ("--wrapper", "env", f"LD_PRELOAD={RUNTIME}", "TRACEMALLOC=25", "--")
        with gdbserver("--once", *wrapper, command=[str(program("known"))]) as address:
            results = gdb([f"set remotelogfile {log}", "set sysroot /", f"target remote {address}", "break checkpoint",
                           "continue", "finish", HELD, size,
                           *(step for command in commands for step in (command, size))], program("known"))[6:]
        self.assertWorked(results)
        blocks, sites, rest = results[0].answer
        ends = [result.answer for result in results[1::2]]
        read = [bytes_read(log.read_bytes()[start:end]) for start, end in zip(ends, ends[1:])]
        self.assertGreater(blocks, BESIDE)  # else it would not show
        for command, least, moved in zip(commands, (blocks + sites, blocks + sites, blocks + sites + rest, 0,
                                                    blocks + sites + rest), read):
            with self.subTest(command=command):
                self.assertGreaterEqual(moved, least)
                self.assertLess(moved, least + BESIDE)


class ExtendedTest(RemoteTest):

    def extended(self, *steps: Step, name: str = "known") -> list[Result]:
        with gdbserver("--multi") as address:
            start = ["set confirm off", f"target extended-remote {address}", f"set remote exec-file {program(name)}",
                     *preload()[1:], "break checkpoint"]
            return gdb([*start, *steps], program(name))[len(start):]

    def test_run_and_run_again(self) -> None:
        results = self.extended("run", TRUTH, "continue", TRUTH, "tm-stats", "run", TRUTH, "tm-stats", "kill",
                                "tm-stats", "run", TRUTH)
        for result in (results[1], results[3], results[6], results[11]):
            self.assertTrue_of(result)
        self.assertEqual(results[1].answer, results[6].answer)
        self.assertNotEqual(results[1].answer, results[3].answer)
        self.assertRefused(results[9], "no process")

    def test_attach_and_another_process(self) -> None:
        with waiting(traced=True) as pid, waiting(traced=False) as other:
            attached, stats, _, _, refused, *_, again = self.extended(
                f"attach {pid}", TRUTH, "tm-stats", "detach", f"attach {other}", "tm-stats", "detach",
                f"attach {pid}", TRUTH)[1:]
            self.assertTrue_of(attached)
            self.assertEqual(rows(stats.output)[0].partition(":")[0], "known.c")
            self.assertRefused(refused, "no tracemalloc runtime in process", "remote")
            self.assertEqual(again.answer, attached.answer)

    def test_without_the_files(self) -> None:
        with waiting(traced=True) as pid, gdbserver("--multi") as address:
            results = gdb(["set sysroot /nowhere", f"target extended-remote {address}", f"attach {pid}", "tm-stats",
                           "output $tm_count()", "detach"])
        self.assertEqual(results[4].output, "1013")
        self.assertRegex(rows(results[3].output)[0], r"^known(\(\+0x[0-9a-f]+\)|\.c:\d+): size=")

    def test_a_condition(self) -> None:
        place = f"known.c:{line_of('known.c', 'leak')}"
        results = self.extended("delete", f"break {place} if $tm_count() == 300", "run",
                                python("answer = int(gdb.parse_and_eval('number'))"))
        self.assertEqual(results[-1].answer, 300)


class ManyArchitecturesTest(GdbTest):

    def test_a_core(self) -> None:
        if shutil.which("gdb-multiarch") is None:
            self.skipTest("there is no gdb-multiarch here")
        directory = new_directory()
        live = gdb([*preload(), *at_checkpoint(), "generate-core-file a.core", *ANSWERS], program("known"),
                   directory=directory)[-len(ANSWERS):]
        core = gdb([*ANSWERS, TRUTH], program("known"), directory / "a.core", debugger="gdb-multiarch")
        self.assertEqual([result.output.partition("\n")[2] for result in core[:2]],
                         [result.output.partition("\n")[2] for result in live[:2]])
        self.assertEqual(core[2:4], live[2:])
        self.assertEqual(core[-1].answer[:2], core[-1].answer[2:])


if __name__ == "__main__":
    unittest.main()
