"""test_views.py: what the commands show of a snapshot: filters, wrappers, the limit, and what the headlines say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import unittest
from pathlib import Path

from support import (BUILD, GdbTest, LINKED, PROGRAMS, Result, Step, at_checkpoint, compile_file, gdb, line_of,
                     new_directory, preload, program, python, rows)

SKIPPING = "; skipping wrappers (show tm wrappers)"


def headline(result: Result) -> str:
    assert result.error is None, result.error
    return result.output.splitlines()[0]


def places(result: Result) -> list[str]:
    """Where each row is, in order."""
    return [row.partition(": size=")[0] for row in rows(result.output)]


def wrappers(*steps: Step, frames: int = 25, path: Path | None = None) -> list[Result]:
    start = [*preload(frames=frames), *at_checkpoint()]
    return gdb([*start, *steps], path or program("wrappers"))[len(start):]


def at(*marks: str, source: str = "wrappers.c") -> list[str]:
    return [f"{source}:{line_of(source, mark)}" for mark in marks]


class FilterTest(GdbTest):

    def test_filters_hold_for_every_command(self) -> None:
        everything, _, stats, module, traceback, cumulative, traces, _, saved, compare, *_ = wrappers(
            "tm-stats", "tm-filter include wrappers.c -lineno %d" % line_of("wrappers.c", "strdup"), "tm-stats",
            "tm-stats module", "tm-stats traceback", "tm-stats -cumulative", "tm-traces", "tm-snapshot save a.snap",
            "tm-compare a.snap a.snap", "tm-compare a.snap")
        self.assertNotIn("filter", everything.output)
        for result in (stats, module, traceback, cumulative, traces):
            self.assertIn(": 14 B in 1 block", headline(result))
            self.assertTrue(headline(result).endswith("; filters: 1 (tm-filter list)"), headline(result))
            self.assertEqual(result.output.splitlines()[-1], "Total: 14 B in 1 block")
        for result in (saved, compare):
            self.assertIn(": 0 of 1 lines changed", headline(result))
            self.assertTrue(headline(result).endswith("; filters: 1 (tm-filter list)"))
            self.assertIn("Total: 14 B (+0 B) in 1 block (+0)", result.output)

    def test_patterns_need_no_directories(self) -> None:
        directory = PROGRAMS.name
        patterns = {"wrappers.c": True, f"{directory}/wrappers.c": True, "wrap*": True, "*/wrappers.c": True,
                    str(PROGRAMS / "wrappers.c"): True, "rappers.c": False, "/wrappers.c": False, "Wrappers.c": False}
        results = wrappers(*(step for pattern in patterns for action in ("include", "exclude")
                             for step in (f"tm-filter {action} {pattern}", "tm-stats", "tm-filter delete all")))[1::3]
        for (pattern, is_found), include, exclude in zip(patterns.items(), results[::2], results[1::2]):
            with self.subTest(pattern=pattern):
                self.assertIn("in 6 blocks" if is_found else "in 0 blocks", headline(include))
                self.assertIn("in 0 blocks" if is_found else "in 6 blocks", headline(exclude))

    def test_any_include_and_no_exclude(self) -> None:
        lines = [line_of("wrappers.c", mark) for mark in ("plain", "wrapped", "wrapped again")]
        results = wrappers(*(f"tm-filter include wrappers.c -lineno {line}" for line in lines), "tm-stats",
                           f"tm-filter exclude wrappers.c -lineno {lines[1]}", "tm-stats")
        self.assertEqual(set(places(results[3])), set(at("plain", "wrapped", "wrapped again")))
        self.assertEqual(set(places(results[5])), set(at("plain", "wrapped again")))
        self.assertIn("filters: 4 ", headline(results[5]))

    def test_all_frames(self) -> None:
        line = line_of("wrappers.c", "pooled")
        innermost, all_frames = wrappers(f"tm-filter include wrappers.c -lineno {line}", "tm-stats",
                                         "tm-filter delete 1",
                                         f"tm-filter include wrappers.c -lineno {line} -all-frames", "tm-stats")[1::3]
        self.assertEqual(places(innermost), [])
        self.assertEqual(places(all_frames), at("pool_get"))

    def test_domains(self) -> None:
        start = ["set startup-with-shell off", "set environment TRACEMALLOC 25", *at_checkpoint()]
        cases = {"include -domain textures": 19, "include domains.c -domain 3": 19, "exclude -domain 3": 4,
                 "include *nowhere.c -domain 3": 0, "exclude domains.c -domain textures": 4,
                 "include -domain heap": 2, "include -domain nowhere": 0, "exclude -domain nowhere": 23}
        results = gdb([*start, *(step for words in cases for step in
                                 (f"tm-filter {words}", "tm-traces", "tm-filter delete all"))],
                      program("domains", *LINKED))[len(start) + 1::3]
        for (words, blocks), result in zip(cases.items(), results):
            with self.subTest(words=words):
                self.assertIn(f" in {blocks} blocks", headline(result))
                self.assertEqual("Note: filter 1 finds no domain that is named nowhere." in result.output,
                                 "nowhere" in words.split())

    def test_an_unknown_domain_is_told_at_once(self) -> None:
        start = ["set startup-with-shell off", "set environment TRACEMALLOC 25", *at_checkpoint()]
        unquoted, named = gdb([*start, "tm-filter exclude -domain my cells", "tm-filter delete 1",
                               "tm-filter exclude -domain textures"], program("domains", *LINKED))[len(start)::2]
        self.assertEqual(unquoted.output.splitlines()[0], "filter 1: exclude cells domain my")
        self.assertIn("\nNote: filter 1 finds no domain that is named my; a name with blanks is quoted, as in -domain "
                      "'my pool'.\n", unquoted.output)
        self.assertNotIn("Note:", named.output)

    def test_list_and_delete(self) -> None:
        results = gdb(["tm-filter list", "tm-filter include net/*.c -lineno 12 -all-frames", "tm-filter exclude x.c",
                       "tm-filter include -domain textures", "tm-filter list", "tm-filter delete 2", "tm-filter",
                       "tm-filter delete all", "tm-filter list", "tm-filter inc a.c", "tm-filter inc b.c:7",
                       "tm-filter del 2 1", "tm-filter inc :7", "tm-filter clear"])
        self.assertWorked(results)
        outputs = [result.output for result in results]
        self.assertEqual(outputs[0], "no filters: all blocks are shown\n")
        self.assertEqual(outputs[1], "filter 1: include net/*.c line 12 all frames\n")
        self.assertEqual(outputs[4].splitlines(), [
            "1  include  net/*.c  line 12  all frames",
            "2  exclude  x.c",
            "3  include  *                             domain textures"])
        self.assertEqual(outputs[5], "filter 2 deleted, 2 filters left\n")
        self.assertEqual([line.split()[:2] for line in outputs[6].splitlines()], [["1", "include"], ["3", "include"]])
        self.assertEqual(outputs[7:], [
            "2 filters deleted: all blocks are shown\n", outputs[0], "filter 1: include a.c\n",
            "filter 2: include b.c line 7\n", "filters 2, 1 deleted, 0 filters left\n",
            "filter 1: include * line 7\n", "1 filter deleted: all blocks are shown\n"])

    def test_what_remains_is_told(self) -> None:
        line = line_of("wrappers.c", "strdup")
        outputs = [result.output.splitlines() for result in wrappers(
            f"tm-filter include wrappers.c:{line}", "tm-filter exclude wrappers.c", "tm-filter delete 2",
            "tm-filter delete 1")]
        self.assertEqual(outputs[0], [f"filter 1: include wrappers.c line {line}",
                                      "shown: 1 of 6 blocks, from 1 of 6 sites"])
        self.assertEqual(outputs[1][1], "shown: 0 of 6 blocks, from 0 of 6 sites")
        self.assertIn("Note: the filters leave nothing; a pattern is the name of a file", outputs[1][2])
        self.assertEqual(outputs[2][1:], ["shown: 1 of 6 blocks, from 1 of 6 sites"])
        self.assertEqual(outputs[3][1:], ["shown: 6 of 6 blocks, from 6 of 6 sites"])

    def test_words_that_make_no_sense(self) -> None:
        cases = {"tm-filter keep x": '"keep"', "tm-filter clear x": '"x"', "tm-filter include": "pattern",
                 "tm-filter include a b": "b", "tm-filter include a -lineno x": '"x" is no number: write -lineno 12',
                 "tm-filter include a -lineno": "-lineno N", "tm-filter list x": "x", "tm-filter list -domain 3":
                 "-domain", "tm-filter delete": "number", "tm-filter delete 1": 'no filter "1"',
                 "tm-filter delete x": 'no filter "x"', "tm-filter delete 1 2": '"1"', "tm-filter exclude -fast":
                 "-lineno N, -all-frames or -domain D"}
        results = gdb([*cases, "tm-filter list"])
        for (command, word), result in zip(cases.items(), results):
            with self.subTest(command=command):
                self.assertRefused(result, word)
        self.assertIn("no filters", results[-1].output)

    def test_completion(self) -> None:
        results = gdb(["complete tm-filter e", "complete tm-filter include x.c -", "tm-filter include x.c",
                       "complete tm-filter delete a", "complete tm-traces -s", "complete tm-traces -sort s",
                       "complete tm-stats m", "complete tm-compare a.snap d", "complete set tm l"])
        self.assertEqual([[line.rpartition(" ")[2] for line in result.output.splitlines()]
                          for result in results[:2] + results[3:]], [
            ["exclude"], ["-all-frames", "-domain", "-lineno"], ["all"],
            ["-site", "-sort"], ["site", "size"], ["module"], ["domain"], ["limit"]])


class WrappersTest(GdbTest):

    def test_blocks_count_for_the_caller(self) -> None:
        stats, function, filename, traces = wrappers("tm-stats", "tm-stats function", "tm-stats filename", "tm-traces")
        self.assertEqual(places(stats), at("pool_get", "wrapped again", "wrapped", "asprintf", "strdup", "plain"))
        self.assertEqual(places(function), [f"{name} (wrappers.c)" for name in
                                            ("wrapped", "pool_get", "from_libc", "plain")])
        self.assertEqual(places(filename), ["wrappers.c"])
        for result in (stats, function, filename, traces):
            self.assertTrue(headline(result).endswith(SKIPPING), headline(result))
        self.assertIn(f"from_libc at {at('strdup')[0]}\n", traces.output)

    def test_where_it_does_not_matter_nothing_is_said(self) -> None:
        results = wrappers("tm-stats module", "tm-stats domain", "tm-stats traceback", "tm-stats -cumulative",
                           "tm-filter include -lineno 1 wrappers.c", "tm-stats", "tm-filter delete all",
                           f"tm-filter include wrappers.c -lineno {line_of('wrappers.c', 'plain')}", "tm-stats")
        for result in (*results[1:4], results[5], results[8]):
            self.assertNotIn("skipping", headline(result))
        self.assertIn("; not skipping wrappers, which lineno, filename and function do", headline(results[0]))
        self.assertEqual([place.partition(".so")[0] for place in places(results[0])], ["wrappers", "libc"])
        self.assertIn("in 1 block ", headline(results[8]))

    def test_tracebacks_stay_whole(self) -> None:
        stats, without = wrappers("tm-stats traceback -limit 1", "set tm wrappers", "tm-stats traceback -limit 1")[::2]
        self.assertEqual(stats.output.splitlines()[1:], without.output.splitlines()[1:])
        self.assertRegex(stats.output, r"#0  xmalloc at .*\n.*\n *#1  pool_get at .*\n.*\n *#2  wrapped at ")

    def test_an_empty_setting_is_cpythons_way(self) -> None:
        stats, snapshot = wrappers("set tm wrappers", "tm-stats", python("""
