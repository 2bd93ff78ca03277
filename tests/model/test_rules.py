"""The rules of the model on raw traces written by hand: CPython's, and those of ours beside them."""

from __future__ import annotations

import importlib
import unittest
from array import array
from collections.abc import Sequence
from typing import Any

from support import WIDE, model

wrappers = importlib.import_module("tm.wrappers")

# Most recent frame first: main calls serve, serve calls parse twice over.
PARSE = (("parse.c", 10), ("parse.c", 20), ("serve.c", 5), ("main.c", 1))
LOG = (("log.c", 7), ("main.c", 2))
RAW: list[model.RawTrace] = [
    (0, 100, PARSE, 4),
    (0, 100, PARSE, 4),
    (0, 30, LOG, None),
    (1, 30, LOG, None),
    (0, 100, PARSE, 4),
    (2, 500, (("<unknown>", 0),), 1),
]


def rows(statistics: Sequence[Any]) -> list[str]:
    return list(map(str, statistics))


class TestStatistics(unittest.TestCase):
    def setUp(self) -> None:
        self.snapshot = model.Snapshot(RAW, 4)

    def test_by_line_the_largest_first(self) -> None:
        self.assertEqual(rows(self.snapshot.statistics("lineno")), [
            "<unknown>:0: size=500 B, count=1, average=500 B",
            "parse.c:10: size=300 B, count=3, average=100 B",
            "log.c:7: size=60 B, count=2, average=30 B"])

    def test_by_file_prints_line_0(self) -> None:
        self.assertEqual(rows(self.snapshot.statistics("filename"))[1],
                         "parse.c:0: size=300 B, count=3, average=100 B")

    def test_by_traceback_keeps_all_frames_and_prints_the_oldest(self) -> None:
        statistic = self.snapshot.statistics("traceback")[1]
        self.assertEqual(str(statistic), "main.c:1: size=300 B, count=3, average=100 B")
        self.assertEqual(statistic.traceback, model.Traceback(PARSE))
        self.assertIsNone(statistic.traceback.total_nframe)

    def test_cumulative_counts_recursion_again(self) -> None:
        self.assertEqual(rows(self.snapshot.statistics("filename", cumulative=True)), [
            "parse.c:0: size=600 B, count=6, average=100 B",
            "<unknown>:0: size=500 B, count=1, average=500 B",
            "main.c:0: size=360 B, count=5, average=72 B",
            "serve.c:0: size=300 B, count=3, average=100 B",
            "log.c:0: size=60 B, count=2, average=30 B"])

    def test_ties_go_by_count_and_then_by_traceback(self) -> None:
        snapshot = model.Snapshot([(0, 4, (("a.c", 1),), 1), (0, 4, (("b.c", 1),), 1), (0, 4, (("a.c", 2),), 1),
                                   (0, 2, (("a.c", 0),), 1), (0, 2, (("a.c", 0),), 1)], 1)
        self.assertEqual([str(statistic.traceback) for statistic in snapshot.statistics("lineno")],
                         ["a.c:0", "b.c:1", "a.c:2", "a.c:1"])

    def test_unknown_key_names_the_known(self) -> None:
        with self.assertRaisesRegex(ValueError, "'line'.*filename, lineno, traceback, function, module, domain"):
            self.snapshot.statistics("line")

    def test_no_cumulative_traceback_or_domain(self) -> None:
        for key in ("traceback", "domain"):
            with self.assertRaisesRegex(ValueError, key):
                self.snapshot.statistics(key, True)
            with self.assertRaisesRegex(ValueError, key):
                self.snapshot.compare_to(self.snapshot, key, cumulative=True)

    def test_sites_without_blocks_do_not_show(self) -> None:
        sites = [model.Site(0, (("a.c", 1),), 1), model.Site(0, (("b.c", 1),), 1)]
        snapshot = model.Snapshot.from_columns(sites, array("Q", [1]), array("Q", [8]), array("Q", [3]), 1)
        self.assertEqual(rows(snapshot.statistics("lineno")), ["b.c:1: size=24 B, count=3, average=8 B"])

    def test_line_statistics_ask_for_the_innermost_frame_alone(self) -> None:
        class Lazy(model.Site):
            @property
            def frames(self) -> model.RawFrames:
                raise AssertionError("nobody asked for all frames")

            @property
            def innermost(self) -> model.RawFrame:
                return "a.c", 3, "f", "/bin/p", 0x1234

        columns = array("Q", [0]), array("Q", [8]), array("Q", [2])
        snapshot = model.Snapshot.from_columns([Lazy(0, (), None)], *columns, 1)
        for key in ("filename", "lineno", "function", "module", "domain"):
            self.assertEqual([statistic.count for statistic in snapshot.statistics(key)], [2])
        snapshot.filter_traces([model.Filter(True, "a.c")])
        snapshot.skip_wrappers(["g"])
        with self.assertRaises(AssertionError):
            snapshot.statistics("traceback")


