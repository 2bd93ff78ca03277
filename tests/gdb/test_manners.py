"""test_manners.py: the commands as parts of GDB: help, completion, options, settings, and on a terminal paging, styles
and Enter."""

from __future__ import annotations

import os
import re
import subprocess
import unittest
from pathlib import Path

from support import (BUILD, DOOR, GdbTest, LINKED, RUNTIME, Result, SOURCE, Step, at_checkpoint, gdb, line_of,
                     new_directory, preload, program, python)
from terminal import PAGER, Terminal, need_terminal, plain

COMMANDS = ("tm-info", "tm-stats", "tm-snapshot", "tm-compare", "tm-traceback", "tm-traces", "tm-filter", "tm-export",
            "tm-start", "tm-stop", "tm-clear", "tm-reset-peak")
SETTINGS = ("limit", "source-lines", "wrappers")
ESCAPE = "\x1b["


def known(*steps: Step) -> list[Result]:
    start = [*preload(), *at_checkpoint()]
    return gdb([*start, *steps], program("known"))[len(start):]


class HelpTest(GdbTest):

    def test_every_command_teaches_by_example_in_80_columns(self) -> None:
        topics = ["tm", *COMMANDS, "set tm", *(f"set tm {name}" for name in SETTINGS)]
        for topic, result in zip(topics, gdb([f"help {topic}" for topic in topics])):
            with self.subTest(topic=topic):
                self.assertIsNone(result.error)
                lines = result.output.splitlines()
                self.assertIn("Example:", lines)
                self.assertLess(lines.index("Example:") + 1, len(lines))
                self.assertTrue(lines[lines.index("Example:") + 1].startswith("  (gdb) "), result.output)
                self.assertEqual([line for line in lines if len(line) > 80 and str(BUILD) not in line], [])
                if topic in COMMANDS:
                    self.assertTrue(lines[1].startswith(f"Usage: {topic}"), result.output)

    def test_the_overview(self) -> None:
        overview, alone, apropos, hyphen, nothing, *others = gdb(
            ["help tm", "tm", "apropos tm-", "tm stats lineno", "tm nonsense", "complete help tm", "help tm-st"])
        self.assertEqual(overview.output, alone.output)
        for command in COMMANDS:
            self.assertRegex(overview.output, rf"(?m)^  {command} +[A-Z]")
            self.assertRegex(apropos.output, rf"(?m)^{command} -- ")
        # Built elsewhere, the package does not know where.
        library = RUNTIME if BUILD == SOURCE else "libtracemalloc.so.0"
        self.assertIn(f"\n  (gdb) set environment LD_PRELOAD {library}\n", overview.output)
        self.assertRefused(hyphen, "tm-stats")
        self.assertRefused(nothing, '"nonsense"', "help tm")
        self.assertIn("help tm-stats", others[0].output.splitlines())

    def test_each_row_of_info_is_explained(self) -> None:
        explained, info = known("help tm-info", "tm-info")
        for line in info.output.splitlines():
            self.assertRegex(explained.output, rf"(?m)^  {line.partition(':')[0]}  +[A-Z]")