import tm
answer = [[s.traceback[0].lineno, s.size] for s in tm.take_snapshot().statistics('lineno')]
"""))[1:]
        self.assertNotIn("skipping", headline(stats))
        self.assertEqual(places(stats)[0], at("xmalloc")[0])
        lines = [int(place.rpartition(":")[2]) if ".c:" in place else 0 for place in places(stats)]
        self.assertEqual(lines, [line for line, _ in snapshot.answer])
        self.assertEqual(snapshot.answer[0], [line_of("wrappers.c", "xmalloc"), 2200 + 2201 + 3300])

    def test_a_setting_of_ones_own(self) -> None:
        added, replaced, by_file, by_module = (result for result in wrappers(
            "set tm wrappers default pool_*", "tm-stats", "set tm wrappers pool_get", "tm-stats",
            "set tm wrappers */wrappers.c", "tm-stats", "set tm wrappers */libc.so*", "tm-stats")[1::2])
        self.assertEqual(places(added)[0], at("pooled")[0])
        self.assertEqual(places(replaced)[0], at("xmalloc")[0])
        self.assertEqual(places(by_file)[0].partition(":")[0], "wrappers.c")
        self.assertIn(at("strdup")[0], places(by_module))
        self.assertIn(at("xmalloc")[0], places(by_module))

    def test_more_frames_would_help(self) -> None:
        one, two, many = (wrappers("tm-stats", frames=frames)[0] for frames in (1, 2, 25))
        self.assertIn("; 5 blocks shown at a wrapper: more than 1 frame a traceback would help", headline(one))
        self.assertIn(at("xmalloc")[0], places(one))
        self.assertIn("; 1 block shown at a wrapper: more than 2 frames a traceback would help", headline(two))
        self.assertNotIn("would help", headline(many))

    def test_compare_skips_on_both_sides(self) -> None:
        results = wrappers("tm-snapshot save a.snap", "tm-compare a.snap", "tm-filter include wrappers.c -lineno %d"
                           % line_of("wrappers.c", "wrapped"), "tm-compare a.snap", "set tm wrappers",
                           "tm-compare a.snap")
        self.assertTrue(headline(results[1]).endswith(f": 0 of 6 lines changed{SKIPPING}"), headline(results[1]))
        self.assertIn(f": 0 of 1 lines changed{SKIPPING}; filters: 1 ", headline(results[3]))
        self.assertIn(": 0 of 0 lines changed; filters: 1 ", headline(results[5]))

    def test_without_line_information(self) -> None:
        bare, = wrappers("tm-stats", path=program("wrappers", "-g0"))
        self.assertEqual([re.sub(r"\+0x[0-9a-f]+", "", place) for place in places(bare)],
                         [f"wrappers({name})" for name in ("pool_get", "wrapped", "wrapped", "from_libc", "from_libc",
                                                           "plain")])

    def test_containers(self) -> None:
        if shutil.which("g++") is None:
            self.skipTest("there is no g++ here")
        for options in (("-g",), ()):
            path = new_directory() / "containers"
            subprocess.run(["g++", "-O0", *options, str(PROGRAMS / "containers.cc"), "-o", str(path)], check=True)
            lines, functions = wrappers("tm-stats", "tm-stats function", path=path)
            if options:
                self.assertEqual(places(lines), at("vector", "unique", "array", "map", source="containers.cc"))
            else:
                self.assertEqual({place.partition("+")[0] for place in places(lines)}, {"containers(main"})
            self.assertEqual([place.partition(" ")[0] for place in places(functions)], ["main"])

    def test_settings_show_themselves(self) -> None:
        results = gdb(["show tm limit", "show tm wrappers", "set tm wrappers a 'b c'", "show tm wrappers",
                       "set tm wrappers", "show tm wrappers", "set tm limit 3", "show tm", "set tm limit -2",
                       "help set tm wrappers", "set tm limit unlimited", "show tm limit", "show tm nothing"])
        self.assertEqual(results[0].output, "The tm- commands print 10 rows.\n")
        self.assertIn("operator new*", results[1].output)
        self.assertIn("xmalloc", results[1].output)
        self.assertEqual(results[3].output, "Wrappers: a 'b c'; default holds no more (set tm wrappers add default)\n")
        self.assertIn("No wrappers", results[5].output)
        self.assertEqual(results[7].output.splitlines()[0], "The tm- commands print 3 rows.")
        self.assertIsNotNone(results[8].error)
        self.assertIn("Example:", results[9].output)
        self.assertEqual(results[11].output, "The tm- commands print unlimited rows.\n")
        self.assertRefused(results[12], "nothing", "show tm limit")

    def test_the_limit(self) -> None:
        results = wrappers("set tm limit 2", "tm-stats", "tm-stats -limit 3", "set tm limit 0", "tm-stats")
        self.assertEqual([len(rows(results[number].output)) for number in (1, 2, 4)], [2, 3, 6])


class StrippedTest(GdbTest):

    stripped: Path

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.stripped = new_directory() / "wrappers"
        subprocess.run(["strip", "-o", str(cls.stripped), str(program("wrappers"))], check=True)

    def run_stripped(self, *steps: Step) -> list[Result]:
        start = [*preload(), "set breakpoint pending on", "break exit", "run"]
        return gdb([*start, *steps], self.stripped)[len(start):]

    def test_the_stack_ends_at_main_without_a_name(self) -> None:
        output = self.run_stripped("tm-stats traceback -limit 1")[0].output
        frames = re.findall(r"#\d+ +(.*)", output)
        self.assertEqual(len(frames), 4, output)
        for frame in frames:
            self.assertRegex(frame, r"^wrappers\(\+0x[0-9a-f]+\)$")

    def test_one_caller_without_a_symbol(self) -> None:
        stats, cumulative, function = self.run_stripped("tm-stats", "tm-stats -cumulative", "tm-stats function")
        self.assertRegex(stats.output, r"\nNote: 88 % of the bytes come from one caller without a symbol, "
                                       r"wrappers\(\+0x[0-9a-f]+\): tm-stats traceback, or -cumulative, shows who")
        self.assertNotIn("set tm wrappers", stats.output)
        for result in (cumulative, function, wrappers("tm-stats")[0]):
            self.assertNotIn("without a symbol", result.output)

    def test_a_library_without_symbols(self) -> None:
        directory = new_directory()
        library = compile_file(PROGRAMS / "plugin.c", directory / "libplugin.so", "-shared", "-fPIC", "-s")
        shutil.copy(library, directory / "libother.so")
        host = program("plugin_host", "-ldl")
        start = [*preload(), *at_checkpoint(), "tm-filter exclude plugin_host.c -lineno %d"
                 % line_of("plugin_host.c", "dlopen"), "tm-filter exclude *unloaded]", "tm-stats"]
        advised = gdb(start, host, directory=directory)[-1].output
        match = re.search(r"; (set tm wrappers \S+ \*/libother\.so) counts for the callers of that module\.", advised)
        assert match is not None, advised
        followed = gdb([*start, match[1], "tm-stats"], host, directory=directory)[-1]
        self.assertEqual(places(followed)[0], at("make", source="plugin_host.c")[0])


class AllocatorNameTest(GdbTest):

    def test_a_wrapper_by_its_name_is_told(self) -> None:
        directory = new_directory()
        source = directory / "pool.c"
        source.write_text("""#include <stdlib.h>