class TestCompare(unittest.TestCase):
    def setUp(self) -> None:
        self.old = model.Snapshot(RAW, 4)
        self.new = model.Snapshot([*RAW[:5], (0, 60, LOG, None), (0, 340, (("new.c", 3),), 1)], 4)

    def test_greatest_change_first_unchanged_last(self) -> None:
        self.assertEqual(rows(self.new.compare_to(self.old, "lineno")), [
            "<unknown>:0: size=0 B (-500 B), count=0 (-1)",
            "new.c:3: size=340 B (+340 B), count=1 (+1), average=340 B",
            "log.c:7: size=120 B (+60 B), count=3 (+1), average=40 B",
            "parse.c:10: size=300 B (+0 B), count=3 (+0), average=100 B"])

    def test_sites_meet_by_value(self) -> None:
        again = model.Snapshot([(0, 100, tuple(list(PARSE)), 4)], 4)
        only = model.Snapshot([(0, 100, PARSE, 4)], 4)
        for key in ("filename", "lineno", "traceback", "function", "module", "domain"):
            self.assertEqual([(diff.size_diff, diff.count_diff) for diff in again.compare_to(only, key)], [(0, 0)])

    def test_frames_meet_whatever_is_known_of_them(self) -> None:
        one = model.Snapshot([(0, 8, (("a.c", 1, "f", "/bin/p", 0x10),), 1)], 1)
        two = model.Snapshot([(0, 8, (("a.c", 1),), 1)], 1)
        self.assertEqual([diff.size_diff for diff in one.compare_to(two, "traceback")], [0])


