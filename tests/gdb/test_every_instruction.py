"""test_every_instruction.py: a stop at any instruction is readable, proved instruction by instruction.

tests/programs/moments.c announces each act that changes the tables. The acts that matter are stepped through; whenever
memory that the reader looked at has changed, it reads all anew, and must find what the program holds: as it was before
the act, or as it is after it, and never again as before. Which acts grow a table is learned in a first run.
"""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
import unittest
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Iterator, NamedTuple
from unittest.mock import patch

from support import LINKED, PROGRAMS, RUNTIME, compile_file, new_directory, program

import judge
import tracee
from judge import Place, Verdict
from tm import layout, memory
from tm.runtime import Runtime

MODULES = 36
LARGE_TABLE = 4096
ENOUGH = 16  # acts to step through in which the same happens
OTHER, ADD, REMOVE, MOVE, CLEAR, LIBRARY = range(6)

# Functions of the runtime that must have been stepped through, called or inlined; `f < g` is f within g.
COVERED = (
    "malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc", "dlclose",
    "lane_claim", "lane_release", "lane_count", "raise_peak", "lane_reset_peak",
    "capture_walk", "capture_recall", "past_walks_find", "past_walks_keep",
    "trace_add", "trace_remove", "record_restore", "trace_clear",
    "map_slab", "take_fresh", "take_free", "cut", "give_rest", "arena_give", "arena_take_segment",
    "find_or_make", "make", "take_number", "open_segment", "table_grow", "table_put < table_grow",
    "grow < directory_make", "directory_lock", "directory_unlock",
    "node_create", "node_destroy", "page_put", "page_take", "page_put_otherwise", "larger_shape", "copy_blocks",
    "holds_blocks_of", "line_after < find", "line_take < page_take_otherwise", "page_guess_shape",
    "link_new", "put_by_search", "put_by_page", "unlink_node", "sweep", "page_clear", "skiplist_clear",
    "append", "enter", "add_loaded", "modules_before_unload", "modules_after_unload", "site_retire_range",
    "domains_name", "grow < domains_name", "kernel_map", "kernel_fill", "tm_start", "tm_stop",
)


class Act(NamedTuple):
    """What moments.c says of what it does."""

    name: str
    kind: int
    domain: int
    address: int
    size: int
    result: int


class Slabs(NamedTuple):
    number: Counter[int]  # by kind
    used: Counter[int]  # bytes


class Moments(tracee.Tracee):
    """moments.c, from act to act."""

    def __init__(self, path: Path, directory: Path) -> None:
        super().__init__([path, directory], {})
        symbols = tracee.symbols(path)
        self._act, self._layout, self._after = (symbols[name][0] for name in ("act", "layout", "after"))
        self._code = range(0)
        self.steps = 0
        self.pcs: set[int] = set()  # that were stepped through, as addresses of the runtime's file

    def act(self) -> Act:
        name, *numbers = struct.unpack("6Q", self.read(self._act, 48))
        return Act(self.string(name), *numbers)

    def slabs(self) -> Slabs:
        slabs = Slabs(Counter(), Counter())
        for slab in Runtime(self.read, self.word(self._layout)).slabs():
            slabs.number[slab.kind] += 1
            slabs.used[slab.kind] += slab.used
        return slabs

    def verdict(self) -> Verdict:
        return judge.judge(self.read, self.word(self._layout))

    def step_through(self) -> Iterator[Verdict]:
        """Through the act that was announced. Yields what the tables say at first, and whenever that may have
        changed."""
        self._code = self._code or self._find_code()
        watched = judge.watch(self.read, self.word(self._layout))
        watching = tracee.Ranges(self.pid, watched.ranges)
        seen = watching.read()
        yield watched.verdict
        while (pc := self.pc()) != self._after:
            if pc in self._code:
                self.pcs.add(pc - self._code.start)
            self.step()
            self.steps += 1
            if watching.read() == seen:
                continue
            watched = judge.watch(self.read, self.word(self._layout))
            watching = tracee.Ranges(self.pid, watched.ranges)
            seen = watching.read()
            yield watched.verdict

    def _find_code(self) -> range:
        """Where the runtime's file is mapped, from its start to the end of its code."""
        parts = [part for part in tracee.mapped_files(self.pid) if part.path == str(RUNTIME.resolve())]
        return range(parts[0].start, max(part.end for part in parts if "x" in part.permissions))


