"""Raw snapshots: files from the document alone, a program's own, and what becomes of frames when files are gone."""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import shutil
import struct
import subprocess
import tracemalloc
import unittest
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch
from zlib import crc32

from support import TestWithDirectory, boundary_values, model, snapfile

if TYPE_CHECKING:
    from tm import lines, offline
else:
    lines = importlib.import_module("tm.lines")
    offline = importlib.import_module("tm.offline")

SOURCE = Path(os.environ.get("TM_TOP_SRCDIR", Path(__file__).resolve().parents[2])).resolve()
RUNTIME = Path(os.environ.get("TM_TOP_BUILDDIR", SOURCE)).resolve() / "runtime" / ".libs"
CC = os.environ.get("CC", "cc").split()
PROGRAMS = SOURCE / "tests" / "programs"

Section = tuple[bytes, bytes]


class Module(NamedTuple):
    start: int
    end: int
    bias: int
    unload: int
    build_id: bytes
    path: str


class Site(NamedTuple):
    domain: int
    is_cut: bool
    unloads: int
    pcs: tuple[int, ...]


NOWHERE = [Module(0x1000, 0x3000, 0x1000, 0, b"\1" * 20, "/none/prog"),
           Module(0x7000, 0x9000, 0x7000, 0, b"\2" * 20, "/none/libone.so")]
SITES = [Site(0, False, 0, (0x7010, 0x1020, 0x1030)), Site(5, True, 0, (0x7010,)), Site(0, False, 0, (0x5000,)),
         Site(0, True, 0, ())]
ROWS = [(0, 100), (1, 16), (0, 100), (2, 7), (3, 1)]


def table(*columns: tuple[str, Sequence[int]]) -> bytes:
    """Of (struct code, numbers) pairs."""
    numbers = b"".join(struct.pack(f"<{len(column)}{code}", *column) for code, column in columns)
    return struct.pack(f"<I{len(columns)}B", len(columns[0][1]),
                       *(struct.calcsize(code) for code, _ in columns)) + numbers


def sites_sections(sites: Sequence[Site]) -> list[Section]:
    return [
        (b"SITE", table(("I", [site.domain for site in sites]),
                        ("I", [0 if site.is_cut else len(site.pcs) + 1 for site in sites]),
                        ("I", [len(site.pcs) for site in sites]))),
        (b"AGES", table(("I", [site.unloads for site in sites]))),
        (b"PCS ", table(("Q", [pc for site in sites for pc in site.pcs])))]


def module_section(module: Module) -> Section:
    path = os.fsencode(module.path)
    return b"MODS", table(("Q", [module.start]), ("Q", [module.end]), ("Q", [module.bias]), ("I", [module.unload]),
                          ("B", [len(module.build_id)]), ("H", [len(path)])) + module.build_id + path


def info_section(**facts: Any) -> Section:
    return b"INFO", json.dumps({"traceback_limit": 3, "info": facts, "notes": [], "attributes": {}}).encode()


def sealed(sections: Iterable[Section]) -> bytes:
    data = struct.pack("<8sHHI", b"\x89tmsnap\n", 1, 0, 0)
    checksum = crc32(data)
    for kind, payload in sections:
        section = kind + struct.pack("<I", len(payload)) + payload
        checksum = crc32(section, checksum)
        data += section + struct.pack("<I", checksum)
    return data


def sections_of(sites: Sequence[Site] = SITES, modules: Iterable[Module] = NOWHERE,
                rows: Sequence[tuple[int, int]] = ROWS, **facts: Any) -> list[Section]:
    """As the program writes them: blocks a few at a time, before the sites."""
    sections = [info_section(**facts)]
    for start in range(0, len(rows), 2):
        part = rows[start:start + 2]
        sections.append((b"ROWS", table(("I", [site for site, _ in part]), ("Q", [size for _, size in part]),
                                        ("B", [1] * len(part)))))
        sections.append((b"ADDR", table(("Q", [0x10000 + start + number for number in range(len(part))]))))
    for start in range(0, len(sites), 3):
        sections += sites_sections(sites[start:start + 3])
    return [*sections, *map(module_section, modules), (b"END ", struct.pack("<Q", len(rows)))]