class TestOurGroups(unittest.TestCase):
    def setUp(self) -> None:
        self.snapshot = model.Snapshot(WIDE, 3)

    def test_by_line(self) -> None:
        self.assertEqual(rows(self.snapshot.statistics("lineno")), [
            "pool.c:7: size=8192 MiB, count=1, average=8192 MiB",
            "xmalloc.c:12: size=136 B, count=3, average=45 B",
            "libc.so.6(getdelim+0x15a): size=100 B, count=1, average=100 B",
            "plain.c:9: size=5 B, count=1, average=5 B",
            "<unknown>:0: size=1 B, count=1, average=1 B"])

    def test_by_file_a_place_without_line_is_its_module(self) -> None:
        self.assertEqual(rows(self.snapshot.statistics("filename"))[2],
                         "/lib/libc.so.6:0: size=100 B, count=1, average=100 B")

    def test_by_function(self) -> None:
        statistics = self.snapshot.statistics("function")
        self.assertEqual(rows(statistics), [
            "?? (pool.c): size=8192 MiB, count=1, average=8192 MiB",
            "xmalloc (xmalloc.c): size=136 B, count=3, average=45 B",
            "getdelim (/lib/libc.so.6): size=100 B, count=1, average=100 B",
            "?? (plain.c): size=5 B, count=1, average=5 B",
            "<unknown>:0: size=1 B, count=1, average=1 B"])
        self.assertEqual(statistics[1].traceback[0].function, "xmalloc")

    def test_by_module(self) -> None:
        self.assertEqual(rows(self.snapshot.statistics("module")), [
            "<unknown>: size=8192 MiB, count=3, average=2731 MiB",
            "/bin/server: size=136 B, count=3, average=45 B",
            "/lib/libc.so.6: size=100 B, count=1, average=100 B"])

    def test_by_domain(self) -> None:
        self.assertEqual(rows(self.snapshot.statistics("domain")), [
            "domain 3: size=8192 MiB, count=2, average=4096 MiB",
            "domain 0: size=237 B, count=5, average=47 B"])

    def test_cumulative_by_function(self) -> None:
        by_name = {statistic.traceback[0].function: statistic.count
                   for statistic in self.snapshot.statistics("function", True)}
        self.assertEqual(by_name, {None: 1, "xmalloc": 3, "parse": 2, "main": 3, "getdelim": 1})

    def test_frame_of_ours(self) -> None:
        frame = model.Frame(("a.c", 1, "f", "/bin/p", 0x10))
        self.assertEqual((frame.filename, frame.lineno, frame.function, frame.module, frame.pc),
                         ("a.c", 1, "f", "/bin/p", 0x10))
        self.assertEqual(frame, model.Frame(("a.c", 1)))
        self.assertEqual(hash(frame), hash(model.Frame(("a.c", 1))))
        self.assertEqual(repr(frame), "<Frame filename='a.c' lineno=1>")
        plain = model.Frame(("a.c", 1))
        self.assertEqual((plain.function, plain.module, plain.pc), (None, None, None))

    def test_format_without_line(self) -> None:
        traceback = self.snapshot.traces[2].traceback
        self.assertEqual(traceback.format(), ['  File "server.c", line 300', '  File "libc.so.6(getdelim+0x15a)"'])


class TestFilters(unittest.TestCase):
    def kept(self, *filters: model.BaseFilter) -> list[int]:
        return [trace.size for trace in model.Snapshot(RAW, 4).filter_traces(filters).traces]

    def test_any_inclusive_and_no_exclusive(self) -> None:
        self.assertEqual(self.kept(), [100, 100, 30, 30, 100, 500])
        self.assertEqual(self.kept(model.Filter(True, "log.c"), model.Filter(True, "<unk*")), [30, 30, 500])
        self.assertEqual(self.kept(model.Filter(True, "*.c"), model.Filter(False, "log.c")), [100, 100, 100])
        self.assertEqual(self.kept(model.Filter(False, "log.c"), model.Filter(False, "parse.c")), [500])

    def test_all_frames_lines_and_domains(self) -> None:
        self.assertEqual(self.kept(model.Filter(True, "main.c", all_frames=True)), [100, 100, 30, 30, 100])
        self.assertEqual(self.kept(model.Filter(True, "main.c", 2, True)), [30, 30])
        self.assertEqual(self.kept(model.Filter(False, "log.c", domain=1)), [100, 100, 30, 100, 500])
        self.assertEqual(self.kept(model.DomainFilter(True, 2), model.DomainFilter(True, domain=1)), [30, 500])
        self.assertEqual(self.kept(model.DomainFilter(False, 0)), [30, 500])

    def test_the_original_stays(self) -> None:
        snapshot = model.Snapshot(RAW, 4)
        before = list(snapshot.traces)
        snapshot.filter_traces([model.Filter(True, "log.c")])
        self.assertEqual(list(snapshot.traces), before)

    def test_facts_and_notes_go_along(self) -> None:
        snapshot = model.Snapshot.from_columns([], array("Q"), array("Q"), array("Q"), 7,
                                               info={"pid": 9}, notes=["cut"])
        for derived in (snapshot.filter_traces([model.Filter(True, "a")]), snapshot.skip_wrappers(["a"])):
            self.assertEqual((derived.info, derived.notes, derived.traceback_limit), ({"pid": 9}, ("cut",), 7))

    def test_one_filter_is_no_list(self) -> None:
        one: Any = model.Filter(True, "a")
        with self.assertRaisesRegex(TypeError, "Filter"):
            model.Snapshot(RAW, 4).filter_traces(one)

    def test_a_place_without_line_matches_by_its_module_too(self) -> None:
        snapshot = model.Snapshot(WIDE, 3)
        for pattern in ("libc.so.6*", "/lib/libc.so.6"):
            filtered = snapshot.filter_traces([model.Filter(True, pattern)])
            self.assertEqual([trace.size for trace in filtered.traces], [100])


