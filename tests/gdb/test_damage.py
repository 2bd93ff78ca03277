"""test_damage.py: a core whose tables were damaged on purpose: every field of every struct, random bytes, cut anywhere.

The reader gives a partial answer or one sentence, within seconds and in bounded memory; so do the commands in GDB.
"""

from __future__ import annotations

import functools
import os
import random
import resource
import signal
import struct
import sys
import traceback
import unittest
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Callable, Iterable, Iterator, NamedTuple

from support import (GdbTest, LINKED, PROGRAMS, RUNTIME, Result, at_checkpoint, compile_file, gdb, kernel_core,
                     new_directory, program, python)

from corefile import CoreFile
from tm import layout
from tm.blocks import BlockTable
from tm.layout import Record
from tm.memory import LayoutError, Unreadable, find
from tm.runtime import Runtime, holds_layout
from tm.salvage import Salvaged
from tm.skiplist import Skiplist
from tm.tables import Tables

SEED = 11
MEMORY_MAX = 400 << 20  # bytes of address space for a reader in plain Python
GDB_MEMORY_MAX = 4 << 30
SECONDS = 10  # of the processor's time, for one reading; most take milliseconds
GDB_CASES = 48  # damaged cores that GDB is given
COMMANDS = ("tm-info", "tm-stats", "tm-stats traceback", "tm-traces -limit 5", "tm-traceback small[7]",
            "tm-traceback 0x600000000010", "tm-snapshot save x.snap", "tm-export folded x.folded")


class Damage(NamedTuple):
    what: str
    address: int
    content: bytes


@functools.lru_cache(maxsize=None)
def plugin() -> Path:
    return compile_file(PROGRAMS / "plugin.c", new_directory() / "plugin.so", "-shared", "-fPIC")


@functools.lru_cache(maxsize=None)
def whole_core() -> Path:
    directory = new_directory()
    results = gdb(["set startup-with-shell off", f"set args {plugin()}", *at_checkpoint(),
                   "generate-core-file whole.core"], victim(), directory=directory)
    for result in results:
        assert result.error is None, result.error
    return directory / "whole.core"


def victim() -> Path:
    return program("victim", "-no-pie", *LINKED)