class Proof:
    """Holds what the tables say against what the program did."""

    def __init__(self, moments: Moments) -> None:
        self._moments = moments
        self._held: dict[Place, int] = {}  # the program's own blocks
        self._foreign: dict[Place, int] = {}  # those of libraries
        self.modules: list[str] = []  # the unloaded ones
        self.names: list[tuple[int, str]] = []  # of domains
        self.verdicts = 0
        self.within = 0  # verdicts that caught the sum of bytes out of step with the blocks

    def do_act(self, is_stepped: bool) -> None:
        """From before() to after()."""
        verdicts = list(self._moments.step_through()) if is_stepped else []
        self._moments.go()
        act = self._moments.act()
        stages = self._stages(act)
        self._held = stages[-1]
        if is_stepped:
            verdicts.append(self._moments.verdict())
            self._check(act, stages, verdicts)
        if act.kind in (LIBRARY, CLEAR):
            last = verdicts[-1] if verdicts else self._moments.verdict()
            self.modules = last.modules
            self._foreign = {place: found.size for place, found in last.blocks.items() if place not in self._held}

    def _stages(self, act: Act) -> list[dict[Place, int]]:
        """The program's blocks, in the order in which the act may show them; the last one holds from then on."""
        before, after = self._held, dict(self._held)
        stages = [before]
        if act.kind in (REMOVE, MOVE) and act.address:
            after.pop((act.domain, act.address), None)
            stages.append(dict(after))
        if act.kind == MOVE and not act.result and act.size:
            stages.append(before)
        elif act.kind in (ADD, MOVE) and act.result:
            stages.append({**after, (act.domain, act.result): act.size})
        elif act.kind == CLEAR:
            stages.append({})
        return stages

    def _check(self, act: Act, stages: list[dict[Place, int]], verdicts: list[Verdict]) -> None:
        self.verdicts += len(verdicts)
        remaining = iter([{**self._foreign, **stage} for stage in stages])
        stage = next(remaining)
        known = verdicts[0].blocks
        for number, verdict in enumerate(verdicts):
            context = f"{act}, verdict {number} of {len(verdicts)}"
            assert not verdict.problems, f"{context}: {verdict.problems}"
            blocks = verdict.blocks
            changed = {place for place in blocks.keys() | known.keys() if blocks.get(place) != known.get(place)}
            assert len(changed) <= 1, f"{context}: {len(changed)} blocks changed at once"
            assert all(blocks[place].pcs for place in changed & blocks.keys()), f"{context}: no traceback"
            sizes = {place: found.size for place, found in blocks.items()}
            if act.kind == CLEAR:
                assert blocks.keys() <= known.keys(), f"{context}: a block came"
            elif act.kind == LIBRARY:
                assert stage.items() - self._foreign.items() <= sizes.items(), f"{context}: the program's changed"
            else:
                stage = next((one for one in chain([stage], remaining) if one == sizes), {})
                assert stage == sizes, f"{context}: neither what was nor what comes: {changed}"
            self._check_sum(context, act, stages[0], verdict)
            self._check_lists(context, verdict)
            known = blocks
        self._check_last(act, stages[-1], verdicts[-1])

    def _check_sum(self, context: str, act: Act, held: dict[Place, int], verdict: Verdict) -> None:
        """The sum of bytes may be that of a moment ago or of a moment to come, while a thread is said to be inside."""
        assert abs(verdict.state.blocks - len(verdict.blocks)) <= 1, f"{context}: {verdict.state}"
        difference = verdict.state.current - sum(found.size for found in verdict.blocks.values())
        if difference == 0:
            return
        self.within += 1
        assert verdict.state.inside == 1, f"{context}: {difference} bytes too many, and nobody inside"
        if act.kind == LIBRARY:
            return
        removed = held.get((act.domain, act.address or act.result), 0)
        sizes = {0, removed, act.size, act.size - removed, *(held.values() if act.kind == CLEAR else ())}
        near = sizes | {-size for size in sizes}
        assert difference in near, f"{context}: off by {difference}"

    def _check_lists(self, context: str, verdict: Verdict) -> None:
        """What was unloaded, and what domains are called, only grows, by one at a time."""
        modules, names = verdict.modules, list(verdict.names.items())
        assert modules[:len(self.modules)] == self.modules and len(modules) <= len(self.modules) + 1, \
            f"{context}: {self.modules}, then {modules}"
        assert names[:len(self.names)] == self.names and len(names) <= len(self.names) + 1, \
            f"{context}: {self.names}, then {names}"
        self.modules, self.names = modules, names

    def _check_last(self, act: Act, held: dict[Place, int], verdict: Verdict) -> None:
        """Between two acts all is in step."""
        sizes = {place: found.size for place, found in verdict.blocks.items()}
        assert act.kind == LIBRARY or sizes == ({} if act.kind == CLEAR else {**self._foreign, **held}), f"{act}: end"
        state = verdict.state
        assert (state.inside, state.lost) == (0, 0), f"{act}: {state}"
        assert (state.blocks, state.current) == (len(sizes), sum(sizes.values())), f"{act}: {state}"


