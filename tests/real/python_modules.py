"""python_modules.py: CPython's own tests, module by module, with the library and without: each ends the same."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import unittest
import xml.etree.ElementTree
from pathlib import Path
from typing import Mapping, Sequence

from programs import ProgramTest, plain, traced
from support import new_directory

TIMEOUT = 1800
# Mostly they wait, for children and for each other.
_AT_ONCE = 3

Outcomes = dict[str, str]  # by the name of the test


@functools.lru_cache(maxsize=None)
def interpreter() -> str:
    """One that has its tests: the system's if it can be. Version managers put scripts of their own before it."""
    for path in ("/usr/bin/python3", sys.executable):
        if shutil.which(path) and not subprocess.run([path, "-c", "import test.test_json, test.test_ctypes"],
                                                     capture_output=True).returncode:
            return path
    raise unittest.SkipTest("this python3 has no tests of its own (on Debian: libpython3.X-testsuite)")


class _Run:
    """A run of modules that has begun."""

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._modules = modules
        directory = new_directory()
        self._results, self._log = directory / "results.xml", directory / "log"
        (directory / "here").mkdir()
        with open(self._log, "w") as log:
            self._process = subprocess.Popen(
                [interpreter(), "-m", "test", f"-j{_AT_ONCE}", "--junit-xml", str(self._results), *modules],
                cwd=directory / "here", env={**environment, "HOME": str(directory), "PYTHONMALLOC": "malloc"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def end(self) -> dict[str, Outcomes]:
        """What became of each test of each module."""
        try:
            self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if not self._results.exists():
            log = self._log.read_text(errors="replace")
            raise AssertionError(f"the tests of {' '.join(self._modules)} left no results: {log[-4000:]}")
        return _by_module(self._modules, self._results)


def run_both(modules: Sequence[str]) -> tuple[dict[str, Outcomes], dict[str, Outcomes]]:
    """Without the library and with it, side by side: they wait more than they work."""
    without, with_it = _Run(modules, plain()), _Run(modules, traced())
    return without.end(), with_it.end()


def _by_module(modules: Sequence[str], results: Path) -> dict[str, Outcomes]:
    found: dict[str, Outcomes] = {module: {} for module in modules}
    for case in xml.etree.ElementTree.parse(results).iter("testcase"):
        name = case.get("name", "")
        module = next((module for module in modules if name.startswith(_prefixes(module))), None)
        if module is not None:
            found[module][name] = _outcome(case)
    return found


def _prefixes(module: str) -> tuple[str, ...]:
    """What the names of its tests begin with; some packages keep their tests themselves."""
    return f"test.{module}.", f"{module.removeprefix('test_')}.test."


def _outcome(case: xml.etree.ElementTree.Element) -> str:
    problems = [f"{child.tag}: {(child.text or '')[-1500:]}" for child in case if child.tag in ("failure", "error")]
    return "\n".join(problems) or ("skipped" if case.find("skipped") is not None else "passed")


def tell_differences(expected: Outcomes, found: Outcomes) -> None:
    for name, outcome in expected.items():
        if found[name] != outcome:
            print(f"# {name} ended differently, and is run again", flush=True)
            for how, text in (("without the library", outcome), ("with it", found[name])):
                print("\n".join(f"#   {how}: {line}" for line in text.splitlines()), flush=True)


def case_for(names: Sequence[str]) -> type[ProgramTest]:
    """A test case with one test for each module of CPython's tests. They run at its beginning, all at once."""
    class Modules(ProgramTest):
        expected: dict[str, Outcomes]
        found: dict[str, Outcomes]

        @classmethod
        def setUpClass(cls) -> None:
            super().setUpClass()
            cls.expected, cls.found = run_both(names)

        def check(self, module: str) -> None:
            expected, found = self.expected[module], self.found[module]
            if expected.keys() == found.keys() and expected != found:
                # Some count seconds, and fail on a busy machine. Alone they do not, unless there is a cause. What
                # differed stays in the log.
                tell_differences(expected, found)
                again, found_again = run_both([module])
                expected, found = again[module], found_again[module]
            passed = {name: outcome for name, outcome in expected.items() if outcome == "passed"}
            if not passed:
                self.skipTest(f"none of {module} passes here without the library: {expected}")
            self.assertEqual(expected.keys(), found.keys())
            self.assertEqual(passed, {name: found[name] for name in passed})

    Modules.__qualname__ = "Modules"
    for name in names:
        setattr(Modules, name, functools.partialmethod(Modules.check, name))
    return Modules
