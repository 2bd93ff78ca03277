"""holding.py: a setting of GDB's is held at a value for a while and given back, also where Ctrl-C comes in between."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

import gdb


@contextmanager
def held(name: str, value: str) -> Iterator[None]:
    """RuntimeError if GDB has no such setting."""
    before = gdb.parameter(name)
    if isinstance(before, bool):
        before = "on" if before else "off"
    try:
        gdb.execute(f"set {name} {value}", to_string=True)
        yield
    finally:
        surely(f"set {name} {before}")


def surely(command: str) -> None:
    """Has GDB do a short command, Ctrl-C or not; the KeyboardInterrupt comes when it is done."""
    try:
        gdb.execute(command, to_string=True)
    except KeyboardInterrupt:
        gdb.execute(command, to_string=True)
        raise
