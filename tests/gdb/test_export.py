"""test_export.py: tm-export on a live process and on cores: the same blocks in every format, and what it refuses."""

from __future__ import annotations

import gzip
import json
import os
import unittest
from pathlib import Path

from support import (GdbTest, LINKED, PROGRAMS, Result, Step, at_checkpoint, gdb, line_of, new_directory, preload,
                     program, python)
from profile_reader import Profile, read_profile

FORMATS = ("folded", "pprof", "json")
EXPORTS = [f"tm-export {name} heap.{name}" for name in FORMATS]
TRUTH = python("answer = [int(gdb.parse_and_eval(name)) for name in ('expected_blocks', 'expected_bytes')]")
BUILD_ID = python("answer = gdb.objfiles()[0].build_id")


def folded(directory: Path, name: str = "heap.folded") -> dict[str, int]:
    lines = (line.rpartition(" ") for line in (directory / name).read_text().splitlines())
    return {stack: int(size) for stack, _, size in lines}


def profile(directory: Path, name: str = "heap.pprof") -> Profile:
    return read_profile(gzip.decompress((directory / name).read_bytes()))


def run(directory: Path, name: str, *steps: Step, options: tuple[str, ...] = ()) -> list[Result]:
    start = [*preload(), *at_checkpoint()]
    return gdb([*start, *steps], program(name, *options), directory=directory)[len(start):]


class FormatsTest(GdbTest):
    """One session on known.c, and its core."""

    results: list[Result]
    directory: Path
    blocks: int
    size: int

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.directory = new_directory()
        cls.results = run(cls.directory, "known", *EXPORTS, TRUTH, BUILD_ID, "generate-core-file known.core")
        cls.blocks, cls.size = cls.results[3].answer

    def test_answers(self) -> None:
        self.assertWorked(self.results)
        for name, result in zip(FORMATS, self.results):
            self.assertRegex(result.output, rf"^exported heap\.{name} as {name}: {self.blocks:,} blocks, 1618 KiB, "
                                            r"from \d+ sites; the file has [\d.]+ (B|KiB)\n$")

    def test_folded(self) -> None:
        stacks = folded(self.directory)
        self.assertEqual(sum(stacks.values()), self.size)
        self.assertEqual(stacks["main;leak"], sum(100 + number for number in range(1, 1000)))
        self.assertEqual(stacks["main;grow"], 1 << 20)
        self.assertEqual(stacks[";".join(["recurse"] * 25)], 77)

    def test_pprof(self) -> None:
        found = profile(self.directory)
        self.assertEqual([sum(values) for values in zip(*(sample.values for sample in found.samples))],
                         [self.blocks, self.size])
        leak = next(sample for sample in found.samples if sample.values[0] == 999)
        self.assertEqual([place.lines for place in leak.locations], [
            [(function, str(PROGRAMS / "known.c"), line_of("known.c", mark))]
            for function, mark in (("leak", "leak"), ("main", "main leak"))])
        self.assertEqual((found.mappings[0].filename, found.mappings[0].build_id),
                         (str(program("known")), self.results[4].answer))
        self.assertGreater(found.time_nanos, 10**18)

    def test_json(self) -> None:
        found = json.loads((self.directory / "heap.json").read_text())
        self.assertEqual((found["count"], found["size"]), (self.blocks, self.size))
        self.assertEqual(sum(size * count for _, size, count in found["rows"]), self.size)
        info = found["info"]
        self.assertEqual((info["program"], info["limit"]), (str(program("known")), 25))
        self.assertEqual(info["build_ids"][info["program"]], self.results[4].answer)

    def test_core(self) -> None:
        directory = new_directory()
        self.assertWorked(gdb(EXPORTS, program("known"), self.directory / "known.core", directory=directory))
        self.assertEqual(folded(directory), folded(self.directory))
        ours, cores = profile(self.directory), profile(directory)
        self.assertEqual((cores.samples, cores.mappings), (ours.samples, ours.mappings))
        for key in ("sites", "frames", "rows"):
            self.assertEqual(*(json.loads((path / "heap.json").read_text())[key]
                               for path in (directory, self.directory)))


