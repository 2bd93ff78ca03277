"""Programs that do what is hard for a preloaded library: each ends as it does without, with the same output."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import resource
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from preloaded import LIBRARY, TOP, PreloadTest, build, directory, needs_own_walk, run

INCLUDES = ("-pthread", "-I", str(TOP / "runtime"))


@functools.lru_cache(maxsize=None)
def program(name: str, *options: str) -> Path:
    return build("".join([name, *options]).replace("/", "_"), [f"{name}.c"], *INCLUDES, *options)


@functools.lru_cache(maxsize=None)
def own_heap() -> Path:
    """An allocator that may be entered at any moment, to preload."""
    return build("own_heap.so", ["own_heap.c"], "-shared", "-fPIC")


@functools.lru_cache(maxsize=None)
def modules() -> tuple[Path, Path]:
    """Two alike but for their frames, so that one's unwind rules do not fit the other."""
    return (build("small.so", ["hard_module.c"], "-shared", "-fPIC"),
            build("large.so", ["hard_module.c"], "-shared", "-fPIC", "-DROOM=1000"))


class Threads(PreloadTest):
    def test_threads(self) -> None:
        self.assert_same([program("hard_threads")])

    def test_objects_that_live_before_and_after_main(self) -> None:
        compiler = shutil.which("g++")
        if compiler is None:
            self.skipTest("there is no g++ here")
        self.assert_same([build("hard_lives", ["hard_lives.cc"], *INCLUDES, compiler=[compiler])])


class Processes(PreloadTest):
    @unittest.skipUnless(hasattr(ctypes.CDLL(None), "_Fork"), "this libc has no _Fork, which glibc has since 2.34")
    def test_forks(self) -> None:
        self.assert_same([program("hard_forks")])

    def test_signals_inside_malloc(self) -> None:
        self.assert_same([program("hard_signals")], behind=[own_heap()], limits=("0", "25"))


class Stacks(PreloadTest):
    def test_stacks(self) -> None:
        for options in ((), ("-fno-omit-frame-pointer",), ("-O2", "-fcf-protection=none")):
            self.assert_same([program("hard_stacks", *options)], limits=("1", "25", "200"))

    def test_all_of_a_deep_stack(self) -> None:
        self.assert_same([program("hard_stacks")], limits=("65535",))


class Modules(PreloadTest):
    def test_modules(self) -> None:
        self.assert_same([program("hard_modules"), *modules()], limits=("0", "25"))

    def test_what_a_close_frees(self) -> None:
        self.assert_same([program("closes")], limits=("0", "25"))

    @needs_own_walk
    def test_what_goes_unseen_is_in_the_table(self) -> None:
        self.assert_same([program("hard_unloads"), modules()[0]], limits=("0", "25"))


class Limits(PreloadTest):
    def test_no_memory_for_the_tables(self) -> None:
        self.assert_same([program("hard_limits"), "memory"])

    @unittest.skipUnless(platform.machine() == "x86_64", "hard_faults.c makes its system calls as x86_64 does")
    def test_no_memory_the_nth_time(self) -> None:
        self.assert_same([program("hard_faults"), modules()[0]], limits=("25",))

    def test_where_the_tables_lie(self) -> None:
        self.assert_same([program("hard_limits"), "tables"])

    @needs_own_walk
    def test_no_file_descriptors(self) -> None:
        self.assert_same([program("hard_limits"), "closed"])

    @needs_own_walk
    def test_system_calls_forbidden(self) -> None:
        command: list[str | Path] = [program("hard_limits"), "calls"]
        if run(command, own_heap()).returncode == 77:
            self.skipTest("the kernel lets nobody forbid system calls here")
        self.assert_same(command, behind=[own_heap()])

    def test_hardly_any_address_space(self) -> None:
        """With the library's own size more than the program needs alone, it runs, tracing or not."""
        def ends(space: int, preloaded: str) -> bool:
            environment = {**os.environ, "TRACEMALLOC": "25", "LD_PRELOAD": preloaded}
            done = subprocess.run([program("hard_limits"), "secure"], env=environment, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, check=False, timeout=60,
                                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (space, space)))
            return done.returncode == 0
        step = 64 << 10
        least = next(space for space in range(step, 1 << 30, step) if ends(space, ""))
        for more in range(0, 4 << 20, 4 * step):
            self.assertTrue(ends(least + (1 << 20) + more, str(LIBRARY)), f"{least} and {(1 << 20) + more} bytes")


class Setuid(unittest.TestCase):
    """A program linked with the library, with the rights of another user than who runs it."""

    def test_the_environment_does_not_count(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("only root can make a program of another user's")
        linked = program("hard_limits", str(LIBRARY), f"-Wl,-rpath,{LIBRARY.parent}")
        plain = run([linked, "secure"], limit="25")
        self.assertEqual("secure 0, tracing 1\n", plain.stdout)
        with tempfile.TemporaryDirectory(dir=directory()) as folder:
            shutil.copy(LIBRARY, Path(folder) / "libtracemalloc.so.0")
            for place in (directory(), Path(folder)):
                place.chmod(0o755)
            secure = Path(folder) / "program"
            shutil.copy(program("hard_limits", str(LIBRARY), f"-Wl,-rpath,{folder}"), secure)
            secure.chmod(0o4755)
            done = subprocess.run([secure, "secure"], user=65534, env={**os.environ, "TRACEMALLOC": "25"},
                                  text=True, capture_output=True, timeout=60, check=False)
        if done.stdout.startswith("secure 0"):
            self.skipTest("programs of another user's get no rights on this file system")
        self.assertEqual((0, "secure 1, tracing 0\n", ""), (done.returncode, done.stdout, done.stderr))
