"""Programs that nobody here wrote, each walk of theirs compared with libunwind's: zero differences."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

from walks import CHECKER, TOP, ComparedWalks

PYTHON = """
import json, re, threading
data = [{"a": i, "b": str(i) * 3} for i in range(5000)]
threads = [threading.Thread(target=lambda: json.loads(json.dumps(data))) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(re.findall("1+", json.dumps(data))))
"""
PERL = "my %h; $h{$_} = [1..5] for 1..20000; my @s = sort { $a cmp $b } keys %h; print scalar(@s);"


class RealPrograms(ComparedWalks):
    def test_sqlite3(self) -> None:
        self.check("sqlite3", ":memory:", at_least=20000)

    def test_python3(self) -> None:
        self.check("/usr/bin/python3", "-c", PYTHON, at_least=5000, PYTHONMALLOC="malloc")

    def test_perl(self) -> None:
        self.check("perl", "-e", PERL, at_least=2000)

    def test_gdb(self) -> None:
        self.check("gdb", "-nx", "-batch", "-ex", "info line compare",
                   "-ex", "info scope compare", "-ex", "info types walk", str(CHECKER), at_least=2000)

    def test_cplusplus_compiler(self) -> None:
        self.check("g++", "-c", "-o", "containers.o", f"{TOP}/tests/programs/containers.cc", at_least=20000)

    def test_exceptions(self) -> None:
        compiler = shutil.which("g++")
        if compiler is None:
            self.skipTest("there is no g++ here")
        with tempfile.TemporaryDirectory() as folder:
            program = f"{folder}/exceptions"
            subprocess.run([compiler, "-O2", "-o", program, f"{TOP}/tests/programs/exceptions.cc"], check=True)
            self.check(program, at_least=2000)

    def test_compiler(self) -> None:
        compiler = os.environ.get("CC", "cc").split()[0]
        self.check(compiler, "-O2", f"-I{TOP}/runtime", "-c", "-o", "node.o", f"{TOP}/runtime/node.c", at_least=1000)
