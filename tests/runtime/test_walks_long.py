"""Millions of walks of programs that nobody here wrote, every one of them compared with libunwind's: no difference."""

from __future__ import annotations

import tempfile
from pathlib import Path

from walks import CHECKER, TOP, ComparedWalks


class Millions(ComparedWalks):
    every = 1

    def test_sqlite3(self) -> None:
        self.check("sqlite3", ":memory:", at_least=600_000)

    def test_python3(self) -> None:
        self.check("/usr/bin/python3", str(TOP / "bench/programs/analyse.py"), "30", at_least=600_000,
                   PYTHONMALLOC="malloc")

    def test_perl(self) -> None:
        self.check("perl", str(TOP / "bench/programs/words.pl"), "20000", at_least=400_000)

    def test_cc1(self) -> None:
        self.check("gcc", "-O2", f"-I{TOP}/runtime", "-c", "-o", "site.o", f"{TOP}/runtime/site.c", at_least=20_000)

    def test_cc1plus(self) -> None:
        includes = "".join(f"#include <{name}>\n" for name in (
            "functional", "iostream", "map", "memory", "regex", "set", "string", "unordered_map", "variant", "vector"))
        part = (TOP / "bench/programs/part.cc.in").read_text().replace("@N@", "0")
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "part.cc"
            source.write_text(includes + part)
            self.check("g++", "-std=c++17", "-O1", "-c", "-o", "part.o", str(source), at_least=600_000)

    def test_gdb(self) -> None:
        self.check("gdb", "-nx", "-batch", "-ex", "info types .", "-ex", "info functions .", str(CHECKER),
                   at_least=10_000)