class CompletionTest(GdbTest):
    """By GDB's own `complete`; each case is what stands behind the words that were typed."""

    def check(self, cases: dict[str, list[str]], *lines: str, directory: Path | None = None,
              path: Path | None = None) -> None:
        """On a terminal: gdb.execute takes away the blank at the end."""
        with Terminal(*([path] if path else []), directory=directory) as terminal:
            for line in lines:
                terminal.type(line)
            for text, expected in cases.items():
                with self.subTest(text=text):
                    common = "" if any(one.startswith("tm-") for one in expected) else text[:text.rfind(" ") + 1]
                    self.assertEqual(terminal.type(f"complete {text}").splitlines(), [common + one for one in expected])

    def test_words_and_options(self) -> None:
        groupings = ["domain", "filename", "function", "lineno", "module", "traceback"]
        cases: dict[str, list[str]] = {
            "tm-stats ": groupings, "tm-stats f": ["filename", "function"],
            "tm-stats lineno ": ["-cumulative", "-limit"],
            "tm-stats -": ["-cumulative", "-limit"], "tm-stats lineno -c": ["-cumulative"],
            "tm-stats -limit ": ["unlimited"], "tm-stats -l u": ["unlimited"], "tm-stats -limit=": ["-limit=unlimited"],
            "tm-stats -- -": [], "tm-stats x": [],
            "tm-traces ": ["-domain", "-limit", "-site", "-sort"], "tm-traces -s": ["-site", "-sort"],
            "tm-traces -sort ": ["address", "domain", "site", "size"], "tm-traces -so s": ["site", "size"],
            "tm-traces -sort=d": ["-sort=domain"], "tm-traces -sort size -l": ["-limit"], "tm-traces -domain ": [],
            "tm-export ": ["folded", "json", "pprof"], "tm-snapshot ": ["save"], "tm-snapshot s": ["save"],
            "tm-filter ": ["clear", "delete", "exclude", "include", "list"], "tm-filter include x.c -": [
                "-all-frames", "-domain", "-lineno"], "tm-filter include -domain=": [],
            "tm-filter list ": [], "tm-filter list -": [], "tm-filter clear ": [], "tm-filter delete -": [],
            "tm-filter del 1 -": [], "tm-filter -": [], "tm-filter exclude x.c -l": ["-lineno"],
            "tm-filter inc x.c ": ["-all-frames", "-domain", "-lineno"], "tm-filter include no_such": [],
            "set tm ": ["limit", "source-lines", "wrappers"], "set tm source-lines o": ["off", "on"],
            "set tm limit u": ["unlimited"], "show tm l": ["limit"], "tm-traceback no_such": [],
        }
        self.check(cases)

    def test_filters(self) -> None:
        cases: dict[str, list[str]] = {
            "tm-filter delete ": ["1", "2", "all"], "tm-filter del 2": ["2"], "tm-filter delete 1 ": ["2"],
            "tm-filter delete all ": [], "tm-filter inc kno": ["known.c"], "tm-filter exclude ": ["known.c"]}
        self.check(cases, *preload(), *at_checkpoint(), "tm-stats", "tm-filter include a", "tm-filter include b",
                   path=program("known"))

    def test_domains(self) -> None:
        cases = {"tm-traces -domain ": ["4", "device\\ memory", "heap", "textures"], "tm-traces -d t": ["textures"],
                 "tm-filter include -domain=h": ["-domain=heap"], 'tm-traces -domain "dev': ['"device memory']}
        start = ["set startup-with-shell off", "set environment TRACEMALLOC 25", *at_checkpoint()]
        self.check(cases, *start, path=program("domains", *LINKED))
        chosen = gdb([*start, "tm-traces -domain device\\ memory"], program("domains", *LINKED))[-1]
        self.assertIn("in 1 block of device memory (domain 7)", chosen.output)

    def test_file_names_everywhere(self) -> None:
        directory = new_directory()
        (directory / "old").mkdir()
        for name in ("my a.snap", "my b.snap", "other.snap", "old/x.snap", "it's.snap", "-dash.snap"):
            (directory / name).touch()
        cases: dict[str, list[str]] = {}
        for command in ("tm-compare", "tm-compare other.snap", "tm-compare -limit 3 other.snap", "tm-compare --",
                        "tm-snapshot save", "tm-export json", "tm-export -- pprof"):
            cases |= {f"{command} ot": ["other.snap"], f"{command} it": ["it\\'s.snap"],
                      f"{command} old/": ["old/x.snap"], f"{command} ./ol": ["./old/x.snap"], f"{command} nowhere/": []}
        cases["tm-compare other.snap tra"] = ["traceback"]
        cases["tm-compare -- -d"] = ["-dash.snap"]
        cases["tm-compare other.snap lineno o"] = []
        blanks = {f'{command} "my ': [f'{command} "my a.snap"', f'{command} "my b.snap"']
                  for command in ("tm-compare", "tm-compare other.snap", "tm-snapshot save", "tm-export folded")}
        blanks["tm-compare my\\ b"] = ["tm-compare my\\ b.snap"]
        self.check(cases | blanks, directory=directory)

    def test_what_is_completed_is_taken(self) -> None:
        directory = new_directory()
        with Terminal(directory=directory) as terminal:
            gdb([*preload(), *at_checkpoint(), "tm-snapshot save 'my a.snap'"], program("known"), directory=directory)
            for text in ('tm-compare "my', "tm-compare 'my", "tm-compare my"):
                with self.subTest(text=text):
                    name = terminal.tab(text).partition(" ")[2]
                    self.assertIn("0 of 5 lines changed", terminal.type(f"tm-compare {name} {name}"))


