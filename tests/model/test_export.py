"""The exports of hand-written and random snapshots, read back by readers of the test's own."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
import random
import time
import unittest
from collections import Counter
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from support import TestWithDirectory, WIDE, model
from profile_reader import Profile, read_profile

if TYPE_CHECKING:
    from tm import export
else:
    export = importlib.import_module("tm.export")

SEED = 7
EMPTY = model.Snapshot([], 1)


def exported(format_name: str, snapshot: model.Snapshot) -> bytes:
    file = io.BytesIO()
    export.FORMATS[format_name].write(snapshot, file)
    return file.getvalue()


def folded(snapshot: model.Snapshot) -> dict[str, int]:
    stacks = {}
    for line in exported("folded", snapshot).decode().split("\n")[:-1]:
        stack, _, size = line.rpartition(" ")
        assert stack not in stacks, f"{stack} is there twice"
        stacks[stack] = int(size)
    return stacks


def profile(snapshot: model.Snapshot) -> Profile:
    return read_profile(gzip.decompress(exported("pprof", snapshot)))


def with_info(info: dict[str, Any], traces: list[model.RawTrace], *notes: str) -> model.Snapshot:
    return of_rows(model.Snapshot(traces, 9).rows, info=info, notes=notes)


def of_rows(rows: Any, **more: Any) -> model.Snapshot:
    return model.Snapshot.from_columns(rows.sites, rows.site_indexes, rows.sizes, rows.counts, 9, **more)


def random_snapshot(source: random.Random) -> model.Snapshot:
    frames: list[model.RawFrame] = [
        (f"{source.choice('abc')}.c", source.randrange(3), source.choice((None, "f", "g;h", "operator()\n")),
         source.choice((None, "", "/bin/p", "/lib/q.so")), source.choice((None, 0, 1, 2, 1 << 63)))
        for _ in range(12)]
    frames += [("plain.c", 3), ("pl;ain.c", 0)]
    traces: list[model.RawTrace] = [
        (source.randrange(3), source.randrange(1 << source.randrange(40)),
         tuple(source.choice(frames) for _ in range(source.randrange(6))), source.choice((None, 7)))
        for _ in range(source.randrange(60))]
    return model.Snapshot(traces, 5)


class TestFolded(unittest.TestCase):
    def test_by_hand(self) -> None:
        self.assertEqual(folded(model.Snapshot(WIDE, 3)), {
            "main;parse;xmalloc": 128, "main;getdelim": 100, "xmalloc": 8, "pool.c:7": 1 << 33, "plain.c:9": 5,
            "<unknown>": 1})

    def test_names_that_would_break_lines(self) -> None:
        frames = (("a.c", 1, "f<';'>", None, None), ("b.c", 1, "g\nh\r\x85", None, None),
                  ("c\udcff.c(+0x2)", 0, None, "/c\udcff.c", 2))
        self.assertEqual(folded(model.Snapshot([(0, 3, frames, 3)], 3)),
                         {"c\ufffd.c(+0x2);g\ufffdh\ufffd\ufffd;f<':'>": 3})

    def test_nothing(self) -> None:
        self.assertEqual(exported("folded", EMPTY), b"")


class TestPprof(unittest.TestCase):
    def test_by_hand(self) -> None:
        found = profile(model.Snapshot(WIDE, 3))
        self.assertEqual(found.sample_types, [("inuse_objects", "count"), ("inuse_space", "bytes")])
        self.assertEqual(found.default_sample_type, "inuse_space")
        self.assertEqual((found.period_type, found.period), (("space", "bytes"), 1))
        first = found.samples[0]
        self.assertEqual((first.values, first.labels), ([2, 128], {}))
        self.assertEqual([(place.address, place.mapping and place.mapping.filename, place.lines)
                          for place in first.locations], [
            (0x1012, "/bin/server", [("xmalloc", "xmalloc.c", 12)]),
            (0x2212, "/bin/server", [("parse", "server.c", 212)]),
            (0x2300, "/bin/server", [("main", "server.c", 300)])])
        library = found.samples[1].locations[0]
        self.assertEqual((library.mapping and library.mapping.filename, library.lines),
                         ("/lib/libc.so.6", [("getdelim", "/lib/libc.so.6", 0)]))
        self.assertEqual([sample.labels for sample in found.samples], [{}, {}, {}, *[{"domain": "3"}] * 2, {}])
        self.assertEqual([place.lines for place in found.samples[-1].locations], [[("<unknown>", "<unknown>", 0)]])

    def test_facts(self) -> None:
        info = {"program": "/bin/server", "time": "2024-02-03 04:05:06", "domains": {"3": "textures"},
                "build_ids": {"/bin/server": "ab12", "/lib/libc.so.6": "cd"}}
        found = profile(with_info(info, WIDE[2:], "a part is missing"))
        self.assertEqual(found.comments, ["a part is missing"])
        self.assertEqual(found.time_nanos, time.mktime((2024, 2, 3, 4, 5, 6, 0, 0, -1)) * 10**9)
        self.assertEqual([(mapping.filename, mapping.build_id, mapping.resolution) for mapping in found.mappings],
                         [("/bin/server", "ab12", 4), ("/lib/libc.so.6", "cd", 4)])
        self.assertIn({"domain": "textures"}, [sample.labels for sample in found.samples])

    def test_facts_that_make_no_sense(self) -> None:
        cases: list[dict[str, Any]] = [
            {"program": 3, "time": "soon", "domains": [], "build_ids": []}, {"time": "0001-01-01 00:00:00"},
            {"program": None, "build_ids": {"/bin/server": 3}}, {"time": 1e300}]
        for info in cases:
            with self.subTest(info=info):
                self.assertEqual(len(profile(with_info(info, WIDE)).samples), 6)

    def test_inlined_functions_share_a_location_and_calls_do_not(self) -> None:
        inner, outer = ("a.h", 1, "inner", "/p", 16), ("a.c", 2, "outer", "/p", 16)
        cases: list[tuple[model.RawFrames, list[int]]] = [
            ((inner, outer), [2]), ((inner, outer, inner, outer), [2, 2]), ((inner, inner, inner), [1, 1, 1]),
            ((outer, ("a.c", 9, "main", "/p", 17)), [1, 1]), ((inner, outer, inner), [2, 1]),
            ((inner, ("a.c", 2, "outer", "/q", 16)), [1, 1]), ((("a.c", 1), ("a.c", 2)), [1, 1]),
            ((("a.c", 1, "f", "/p", None), ("a.c", 2, "g", "/p", None)), [1, 1])]
        for frames, lines in cases:
            with self.subTest(frames=frames):
                sample, = profile(model.Snapshot([(0, 1, frames, None)], 9)).samples
                self.assertEqual([len(place.lines) for place in sample.locations], lines)

    def test_numbers_of_every_length(self) -> None:
        for size in (0, 1, 127, 128, 1 << 14, (1 << 63) - 1):
            frames = (("a.c", 1 << 31, "f", "/p", (1 << 64) - 1),)
            sample, = profile(model.Snapshot([(0, size, frames, 1)], 1)).samples
            self.assertEqual(sample.values, [1, size])
            self.assertEqual((sample.locations[0].address, sample.locations[0].lines),
                             ((1 << 64) - 1, [("f", "a.c", 1 << 31)]))

    def test_nothing(self) -> None:
        found = profile(EMPTY)
        self.assertEqual((found.samples, found.locations, found.mappings), ([], {}, []))

    def test_same_snapshot_same_bytes(self) -> None:
        self.assertEqual(exported("pprof", model.Snapshot(WIDE, 3)), exported("pprof", model.Snapshot(WIDE, 3)))


class TestJson(unittest.TestCase):
    def test_by_hand(self) -> None:
        found = json.loads(exported("json", with_info({"pid": 7}, WIDE, "a note")))
        self.assertEqual([found[key] for key in ("format", "version", "traceback_limit", "info", "notes")],
                         ["tracemalloc snapshot", 1, 9, {"pid": 7}, ["a note"]])
        self.assertEqual((found["size"], found["count"]), (128 + 100 + 8 + (1 << 33) + 5 + 1, 7))
        self.assertEqual(found["sites"][0], {"domain": 0, "size": 128, "count": 2, "total_nframe": 3,
                                             "frames": [0, 1, 2]})
        self.assertEqual(found["sites"][1]["total_nframe"], None)
        self.assertEqual(found["frames"][0], {"filename": "xmalloc.c", "lineno": 12, "function": "xmalloc",
                                              "module": "/bin/server", "pc": "0x1012"})
        self.assertEqual(found["rows"][:2], [[0, 64, 2], [1, 100, 1]])

    def test_sites_without_blocks_are_left_out(self) -> None:
        snapshot = model.Snapshot(WIDE, 3).filter_traces([model.Filter(True, "plain.c")])
        found = json.loads(exported("json", snapshot))
        self.assertEqual((len(found["sites"]), found["rows"], found["count"]), (1, [[0, 5, 1]], 1))

    def test_nothing(self) -> None:
        found = json.loads(exported("json", EMPTY))
        self.assertEqual([found[key] for key in ("sites", "frames", "rows", "count")], [[], [], [], 0])

    def test_names_of_any_bytes(self) -> None:
        frame, = json.loads(exported("json", model.Snapshot([(0, 1, (("\udcff.c", 1),), 1)], 1)))["frames"]
        self.assertEqual(frame["filename"], "\udcff.c")


class TestAllFormats(TestWithDirectory):
    def test_random_snapshots_sum_up(self) -> None:
        source = random.Random(SEED)
        for number in range(300):
            snapshot = random_snapshot(source)
            with self.subTest(seed=SEED, number=number):
                self.check_sums(snapshot)

    def check_sums(self, snapshot: model.Snapshot) -> None:
        """Every format against the traces, stack by stack."""
        sizes: Counter[tuple[Any, ...]] = Counter()
        counts: Counter[tuple[Any, ...]] = Counter()
        for trace in snapshot.traces:
            key = trace.domain, *((frame.filename, frame.lineno, frame.function, frame.pc)
                                  for frame in reversed(trace.traceback))
            sizes[key] += trace.size
            counts[key] += 1
        self.assertEqual(sum(folded(snapshot).values()), sum(sizes.values()))
        document = json.loads(exported("json", snapshot))
        by_site: Counter[int] = Counter()
        for index, size, count in document["rows"]:
            by_site[index] += size * count
        in_json: Counter[tuple[Any, ...]] = Counter()
        for number, site in enumerate(document["sites"]):
            self.assertEqual(by_site[number], site["size"])
            frames = [document["frames"][index] for index in site["frames"]]
            in_json[(site["domain"], *((frame["filename"], frame["lineno"], frame["function"],
                                        frame["pc"] and int(frame["pc"], 16)) for frame in frames))] += site["size"]
        self.assertEqual(in_json, sizes)
        in_profile: Counter[tuple[Any, ...]] = Counter()
        blocks: Counter[tuple[Any, ...]] = Counter()
        for sample in profile(snapshot).samples:
            stack = tuple((place.address, function, line) for place in sample.locations
                          for function, _, line in place.lines)
            in_profile[sample.labels.get("domain", "0"), stack] += sample.values[1]
            blocks[sample.labels.get("domain", "0"), stack] += sample.values[0]
        self.assertEqual(in_profile, self.as_profile(sizes))
        self.assertEqual(blocks, self.as_profile(counts))

    def as_profile(self, numbers: Counter[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
        """Sums by what a profile tells of a stack."""
        found: Counter[tuple[Any, ...]] = Counter()
        for (domain, *frames), number in numbers.items():
            stack = tuple((pc or 0, (function or filename).replace("\n", "\ufffd"), line)
                          for filename, line, function, pc in frames) or ((0, "<unknown>", 0),)
            found[str(domain), stack] += number
        return found

    def test_saved_files_hold_what_is_written(self) -> None:
        snapshot = model.Snapshot(WIDE, 3)
        for name in export.FORMATS:
            size = export.save(snapshot, name, self.path)
            self.assertEqual(self.read(), exported(name, snapshot))
            self.assertEqual(size, os.path.getsize(self.path))

    def test_an_unknown_format(self) -> None:
        with self.assertRaisesRegex(ValueError, "unknown format svg: use one of folded, pprof, json"):
            export.save(EMPTY, "svg", self.path)
        self.assertEqual(os.listdir(self.directory), [])

    def test_whole_or_not_at_all(self) -> None:
        class Interrupting(model.Site):
            @property
            def frames(self) -> model.RawFrames:
                raise KeyboardInterrupt

        rows = model.Snapshot(WIDE, 3).rows
        rows.sites = [*rows.sites[:-1], Interrupting(0, (), None)]
        snapshot = of_rows(rows)
        self.write(b"before")
        for name in export.FORMATS:
            with self.assertRaises(KeyboardInterrupt):
                export.save(snapshot, name, self.path)
            with patch("os.fsync", side_effect=OSError(28, "full")), self.assertRaises(OSError):
                export.save(EMPTY, name, self.path)
            self.assertEqual(os.listdir(self.directory), ["a.snap"])
            self.assertEqual(self.read(), b"before")

    def test_what_must_not_be_replaced(self) -> None:
        with self.assertRaisesRegex(ValueError, "/dev/null is not a regular file"):
            export.save(EMPTY, "json", "/dev/null")


if __name__ == "__main__":
    unittest.main()