#ifndef NAME
#define NAME zmalloc
#endif
void *kept[10];
__attribute__((noipa)) void checkpoint(void) { }
__attribute__((noipa)) void *NAME(size_t size) { void *block = malloc(size); __asm__ volatile(""); return block; }
__attribute__((noipa)) void few(void) { kept[0] = malloc(5000); }
int main(void)
{
    for (int i = 1; i < 9; i++)
        kept[i] = NAME(10); /* line: eight */
    kept[9] = NAME(20); /* line: one */
    few();
    checkpoint();
}
""")
        start = [*preload(), *at_checkpoint()]
        path = compile_file(source, directory / "pool")
        results = gdb([*start, "tm-snapshot save a.snap", "tm-stats", "tm-stats function", "tm-stats -cumulative",
                       "tm-stats module", "with tm wrappers none -- tm-stats", "set tm wrappers add zmalloc",
                       "tm-stats"], path, directory=directory)[len(start) + 1:]
        note = "\nNote: 90 % of the blocks come from zmalloc: set tm wrappers add zmalloc counts for its callers.\n"
        for result in results[:2]:
            self.assertIn(note, result.output)
        for result in results[2:]:
            self.assertNotIn("% of the blocks", result.output)
        self.assertEqual([place.partition(":")[0] for place in places(results[-1])], ["pool.c"] * 3)
        other = compile_file(source, directory / "other", "-DNAME=item_make")
        self.assertNotIn("% of the blocks", gdb([*start, "tm-stats"], other)[-1].output)
        said = self.launched("stats", directory / "a.snap", "--wrappers", "default x")
        self.assertIn("come from zmalloc: --wrappers 'default x zmalloc' counts for its callers.\n", said)
        said = self.launched("stats", directory / "a.snap", "--wrappers", "default x zmalloc")
        self.assertNotIn("% of the blocks", said)

    def launched(self, *words: str | Path) -> str:
        return subprocess.run([str(BUILD / "tracemalloc"), *map(str, words)], stdout=subprocess.PIPE, text=True,
                              check=True, timeout=60).stdout


class CompareHeadlineTest(GdbTest):

    def test_short_and_without_paths(self) -> None:
        live, files = wrappers("tm-snapshot save a.snap", "tm-compare a.snap", "tm-compare a.snap a.snap")[1:]
        self.assertRegex(headline(live), r"^a\.snap \(\d\d:\d\d:\d\d\) -> process \d+ \(wrappers\), \d s later: "
                                         r"0 of 6 lines changed; skipping wrappers \(show tm wrappers\)$")
        self.assertRegex(headline(files), r"^a\.snap \(\d\d:\d\d:\d\d\) -> a\.snap, 0 s later: ")
        self.assertNotIn("Note:", live.output)

    def test_times(self) -> None:
        directory = new_directory()
        results = gdb([python("""