class OptionsTest(GdbTest):

    def test_gdb_style(self) -> None:
        reference = known("tm-stats -limit 2")[0].output.splitlines()[1:]
        cases = ("tm-stats -limit=2", "tm-stats -l 2", "tm-stats -l=2 lineno", "tm-stats lin -lim 2",
                 "tm-stats -limit 2 -- lineno", "tm-stats -limit 2 --", "tm-stats -limit 5 -limit 2",
                 "tm-stats 'lineno' -l 2", "with tm limit 2 -- tm-stats")
        for case, result in zip(cases, known(*cases)):
            with self.subTest(case=case):
                self.assertIsNone(result.error)
                self.assertEqual(result.output.splitlines()[1:], reference)
        everything, *more = known("tm-stats -limit 0", "tm-stats -limit unlimited", "tm-stats -limit un")
        self.assertEqual([result.output for result in more], [everything.output] * 2)

    def test_shortened_words(self) -> None:
        pairs = {"tm-stats func": "tm-stats function", "tm-stats tr -limit 1": "tm-stats traceback -limit 1",
                 "tm-traces -so a -l 3": "tm-traces -sort address -limit 3",
                 "tm-stats file -c": "tm-stats filename -cumulative"}
        results = known(*(one for pair in pairs.items() for one in pair))
        self.assertWorked(results)
        self.assertEqual([result.output for result in results[::2]], [result.output for result in results[1::2]])

    def test_what_is_wrong_is_named_with_its_value(self) -> None:
        groupings = "use filename, lineno, traceback, function, module or domain"
        cases = {"tm-stats -limit ten": '"ten" is no number of rows: write -limit 20, or -limit unlimited for all',
                 "tm-stats -limit": "-limit needs a number: write -limit N",
                 "tm-stats -limit=": "-limit needs a number: write -limit N",
                 "tm-stats -cumulative=yes": '-cumulative takes no value, but "yes" is given',
                 "tm-stats f": '"f" may be filename or function',
                 "tm-traces -s 3": '"-s" may be -sort KEY or -site N',
                 "tm-traces -sort s": '"s" may be size or site',
                 "tm-traces -site=x": '"x" is no number: write -site 12',
                 "tm-stats -what": '"-what" is no option here: use -cumulative or -limit N',
                 "tm-stats colour": f'"colour" is no grouping: {groupings}',
                 "tm-stats -- -limit": f'"-limit" is no grouping: {groupings}',
                 "tm-stats ''": f'"" is no grouping: {groupings}',
                 "tm-snapshot save -fast": '"-fast" is no option here, for there are none; -- goes before a word that '
                                           "begins with -",
                 "tm-snapshot save -": "a snapshot is no text for GDB's output: give a file name, ./- for one that is "
                                       "called -",
                 "tm-stats | head -3": '"|" goes in front of the command that is piped: | tm-stats | less',
                 "tm-info now": 'tm-info takes no argument, but "now" is given',
                 "tm-compare a.snap tracebacks": f'"tracebacks" is neither a file nor a grouping: {groupings}',
                 "set tm foo": '"foo" is no setting: use set tm limit, set tm source-lines or set tm wrappers'}
        for (command, error), result in zip(cases.items(), known(*cases)):
            with self.subTest(command=command):
                self.assertEqual(result.error, error)

    def test_a_file_that_is_no_snapshot_makes_a_sentence(self) -> None:
        directory = new_directory()
        (directory / "server.c").write_text("int main(void) { return 0; }\n")
        result, = gdb(["tm-compare server.c"], directory=directory)
        self.assertEqual(result.error, "server.c is not a snapshot file; name a file that tm-snapshot save wrote")

    def test_names_that_begin_with_a_hyphen(self) -> None:
        directory = new_directory()
        steps = [*preload(), *at_checkpoint(), "tm-snapshot save -- -a.snap", "tm-compare -- -a.snap",
                 "tm-compare -limit 1 -- -a.snap -a.snap"]
        results = gdb(steps, program("known"), directory=directory)
        self.assertWorked(results[-3:])
        self.assertTrue((directory / "-a.snap").exists())


