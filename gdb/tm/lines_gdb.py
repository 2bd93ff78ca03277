"""lines_gdb.py: runs in the GDB that lines.py starts, without a process: what GDB knows of addresses in files."""

from __future__ import annotations

import json
from typing import Sequence

import gdb

from .symbols import lines_at, minimal_symbol


def answer_all(questions: str, answers: str) -> None:
    """Reads (path, addresses) pairs from one file, writes a line to the other for each pair that can be answered."""
    with open(questions) as file:
        asked = json.load(file)
    with open(answers, "w") as output:
        for number, (path, addresses) in enumerate(asked):
            try:
                answer = _answer(path, addresses)
            except (RuntimeError, UnicodeError, OverflowError):
                continue
            output.write(json.dumps([number, answer]) + "\n")
            output.flush()


def _answer(path: str, addresses: Sequence[int]) -> list[tuple[object, ...]]:
    """(lines, function, offset) of each address."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    gdb.execute(f'symbol-file "{escaped}"', to_string=True)
    found: list[tuple[object, ...]] = []
    for address in addresses:
        lines = lines_at(address)
        found.append((lines, *((None, 0) if lines else minimal_symbol(address))))
    return found