class Target:
    """The structs in the tables of a core that is whole."""

    def __init__(self, core: CoreFile) -> None:
        self._core = core
        self.layout = next(address for address in find(core.read, layout.MAGIC, core.ranges())
                           if holds_layout(core.read, address))
        self.tables = Runtime(core.read, self.layout)
        self._state = self._fields(layout.LAYOUT, self.layout)["state"]

    def _fields(self, record: Record, address: int) -> dict[str, int]:
        return record.unpack("<", self._core.read(address, record.size))

    def records(self) -> Iterator[tuple[str, Record, int]]:
        """(name, kind, address) of one of each, or of a few where they differ."""
        state = self.tables.state
        yield "layout", layout.LAYOUT, self.layout
        yield "state", layout.STATE, self._state
        for number in (0, 1, layout.LANES - 1):
            yield (f"lane {number}", layout.LANE,
                   self._state + layout.STATE.offsets["lanes"] + number * layout.LANE.size)
        for number, slab in enumerate(self.tables.slabs()):
            yield f"slab {number} of kind {slab.kind}", layout.SLAB, slab.address
        counted = self.tables.count_blocks()
        for number in sorted(set(counted.numbers))[:4]:
            address = self.tables.segment_address(number >> layout.SEGMENT_SHIFT)
            yield (f"site {number}", layout.SITE, address + (number & layout.SEGMENT_MASK) * layout.SITE_UNIT)
        yield "module", layout.MODULE, state.modules
        yield "domain", layout.DOMAIN, state.domains
        yield "head", layout.NODE, state.head
        for name, node in self._chosen_nodes():
            yield name, layout.NODE, node
            page = self._fields(layout.NODE, node)["page"]
            yield f"page of {name}", layout.PAGE, page
            lines = self._lines_of(page)
            yield f"line of {name}", lines.width.record, lines.start

    def words(self) -> Iterator[tuple[str, int]]:
        """8-byte words outside the structs."""
        state = self.tables.state
        yield "segment", state.segments
        head = self._fields(layout.NODE, state.head)
        for level in range(layout.LEVELS - 1):
            yield f"level {level + 1} of head", head["tower"] + 8 * level
        for name, node in self._chosen_nodes():
            fields = self._fields(layout.NODE, node)
            if fields["height"] > 1:
                yield f"level 1 of {name}", fields["tower"]

    def _lines_of(self, page: int) -> layout.Lines:
        lines = layout.lines_at(self._fields(layout.PAGE, page)["lines"])
        assert lines
        return lines

    def _chosen_nodes(self) -> list[tuple[str, int]]:
        """The first and the last, one with several lines, one with wide ones, one with a tower."""
        chosen: dict[str, int] = {}
        node = self._fields(layout.NODE, self.tables.state.head)["next"]
        while node:
            fields = self._fields(layout.NODE, node)
            chosen.setdefault("first node", node)
            chosen["last node"] = node
            lines = self._lines_of(fields["page"])
            if lines.end - lines.start > layout.LINE.size:
                chosen.setdefault("node with several lines", node)
            if lines.width is layout.WIDTHS[layout.SLAB_WIDE]:
                chosen.setdefault("node with wide lines", node)
            if fields["height"] > 1:
                chosen.setdefault("node with a tower", node)
            node = fields["next"]
        return list(chosen.items())

    def damages(self) -> Iterator[Damage]:
        """Every field, with each of the values that a reader may stumble over."""
        for name, record, address in self.records():
            for field, code in record.fields:
                for place, width in _parts(code):
                    at = address + record.offsets[field] + place
                    yield from self._values(f"{name}: {field}+{place}", at, width, address)
        for name, address in self.words():
            yield from self._values(name, address, 8, address)

    def _values(self, what: str, address: int, width: int, own: int) -> Iterator[Damage]:
        value = int.from_bytes(self._core.read(address, width), "little")
        slab = next((slab for slab in self.tables.slabs() if slab.address <= own < slab.address + slab.size), None)
        beyond = slab.address + slab.size if slab else own + (1 << 30)
        values = {"none": 0, "one": 1, "all ones": -1, "the sign": 1 << 8 * width - 1, "one more": value + 1,
                  "one less": value - 1, "own address": own, "beyond": beyond, "at the end": beyond - 8,
                  "much": 1 << 8 * width - 2, "the head": self.tables.state.head, "program": 0x400000}
        seen = {value}
        for name, number in values.items():
            number &= (1 << 8 * width) - 1
            if number not in seen:
                seen.add(number)
                yield Damage(f"{what} is {name} ({number:#x})", address, number.to_bytes(width, "little"))


