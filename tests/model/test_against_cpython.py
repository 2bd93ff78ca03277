"""Random snapshots, filters and groupings: our model and the running python3's own must agree in every character."""

from __future__ import annotations

import os
import random
import tracemalloc
import unittest
from array import array
from typing import Any

from support import TestWithDirectory, model

SEED = 20240613
SNAPSHOTS = 3000

FILENAMES = ("a.c", "b.c", "dir/a.c", "a.pyc", "a.py", "A.c", "<unknown>", "x[1].c", "\u00e4.c", "", "ab.c")
PATTERNS = FILENAMES + ("*", "a*", "*.c", "?.c", "[ab].c", "[!a].c", "dir/*", "*.pyc", "a.p*", "x[[]1].c")
KEYS = (("filename", False), ("lineno", False), ("traceback", False), ("filename", True), ("lineno", True))
SIZES = (0, 1, 9, 10, 99, 1023, 1024, 10 * 1024 - 1, 10 * 1024, 100 * 1024, 1 << 20, 10 << 20, 99 << 20, 1 << 30,
         5 << 40, 1 << 55)

NarrowTrace = tuple[int, int, tuple[tuple[str, int], ...], Any]


class Source:
    """Random input, the same for both sides."""

    def __init__(self) -> None:
        self.random = random.Random(SEED)

    def frame(self) -> tuple[str, int]:
        return self.random.choice(FILENAMES), self.random.choice((0, 1, 2, 2, 3, 65536))

    def traces(self) -> list[NarrowTrace]:
        choose = self.random.choice
        frames = [self.frame() for _ in range(self.random.randint(1, 6))]
        stacks = [tuple(choose(frames) for _ in range(self.random.randint(1, 5)))
                  for _ in range(self.random.randint(1, 8))]
        sizes = [choose(SIZES) for _ in range(3)] + [self.random.randrange(1 << self.random.randint(1, 40))]
        traces: list[NarrowTrace] = []
        for _ in range(choose((0, 1, 5, 30))):
            stack = choose(stacks)
            trace = choose((0, 0, 1, 7)), choose(sizes), stack, choose((None, len(stack), len(stack) + 3))
            traces += [trace] * choose((1, 1, 2, 5))
        return traces

    def filters(self, module: Any, seed: int) -> Any:
        """The same filters for the same seed, of the classes of either side."""
        source = random.Random(seed)
        filters = []
        for _ in range(source.choice((0, 1, 1, 2, 4))):
            if source.random() < 0.3:
                filters.append(module.DomainFilter(source.choice((True, False)), source.choice((0, 1, 7))))
            else:
                filters.append(module.Filter(source.choice((True, False)), source.choice(PATTERNS),
                                             source.choice((None, None, 0, 2)), source.choice((True, False)),
                                             source.choice((None, None, 0, 1))))
        return source.choice((filters, tuple(filters), iter(filters)))


def widened(traces: list[NarrowTrace]) -> list[model.RawTrace]:
    """The same traces with function, module and program counter; frames without a line stay as they are."""
    return [(domain, size, tuple(frame if not frame[1] else (*frame, f"f{depth}", "/bin/p", depth)
                                 for depth, frame in enumerate(frames)), total)
            for domain, size, frames, total in traces]


def in_columns(traces: list[NarrowTrace]) -> model.Snapshot:
    """The same traces in columns whose sites are one per trace, some of them unused, in lines of one block each."""
    sites = [model.Site(domain, frames, total) for domain, _, frames, total in traces]
    unused = model.Site(99, (("unused.c", 1),), None)
    return model.Snapshot.from_columns(sites + [unused], array("Q", range(len(traces))),
                                       array("Q", (trace[1] for trace in traces)), array("Q", [1] * len(traces)), 5)


