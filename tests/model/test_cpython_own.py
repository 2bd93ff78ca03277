"""CPython's own tests of Traceback, Snapshot and the filters, where they are installed, run on our model."""

from __future__ import annotations

import importlib
import unittest
from typing import Any
from unittest.mock import patch

from support import model

try:
    theirs: Any = importlib.import_module("test.test_tracemalloc")
except ImportError:
    theirs = None


@unittest.skipIf(theirs is None, "this python3 has no test.test_tracemalloc")
class TestCPythonOwn(unittest.TestCase):
    def test_their_model_tests(self) -> None:
        suite = unittest.TestSuite()
        for case in (theirs.TestTraceback, theirs.TestSnapshot, theirs.TestFilters):
            for name in unittest.defaultTestLoader.getTestCaseNames(case):
                if name != "test_create_snapshot":  # it replaces functions of the interpreter's tracer
                    suite.addTest(case(name))
        result = unittest.TestResult()
        # They look at the raw traces in private.
        raw = property(lambda traces: [trace._trace for trace in traces])
        with patch.object(theirs, "tracemalloc", model), patch.object(model._Traces, "_traces", raw, create=True):
            suite.run(result)
        self.assertGreater(result.testsRun, 15)
        self.assertEqual([text for _, text in result.errors + result.failures], [])


if __name__ == "__main__":
    unittest.main()