import tm
for name, time in (("a", "2024-05-01 10:00:00"), ("b", "2024-05-01 10:03:20"), ("c", "2024-05-01 15:03:20"),
                   ("d", "2024-05-04 16:00:00"), ("e", "tomorrow")):
    snapshot = tm.Snapshot([], 1)
    snapshot.info.update(program="/bin/server", time=time)
    snapshot.dump(name + ".snap")
"""), *(f"tm-compare a.snap {name}.snap" for name in "abcde"), "tm-compare c.snap a.snap"], directory=directory)
        self.assertEqual([headline(result).partition(": 0 of")[0] for result in results[1:]], [
            "a.snap (10:00:00) -> a.snap, 0 s later",
            "a.snap (10:00:00) -> b.snap, 3 min 20 s later",
            "a.snap (10:00:00) -> c.snap, 5 h 3 min later",
            "a.snap (2024-05-01 10:00:00) -> d.snap, 3 d 6 h later",
            "a.snap -> e.snap",
            "c.snap (15:03:20) -> a.snap, 5 h 3 min earlier"])

    def test_two_programs_are_warned_of(self) -> None:
        directory = new_directory()
        gdb([*preload(), *at_checkpoint(), "tm-snapshot save other.snap"], program("churn"), directory=directory)
        start = [*preload(), *at_checkpoint()]
        result = gdb([*start, "tm-compare other.snap"], program("wrappers"), directory=directory)[-1]
        self.assertIn(f"Note: these are two programs: other.snap is of {os.fspath(program('churn'))}, process ",
                      result.output)
        self.assertIn(f"(wrappers) of {os.fspath(program('wrappers'))}.\n", result.output)


if __name__ == "__main__":
    unittest.main()