class TestWritten(TestWithDirectory):
    def load(self, *arguments: Any, **more: Any) -> model.Snapshot:
        return snapfile.load(self.write(sealed(sections_of(*arguments, **more))))

    def test_blocks_and_frames_without_any_file(self) -> None:
        snapshot = self.load()
        first = (("libone.so(+0x10)", 0, None, "/none/libone.so", 0x7010),
                 ("prog(+0x20)", 0, None, "/none/prog", 0x1020), ("prog(+0x30)", 0, None, "/none/prog", 0x1030))
        self.assertEqual([trace._trace for trace in snapshot.traces],
                         [(0, 100, first, 3), (5, 16, first[:1], None), (0, 100, first, 3),
                          (0, 7, (("[0x5000]", 0, None, None, 0x5000),), 1), (0, 1, (), None)])
        self.assertEqual([trace.address for trace in snapshot.traces], [0x10000 + number for number in range(5)])
        self.assertEqual(snapshot.traceback_limit, 3)

    def test_groups(self) -> None:
        snapshot = self.load()
        self.assertEqual([(str(one.traceback), one.size) for one in snapshot.statistics("filename")],
                         [("/none/libone.so:0", 216), ("[0x5000]:0", 7), ("<unknown>:0", 1)])
        self.assertEqual([one.size for one in snapshot.statistics("domain")], [208, 16])
        self.assertEqual([one.size for one in snapshot.statistics("module", cumulative=True)], [400, 216, 7])

    def test_what_is_missing_is_said(self) -> None:
        self.assertEqual(self.load().notes, ("frames in /none/prog, /none/libone.so have no names: no such file",))
        self.assertEqual(self.load([SITES[1]], rows=[(0, 1)]).notes,
                         ("frames in /none/libone.so have no names: no such file",), "only what frames lie in")
        many = [Module(0x1000 * number, 0x1000 * number + 0x1000, 0, 0, b"", f"/none/\n{number}")
                for number in range(1, 21)]
        note, = self.load([Site(0, False, 0, tuple(0x1000 * number + 1 for number in range(1, 21)))], many,
                          rows=[(0, 1)]).notes
        self.assertRegex(note, r"^frames in '/none/\\n1', .* and 15 more have no names")

    def test_facts(self) -> None:
        info = self.load(program="/none/prog", time=86400 * 365).info
        self.assertRegex(info["time"], r"^19(70-12-31|71-01-01) \d\d:\d\d:\d\d$")
        self.assertEqual(info["build_ids"], {"/none/prog": "01" * 20, "/none/libone.so": "02" * 20})
        self.assertEqual(self.load(time=10 ** 30).info["time"], 10 ** 30)

    def test_modules_that_were_unloaded(self) -> None:
        at = 0x1000, 0x2000, 0x1000
        modules = [Module(*at, 2, b"", "/none/first.so"), Module(*at, 5, b"", "/none/second.so"),
                   Module(*at, 0, b"", "/none/now.so")]
        sites = [Site(0, True, unloads, (0x1100,)) for unloads in range(7)]
        snapshot = self.load(sites, modules, [(number, 1) for number in range(7)])
        self.assertEqual([str(trace.traceback) for trace in snapshot.traces],
                         ["first.so(+0x100) [unloaded]"] * 2 + ["second.so(+0x100) [unloaded]"] * 3
                         + ["now.so(+0x100)"] * 2)

    def test_saving_makes_it_an_ordinary_one(self) -> None:
        raw = self.load()
        raw.dump(self.path)
        with patch.object(offline, "symbolised", side_effect=AssertionError("not raw")):
            back = snapfile.load(self.path)
        self.assertEqual([trace._trace for trace in back.traces], [trace._trace for trace in raw.traces])
        self.assertEqual((back.notes, back.info), (raw.notes, raw.info))
        self.assertTrue(all(not one.size_diff for one in raw.compare_to(back, "traceback")))

    def test_sections_in_any_order(self) -> None:
        sections = sections_of(SITES[:3], rows=ROWS[:4])
        first = snapfile.load(self.write(sealed(sections)))
        second = snapfile.load(self.write(sealed([*sections[5:-1], *sections[:5], sections[-1]])))
        self.assertEqual([trace._trace for trace in first.traces], [trace._trace for trace in second.traces])

    def test_a_program_without_blocks(self) -> None:
        self.assertEqual(self.load([], NOWHERE, []).statistics("traceback"), [])

    def test_what_does_not_fit_together(self) -> None:
        whole = sections_of()
        module = NOWHERE[0]
        cases: list[tuple[Any, ...]] = [
            ("5 program counters of sites and should have 6", *whole[:-1], *sites_sections([SITES[1]])[:2], whole[-1]),
            ("4 ages for 5 sites", *whole[:-1], sites_sections([SITES[3]])[0], whole[-1]),
            ("both program counters and frames", *whole[:-1], (b"STAK", table(("B", []))), whole[-1]),
            ("does not hold the paths", *whole[:-1], (b"MODS", module_section(module)[1][:-1]), whole[-1]),
            ("ends before it starts", *whole[:-1], module_section(module._replace(start=0x9000)), whole[-1]),
            ("4097 of them unloaded", *whole[:-1], *[module_section(module._replace(unload=1))] * 4097, whole[-1]),
            ("65538 modules", *whole[:-1], (b"MODS", struct.pack("<I6B", 65536, 1, 1, 0, 0, 0, 0) + b"\1" * 131072),
             whole[-1]),
            ("site index 4 of 4", *whole[:-1], (b"ROWS", table(("I", [4]), ("Q", [1]), ("B", [1]))), whole[-1])]
        for reason, *sections in cases:
            with self.subTest(reason=reason), self.assertRaisesRegex(snapfile.SnapshotError, reason):
                snapfile.load(self.write(sealed(sections)))