class TestWrappers(unittest.TestCase):
    def setUp(self) -> None:
        self.snapshot = model.Snapshot(WIDE, 3)

    def test_blocks_count_for_the_first_that_is_none(self) -> None:
        for pattern in ("xmal*", "xmalloc.c"):
            snapshot = self.snapshot.skip_wrappers([pattern, "*libc.so*"])
            self.assertEqual([str(statistic.traceback) for statistic in snapshot.statistics("lineno")],
                             ["pool.c:7", "server.c:212", "server.c:300", "xmalloc.c:12", "plain.c:9", "<unknown>:0"])

    def test_function_file_or_module_matches(self) -> None:
        for pattern, innermost in (("getdelim", "server.c:300"), ("libc.so.6(*", "server.c:300"),
                                   ("/lib/libc*", "server.c:300"), ("libc", "libc.so.6(getdelim+0x15a)"),
                                   ("Getdelim", "libc.so.6(getdelim+0x15a)")):
            names = [str(one.traceback) for one in self.snapshot.skip_wrappers([pattern]).statistics("lineno")]
            self.assertEqual(names[2], innermost)

    def test_tracebacks_stay_whole(self) -> None:
        skipped = self.snapshot.skip_wrappers(["xmalloc"])
        self.assertEqual(skipped.traces, self.snapshot.traces)
        self.assertEqual(skipped.statistics("traceback"), self.snapshot.statistics("traceback"))
        self.assertEqual(rows(self.snapshot.statistics("lineno"))[1], "xmalloc.c:12: size=136 B, count=3, average=45 B")

    def test_how_many_want_more_frames(self) -> None:
        self.assertEqual(self.snapshot.skip_wrappers(["xmalloc"]).wrapper_only_blocks, 1)
        self.assertEqual(self.snapshot.skip_wrappers(["*.c"]).wrapper_only_blocks, 1)  # a whole traceback wants none
        self.assertEqual(self.snapshot.wrapper_only_blocks, 0)

    def test_where_all_are_wrappers_the_outermost_counts(self) -> None:
        statistics = self.snapshot.skip_wrappers(["*"]).statistics("lineno")
        self.assertEqual(rows(statistics)[1], "server.c:300: size=228 B, count=3, average=76 B")

    def test_no_pattern_changes_nothing(self) -> None:
        skipped = self.snapshot.skip_wrappers([])
        for key in model.KEY_TYPES:
            self.assertEqual(rows(skipped.statistics(key)), rows(self.snapshot.statistics(key)))

    def test_filters_follow(self) -> None:
        skipped = self.snapshot.skip_wrappers(["xmalloc"])
        self.assertEqual(len(skipped.filter_traces([model.Filter(True, "server.c")]).traces), 2)
        self.assertEqual(len(self.snapshot.filter_traces([model.Filter(True, "server.c")]).traces), 0)

    def test_one_pattern_is_no_list(self) -> None:
        with self.assertRaisesRegex(TypeError, "xmalloc"):
            self.snapshot.skip_wrappers("xmalloc")

    def test_how_many_count_for_another_frame(self) -> None:
        self.assertEqual(self.snapshot.skipped_blocks, 0)
        self.assertEqual(self.snapshot.skip_wrappers(["main"]).skipped_blocks, 0)
        skipped = self.snapshot.skip_wrappers(["xmalloc", "getdelim"])
        self.assertEqual(skipped.skipped_blocks, 3)  # the third block of xmalloc has no other frame
        self.assertEqual(skipped.filter_traces([model.Filter(True, "server.c", 212)]).skipped_blocks, 2)
        self.assertEqual(skipped.filter_traces([model.Filter(True, "xmalloc.c")]).wrapper_only_blocks, 1)

    def test_the_last_patterns_hold(self) -> None:
        again = self.snapshot.skip_wrappers(["xmalloc"]).skip_wrappers(["getdelim"])
        self.assertEqual(rows(again.statistics("lineno")),
                         rows(self.snapshot.skip_wrappers(["getdelim"]).statistics("lineno")))

    def test_by_module_the_allocators_caller_counts(self) -> None:
        skipped = self.snapshot.skip_wrappers(["*libc.so*", "xmalloc"])
        self.assertEqual(rows(skipped.statistics("module")), rows(self.snapshot.statistics("module")))

    def test_the_default_patterns(self) -> None:
        def is_wrapper(filename: str, function: str | None, module: str = "/bin/program") -> bool:
            frames = (filename, 0, function, module, 1), ("main.c", 9, "main", "/bin/program", 2)
            snapshot = model.Snapshot([(0, 1, frames, 2)], 2).skip_wrappers(wrappers.expanded(["default"]))
            return bool(snapshot.skipped_blocks)

        for function in ("operator new", "operator new[]", "Pool::operator new", "std::vector<int>::push_back",
                         "std::__new_allocator<int>::allocate", "__gnu_cxx::new_allocator<int>::allocate", "strdup",
                         "__strdup", "__GI___strdup", "__GI_strndup", "getdelim", "__asprintf_chk", "_IO_vasprintf",
                         "__vasprintf_internal", "reallocarray", "open_memstream", "__libc_reallocarray",
                         "__libc_scratch_buffer_grow", "xmalloc", "xstrdup", "xcalloc", "xrealloc", "g_malloc0_n",
                         "g_strdup_printf", "g_realloc"):
            self.assertTrue(is_wrapper("x.c", function), function)
        others: list[str | None] = ["main", "malloc_items", "operator+", "my::std::f", "strdupe", "xmalloc_test",
                                    "f<std::string>", "make_strdup", None]
        for other in others:
            self.assertFalse(is_wrapper("x.c", other), other)
        for module in ("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2", "/lib/libc-2.31.so",
                       "/lib/ld-musl-x86_64.so.1"):
            self.assertTrue(is_wrapper("x(+0x10)", None, module), module)
        for module in ("/usr/lib/libcurl.so.4", "/usr/lib/libcap.so.2", "/opt/libc.d/libother.so.1"):
            self.assertFalse(is_wrapper("x(+0x10)", None, module), module)

    def test_patterns_beside_the_default(self) -> None:
        self.assertEqual(list(wrappers.expanded([])), [])
        self.assertEqual(list(wrappers.expanded(["a", "default", "b"])), ["a", *wrappers.PATTERNS, "b"])
        self.assertTrue(set(wrappers.described()) < set(wrappers.PATTERNS))


