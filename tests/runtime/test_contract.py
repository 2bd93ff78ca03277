"""malloc's family behaves with the library as without: with glibc's allocator, with others before it or behind it, and
in programs that wrap malloc or bring their own."""

from __future__ import annotations

import subprocess
import unittest
from typing import Sequence

from preloaded import LIBRARY, PreloadTest, build, needs_own_walk, run, static_options

ALLOCATORS = {
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
    "mimalloc": "libmimalloc.so.2",
}


class Contract(PreloadTest):
    def test_every_outcome_is_glibcs(self) -> None:
        self.assert_same([build("contract", ["contract.c"])])

    def test_every_function_is_counted_once(self) -> None:
        self.assert_same([build("accounted", ["accounted.c"])])

    def test_linked_with_the_library(self) -> None:
        options = [str(LIBRARY), f"-Wl,-rpath,{LIBRARY.parent}"]
        linked = build("contract-linked", ["contract.c"], *options)
        alone = run([build("contract", ["contract.c"])])
        for limit in ("0", "25"):
            done = run([linked], limit=limit)
            self.assertEqual((0, alone.stdout, ""), (done.returncode, done.stdout, done.stderr))


class Wrappers(PreloadTest):
    def test_a_malloc_that_calls_the_next_one(self) -> None:
        self.assert_same([build("contract-next", ["contract.c", "own_malloc.c"])])
        self.assert_same([build("accounted-next", ["accounted.c", "own_malloc.c"])])

    def test_wrapped_by_the_linker(self) -> None:
        options = ["-Wl,--wrap=malloc,--wrap=realloc,--wrap=free"]
        self.assert_same([build("contract-wrapped", ["contract.c", "ld_wrap.c"], *options)])
        self.assert_same([build("accounted-wrapped", ["accounted.c", "ld_wrap.c"], *options)])

    def test_a_heap_of_its_own_is_untouched(self) -> None:
        self.assert_same([build("accounted-own", ["accounted.c", "own_heap.c"]), "untouched"])


class Allocators(PreloadTest):
    """The allocator linked to the program, or preloaded before the library or behind it."""

    def check(self, name: str) -> None:
        allocator = ALLOCATORS[name]
        if run(["true"], allocator).stderr:
            self.skipTest(f"{name} is not installed")
        contract, accounted = build("contract", ["contract.c"]), build("accounted", ["accounted.c"])
        self.assert_same([contract, "sane"], behind=[allocator])
        self.assert_same([contract, "sane"], before=[allocator])
        self.assert_same([accounted], behind=[allocator])
        self.assert_same([accounted, "untouched"], before=[allocator])
        linked = build(f"accounted-{name}", ["accounted.c"], f"-Wl,--no-as-needed,-l:{allocator}")
        self.assert_same([linked])

    def test_jemalloc(self) -> None:
        self.check("jemalloc")

    def test_tcmalloc(self) -> None:
        self.check("tcmalloc")

    def test_mimalloc(self) -> None:
        self.check("mimalloc")


@needs_own_walk
class Static(unittest.TestCase):
    """A program without a loader, with the archive linked to it as tracemalloc.pc tells."""

    def check(self, sources: Sequence[str], *options: str) -> None:
        for source in sources:
            name = f"{source}{''.join(options)}"
            try:
                alone = run([build(name, [f"{source}.c"], "-pthread", *options)])
            except subprocess.CalledProcessError:
                self.skipTest(f"no program can be linked with {' '.join(options)} here")
            linked = build(f"{name}-linked", [f"{source}.c"], "-pthread", *options, *static_options())
            for limit in ("0", "25"):
                with self.subTest(source=source, limit=limit):
                    done = run([linked], limit=limit)
                    self.assertEqual((0, alone.stdout, ""), (done.returncode, done.stdout, done.stderr))

    def test_static(self) -> None:
        self.check(("contract", "accounted", "hard_threads", "hard_forks", "hard_stacks"), "-static", "-fno-lto")

    def test_closes_a_module(self) -> None:
        self.check(["closes"], "-static", "-fno-lto")

    def test_optimised_as_one(self) -> None:
        self.check(["static"], "-static", "-O2", "-flto")

    def test_relocatable(self) -> None:
        self.check(("static", "hard_stacks"), "-static-pie", "-fno-lto")

    def test_links_though_only_libc_allocates(self) -> None:
        build("strdup-static", ["strdup.c"], "-static", "-fno-lto", *static_options())
