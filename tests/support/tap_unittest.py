"""Runs one unittest file and prints TAP: one line a test, the failure's text behind `#`.

Usage: tap_unittest.py FILE
"""

from __future__ import annotations

import importlib.util
import sys
import unittest
from pathlib import Path


class TapResult(unittest.TestResult):
    """Prints each outcome as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def _say(self, outcome: str, test: unittest.TestCase, suffix: str = "", text: str = "") -> None:
        self.number += 1
        print(f"{outcome} {self.number} - {test.id()}{suffix}")
        for line in text.splitlines():
            print(f"# {line}")
        sys.stdout.flush()

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self._say("ok", test)

    def addFailure(self, test, err) -> None:  # type: ignore[no-untyped-def]
        super().addFailure(test, err)
        self._say("not ok", test, text=self.failures[-1][1])

    def addError(self, test, err) -> None:  # type: ignore[no-untyped-def]
        super().addError(test, err)
        self._say("not ok", test, text=self.errors[-1][1])

    def addSubTest(self, test, subtest, err) -> None:  # type: ignore[no-untyped-def]
        super().addSubTest(test, subtest, err)
        if err is not None:
            kind = self.failures if issubclass(err[0], test.failureException) else self.errors
            self._say("not ok", subtest, text=kind[-1][1])

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._say("ok", test, suffix=f" # SKIP {reason}")


def load(path: Path) -> unittest.TestSuite:
    sys.path.insert(0, str(path.parent))
    sys.path.insert(0, str(path.parents[2] / "gdb"))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return unittest.defaultTestLoader.loadTestsFromModule(module)


def main() -> int:
    suite = load(Path(sys.argv[1]).resolve())
    result = TapResult()
    suite.run(result)
    print(f"1..{result.number}")
    if result.number == 0:
        print("Bail out! no tests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
