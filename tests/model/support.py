"""What the tests of the model share: the package under test, and raw traces to try it on."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tempfile
import unittest
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(SOURCE, "gdb"), os.path.join(SOURCE, "tests", "support")]

if TYPE_CHECKING:
    from tm import model, snapfile
else:
    model = importlib.import_module("tm.model")
    snapfile = importlib.import_module("tm.snapfile")

__all__ = ["SECONDS", "TestWithDirectory", "WIDE", "boundary_values", "model", "snapfile"]

SECONDS = 300  # after which a test counts as hung

# Frames of every shape: with and without what is ours, with and without a line.
WIDE: list[model.RawTrace] = [
    (0, 64, (("xmalloc.c", 12, "xmalloc", "/bin/server", 0x1012), ("server.c", 212, "parse", "/bin/server", 0x2212),
             ("server.c", 300, "main", "/bin/server", 0x2300)), 3),
    (0, 64, (("xmalloc.c", 12, "xmalloc", "/bin/server", 0x1012), ("server.c", 212, "parse", "/bin/server", 0x2212),
             ("server.c", 300, "main", "/bin/server", 0x2300)), 3),
    (0, 100, (("libc.so.6(getdelim+0x15a)", 0, "getdelim", "/lib/libc.so.6", 0x7f0000001234),
              ("server.c", 300, "main", "/bin/server", 0x2300)), None),
    (0, 8, (("xmalloc.c", 12, "xmalloc", "/bin/server", 0x1012),), None),
    (3, 1 << 33, (("pool.c", 7, None, "", None),), 1),
    (3, 5, (("plain.c", 9),), 1),
    (0, 1, (), None),
]


def boundary_values(payload: bytes) -> Iterator[bytes]:
    """The payload with each byte, and the 4 bytes from there on, replaced by what a reader may stumble over."""
    for place, byte in enumerate(payload):
        for value in {0, 1, 127, 128, 255, byte + 1 & 255, byte - 1 & 255} - {byte}:
            yield payload[:place] + bytes([value]) + payload[place + 1:]
        for four in (bytes(4), b"\xff" * 4, b"\0\0\0\x80"):
            if payload[place:place + 4] not in (four, four[:1]):
                yield payload[:place] + four + payload[place + 4:]


class TestWithDirectory(unittest.TestCase):
    """A test with a directory of its own, that fails instead of hanging."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.path = os.path.join(self.directory, "a.snap")
        previous = signal.signal(signal.SIGALRM, self._hung)
        self.addCleanup(signal.signal, signal.SIGALRM, previous)
        signal.alarm(SECONDS)
        self.addCleanup(signal.alarm, 0)

    def _hung(self, number: int, frame: FrameType | None) -> None:
        self.fail(f"not done after {SECONDS} seconds")

    def write(self, data: bytes) -> str:
        with open(self.path, "wb") as file:
            file.write(data)
        return self.path

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            return file.read()
