#!/usr/bin/env python3
"""Times and peak memory of the model and its file, beside CPython's own tracemalloc, on the same blocks in one run.

Each side runs in a process of its own. Memory is what an operation adds to the process at its highest.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
from array import array
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "gdb"))
if TYPE_CHECKING:
    import tm
else:
    tm = importlib.import_module("tm")

SEED = 1
FRAMES = 25
GOALS = {"dump": 1, "load": 10, "statistics lineno": 20, "compare_to lineno": 20, "file": 1}

Stack = tuple[tuple[str, int], ...]
Trace = tuple[int, int, Stack, int]
Result = dict[str, tuple[float, float]]


def make_stacks(source: random.Random, count: int) -> list[Stack]:
    """Tracebacks that share their outer frames, as a program's call tree makes them; most recent frame first.

    Every traceback has frame tuples of its own, as those that CPython's take_snapshot returns.
    """
    places = [(f"/src/program/part{number % 300}/file{number % 700}.c", 10 + number) for number in range(6000)]
    stacks = [tuple(source.choices(places, k=FRAMES))]
    while len(stacks) < count:
        outer = source.choice(stacks)[-source.randint(5, FRAMES - 1):]
        inner = source.choices(places, k=FRAMES - len(outer))
        stacks.append(tuple((filename, lineno) for filename, lineno in (*inner, *outer)))
    return stacks


def make_traces(seed: int, blocks: int, sites: int) -> list[Trace]:
    """Four blocks of five are of their site's own size, as structures are; the others of any, as strings are."""
    stacks = make_stacks(random.Random(SEED), sites)
    source = random.Random(seed)
    traces = []
    for _ in range(blocks):
        site = source.randrange(sites)
        size = 16 + site % 97 * 8 if source.random() < 0.8 else source.randrange(1, 4000)
        traces.append((0, size, stacks[site], FRAMES + 9))
    return traces


def in_columns(traces: list[Trace]) -> Any:
    """The snapshot as GDB's half makes it: a row for every site and size."""
    sites: dict[Stack, int] = {}
    rows = Counter((sites.setdefault(trace[2], len(sites)), trace[1]) for trace in traces)
    return tm.Snapshot.from_columns([tm.model.Site(0, stack, FRAMES + 9) for stack in sites],
                                    array("Q", (site for site, _ in rows)), array("Q", (size for _, size in rows)),
                                    array("Q", rows.values()), FRAMES)


def memory(field: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def measure(results: Result, name: str, operation: Callable[[], Any]) -> Any:
    """What the operation returns; its seconds and its bytes go to the results."""
    gc.collect()
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # makes VmHWM start again from now
    before = memory("VmRSS")
    start = time.perf_counter()
    value = operation()
    seconds = time.perf_counter() - start
    results[name] = seconds, memory("VmHWM") - before
    return value


def run_side(make: Callable[[list[Trace]], Any], blocks: int, sites: int) -> Result:
    results: Result = {}
    traces, old_traces = make_traces(1, blocks, sites), make_traces(2, blocks, sites)
    snapshot = measure(results, "Snapshot(traces)", lambda: make(traces))
    old, again, more = make(old_traces), make(traces), make(traces)
    measure(results, "statistics lineno", lambda: snapshot.statistics("lineno"))
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "bench.snap")
        measure(results, "dump", lambda: snapshot.dump(path))
        results["file"] = 0, os.path.getsize(path)
        loaded = measure(results, "load", lambda: snapshot.load(path))
    measure(results, "statistics lineno, loaded", lambda: loaded.statistics("lineno"))
    measure(results, "compare_to lineno", lambda: again.compare_to(old, "lineno"))
    measure(results, "statistics traceback", lambda: more.statistics("traceback"))
    return results


def run_child(side: str, blocks: int, sites: int) -> Result:
    command = [sys.executable, os.path.abspath(__file__), "--side", side, str(blocks), str(sites)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return {name: (seconds, size) for name, (seconds, size) in json.loads(output).items()}


def print_table(results: dict[str, Result]) -> None:
    """Seconds and memory of every side, and how many times better than CPython ours are."""
    theirs = results["cpython"]
    print(f"{'':26}" + "".join(f"{side:>26}" for side in results) + "  goal")
    for name, (their_seconds, their_bytes) in theirs.items():
        line = f"{name:26}"
        for side, result in results.items():
            seconds, size = result[name]
            ratio = their_seconds / seconds if seconds else their_bytes / size if name == "file" else 0
            line += f"{f'{seconds:.3f} s' if seconds else '':>10}{size / 1e6:6.1f} MB"
            line += " " * 7 if side == "cpython" or name.startswith("Snap") else f"{ratio:6.1f}x"
        print(f"{line}  {GOALS[name]}x" if name in GOALS else line)


def main() -> None:
    sides: dict[str, Callable[[list[Trace]], Any]] = {
        "cpython": lambda traces: tracemalloc.Snapshot(traces, FRAMES),
        "ours, raw traces": lambda traces: tm.Snapshot(traces, FRAMES),
        "ours, as from GDB": in_columns,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("blocks", type=int, nargs="?", default=1_000_000)
    parser.add_argument("sites", type=int, nargs="?", default=10_000)
    parser.add_argument("--side", choices=sides, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(run_side(sides[options.side], options.blocks, options.sites)))
    else:
        print(f"{options.blocks} blocks, {options.sites} sites, {FRAMES} frames, python {sys.version.split()[0]}")
        print_table({side: run_child(side, options.blocks, options.sites) for side in sides})


if __name__ == "__main__":
    main()