class BlocksTest(GdbTest):

    def test_filters_hold_and_tracebacks_stay_whole(self) -> None:
        directory = new_directory()
        _, _, line, *exports = run(
            directory, "wrappers", "tm-filter include wrappers.c", "tm-filter exclude wrappers.c -lineno 1",
            f"tm-filter exclude wrappers.c -lineno {line_of('wrappers.c', 'plain')}", *EXPORTS)
        self.assertWorked([line, *exports])
        for result in exports:
            self.assertIn(": 5 blocks, ", result.output)
            self.assertTrue(result.output.endswith("; filters: 3 (tm-filter list)\n"), result.output)
        stacks = folded(directory)
        self.assertEqual(stacks["main;wrapped;xmalloc"], 2200 + 2201)
        self.assertEqual(stacks["main;wrapped;pool_get;xmalloc"], 3300)
        self.assertNotIn("main;plain", stacks)
        self.assertEqual(sum(stacks.values()), sum(sample.values[1] for sample in profile(directory).samples))
        self.assertEqual(sum(stacks.values()), json.loads((directory / "heap.json").read_text())["size"])

    def test_inlined_functions_are_lines_of_one_location(self) -> None:
        directory = new_directory()
        self.assertWorked(run(directory, "inlined", *EXPORTS, options=("-O2",)))
        sample, = profile(directory).samples
        place, = sample.locations
        self.assertEqual([function for function, _, _ in place.lines][-1], "main")
        self.assertGreater(len(place.lines), 1)
        self.assertEqual(folded(directory), {";".join(function for function, _, _ in reversed(place.lines)): 30})

    def test_domains_are_labels(self) -> None:
        directory = new_directory()
        self.assertWorked(gdb(["set environment TRACEMALLOC 25", *at_checkpoint(), "tm-export pprof heap.pprof"],
                              program("domains", *LINKED), directory=directory))
        sizes = {sample.labels.get("domain", ""): sample.values for sample in profile(directory).samples}
        self.assertEqual(sizes["textures"], [19, 19000])
        self.assertEqual(sizes["device memory"], [1, 5 << 40])
        self.assertEqual(sizes["4"], [1, 5])

    def test_a_snapshot_names_limit_and_build_ids(self) -> None:
        directory = new_directory()
        facts = python("import tm; answer = tm.Snapshot.load('a.snap').info")
        first, second = (results[-2:] for results in (
            run(directory, "known", "generate-core-file known.core", "tm-snapshot save a.snap", BUILD_ID, facts),
            gdb(["tm-snapshot save a.snap", BUILD_ID, facts], program("known"), directory / "known.core",
                directory=directory)))
        for build_id, info in (first, second):
            self.assertEqual((info.answer["limit"], info.answer["program"]), (25, str(program("known"))))
            self.assertEqual(info.answer["build_ids"][info.answer["program"]], build_id.answer)
            self.assertTrue(any("/libc.so" in path for path in info.answer["build_ids"]), info.answer)
        self.assertEqual(first[1].answer["build_ids"], second[1].answer["build_ids"])

    def test_build_ids_of_what_gdb_did_not_load(self) -> None:
        fact = python("import tm; answer = tm.take_snapshot().info['build_ids']")
        start = [*preload(), *at_checkpoint()]
        loaded = gdb([*start, fact], program("known"))[-1].answer
        unloaded = gdb(["set auto-solib-add off", *start, fact], program("known"))[-1].answer
        self.assertEqual(set(loaded.values()), set(unloaded.values()))


class CommandTest(GdbTest):

    def test_what_it_refuses(self) -> None:
        cases = {"tm-export": "folded, pprof or json", "tm-export svg a.svg": '"svg" is no format: use folded,',
                 "tm-export json": "tm-export json needs one file name, but none is given",
                 "tm-export json a b": "2 are given",
                 "tm-export -fast json a": "-fast", "tm-export json nowhere/a.json": "nowhere/a.json: No such file",
                 "tm-export json /dev/null": "not a regular file", "tm-export json .": "not a regular file"}
        directory = new_directory()
        before = set(os.listdir(directory)) | {"steps.json", "results.json"}
        for (command, words), result in zip(cases.items(), run(directory, "known", *cases)):
            with self.subTest(command=command):
                self.assertRefused(result, words)
        self.assertEqual(set(os.listdir(directory)), before)
        self.assertRefused(gdb(["tm-export json a.json"])[0], "no process")

    def test_help_and_completion_list_the_formats(self) -> None:
        directory = new_directory()
        (directory / "heaps" / "old").mkdir(parents=True)
        (directory / "heaps" / "a-1.json").touch()
        results = gdb(["help tm-export", "complete tm-export f", "complete tm-export p", "complete tm-export json hea",
                       "complete tm-export json heaps/a", "complete tm-snapshot save ./heaps/o",
                       "complete tm-export json nowhere/a"], directory=directory)
        self.assertWorked(results)
        for name in FORMATS:
            self.assertIn(f"\n  {name} ", results[0].output)
        self.assertEqual([result.output.split() for result in results[1:]], [
            ["tm-export", "folded"], ["tm-export", "pprof"],
            ["tm-export", "json", "heaps/a-1.json", "tm-export", "json", "heaps/old/"],
            ["tm-export", "json", "heaps/a-1.json"], ["tm-snapshot", "save", "./heaps/old/"], []])

    def test_an_interrupt_leaves_nothing(self) -> None:
        directory = new_directory()
        (directory / "heap.json").write_text("before")
        interrupting = python("""
import os, signal, threading, time
from tm import export
def write(snapshot, file):
    file.write(b"half")
    file.flush()
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    end = time.time() + 60
    while time.time() < end:
        pass
export.FORMATS["json"] = export.FORMATS["json"]._replace(write=write)
""")
        before = set(os.listdir(directory)) | {"steps.json", "results.json"}
        refused, after = run(directory, "known", interrupting, "tm-export json heap.json", "tm-info")[1:]
        self.assertRefused(refused, "Quit")
        self.assertIsNone(after.error)
        self.assertEqual(set(os.listdir(directory)), before)
        self.assertEqual((directory / "heap.json").read_text(), "before")


if __name__ == "__main__":
    unittest.main()
