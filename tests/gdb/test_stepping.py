"""test_stepping.py: a stop at any instruction is readable in GDB: stepi through malloc, realloc, free, a reading each
step. test_every_instruction.py proves more of it, without GDB.

TM_TEST_STEPI: how many instructions, 1000 by default.
"""

from __future__ import annotations

import os
import unittest

from support import GdbTest, at_checkpoint, gdb, line_of, preload, program, python

STEPS = int(os.environ.get("TM_TEST_STEPI", "1000"))
# Where a page's node is made and gets more lines, more than once; then where blocks go and move.
MOMENTS = (0, 4, 8, 16, 32, 64, 199, 207, 260, 402)

STEPPING = f"""
import gdb, tm
from tm.reader import Reader
from tm.skiplist import Skiplist

truth = gdb.lookup_global_symbol("truth").value
answer = {{"steps": 0, "notes": [], "blocks": 0, "listed": 0, "counted": 0, "bytes": 0}}

def look():
    reader = Reader()
    counted = reader.tables.count_blocks()
    blocks = sum(counted.counts)
    listed = list(Skiplist(reader.tables).blocks())
    size = sum(size * count for size, count in zip(counted.sizes, counted.counts))
    answer["steps"] += 1
    answer["notes"] += reader.notes
    for name, distance in (("blocks", blocks - int(truth())), ("listed", blocks - len(listed)),
                           ("counted", blocks - reader.tables.state.blocks), ("bytes", size - reader.state.current)):
        answer[name] = max(answer[name], abs(distance))

gdb.execute("delete")
for moment in {MOMENTS}:
    gdb.execute("tbreak churn.c:{line_of('churn.c', 'step')} if step == %d" % moment, to_string=True)
    gdb.execute("continue", to_string=True)
    for step in range({STEPS} // {len(MOMENTS)}):
        gdb.execute("stepi", to_string=True)
        look()
"""


class SteppingTest(GdbTest):

    def test_every_instruction_is_a_good_moment(self) -> None:
        result = gdb([*preload(), *at_checkpoint(), python(STEPPING)], program("churn"), timeout=600)[-1]
        self.assertIsNone(result.error)
        answer = result.answer
        self.assertEqual(answer["steps"], STEPS)
        self.assertEqual(answer["notes"], [])
        self.assertLessEqual(answer["blocks"], 1)
        self.assertEqual(answer["listed"], 0)
        self.assertLessEqual(answer["counted"], 1)
        self.assertLessEqual(answer["bytes"], 120)


if __name__ == "__main__":
    unittest.main()