class TestAgainstCPython(TestWithDirectory):
    def setUp(self) -> None:
        super().setUp()
        self.source = Source()
        self.seen = 0

    def same(self, theirs: Any, ours: Any) -> None:
        self.assertEqual(repr(theirs), repr(ours), f"seed {SEED}, snapshot {self.seen}")
        self.assertEqual(str(theirs), str(ours), f"seed {SEED}, snapshot {self.seen}")

    def same_all(self, theirs: Any, ours: Any) -> None:
        self.assertEqual(len(theirs), len(ours), f"seed {SEED}, snapshot {self.seen}")
        for one, other in zip(theirs, ours):
            self.same(one, other)

    def same_snapshot(self, theirs: Any, ours: Any) -> None:
        self.same_all(theirs.traces, ours.traces)
        self.assertEqual(theirs.traceback_limit, ours.traceback_limit)
        for key, cumulative in KEYS:
            self.same_all(theirs.statistics(key, cumulative), ours.statistics(key, cumulative))

    def variants(self, traces: list[NarrowTrace]) -> list[model.Snapshot]:
        ours = [model.Snapshot(traces, 5), in_columns(traces)]
        if self.seen % 3 == 0:
            ours.append(model.Snapshot(widened(traces), 5))
        if self.seen % 10 == 0:
            ours[0].dump(self.path)
            ours.append(model.Snapshot.load(self.path))
        return ours

    def test_snapshots(self) -> None:
        print(f"seed {SEED}, {SNAPSHOTS} snapshots beside {tracemalloc.__file__}")
        their_old: Any = tracemalloc.Snapshot([], 5)
        our_old = model.Snapshot([], 5)
        for self.seen in range(SNAPSHOTS):
            traces = self.source.traces()
            theirs: Any = tracemalloc.Snapshot(traces, 5)
            seed = self.source.random.randrange(1 << 30)
            for ours in self.variants(traces):
                self.same_snapshot(theirs, ours)
                for key, cumulative in KEYS:
                    self.same_all(theirs.compare_to(their_old, key, cumulative),
                                  ours.compare_to(our_old, key, cumulative))
                self.same_snapshot(theirs.filter_traces(self.source.filters(tracemalloc, seed)),
                                   ours.filter_traces(self.source.filters(model, seed)))
            their_old, our_old = theirs, ours

    def test_traces_are_the_same_sequence(self) -> None:
        for self.seen in range(SNAPSHOTS // 10):
            traces = self.source.traces()
            theirs: Any = tracemalloc.Snapshot(traces, 5)
            for ours in self.variants(traces):
                for _ in range(5):
                    a, b, c = (self.source.random.randint(-40, 40) for _ in range(3))
                    self.same_all(theirs.traces[a:b:c or None], ours.traces[a:b:c or None])
                for index in (0, -1, len(traces) // 2, len(traces) - 1) if traces else ():
                    self.same(theirs.traces[index], ours.traces[index])
                for index in (len(traces), -len(traces) - 1):
                    self.assertRaises(IndexError, lambda: ours.traces[index])
                self.same(theirs.traces, ours.traces)
                trace = self.source.traces() or [(0, 0, (("a.c", 1),), None)]
                self.assertEqual(tracemalloc.Trace(trace[0]) in theirs.traces, model.Trace(trace[0]) in ours.traces)
                self.assertEqual(theirs.traces == tracemalloc.Snapshot(traces[1:], 5).traces,
                                 ours.traces == model.Snapshot(traces[1:], 5).traces)

    def test_frames_and_tracebacks(self) -> None:
        with open(os.path.join(self.directory, "source.c"), "w") as file:
            file.write("int main(void)\n{\n    return 0;\n}\n")
        place = file.name
        for self.seen in range(SNAPSHOTS):
            stacks = [tuple(self.source.random.choice((self.source.frame(), (place, 3)))
                            for _ in range(self.source.random.randint(0, 3))) for _ in range(2)]
            theirs: list[Any] = [tracemalloc.Traceback(stack, 3) for stack in stacks]
            ours: list[Any] = [model.Traceback(stack, 3) for stack in stacks]
            self.same_order(theirs, ours)
            for one, other in zip(theirs, ours):
                self.assertEqual(repr(one), repr(other))
                for limit in (None, *range(-3, 4)):
                    for recent in (False, True):
                        self.assertEqual(one.format(limit, recent), other.format(limit, recent))
            if all(stacks):
                self.same_order([one[0] for one in theirs], [other[0] for other in ours])
                self.assertEqual(theirs[0][-1] in theirs[1], ours[0][-1] in ours[1])

    def same_order(self, theirs: list[Any], ours: list[Any]) -> None:
        for compare in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
            self.assertEqual(getattr(theirs[0], compare)(theirs[1]), getattr(ours[0], compare)(ours[1]))
        self.assertEqual(hash(theirs[0]) == hash(theirs[1]), hash(ours[0]) == hash(ours[1]))

    def test_statistics_print_the_same(self) -> None:
        choose = self.source.random.choice
        their_traceback = tracemalloc.Traceback((("a.c", 1),))
        our_traceback = model.Traceback((("a.c", 1),))
        for self.seen in range(SNAPSHOTS):
            size, count = choose(SIZES) + self.source.random.randrange(2000), self.source.random.randrange(5)
            size_diff, count_diff = choose((1, -1)) * choose(SIZES), self.source.random.randint(-3, 3)
            self.same(tracemalloc.Statistic(their_traceback, size, count), model.Statistic(our_traceback, size, count))
            self.same(tracemalloc.StatisticDiff(their_traceback, size, size_diff, count, count_diff),
                      model.StatisticDiff(our_traceback, size, size_diff, count, count_diff))


if __name__ == "__main__":
    unittest.main()
