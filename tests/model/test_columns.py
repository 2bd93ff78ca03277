"""Facts about columns against those that Python's own min, max and sum give."""

from __future__ import annotations

import importlib
import random
import unittest
from array import array
from typing import TYPE_CHECKING

import support  # noqa: F401 - finds the package

if TYPE_CHECKING:
    from tm import columns
else:
    columns = importlib.import_module("tm.columns")

SEED = 5


class TestColumns(unittest.TestCase):
    def test_random_columns(self) -> None:
        source = random.Random(SEED)
        for _ in range(20000):
            code = source.choice("BHIQ")
            end = source.randrange(1, 1 << source.randrange(1, 8 * array(code).itemsize + 1)) + 1
            column = array(code, (source.randrange(end) for _ in range(source.choice((0, 1, 2, 30, 400)))))
            highest = max(column, default=-1)
            for limit in (0, 1, max(highest, 0), highest + 1, end, end + 1, source.randrange(1 << 65)):
                self.assertEqual(columns.reaches(column, limit), highest >= limit, f"seed {SEED}: {column}, {limit}")
            self.assertEqual(columns.has_zero(column), 0 in column)
            self.assertEqual(columns.summed(column), sum(column))


if __name__ == "__main__":
    unittest.main()