class SettingsTest(GdbTest):

    def test_source_lines(self) -> None:
        plain_rows, _, without, traceback, _, shown = known(
            "tm-stats", "set tm source-lines off", "tm-stats", "tm-traceback leaks[7]", "set tm source-lines on",
            "tm-stats")
        self.assertEqual(plain_rows.output, shown.output)
        self.assertIn("grown = realloc", plain_rows.output)
        self.assertEqual(without.output.splitlines(), [line for line in plain_rows.output.splitlines()
                                                       if not line.startswith("      ")])
        self.assertEqual(traceback.output.count("\n"), 3)

    def test_wrappers_are_added_and_removed(self) -> None:
        words = ("add pool_get", "add 'operator new' pool_get", "remove pool_get", "remove nothing", None, "add",
                 "remove default", "default", "none", "add default")
        results = gdb([f"set tm wrappers {word}" if word else "show tm wrappers" for word in words])
        self.assertEqual([result.output for result in results[:3]], [
            "Wrappers: default pool_get\n", "Wrappers: default pool_get 'operator new'\n",
            "Wrappers: default 'operator new'\n"])
        self.assertRefused(results[3], '"nothing" is none of the wrappers', "show tm wrappers")
        self.assertEqual(results[4].output.splitlines()[0], "Wrappers: default 'operator new'")
        self.assertRefused(results[5], "a pattern is missing", "set tm wrappers add PATTERN...")
        self.assertEqual([result.output for result in results[6:]], [
            "Wrappers: 'operator new'; default holds no more (set tm wrappers add default)\n", "Wrappers: default\n",
            "No wrappers: every block counts for the frame that called the allocator.\n", "Wrappers: default\n"])

    def test_one_of_the_defaults_is_removed(self) -> None:
        patterns = python("from tm.commands import settings; answer = settings.wrapper_patterns()")
        before, _, after, _, restored = gdb([patterns, "set tm wrappers remove 'operator new*'", patterns,
                                             "set tm wrappers default", patterns])
        self.assertEqual(set(before.answer) - set(after.answer), {"operator new*"})
        self.assertEqual(restored.answer, before.answer)

    def test_with_restores(self) -> None:
        results = gdb(["set tm wrappers add pool_get", "with tm wrappers none -- show tm wrappers", "show tm wrappers"])
        self.assertIn("No wrappers", results[1].output)
        self.assertEqual(results[2].output.splitlines()[0], "Wrappers: default pool_get")

    def test_show_lists_all(self) -> None:
        shown, = gdb(["show tm"])
        self.assertEqual([line for line in shown.output.splitlines() if not line.startswith(" ")][:3], [
            "The tm- commands print 10 rows.", "The tm- commands print source lines: on.", "Wrappers: default"])


class OutputTest(GdbTest):

    def test_text_formats_go_to_gdbs_output(self) -> None:
        directory = new_directory()
        start = [*preload(), *at_checkpoint()]
        for name in ("folded", "json"):
            printed, _ = gdb([*start, f"tm-export {name} -", f"tm-export {name} a.{name}"], program("known"),
                             directory=directory)[len(start):]
            text = (directory / f"a.{name}").read_text()
            # The moment is another one.
            self.assertEqual(re.sub(r'"time": "[^"]*"', "", printed.output), re.sub(r'"time": "[^"]*"', "", text))
        piped = gdb([*start, "pipe tm-export folded - | sort > sorted.txt", "tm-export pprof -"], program("known"),
                    directory=directory)
        self.assertRefused(piped[-1], "pprof is no text", "./-")
        self.assertIn("main;leak ", (directory / "sorted.txt").read_text())

    def test_a_row_that_exceeds_the_total_is_explained(self) -> None:
        line = line_of("known.c", "recurse")
        _, only, _, other = known(f"tm-filter include known.c:{line}", "tm-stats -cumulative", "tm-filter clear",
                                  "tm-stats -cumulative")
        self.assertIn("\nNote: a block counts once for each frame of its traceback that belongs to a row: so a row can "
                      "be more than the total.\nTotal: 77 B in 1 block\n", only.output)
        self.assertNotIn("Note:", other.output)

    def test_info_of_few_blocks(self) -> None:
        start = [*preload(), *at_checkpoint()]
        many = gdb([*start, "tm-info"], program("known"))[-1].output
        few, cleared = (result.output for result in gdb([*start, "tm-info", "tm-clear", "tm-info"],
                                                        program("wrappers"))[-3::2])
        self.assertIn(" B a block", many)
        for output in (few, cleared):
            self.assertNotIn("a block", output)
            self.assertNotIn("give or take", output)

    def test_one_side_without_lines_is_told(self) -> None:
        directory = new_directory()
        gdb([*preload(), *at_checkpoint(), "tm-snapshot save a.snap", "generate-core-file known.core"],
            program("known"), directory=directory)
        bare = gdb(["set sysroot /nowhere", "core-file known.core", "tm-compare a.snap", "tm-compare a.snap module"],
                   directory=directory)
        self.assertRegex(bare[-2].output, r"\nNote: a\.snap has lines in known, core \S+known\.core of known does not: "
                                          r"one place has two names")
        self.assertNotIn("two names", bare[-1].output)
        whole = gdb(["tm-compare a.snap"], program("known"), directory / "known.core", directory=directory)
        self.assertNotIn("Note:", whole[0].output)