class TestTraces(unittest.TestCase):
    def test_addresses_are_read_when_asked_for_and_once(self) -> None:
        reads = []

        def addresses() -> list[int]:
            reads.append(1)
            return [0x10, 0x20, 0x30, 0x40]

        snapshot = model.Snapshot.from_columns(
            [model.Site(0, LOG, None), model.Site(0, PARSE, None)], array("Q", [0, 1]), array("Q", [8, 16]),
            array("Q", [3, 1]), 4, addresses=addresses)
        traces = list(snapshot.traces)
        filtered = snapshot.filter_traces([model.Filter(False, "log.c")])
        self.assertEqual(reads, [])
        self.assertEqual([trace.address for trace in traces], [0x10, 0x20, 0x30, 0x40])
        self.assertEqual([trace.address for trace in filtered.traces], [0x40])
        self.assertEqual(snapshot.traces[-1].address, 0x40)
        self.assertEqual(snapshot.skip_wrappers(["a"]).traces[1].address, 0x20)
        self.assertEqual(reads, [1])
        self.assertEqual(traces[0], traces[1])

    def test_addresses_may_turn_out_unknown(self) -> None:
        snapshot = model.Snapshot.from_columns([model.Site(0, LOG, None)], array("Q", [0]), array("Q", [8]),
                                               array("Q", [3]), 4, addresses=lambda: None)
        filtered = snapshot.filter_traces([model.Filter(True, "log.c"), model.Filter(False, "nowhere.c")])
        for one in (snapshot, snapshot.skip_wrappers(["a"]), filtered):
            self.assertEqual([trace.address for trace in one.traces], [None] * 3)

    def test_addresses_for_other_than_the_blocks_are_refused(self) -> None:
        snapshot = model.Snapshot.from_columns([model.Site(0, LOG, None)], array("Q", [0]), array("Q", [8]),
                                               array("Q", [3]), 4, addresses=lambda: [1, 2])
        with self.assertRaisesRegex(ValueError, "2 addresses for 3 blocks"):
            snapshot.traces[0].address

    def test_no_address_where_none_is_known(self) -> None:
        self.assertIsNone(model.Snapshot(RAW, 4).traces[0].address)
        self.assertIsNone(model.Trace(RAW[0]).address)
        self.assertEqual(model.Trace(RAW[0], 0x10).address, 0x10)

    def test_old_traces_of_three(self) -> None:
        snapshot = model.Snapshot([(0, 8, LOG)], 2)
        self.assertEqual(str(model.Trace((0, 8, LOG))), "main.c:2: 8 B")
        self.assertEqual(snapshot.traces[0], model.Trace((0, 8, LOG)))
        self.assertIn(model.Trace((0, 8, LOG)), snapshot.traces)
        self.assertIsNone(snapshot.traces[0].traceback.total_nframe)

    def test_equal_neighbours_share_a_row(self) -> None:
        rows = model.Snapshot(RAW, 4).rows
        self.assertEqual(list(rows.counts), [2, 1, 1, 1, 1])

    def test_millions_of_blocks_are_no_objects(self) -> None:
        snapshot = model.Snapshot.from_columns([model.Site(0, LOG, None)], array("Q", [0, 0]), array("Q", [8, 9]),
                                               array("Q", [10 ** 12, 1]), 2)
        self.assertEqual(len(snapshot.traces), 10 ** 12 + 1)
        self.assertEqual(snapshot.traces[-1].size, 9)
        self.assertEqual(snapshot.traces[10 ** 12 - 1].size, 8)

    def test_columns_that_do_not_fit_are_refused(self) -> None:
        site = model.Site(0, LOG, None)
        for indexes, sizes, counts, reason in (([0, 0], [8], [1], "2, 1 and 1 rows"), ([0], [8], [0], "0 blocks"),
                                               ([1], [8], [1], "site index 1 of 1")):
            with self.assertRaisesRegex(ValueError, reason):
                model.Snapshot.from_columns([site], array("Q", indexes), array("Q", sizes), array("Q", counts), 1)


class TestSizes(unittest.TestCase):
    def test_rounding_units_and_signs(self) -> None:
        for size, plain, signed in (
                (0, "0 B", "+0 B"), (-1, "-1 B", "-1 B"), (10239, "10239 B", "+10239 B"),
                (10240, "10.0 KiB", "+10.0 KiB"), (-10240, "-10.0 KiB", "-10.0 KiB"),
                (1 << 20, "1024 KiB", "+1024 KiB"), (1 << 30, "1024 MiB", "+1024 MiB"),
                (99.96 * 1024, "100.0 KiB", "+100.0 KiB"), (100 * 1024, "100 KiB", "+100 KiB"),
                (1 << 60, "1048576 TiB", "+1048576 TiB"), (2.5, "2 B", "+2 B")):
            self.assertEqual((model.format_size(size, False), model.format_size(size, True)), (plain, signed))


if __name__ == "__main__":
    unittest.main()
