"""document.py: the examples in a Markdown document: its fenced blocks, and what is to be done with each.

A block with lines that begin with `$ ` or `(gdb) ` is a session: those lines are typed, the others are what is printed
then. A comment in the line before the block says what else there is to know of it:

    <!-- not run: why -->    nothing is done with it
    <!-- needs: NAME... -->  it is run where the shell knows these commands
    <!-- varies: why -->     its numbers may be others, only their form counts
    <!-- file: NAME -->      it is written to that file, for the sessions that follow
    <!-- patch: NAME -->     it is a diff, and is applied to that file
    <!-- from: NAME -->      its lines stand together in that file of the source tree
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator, NamedTuple

KINDS = ("not run", "needs", "varies", "file", "patch", "from")
_FENCE = re.compile(r"```(\w*)$")
_DIRECTIVE = re.compile(r"<!-- ([\w ]+): (.+) -->$")
_TYPED = re.compile(r"(\$|\(gdb\)) (.*)$")
_INDENTED = re.compile(r"(?: {4,}|\t)(?:\$ |\(gdb\) |-tm-|\^done|\^error)")
_CONTINUED = re.compile(r"> (.*)$")


class Step(NamedTuple):
    """One typed line of a session and the lines that are printed then."""

    prompt: str         # "$" or "(gdb)"
    command: str
    typed: list[str]    # as the document has it, prompt included
    printed: list[str]


class Block(NamedTuple):
    """A fenced block: lines[first:last] of the document, the fences left out."""

    document: str
    first: int
    last: int
    language: str
    directives: dict[str, str]
    lines: list[str]

    @property
    def place(self) -> str:
        return f"{self.document}:{self.first}"

    @property
    def is_session(self) -> bool:
        return any(_TYPED.match(line) for line in self.lines)

    def steps(self) -> list[Step]:
        """What is typed, in order. Lines that begin with `> ` go on with the command before."""
        steps: list[Step] = []
        for line in self.lines:
            typed, continued = _TYPED.match(line), _CONTINUED.match(line)
            if typed:
                steps.append(Step(typed[1], typed[2], [line], []))
            elif not steps:
                raise ValueError(f"{self.place}: output before the first command: {line}")
            elif continued and not steps[-1].printed and steps[-1].prompt == "$":
                last = steps[-1]
                steps[-1] = Step(last.prompt, f"{last.command}\n{continued[1]}", [*last.typed, line], [])
            else:
                steps[-1].printed.append(line)
        return steps


def blocks(path: Path, name: str) -> Iterator[Block]:
    """ValueError names what is wrong with a document."""
    lines = path.read_text().splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if not fence:
            if lines[number].lstrip().startswith("```"):
                raise ValueError(f"{name}:{number + 1}: a fence that the tests do not read: {lines[number]}")
            if _INDENTED.match(lines[number]):
                raise ValueError(f"{name}:{number + 1}: an example that the tests do not read, for want of a fence: "
                                 f"{lines[number].strip()}")
            number += 1
            continue
        try:
            last = lines.index("```", number + 1)
        except ValueError:
            raise ValueError(f"{name}:{number + 1}: the block does not end") from None
        yield Block(name, number + 1, last, fence[1], _directives(lines, number, name), lines[number + 1:last])
        number = last + 1


def _directives(lines: list[str], fence: int, name: str) -> dict[str, str]:
    """Those of the comments right above a fence."""
    found = {}
    for number in range(fence - 1, -1, -1):
        match = _DIRECTIVE.match(lines[number])
        if not match:
            break
        if match[1] not in KINDS:
            raise ValueError(f"{name}:{number + 1}: unknown {match[1]}: use one of {', '.join(KINDS)}")
        found[match[1]] = match[2]
    return found


def patched(text: str, diff: list[str]) -> str:
    """TEXT with one hunk applied; ValueError if its old lines are not there, or more than once."""
    hunk = [line for line in diff if not line.startswith(("---", "+++", "@@"))]
    old = "".join(f"{line[1:]}\n" for line in hunk if not line.startswith("+"))
    new = "".join(f"{line[1:]}\n" for line in hunk if not line.startswith("-"))
    if text.count(old) != 1:
        raise ValueError(f"the lines that the diff changes are there {text.count(old)} times")
    return text.replace(old, new)


def is_excerpt(lines: list[str], text: str) -> bool:
    """Whether the lines stand together in the text, with any indentation and with `…` for lines left out."""
    wanted = [line.strip() for line in lines if line.strip()]
    there = [line.strip() for line in text.splitlines() if line.strip()]
    position = 0
    pieces: list[list[str]] = [[]]
    for line in wanted:
        if line in ("…", "/* … */"):
            pieces.append([])
        else:
            pieces[-1].append(line)
    for piece in pieces:
        while there[position:position + len(piece)] != piece:
            position += 1
            if position > len(there):
                return False
        position += len(piece)
    return True