class TerminalTest(GdbTest):
    """One GDB on a terminal of 80 columns, stopped in known.c."""

    def setUp(self) -> None:
        self.terminal = self.start()
        self.addCleanup(self.terminal.__exit__)

    def start(self, **environment: str) -> Terminal:
        terminal = Terminal(program("known"), columns=80, environment=environment)
        for line in (*preload(), *at_checkpoint()):
            terminal.type(line)
        return terminal

    def test_styles_are_gdbs_own(self) -> None:
        stats = self.terminal.type("tm-stats")
        self.assertIn(f"1  \x1b[32mknown.c\x1b[m:{line_of('known.c', 'grow')}: size=", stats)
        traceback = self.terminal.type("tm-traceback leaks[7]")
        self.assertRegex(traceback, r"^\x1b\[34m0x[0-9a-f]+\x1b\[m is the start of a 107-byte block\n"
                                    r"#0  \x1b\[33mleak\x1b\[m at \x1b\[32mknown\.c\x1b\[m:")
        self.terminal.type("set style filename foreground magenta")
        self.terminal.type("set style filename intensity bold")
        self.assertIn("\x1b[35;1mknown.c\x1b[m", self.terminal.type("tm-stats function"))
        # Columns stay in line.
        traces = plain(self.terminal.type("tm-traces")).splitlines()[1:-2]
        self.assertEqual(len({line.index("  ", line.index(")") + 1 if number == 0 else 24)
                              for number, line in enumerate(traces)}), 1)

    def test_no_styles_where_gdb_has_none(self) -> None:
        for line in ("| tm-stats | cat", "python gdb.execute('tm-stats')",
                     "python print(gdb.execute('tm-stats', False, True))"):
            with self.subTest(line=line):
                shown = self.terminal.type(line)
                self.assertIn("known.c:", shown)
                self.assertNotIn(ESCAPE, shown)
        (self.terminal.directory / "own.py").write_text("""
class Own(gdb.Command):
    def invoke(self, argument, from_tty):
        print(gdb.execute("tm-stats", False, True))
Own("own", gdb.COMMAND_USER)
""")
        self.terminal.type("source own.py")
        shown = self.terminal.type("own")
        self.assertIn("known.c:", shown)
        self.assertNotIn(ESCAPE, shown)
        self.terminal.type("set logging file styled.txt")
        self.terminal.type("set logging enabled on")
        self.assertIn(ESCAPE, self.terminal.type("tm-stats"))
        self.terminal.type("set logging enabled off")
        logged = (self.terminal.directory / "styled.txt").read_text()
        self.assertIn("known.c:", logged)
        self.assertNotIn(ESCAPE, logged)
        self.terminal.type("set style enabled off")
        self.assertNotIn(ESCAPE, self.terminal.type("tm-stats"))

    def test_no_color(self) -> None:
        with self.start(NO_COLOR="1") as terminal:
            self.assertNotIn(ESCAPE, terminal.type("tm-stats"))

    def test_a_dumb_terminal(self) -> None:
        for name in ("dumb", ""):
            with self.subTest(TERM=name), self.start(TERM=name) as terminal:
                shown = terminal.type("tm-stats")
                self.assertIn("known.c:", shown)
                self.assertNotIn(ESCAPE, shown)

    def test_source_lines_end_where_the_terminal_does(self) -> None:
        lines = plain(self.terminal.type("tm-stats")).splitlines()
        cut = [line for line in lines if line.endswith("...")]
        self.assertEqual([len(line) for line in cut], [79])
        self.assertIn("void *block = depth ? recurse(depth - 1) : malloc(77);", cut[0])
        whole = self.terminal.type("| tm-stats | cat")
        self.assertIn("/* line: recurse */\n", whole)
        self.terminal.type("set width 0")
        self.assertIn("/* line: recurse */\n", self.terminal.type("tm-stats"))

    def test_enter_repeats_what_only_shows(self) -> None:
        for line in ("tm-stats -limit 1", "tm-info", "tm-traces -limit 1", "tm-traceback leaks[7]", "tm"):
            with self.subTest(line=line):
                self.assertEqual(self.terminal.type(line), self.terminal.type(""))
        for line in ("tm-snapshot save a.snap", "tm-export json a.json", "tm-filter include known.c", "tm-reset-peak",
                     "tm-clear", "tm-stop", "tm-start"):
            with self.subTest(line=line):
                self.assertNotEqual(self.terminal.type(line), "")
                self.assertEqual(self.terminal.type(""), "")

    def test_paging(self) -> None:
        self.terminal.type("set height 5")
        for line in ("tm-stats", "tm-info", "tm-traces", "tm-export folded -", "tm-traceback deep", "help tm"):
            for leave in ("q\n", "\x03"):
                with self.subTest(line=line, leave=leave):
                    self.assertIn(PAGER, self.terminal.type(line, until=PAGER))
                    self.assertTrue(plain(self.terminal.type(leave, enter=False)).rstrip().endswith("Quit"))
        self.terminal.type("tm-stats", until=PAGER)
        self.assertIn("Total: ", self.terminal.type("c\n", enter=False))
        self.terminal.type("set height 0")
        self.assertIn("Total: ", self.terminal.type("tm-stats"))

    def test_progress_comes_after_a_second_and_goes(self) -> None:
        (self.terminal.directory / "slow.py").write_text("""
import sys, time, tm.reader
survey, is_stuck = tm.reader.Reader.survey, False
def slow(self, with_addresses=False):
    line = getattr(sys.stdout, "_line", None)
    end = time.monotonic() + 60
    while line and time.monotonic() < end and (is_stuck or not line._length):
        pass
    return survey(self, with_addresses)
tm.reader.Reader.survey = slow
""")
        before = self.terminal.type("tm-stats")
        self.assertNotIn("Ctrl-C", before)
        self.terminal.type("source slow.py")
        shown = self.terminal.raw("tm-stats")
        line, _, after = shown.rpartition("Ctrl-C stops it")
        self.assertRegex(line, r"\rtm-stats: \d+ s, $")
        self.assertRegex(after, r"^\r {30,}\rprocess \d+ ")
        self.assertIn(before.rstrip(), after.replace("\r\n", "\n"))
        self.assertNotIn("Ctrl-C", self.terminal.type("| tm-stats | cat"))
        self.terminal.type("python is_stuck = True")
        stopped = self.terminal.interrupted("tm-stats", "Ctrl-C stops it")
        self.assertRegex(stopped, r"\r {30,}\rQuit\n\(gdb\) $")
        self.terminal.type("python is_stuck = False")
        self.assertIn("Total:", self.terminal.type("tm-stats"))

    def test_pipes(self) -> None:
        self.assertEqual(self.terminal.type("| tm-stats | head -1").count("\n"), 1)
        self.assertIn("Total: ", self.terminal.type("| -d END tm-stats END tail -1"))


class MachineInterfaceTest(GdbTest):

    def test_plain_text_in_mi_on_a_terminal_too(self) -> None:
        need_terminal()
        lines = [*preload(), *at_checkpoint(), "tm-stats"]
        commands = "".join('-interpreter-exec console "{}"\n'.format(line.replace('"', '\\"')) for line in lines)
        command = f"gdb -nx -q --interpreter=mi -iex 'set debuginfod enabled off' -x {DOOR} {program('known')}"
        done = subprocess.run(["script", "-qec", command, "/dev/null"], input=commands + "-gdb-exit\n", text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                              env={**os.environ, "TERM": "xterm"})
        self.assertIn("known.c:", done.stdout)
        self.assertNotIn("\\e[32m", done.stdout)
        self.assertNotIn("\\033[32m", done.stdout)


if __name__ == "__main__":
    unittest.main()
