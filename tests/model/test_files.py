"""The lists of files in the build against the folders: what is not listed is neither installed nor shipped."""

from __future__ import annotations

import re
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def listed(name: str) -> set[str]:
    return set(re.findall(r"[\w./-]+\.(?:py|c|h|sh|sql)\b", (TOP / name).read_text()))


def present(*patterns: str) -> set[str]:
    return {str(path.relative_to(TOP)) for pattern in patterns for path in TOP.glob(pattern)}


class Files(unittest.TestCase):
    def test_every_file_of_the_package_is_installed(self) -> None:
        self.assertEqual(present("gdb/tm/**/*.py"), listed("gdb/files.am"))

    def test_every_test_runs_and_ships(self) -> None:
        there = present("tests/**/*.py", "tests/**/*.c", "tests/**/*.h", "tests/**/*.sh")
        self.assertEqual(set(), there - listed("tests/files.am"))

    def test_every_source_of_the_runtime_is_built(self) -> None:
        self.assertEqual(set(), present("runtime/*.c", "runtime/*.h") - listed("Makefile.am"))

    def test_every_exported_symbol_is_in_the_debian_list(self) -> None:
        exported = re.findall(r"^  (\w+);$", (TOP / "runtime/libtracemalloc.map").read_text(), re.MULTILINE)
        symbols = re.findall(r"^ (\w+)@Base ", (TOP / "debian/libtracemalloc0.symbols").read_text(), re.MULTILINE)
        self.assertEqual(sorted(exported), symbols)