class TestFuzz(TestWithDirectory):
    SEED = 11

    def setUp(self) -> None:
        super().setUp()
        self.random = random.Random(self.SEED)
        self.sections = sections_of(modules=[*NOWHERE, Module(0x7000, 0x8000, 0x7000, 3, b"\3", "/none/gone.so")])

    def test_cut_and_flipped(self) -> None:
        whole = sealed(self.sections)
        for length in range(len(whole)):
            with self.assertRaises(snapfile.SnapshotError):
                snapfile.load(self.write(whole[:length]))
        for place in range(len(whole)):
            data = bytearray(whole)
            data[place] ^= 1 << place % 8
            with self.assertRaises(snapfile.SnapshotError):
                snapfile.load(self.write(bytes(data)))

    def test_wrong_values_with_right_checksums(self) -> None:
        refused, rounds = 0, 4000
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(rounds):
            sections = list(self.sections)
            number = self.random.randrange(len(sections))
            kind, payload = sections[number]
            data = bytearray(payload)
            place = self.random.randrange(len(data))
            data[place:place + self.random.randrange(3)] = self.random.randbytes(self.random.randrange(3))
            sections[number] = kind, bytes(data)
            self.write(sealed(sections))
            try:
                snapshot = snapfile.load(self.path)
                for key in model.KEY_TYPES:
                    snapshot.statistics(key)
                snapshot.notes
            except snapfile.SnapshotError:
                refused += 1
        self.assertLess(tracemalloc.get_traced_memory()[1], 3_000_000)
        self.assertGreater(refused, rounds // 10)
        self.assertLess(refused, rounds)

    def test_every_place_with_right_checksums(self) -> None:
        refused = rounds = 0
        for number, (kind, payload) in enumerate(self.sections):
            for changed in boundary_values(payload):
                rounds += 1
                self.write(sealed([*self.sections[:number], (kind, changed), *self.sections[number + 1:]]))
                try:
                    snapshot = snapfile.load(self.path)
                    snapshot.statistics("traceback")
                    snapshot.notes
                except snapfile.SnapshotError:
                    refused += 1
        self.assertGreater(refused, rounds // 10)
        self.assertLess(refused, rounds)

    def test_many_overlapping_modules_and_ages(self) -> None:
        """What takes the most work to tell apart is done in time, in bounded memory."""
        unloaded = 4096
        modules = [Module(number, 1 << 40, 0, number + 1, b"", "x") for number in range(unloaded)]
        sites = [Site(0, True, number % unloaded, (number % (2 * unloaded) + 1,)) for number in range(20000)]
        merged = (b"MODS", table(("Q", [module.start for module in modules]), ("Q", [module.end for module in modules]),
                                 ("Q", [0] * unloaded), ("I", [module.unload for module in modules]),
                                 ("B", [0] * unloaded), ("H", [1] * unloaded)) + b"x" * unloaded)
        sections = [info_section(), *sites_sections(sites), merged,
                    (b"ROWS", table(("I", range(20000)), ("Q", range(20000)), ("B", [1] * 20000))),
                    (b"END ", struct.pack("<Q", 20000))]
        self.write(sealed(sections))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        snapfile.load(self.path).statistics("lineno")
        self.assertLess(tracemalloc.get_traced_memory()[1], 200_000_000)


def line_of(source: str, mark: str) -> int:
    """The line of a test program that is marked with the comment `line: MARK`."""
    for number, line in enumerate((PROGRAMS / source).read_text().splitlines(), 1):
        if f"/* line: {mark} */" in line:
            return number
    raise AssertionError(f"{source} has no line marked {mark}")


@unittest.skipUnless(shutil.which(CC[0]) and (RUNTIME / "libtracemalloc.so").exists(), "no compiler or no runtime")
class TestProgram(TestWithDirectory):
    """A program's own snapshot, taken anew for each test."""

    def setUp(self) -> None:
        super().setUp()
        self.place = Path(self.directory).resolve()
        options = ["-std=gnu11", "-g", "-O1", "-fno-builtin", "-Wl,--build-id", "-I", str(PROGRAMS), "-I",
                   str(SOURCE / "runtime")]
        self.compile(PROGRAMS / "plugin.c", "libplugin.so", *options, "-shared", "-fPIC")
        self.compile(PROGRAMS / "raw.c", "raw", *options, str(RUNTIME / "libtracemalloc.so"),
                     f"-Wl,-rpath,{RUNTIME}", "-ldl", "-pthread")
        done = subprocess.run(["./raw", "raw.snap"], cwd=self.place, env={**os.environ, "TRACEMALLOC": "25"},
                              check=True, stdout=subprocess.PIPE, timeout=30)
        self.traced = int(done.stdout)
        self.path = str(self.place / "raw.snap")
        # The plugin's path is as dlopen was given it.
        previous = os.getcwd()
        self.addCleanup(os.chdir, previous)
        os.chdir(self.place)

    def compile(self, source: Path, output: str, *options: str) -> None:
        subprocess.run([*CC, str(source), "-o", str(self.place / output), *options], check=True)

    def tracebacks(self, snapshot: model.Snapshot) -> dict[int, list[str]]:
        """By size of the block: function and place, most recent first."""
        return {trace.size: [f"{frame.function} {os.path.basename(frame.filename)}:{frame.lineno}"
                             for frame in reversed(trace.traceback)] for trace in snapshot.traces}

    def only_tools(self, **scripts: str) -> None:
        """Makes these shell scripts all that PATH has."""
        directory = self.place / "bin"
        directory.mkdir()
        for name, script in scripts.items():
            (directory / name).write_text(f"#!/bin/sh\n{script}\n")
            (directory / name).chmod(0o755)
        environment = patch.dict(os.environ, {"PATH": str(directory)})
        environment.start()
        self.addCleanup(environment.stop)

    def check_lines(self, snapshot: model.Snapshot) -> None:
        found = self.tracebacks(snapshot)

        def at(function: str, mark: str, source: str = "raw.c") -> str:
            return f"{function} {source}:{line_of(source, mark)}"

        self.assertEqual(found[30], [at("inner", "inner", "inlined.h"), at("outer", "outer", "inlined.h"),
                                     at("main", "main inlined")])
        self.assertEqual(found[123], [at("handler", "handler"), "None <signal handler called>:0", at("fault", "fault"),
                                      at("main", "main faults")])
        self.assertEqual(found[77], [at("work", "work")])
        self.assertEqual(found[1000], [at("main", "main loop")])
        self.assertEqual(found[10][-1], at("main", "main strdup"))

    def test_totals_are_the_programs_own(self) -> None:
        snapshot = snapfile.load(self.path)
        self.assertEqual(sum(trace.size for trace in snapshot.traces), self.traced)
        self.assertEqual(snapshot.notes, ())
        self.assertEqual(snapshot.info["program"], str(self.place / "raw"))
        self.assertRegex(snapshot.info["build_ids"][str(self.place / "raw")], "^[0-9a-f]{16,}$")

    @unittest.skipUnless(shutil.which("gdb"), "no gdb")
    def test_lines_by_gdb(self) -> None:
        snapshot = snapfile.load(self.path)
        self.check_lines(snapshot)
        self.assertEqual(snapshot.notes, ())
        whole = {trace.size: trace.traceback.total_nframe for trace in snapshot.traces}
        self.assertEqual((whole[30], whole[77]), (3, 1))

    @unittest.skipUnless(shutil.which("addr2line"), "no addr2line")
    def test_lines_by_addr2line(self) -> None:
        self.only_tools(addr2line=f'exec {shutil.which("addr2line")} "$@"')
        snapshot = snapfile.load(self.path)
        self.check_lines(snapshot)
        self.assertRegex(snapshot.notes[0], "addr2line")

    def test_functions_without_tools(self) -> None:
        self.only_tools()
        snapshot = snapfile.load(self.path)
        found = self.tracebacks(snapshot)
        self.assertRegex(found[30][0], r"^main raw\(main\+0x[0-9a-f]+\):0$")
        self.assertRegex(found[77][0], r"^work raw\(work\+0x[0-9a-f]+\):0$")
        self.assertRegex(snapshot.notes[0], "raw.* have no lines: neither gdb nor addr2line could tell")

    def test_tools_that_hang_or_fail(self) -> None:
        sleep = shutil.which("sleep")
        self.only_tools(gdb=f"exec {sleep} 1000", addr2line="exit 1")
        with patch.object(lines, "PATIENCE", 1):
            snapshot = snapfile.load(self.path)
            self.assertRegex(self.tracebacks(snapshot)[77][0], r"^work raw\(work\+")
        self.assertRegex(snapshot.notes[0], "in 1 seconds")

    def test_nothing_is_asked_before_frames_are(self) -> None:
        with patch.object(offline, "ask", side_effect=AssertionError("nobody needs lines")):
            snapshot = snapfile.load(self.path)
            self.assertEqual(len(snapshot.statistics("domain")), 1)

    def test_an_unloaded_plugin_is_named(self) -> None:
        found = self.tracebacks(snapfile.load(self.path))[1111]
        self.assertRegex(found[0], r"^helper libplugin\.so\(helper\+0x[0-9a-f]+\) \[unloaded\]:0$")
        self.assertRegex(found[1], r"^plugin_make libplugin\.so\(plugin_make\+0x[0-9a-f]+\) \[unloaded\]:0$")
        self.assertTrue(found[-1].startswith("main raw.c:"))

    def test_another_build_is_not_used(self) -> None:
        self.compile(PROGRAMS / "inlined.c", "raw", "-g", "-Wl,--build-id")
        snapshot = snapfile.load(self.path)
        self.assertEqual(snapshot.notes,
                         (f"frames in {self.place}/raw have no names: another build-id than the program's",))
        self.assertRegex(self.tracebacks(snapshot)[77][0], r"^None raw\(\+0x[0-9a-f]+\):0$")

    @unittest.skipUnless(shutil.which("objcopy") and shutil.which("gdb"), "no objcopy or no gdb")
    def test_debug_information_by_build_id_is_enough(self) -> None:
        build_id = snapfile.load(self.path).info["build_ids"][str(self.place / "raw")]
        debug = self.place / build_id[:2] / f"{build_id[2:]}.debug"
        debug.parent.mkdir()
        subprocess.run(["objcopy", "--only-keep-debug", "raw", str(debug)], check=True)
        os.unlink("raw")
        with patch.object(offline, "_DEBUG_DIRECTORY", str(self.place)):
            snapshot = snapfile.load(self.path)
            self.check_lines(snapshot)
        self.assertEqual(snapshot.notes, ())

    def test_saved_and_loaded_again(self) -> None:
        raw = snapfile.load(self.path)
        raw.dump("named.snap")
        with patch.object(offline, "symbolised", side_effect=AssertionError("not raw")):
            named = snapfile.load("named.snap")
        for key in model.KEY_TYPES:
            self.assertEqual([one for one in raw.compare_to(named, key) if one.size_diff or one.count_diff], [])

    def test_files_that_are_no_modules_do_not_hang(self) -> None:
        os.mkfifo("fifo")
        for path in ("fifo", "/dev/zero", self.directory, "/proc/self/mem", "x\0y", "y" * 5000):
            module = Module(0x1000, 0x3000, 0x1000, 0, b"", path)
            self.write(sealed(sections_of([Site(0, False, 0, (0x1010,))], [module], [(0, 1)])))
            snapshot = snapfile.load(self.path)
            self.assertEqual(len(snapshot.statistics("lineno")), 1)
            self.assertRegex(snapshot.notes[0], re.escape("have no names: "))


if __name__ == "__main__":
    unittest.main()