def _parts(code: str) -> Iterable[tuple[int, int]]:
    """(offset, width) of the numbers of a field; of a text its ends and middle."""
    width = struct.calcsize("<" + code[-1])
    count = int(code[:-1] or 1)
    if code[-1] == "s":
        return [(place, 1) for place in sorted({0, count // 2, count - 1})]
    return [(place * width, width) for place in sorted({0, 1, 2, count - 1}) if place < count]


class Hung(Exception):
    """A reading that does not end."""


def _hung(number: int, frame: FrameType | None) -> None:
    raise Hung(f"not done after {SECONDS} seconds")


def read_all(tables: Tables, addresses: Iterable[int]) -> None:
    """All that commands ask of the tables."""
    tables.count_blocks()
    tables.modules()
    tables.domain_names()
    BlockTable(tables).columns()
    list(Skiplist(tables).blocks())
    for address in addresses:
        with suppress(LayoutError):
            Skiplist(tables).holding(address)


def problem_of(core: CoreFile, layout_address: int | None, addresses: Iterable[int]) -> str | None:
    """What a reader of the core must not do and did, in one sentence or a traceback; None if it did well."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        try:
            if layout_address is None:
                layout_address = next((address for address in find(core.read, layout.MAGIC, core.ranges())
                                       if holds_layout(core.read, address)), 0)
            read_all(Runtime(core.read, layout_address), addresses)
        except Unreadable:
            read_all(Salvaged(core.read, core.ranges()), addresses)
    except LayoutError as error:
        return f"more than a line: {error}" if "\n" in str(error) or len(str(error)) > 300 else None
    except Exception:
        return traceback.format_exc(limit=-4)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def in_small_process(problems: Callable[[], Iterator[str]]) -> list[str]:
    """What the function yields, in a process of bounded memory. It counts its rounds as it likes."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(out)
            signal.signal(signal.SIGPROF, _hung)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
            with open(into, "w") as pipe:
                for problem in problems():
                    pipe.write(problem.replace("\0", "") + "\0")
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        finally:
            os._exit(status)
    os.close(into)
    with open(out) as pipe:
        found = pipe.read().split("\0")[:-1]
    _, status = os.waitpid(pid, 0)
    return found if status == 0 else [*found, f"the process that reads ended with status {status:#x}"]


@unittest.skipUnless(RUNTIME.exists(), f"the runtime is not built: {RUNTIME}")
@unittest.skipUnless(struct.calcsize("P") == 8, "the core is read as a 64-bit one")
class DamagedCoreTest(GdbTest):
    """The reader alone, without GDB."""

    content: bytes
    core: CoreFile
    target: Target
    addresses: list[int]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.content = whole_core().read_bytes()
        cls.core = CoreFile(cls.content)
        cls.target = Target(cls.core)
        cls.addresses = [0, 1, (1 << 64) - 1, 0x600000000010, 0x600000005000,
                         *list(BlockTable(cls.target.tables).columns().addresses)[::9]]

    def test_the_core_is_read(self) -> None:
        self.assertIsNone(problem_of(self.core, None, self.addresses))
        self.assertEqual(self.target.tables.notes, [])
        self.assertEqual(len(self.target.tables.modules()), 1)
        names = {name for name, _, _ in self.target.records()}
        self.assertLessEqual({"module", "domain", "node with several lines", "page of first node",
                              "line of node with a tower"}, names)

    def test_every_field(self) -> None:
        damages = list(self.target.damages())
        self.assertGreater(len(damages), 2500)
        fields = {(name.rstrip(" 0123456789"), field) for name, record, _ in self.target.records()
                  for field in record.offsets}
        self.assertGreater(len(fields), 100)

        def problems() -> Iterator[str]:
            for damage in damages:
                start = self.core.offset_of(damage.address, len(damage.content))
                end = start + len(damage.content)
                was = bytes(self.core.data[start:end])
                self.core.data[start:end] = damage.content
                # Where GDB has the symbol the address is known, else it is searched.
                address = self.target.layout if not damage.what.startswith("layout") else None
                problem = problem_of(self.core, address, self.addresses)
                if problem:
                    yield f"{damage.what}: {problem}"
                self.core.data[start:end] = was

        self.assertEqual(in_small_process(problems), [])

    def test_random_bytes(self) -> None:
        pick = random.Random(SEED)
        records = list(self.target.records())

        def problems() -> Iterator[str]:
            for number in range(600):
                self.core.data[:] = self.content
                for _ in range(pick.choice((1, 1, 3, 30))):
                    name, record, address = pick.choice(records)
                    place = self.core.offset_of(address, record.size) + pick.randrange(record.size)
                    length = pick.choice((1, 1, 2, 8, 64))
                    self.core.data[place:place + length] = pick.randbytes(length)
                problem = problem_of(self.core, self.target.layout, self.addresses)
                if problem:
                    yield f"round {number} of seed {SEED}: {problem}"

        self.assertEqual(in_small_process(problems), [])

    def test_cut_anywhere(self) -> None:
        pick = random.Random(SEED)

        def problems() -> Iterator[str]:
            for length in (pick.randrange(len(self.content)) for _ in range(300)):
                self.core.data[:] = self.content[:length]
                problem = problem_of(self.core, None, self.addresses)
                if problem:
                    yield f"cut to {length} of {len(self.content)} bytes: {problem}"

        self.assertEqual(in_small_process(problems), [])


LIMIT_MEMORY = python(f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({GDB_MEMORY_MAX}, {GDB_MEMORY_MAX}))")


class DamagedCoreInGdbTest(GdbTest):
    """The commands, on files."""

    def setUp(self) -> None:
        self.content = whole_core().read_bytes()
        self.directory = new_directory()
        self.random = random.Random(SEED)

    def read_in_gdb(self, contents: list[bytes], whats: list[str]) -> list[list[Result]]:
        """What each of the commands says of cores with these contents, for each of them. It must be well behaved."""
        steps: list[str | dict[str, str]] = [LIMIT_MEMORY]
        for number, content in enumerate(contents):
            (self.directory / f"{number}.core").write_bytes(content)
            steps += ["core-file", f"core-file {number}.core", *COMMANDS]
        results = gdb(steps, victim(), directory=self.directory, timeout=30 + 10 * len(contents))[1:]
        answers = []
        for number, what in enumerate(whats):
            (self.directory / f"{number}.core").unlink()
            answers.append(results[number * (len(COMMANDS) + 2) + 2:(number + 1) * (len(COMMANDS) + 2)])
            for command, result in zip(COMMANDS, answers[-1]):
                with self.subTest(what=what, command=command):
                    self.assertNotIn("Traceback (most", result.output)
                    self.assertNotIn("please report", str(result.error))
                    if result.error is not None:
                        self.assertRefused(result)
        return answers

    def test_every_kind_of_damage(self) -> None:
        core = CoreFile(self.content)
        damages = list(Target(core).damages())
        chosen = self.random.sample(damages, GDB_CASES)
        answered = 0
        for start in range(0, GDB_CASES, 16):
            contents = []
            for damage in chosen[start:start + 16]:
                place = core.offset_of(damage.address, len(damage.content))
                contents.append(self.content[:place] + damage.content + self.content[place + len(damage.content):])
            for results in self.read_in_gdb(contents, [damage.what for damage in chosen[start:start + 16]]):
                answered += sum(result.error is None for result in results)
        self.assertGreater(answered, GDB_CASES * len(COMMANDS) // 2)

    def test_cut_anywhere(self) -> None:
        # The kernel writes the threads first: a part of such a core still is one.
        self.content = kernel_core(victim(), str(plugin()), "abort").read_bytes()
        core = CoreFile(self.content)
        tables = [core.offset_of(slab.address, 1) for slab in Target(core).tables.slabs()]
        lengths = [self.random.randrange(len(self.content)) for _ in range(6)]
        lengths += [self.random.randrange(min(tables), len(self.content)) for _ in range(10)]
        answers = self.read_in_gdb([self.content[:length] for length in lengths],
                                   [f"cut to {length} of {len(self.content)} bytes" for length in lengths])
        whole = self.read_in_gdb([self.content], ["whole"])[0]
        for result in whole:
            self.assertIsNone(result.error)
        said = 0
        for length, results in zip(lengths, answers):
            for command, result, right in zip(COMMANDS, results, whole):
                if command.startswith("tm-stats") and result.error is None:
                    total = result.output.splitlines()[-1]
                    is_said = any(words in result.output for words in ("cut short", "missing", "cannot be read"))
                    said += is_said
                    self.assertTrue(is_said or total == right.output.splitlines()[-1],
                                    f"{command}, {length}: {result.output}")
        self.assertGreater(said, 0)


if __name__ == "__main__":
    unittest.main()