def functions_at(addresses: set[int]) -> set[str]:
    """The functions that the runtime's file has there: `f`, and `f < g` for f inlined in g."""
    asked = "\n".join(map(hex, sorted(addresses)))
    told = subprocess.run(["addr2line", "-a", "-f", "-i", "-e", str(RUNTIME)], input=asked, stdout=subprocess.PIPE,
                          text=True, check=True).stdout
    functions: set[str] = set()
    inner: list[str] = []
    for number, line in enumerate(told.splitlines()):
        if line.startswith("0x"):
            inner, first = [], number
        elif (number - first) % 2:
            name = line.partition(".")[0]
            functions |= {name, *(f"{one} < {name}" for one in inner)}
            inner.append(name)
    return functions


@unittest.skipUnless(platform.machine() == "x86_64", "the stepping is written for x86_64")
@unittest.skipUnless(RUNTIME.exists(), f"the runtime is not built: {RUNTIME}")
class EveryInstructionTest(unittest.TestCase):
    maxDiff = None
    directory: Path
    path: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = new_directory()
        plugin = compile_file(PROGRAMS / "plugin.c", cls.directory / "plugin.so", "-shared", "-fPIC")
        for number in range(MODULES):
            shutil.copy(plugin, cls.directory / f"p{number}.so")
        cls.path = program("moments", "-no-pie", *LINKED)
        # On one processor, the program and the one who steps it take turns faster.
        processors = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(processors)})
        cls.addClassCleanup(os.sched_setaffinity, 0, processors)
        # What is watched shall hold no more than what was looked at.
        small = patch.object(memory, "CACHED_PIECE", 256)
        small.start()
        cls.addClassCleanup(small.stop)

    def test_every_instruction_is_a_good_moment(self) -> None:
        chosen, grown = self.choose()
        for kind in layout.SLAB_KINDS:
            self.assertGreaterEqual(grown[f"slab of kind {kind}"], 2, f"{kind}: the program shall make slabs grow")
        self.assertGreaterEqual(grown["large table"], 3)
        for kind in layout.WIDTHS:
            self.assertGreaterEqual(grown[f"lines of kind {kind}"], 6)
        with Moments(self.path, self.directory) as moments:
            proof = Proof(moments)
            number = 0
            while moments.go():
                proof.do_act(number in chosen)
                number += 1
        self.assertGreater(moments.steps, 200_000)
        self.assertGreater(proof.verdicts, 3000)
        self.assertGreater(proof.within, 100, "no stop was ever within a change")
        self.assertEqual(proof.modules, [str(self.directory / f"p{number}.so") for number in range(MODULES)])
        self.assertEqual(proof.names, [(number, ("even", "odd")[number % 2]) for number in range(20)])
        covered = functions_at(moments.pcs)
        if not any("<" in name for name in covered):
            self.skipTest("the runtime was built without -g: nothing tells which functions were stepped through")
        self.assertEqual([name for name in COVERED if name not in covered], [],
                         "not stepped through, or under another name now")

    def choose(self) -> tuple[set[int], Counter[str]]:
        """The numbers of the acts to step through: those with a name, and those in which a table grew."""
        chosen: set[int] = set()
        grown: Counter[str] = Counter()
        with Moments(self.path, self.directory) as moments:
            number = 0
            before = Slabs(Counter(), Counter())
            while moments.go():
                moments.go()
                now = moments.slabs()
                what = [f"slab of kind {kind}" for kind in layout.SLAB_KINDS if now.number[kind] > before.number[kind]]
                if now.used[layout.SLAB_OTHER] - before.used[layout.SLAB_OTHER] >= LARGE_TABLE:
                    what.append("large table")
                what += [f"lines of kind {kind}" for kind in layout.WIDTHS if now.used[kind] > before.used[kind]]
                grown.update(what)
                if moments.act().name or any(grown[one] <= ENOUGH for one in what):
                    chosen.add(number)
                before = now
                number += 1
        return chosen, grown


if __name__ == "__main__":
    unittest.main()
