"""test_mi.py: -tm-stats and its like in `gdb -i=mi3`: structured results with the figures of the console's commands."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import unittest
from pathlib import Path
from typing import Any

from support import (DOOR, GdbTest, LINKED, RUNTIME, TIMEOUT, gdb, line_of, new_directory, python, preload, program,
                     at_checkpoint)

HAS_COMMANDS = python("answer = hasattr(gdb, 'MICommand')")
TOKENS = re.compile(r'"((?:[^"\\]|\\.)*)"|([\w-]+)=|([\[\]{},])')
ESCAPES = {"n": "\n", "t": "\t"}


def parsed(text: str) -> Any:
    """A GDB/MI result: tuples as dicts, lists of results as lists of their values."""
    value, end = _value("{" + text + "}", 0)
    assert end == len(text) + 2, text[end - 1:]
    return value


def _value(text: str, position: int) -> tuple[Any, int]:
    token = TOKENS.match(text, position)
    assert token is not None, text[position:]
    if token[1] is not None:
        return re.sub(r"\\(.)", lambda escape: ESCAPES.get(escape[1], escape[1]), token[1]), token.end()
    close = {"{": "}", "[": "]"}[token[3]]
    names, values, position = [], [], token.end()
    while text[position] != close:
        name = TOKENS.match(text, position)
        if name is not None and name[2] is not None:
            names.append(name[2])
            position = name.end()
        value, position = _value(text, position)
        values.append(value)
        position += text[position] == ","
    return (dict(zip(names, values)) if close == "}" else values), position + 1


class Mi:
    """A GDB that is talked to in GDB/MI."""

    def __init__(self, path: Path, directory: Path) -> None:
        self._gdb = subprocess.Popen(
            ["gdb", "-nx", "-q", "-i=mi3", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off",
             "-x", str(DOOR), str(path)], cwd=directory, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        self._watch = threading.Timer(TIMEOUT, self._gdb.kill)
        self._watch.start()

    def close(self) -> None:
        self._watch.cancel()
        self._gdb.kill()
        self._gdb.communicate()

    def __call__(self, command: str) -> Any:
        """The fields of its result, or the message of its error; the program has stopped again."""
        assert self._gdb.stdin is not None
        self._gdb.stdin.write(f"7{command}\n")
        self._gdb.stdin.flush()
        kind, fields = self._record(r"7\^(done|running|error)(?:,(.*))?")
        if kind == "running":
            self._record(r"\*(stopped)(?:,(.*))?")
        return parsed(fields)["msg"] if kind == "error" else parsed(fields)

    def _record(self, pattern: str) -> tuple[str, str]:
        assert self._gdb.stdout is not None
        for line in self._gdb.stdout:
            match = re.fullmatch(pattern, line.rstrip("\n"))
            if match:
                return match[1], match[2] or ""
        raise AssertionError(f"GDB ended before {pattern}")


class MiTest(GdbTest):

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if not gdb([HAS_COMMANDS])[0].answer:
            raise unittest.SkipTest("this GDB's Python cannot add GDB/MI commands")

    def start(self, path: Path, *, traced: bool = True, directory: Path | None = None) -> Mi:
        """GDB where the program stands at its first checkpoint."""
        mi = Mi(path, directory or new_directory())
        self.addCleanup(mi.close)
        if traced:
            mi(f"-gdb-set environment LD_PRELOAD {RUNTIME}")
            mi("-gdb-set environment TRACEMALLOC 25")
        mi("-break-insert checkpoint")
        mi("-exec-run")
        return mi

    def values(self, mi: Mi, *expressions: str) -> list[int]:
        return [int(mi(f'-data-evaluate-expression "{expression}"')["value"]) for expression in expressions]

    def test_stats(self) -> None:
        mi = self.start(program("known"))
        stats = mi("-tm-stats")
        blocks, size = self.values(mi, "expected_blocks", "expected_bytes")
        self.assertRegex(stats["source"], r"^process \d+ \(known\), started by GDB$")
        self.assertEqual([stats[name] for name in ("group", "cumulative", "size", "count", "total-rows", "left-out")],
                         ["lineno", "0", str(size), str(blocks), "5", "0"])
        lines = [line_of("known.c", mark) for mark in ("grow", "leak", "aligned", "calloc", "recurse")]
        self.assertEqual([[row["file"], row["line"]] for row in stats["rows"]],
                         [["known.c", str(line)] for line in lines])
        first = stats["rows"][0]
        self.assertEqual([first[name] for name in ("size", "count", "func")], [str(1 << 20), "1", "grow"])
        self.assertEqual(os.path.basename(first["fullname"]), "known.c")
        self.assertEqual(first["from"], str(program("known")))
        self.assertEqual(first["place"], f"{first['fullname']}:{lines[0]}")
        self.assertEqual(sum(int(row["size"]) for row in stats["rows"]), size)
        self.assertEqual(stats["notes"], [])

    def test_groupings_and_options(self) -> None:
        mi = self.start(program("known"))
        few = mi("-tm-stats lineno -limit 2")
        self.assertEqual([len(few["rows"]), few["total-rows"], few["left-out"]], [2, "5", "3"])
        file, = mi("-tm-stats filename")["rows"]
        self.assertEqual([file["file"], file["count"]], ["known.c", "1003"])
        module, = mi("-tm-stats module")["rows"]
        self.assertEqual(module["from"], str(program("known")))
        functions = [row["func"] for row in mi("-tm-stats function")["rows"]]
        self.assertEqual(functions, ["grow", "leak", "main", "recurse"])
        deep = mi("-tm-stats traceback")["rows"][-1]
        self.assertEqual([frame["level"] for frame in deep["frames"]], list(map(str, range(25))))
        self.assertEqual(deep["cut"], "1")
        cumulative = mi("-tm-stats -cumulative")
        self.assertEqual(cumulative["cumulative"], "1")
        self.assertIn(str(line_of("known.c", "main leak")), [row["line"] for row in cumulative["rows"]])

    def test_filters_and_wrappers_hold(self) -> None:
        mi = self.start(program("wrappers"))
        self.assertGreater(int(mi("-tm-stats")["skipped"]), 0)
        mi('-interpreter-exec console "tm-filter exclude wrappers.c"')
        stats = mi("-tm-stats")
        self.assertEqual([stats["count"], stats["rows"]], ["0", []])

    def test_domains(self) -> None:
        mi = Mi(program("domains", *LINKED), new_directory())
        self.addCleanup(mi.close)
        mi("-gdb-set environment TRACEMALLOC 25")
        mi("-break-insert checkpoint")
        mi("-exec-run")
        rows = mi("-tm-stats domain")["rows"]
        self.assertEqual([[row["domain"], row["name"]] for row in rows],
                         [["7", "device memory (domain 7)"], ["0", "heap (domain 0)"], ["3", "textures (domain 3)"],
                          ["4", "domain 4"]])
        self.assertEqual(mi("-tm-traceback 0xfedc00000003")["block"],
                         {"address": "0xfedc00000000", "size": str(5 << 40), "offset": "3", "domain": "7",
                          "name": "device memory (domain 7)"})

    def test_compare(self) -> None:
        directory = new_directory()
        mi = self.start(program("known"), directory=directory)
        mi('-interpreter-exec console "tm-snapshot save \'a b.snap\'"')
        mi("-exec-continue")
        mi('-interpreter-exec console "tm-snapshot save b.snap"')
        grown = sum(100 + 1000 - number for number in range(1, 11))
        for command, new in (('-tm-compare "a b.snap"', "process"), ('-tm-compare "a b.snap" b.snap', "b.snap")):
            answer = mi(command)
            row, = answer["rows"]
            self.assertEqual([row["line"], row["size-diff"], row["count-diff"]],
                             [str(line_of("known.c", "leak")), str(grown), "10"])
            self.assertEqual(answer["old"]["source"], "a b.snap")
            self.assertTrue(answer["new"]["source"].startswith(new))
            self.assertEqual(int(answer["new"]["size"]) - int(answer["old"]["size"]), grown)
            self.assertEqual(answer["notes"], [])
        back, = mi('-tm-compare b.snap "a b.snap" function')["rows"]
        self.assertEqual([back["func"], back["size-diff"]], ["leak", str(-grown)])

    def test_traceback(self) -> None:
        mi = self.start(program("known"))
        for command in ("-tm-traceback leaks[7]+3", '-tm-traceback "leaks[7] + 3"', "-tm-traceback leaks[7] + 3"):
            answer = mi(command)
            self.assertEqual([answer["block"][name] for name in ("size", "offset", "domain")], ["107", "3", "0"])
            self.assertEqual([[frame["level"], frame["func"], frame["line"]] for frame in answer["frames"]],
                             [["0", "leak", str(line_of("known.c", "leak"))],
                              ["1", "main", str(line_of("known.c", "main leak"))]])
        self.assertEqual(mi("-tm-traceback 16"), {"address": "0x10", "notes": []})

    def test_info(self) -> None:
        mi = self.start(program("known"))
        info = mi("-tm-info")
        blocks, size, peak = self.values(mi, "expected_blocks", "expected_bytes", "$tm_peak()")
        names = ("tracing", "frame-limit", "count", "size", "peak", "lost", "missing")
        self.assertEqual([info[name] for name in names], ["1", "25", str(blocks), str(size), str(peak), "0", "0"])

    def test_errors_are_messages(self) -> None:
        mi = self.start(program("known"))
        for command, words in {
                "-tm-stats colour": ["colour", "lineno"], "-tm-stats -fast": ["-fast", "-limit"],
                "-tm-stats -limit many": ["many"], "-tm-compare": ["file"], "-tm-compare none.snap": ["none.snap"],
                "-tm-traceback": ["address"], "-tm-traceback nothing": ["nothing"], "-tm-info now": ["now"]}.items():
            message = mi(command)
            self.assertIsInstance(message, str, command)
            for word in words:
                self.assertIn(word, message)
            self.assertNotIn("Traceback", message)
            self.assertNotIn("\n", message)
        untraced = self.start(program("known"), traced=False)
        for command in ("-tm-stats", "-tm-info", "-tm-traceback 16"):
            self.assertIn("no tracemalloc runtime in process", untraced(command))

    def test_the_console_says_the_same(self) -> None:
        console = gdb([*preload(), *at_checkpoint(), "tm-stats"], program("known"))[-1].output
        mi = self.start(program("known"))
        for row in mi("-tm-stats")["rows"]:
            self.assertIn(f"{row['file']}:{row['line']}: size=", console)
            self.assertIn(f", count={row['count']}, ", console)


class WithoutTest(GdbTest):

    def test_a_gdb_without_such_commands_has_all_others(self) -> None:
        lose = python("import gdb\nif hasattr(gdb, 'MICommand'): del gdb.MICommand")
        results = gdb([lose, f"source {DOOR}", *preload(), *at_checkpoint(), "tm-stats"], program("known"), load=False)
        self.assertWorked(results)
        self.assertIn("in 1,003 blocks", results[-1].output)


if __name__ == "__main__":
    unittest.main()
