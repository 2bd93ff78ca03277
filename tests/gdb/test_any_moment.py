"""test_any_moment.py: eight threads at work are stopped at random moments, a thousand times; their tables are read as
a core's would be and held against the program's own books.

TM_TEST_MOMENTS: how many moments, 1000 by default.
"""

from __future__ import annotations

import os
import platform
import random
import signal
import struct
import subprocess
import time
import unittest
from typing import Callable, NamedTuple

from support import RUNTIME, program, traced_environment

import judge
import tracee
from judge import Found, Place, Verdict
from tm.layout import MAGIC
from tm.memory import find
from tm.runtime import holds_layout

MOMENTS = int(os.environ.get("TM_TEST_MOMENTS", "1000"))
SEED = 5
THREADS, SLOTS, MAILBOXES = 8, 64, 16
BOOKS = struct.Struct(f"{SLOTS + 3}Q")
NOTHING, ADDING, REMOVING, MOVING, PASSING = range(5)
SIZE_SHIFT = 48


class Doing(NamedTuple):
    """What a thread was in the middle of."""

    what: int
    old: tuple[Place, int] | None  # the block that was in its hands, and its size
    size: int  # of the one to come


class Account(NamedTuple):
    """What the program says of itself."""

    held: dict[Place, int]  # nobody's hands are on these
    doings: list[Doing]


def block(word: int) -> tuple[Place, int]:
    return (0, word & (1 << SIZE_SHIFT) - 1), word >> SIZE_SHIFT


class Keepers:
    """keepers.c, which runs but while it is looked at."""

    def __init__(self) -> None:
        path = program("keepers", "-no-pie", "-pthread")
        symbols = tracee.symbols(path)
        self._books, self._mailboxes = symbols["books"][0], symbols["mailboxes"][0]
        self._change = range(symbols["change"][0], sum(symbols["change"]))
        self._process = subprocess.Popen([str(path)], env=traced_environment(frames=20), stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self.pid = self._process.pid
        self.layout = self._find_layout()

    def _find_layout(self) -> int:
        ranges = [(part.start, part.end) for part in tracee.mapped_files(self.pid)
                  if part.path == str(RUNTIME.resolve()) and "x" not in part.permissions]
        return next(address for address in find(self.read, MAGIC, ranges) if holds_layout(self.read, address))

    def read(self, address: int, length: int) -> bytes:
        return tracee.read_memory(self.pid, address, length)

    def stop(self) -> None:
        """All threads, wherever they are."""
        os.kill(self.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"the program ended with status {status:#x}"

    def go(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def account(self) -> Account:
        held: dict[Place, int] = {}
        doings = []
        books = BOOKS.iter_unpack(self.read(self._books, BOOKS.size * THREADS))
        for *slots, what, slot, size in books:
            if what != NOTHING:
                word = slots[slot]
                slots[slot] = 0
                doings.append(Doing(what, block(word) if word else None, size))
            held.update(block(word) for word in slots if word)
        held.update(block(word) for word in struct.unpack(f"{MAILBOXES}Q", self.read(self._mailboxes, 8 * MAILBOXES))
                    if word)
        return Account(held, doings)

    def is_ours(self, found: Found) -> bool:
        """Whether the block comes from a thread's own doing, not from a library."""
        return any(pc in self._change for pc in found.pcs)


@unittest.skipUnless(platform.machine() == "x86_64", "the program's books are right at any instruction on x86_64 alone")
@unittest.skipUnless(RUNTIME.exists(), f"the runtime is not built: {RUNTIME}")
class AnyMomentTest(unittest.TestCase):

    def setUp(self) -> None:
        self.keepers = Keepers()
        self.addCleanup(self.keepers.close)
        self.random = random.Random(SEED)

    def test_every_moment_is_a_good_one(self) -> None:
        busy = inside = unsettled = 0
        for moment in range(MOMENTS):
            time.sleep(self.random.random() * 0.003)
            self.keepers.stop()
            account = self.keepers.account()
            verdict = judge.judge(self.keepers.read, self.keepers.layout)
            with self.subTest(moment=moment):
                unsettled += self.check(account, verdict)
            self.keepers.go()
            busy += len(account.doings)
            inside += verdict.state.inside
        # Moments at which nothing was going on would prove nothing.
        self.assertGreater(busy, MOMENTS)
        self.assertGreater(inside, MOMENTS // 10)
        self.assertGreater(unsettled, MOMENTS // 10)

    def check(self, account: Account, verdict: Verdict) -> int:
        """The number of blocks that the program neither had nor had not at that moment."""
        self.assertEqual(verdict.problems, [])
        blocks = {place: found.size for place, found in verdict.blocks.items() if self.keepers.is_ours(found)}
        self.assertEqual(account.held, {place: blocks.get(place) for place in account.held})
        coming_or_going = {place: size for place, size in blocks.items() if place not in account.held}
        self.assertEqual(left_over(coming_or_going, account.doings), [])
        state = verdict.state
        self.assertEqual(state.lost, 0)
        self.assertLessEqual(state.inside, len(account.doings))
        self.assertGreaterEqual(state.peak, state.current)
        difference = abs(state.current - sum(found.size for found in verdict.blocks.values()))
        self.assertLessEqual(difference, sum(doing.size + (doing.old[1] if doing.old else 0)
                                             for doing in account.doings))
        if difference:
            self.assertGreater(state.inside, 0)
        return len(coming_or_going)


def left_over(blocks: dict[Place, int], doings: list[Doing]) -> list[tuple[Place, int]]:
    """The blocks that no thread had in its hands; a thread has at most one."""
    free = list(doings)

    def take(wanted: Callable[[Doing], bool]) -> bool:
        doing = next(filter(wanted, free), None)
        if doing:
            free.remove(doing)
        return doing is not None

    left = [one for one in blocks.items() if not take(lambda doing: doing.what != ADDING and doing.old == one)]
    left = [one for one in left if not take(lambda doing: doing.what in (ADDING, MOVING) and doing.size == one[1])]
    return [one for one in left if not take(lambda doing: doing.what == PASSING)]


if __name__ == "__main__":
    unittest.main()
