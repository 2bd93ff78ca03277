"""test_foreign.py: programs of other machines, read by the GDB of this one: 32 bits, and the other byte order.

The runtime is built here for each of them, with a stack walk along frame pointers, so that a compiler is all it takes.
Programs that this processor does not run are emulated.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import time
import unittest
from pathlib import Path

from support import (CC, GdbTest, PROGRAMS, Result, SOURCE, Step, at_checkpoint, facts, gdb, new_directory, preload,
                     program, python, rows)

TRUTH = python("answer = [int(gdb.parse_and_eval(text)) for text in "
               "('expected_blocks', 'expected_bytes', '$tm_count()', '$tm_traced()')]")
ANSWERS: list[Step] = ["tm-stats", "tm-traces -limit 3", "tm-traceback leaks[7] + 3", python(
    "answer = [int(gdb.parse_and_eval(text)) for text in ('$tm_size(leaks[7] + 3)', '$tm_size(deep)', "
    "'$tm_base(leaks[7] + 3) == leaks[7]', 'sizeof(leaks[0])')]")]
NOT_FOR_THEM = re.compile(r"capture_.*|step_.*|rule_cache|unwind_rule")


class Machine:
    """A compiler, and what runs its programs here."""

    def __init__(self, *compiler: str) -> None:
        self.compiler = compiler

    def compile(self, output: Path, *arguments: str | Path) -> Path:
        subprocess.run([*self.compiler, "-std=gnu11", "-O1", "-fno-builtin", "-fno-omit-frame-pointer",
                        *map(str, arguments), "-o", str(output)], check=True, stderr=subprocess.PIPE)
        return output

    def build(self, directory: Path, *options: str) -> tuple[Path, Path]:
        """(runtime, known) in that directory, both for that machine. SkipTest where there is no compiler for it."""
        try:
            (directory / "empty.c").write_text("#include <stdlib.h>\nint main(void) { return 0; }\n")
            self.compile(directory / "empty", directory / "empty.c")
        except (OSError, subprocess.CalledProcessError):
            raise unittest.SkipTest(f"{' '.join(self.compiler)} does not compile programs here") from None
        sources = [path for path in (SOURCE / "runtime").glob("*.c") if not NOT_FOR_THEM.fullmatch(path.stem)]
        runtime = self.compile(
            directory / "libtracemalloc.so", *sources, SOURCE / "tests" / "support" / "capture_frames.c", "-I",
            SOURCE / "runtime", *options, "-shared", "-fPIC", "-fvisibility=hidden", "-ftls-model=initial-exec",
            "-pthread", f"-Wl,--version-script={SOURCE / 'runtime' / 'libtracemalloc.map'}")
        return runtime, self.compile(directory / "known", PROGRAMS / "known.c", "-no-pie", "-g", "-I", PROGRAMS)


class ForeignTest(GdbTest):

    def assertSame(self, foreign: list[Result], own: list[Result]) -> None:
        """The same tables, but for addresses and the names of the processes."""
        for one, other in zip(foreign, own):
            self.assertIsNone(one.error)
            self.assertEqual(*(re.sub(r"(0x[0-9a-f]+|Address) *|^(process|core) .*?: ", "", result.output)
                               for result in (one, other)))


class ThirtyTwoBitsTest(ForeignTest):

    def test_a_process_and_its_core(self) -> None:
        headers = f"/usr/include/{subprocess.run([*CC, '-print-multiarch'], stdout=subprocess.PIPE).stdout.decode()}"
        directory = new_directory()
        runtime, known = Machine(*CC, "-m32", "-idirafter", headers.strip()).build(directory)
        own = gdb([*preload(), *at_checkpoint(), *ANSWERS], program("known"))[-len(ANSWERS):]
        start = [*preload(runtime), *at_checkpoint()]
        steps = ["tm-info", TRUTH, *ANSWERS, "tm-snapshot save a.snap", "generate-core-file a.core", "tm-stop",
                 "tm-start"]
        info, truth, *live = gdb([*start, *steps], known, directory=directory)[len(start):]
        self.assertIn(", 4-byte pointers, little endian", facts(info.output)["Layout"])
        self.assertEqual(truth.answer[:2], truth.answer[2:])
        self.assertSame(live, own)
        self.assertEqual(live[len(ANSWERS) - 1].answer, [107, 77, 1, 4])
        self.assertWorked(live)
        *core, compared, truth = gdb([*ANSWERS, "tm-compare a.snap", TRUTH], known, directory / "a.core",
                                     directory=directory)
        self.assertSame(core, own)
        self.assertIn(": 0 of 5 lines changed", compared.output)
        self.assertEqual(truth.answer[:2], truth.answer[2:])


class EmulatedTest(ForeignTest):

    def check(self, compiler: str, emulator: str, pointer_size: int, byteorder: str) -> None:
        for tool in (emulator, "gdb-multiarch"):
            if shutil.which(tool) is None:
                self.skipTest(f"there is no {tool} here")
        directory = new_directory()
        runtime, known = Machine(compiler).build(directory, "-Wl,--no-as-needed", "-latomic")
        root = Path("/usr") / compiler.rpartition("-")[0]
        command = [emulator, "-L", str(root), "-E", f"LD_PRELOAD={runtime}", "-E", "TRACEMALLOC=25"]
        start: list[Step] = [f"set sysroot {root}"]
        find_runtime = f"set solib-search-path {directory}"
        own = gdb([*preload(), *at_checkpoint(), *ANSWERS], program("known"))[-len(ANSWERS):]
        with self.subTest("a process"):
            place = directory / "stub"
            with subprocess.Popen([*command, "-g", str(place), str(known)], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as process:
                try:
                    while not place.exists() and process.poll() is None:
                        time.sleep(0.01)
                    steps = [f"target remote {place}", *at_checkpoint()[:1], "continue", "tm-stats", find_runtime,
                             *ANSWERS, TRUTH, "tm-info"]
                    lost, _, *live, truth, info = gdb([*start, *steps], known,
                                                      debugger="gdb-multiarch")[len(start) + 3:]
                finally:
                    process.kill()
            self.assertRefused(lost, "no tracemalloc runtime", "set solib-search-path")
            self.assertSame(live, own)
            self.assertEqual(truth.answer[:2], truth.answer[2:])
            self.assertIn(f", {pointer_size}-byte pointers, {byteorder} endian", facts(info.output)["Layout"])
        with self.subTest("a core"):
            subprocess.run([*command, str(known), "abort"], cwd=directory, check=False, stderr=subprocess.DEVNULL,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2))
            core = next(directory.glob("qemu_*.core"))
            steps = [find_runtime, f"core-file {core}", *ANSWERS[1:], TRUTH, "tm-stats"]
            *dead, truth, stats = gdb([*start, *steps], known, debugger="gdb-multiarch")[len(start) + 2:]
            self.assertEqual(dead[-1].answer, [*own[-1].answer[:3], pointer_size])
            self.assertEqual(truth.answer[:2], truth.answer[2:])
            self.assertEqual([row.partition(":")[0] for row in rows(stats.output)], ["known.c"] * 5)

    def test_powerpc(self) -> None:
        self.check("powerpc-linux-gnu-gcc", "qemu-ppc", 4, "big")

    def test_aarch64(self) -> None:
        self.check("aarch64-linux-gnu-gcc", "qemu-aarch64", 8, "little")


if __name__ == "__main__":
    unittest.main()
