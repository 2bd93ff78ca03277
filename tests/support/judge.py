"""judge.py: reads all of a stopped program's tables as the commands do, and says where they contradict themselves."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "gdb"))

from tm import memory  # noqa: E402
from tm.blocks import BlockTable  # noqa: E402
from tm.layout import SIZE_MASK, SLAB_HEADER, SLAB_SITE, Slab  # noqa: E402
from tm.memory import Read  # noqa: E402
from tm.runtime import Runtime, State  # noqa: E402
from tm.skiplist import Skiplist  # noqa: E402

Place = tuple[int, int]  # (domain, address)

_NEW_SITES = 4096  # bytes

_tracebacks: dict[tuple[int, ...], tuple[int, ...]] = {}


class Found(NamedTuple):
    size: int
    pcs: tuple[int, ...]
    is_cut: bool


class Verdict(NamedTuple):
    """What the tables say. `problems` are sentences; there are none in sound tables."""

    blocks: dict[Place, Found]
    state: State
    slabs: list[Slab]
    modules: list[str]
    names: dict[int, str]
    problems: list[str]


class Recorder:
    """A Read that remembers what was read."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.ranges: set[tuple[int, int]] = set()

    def __call__(self, address: int, length: int) -> memory.Data:
        data = self._read(address, length)
        self.ranges.add((address, address + length))
        return data


def judge(read: Read, layout: int, again: Read | None = None) -> Verdict:
    """`again` reads what is only compared with what `read` gave."""
    tables = Runtime(read, layout)
    counted = tables.count_blocks()
    listed = list(Skiplist(tables).blocks())
    modules = [module.path for module in tables.modules()]
    names = tables.domain_names()
    blocks = {(block.domain, block.address): Found(block.size, _one(block.site.pcs), block.site.is_cut)
              for block in listed}
    problems = list(tables.notes)
    columns = BlockTable(Runtime(again or read, layout)).columns()
    if counted.missing:
        problems.append(f"{counted.missing} bytes cannot be read")
    if len(blocks) != len(listed):
        problems.append("a block is there twice")
    sizes = Counter(dict.fromkeys(counted.sizes, 0))
    for size, count in zip(counted.sizes, counted.counts):
        sizes[size] += count
    if sizes != Counter(found.size for found in blocks.values()):
        problems.append(f"{sum(sizes.values())} entries in the slabs, {len(blocks)} in the skiplist")
    in_bulk = sorted(zip(columns.addresses, (entry & SIZE_MASK for entry in columns.entries)))
    if in_bulk != sorted((address, found.size & SIZE_MASK) for (_, address), found in blocks.items()):
        problems.append("the blocks read in bulk are others than those of the skiplist")
    return Verdict(blocks, tables.state, tables.slabs(), modules, names, problems)


def _one(pcs: tuple[int, ...]) -> tuple[int, ...]:
    """The same object for tracebacks that are the same: many verdicts are kept at a time."""
    return _tracebacks.setdefault(pcs, pcs)


class Watched(NamedTuple):
    """A verdict, and the memory it came from: as long as that stays as it is, so does the verdict."""

    verdict: Verdict
    ranges: list[tuple[int, int]]  # (address, length)


def watch(read: Read, layout: int) -> Watched:
    recorder = Recorder(read)
    verdict = judge(recorder, layout, read)
    return Watched(verdict, _joined(recorder.ranges, verdict.slabs))


def _joined(ranges: set[tuple[int, int]], slabs: list[Slab]) -> list[tuple[int, int]]:
    """Without overlaps, and without what no slab has handed out yet: its `used` is among what is watched. Of sites,
    which are many and never change, only the newest."""
    joined: list[list[int]] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    for slab in slabs:
        payload = slab.address + SLAB_HEADER
        holes = [(payload + slab.used, slab.address + slab.size)]
        if slab.kind == SLAB_SITE:
            holes.append((payload, payload + max(0, slab.used - _NEW_SITES)))
        for hole in holes:
            joined = [piece for one in joined for piece in _without(one, *hole)]
    return [(start, end - start) for start, end in joined]


def _without(one: list[int], start: int, end: int) -> list[list[int]]:
    return [[low, high] for low, high in ((one[0], min(one[1], start)), (max(one[0], end), one[1])) if low < high]
