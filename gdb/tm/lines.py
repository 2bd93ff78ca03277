"""lines.py: functions and lines at addresses in ELF files on disk, from a GDB of its own, else from addr2line.

GDB comes first, for its answers are word for word those of symbols.py. Without either there are no lines.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from typing import Iterator, Mapping, NamedTuple, Sequence

from .stacks import Line, without_parameters

PATIENCE = 120  # seconds that the tools have for all questions of one call

_SHOWN = 5
_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Question(NamedTuple):
    path: str                 # of the module's file, or of its debug information where that alone is there
    debug_path: str           # of its debug information; `path` where that has it, if any has
    addresses: Sequence[int]  # the file's own


class Found(NamedTuple):
    """What is known of an address. Where there are no lines, maybe the linker's name and the offset behind it."""

    lines: tuple[Line, ...]
    function: str | None = None
    offset: int = 0


Answer = dict[int, Found]  # an address that is not in it: nothing is known but what the file's symbols tell


def ask(questions: Sequence[Question]) -> tuple[list[Answer | None], list[str]]:
    """One answer for each question, None where no tool gave one, and a sentence on each thing that went wrong."""
    if not questions:
        return [], []
    deadline = time.monotonic() + PATIENCE
    gdb, addr2line = shutil.which("gdb"), shutil.which("addr2line")
    answers = _ask_gdb(gdb, questions, deadline) if gdb else {}
    left = [number for number in range(len(questions)) if number not in answers]
    for number in left:
        answer = _ask_addr2line(addr2line, questions[number], deadline) if addr2line else None
        if answer is not None:
            answers[number] = answer
    return [answers.get(number) for number in range(len(questions))], _notes(questions, answers, left, deadline)


def _notes(questions: Sequence[Question], answers: Mapping[int, Answer], left: Sequence[int],
           deadline: float) -> list[str]:
    """`left`: the questions that GDB did not answer."""
    notes = []
    if any(number in answers for number in left):
        notes.append("lines that gdb did not give are addr2line's, which names some places otherwise")
    unanswered = sorted({questions[number].path for number in left if number not in answers})
    if unanswered:
        why = f"was done in {PATIENCE} seconds" if time.monotonic() >= deadline else "could tell"
        notes.append(f"frames in {shown_paths(unanswered)} have no lines: neither gdb nor addr2line {why}")
    return notes


def shown_paths(paths: Sequence[str]) -> str:
    """The first few, for a sentence."""
    shown = ", ".join(path if path.isprintable() else ascii(path) for path in paths[:_SHOWN])
    return f"{shown} and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else shown


def _ask_gdb(gdb: str, questions: Sequence[Question], deadline: float) -> dict[int, Answer]:
    """What a child GDB answered until the deadline, by the question's number."""
    with tempfile.TemporaryDirectory() as directory:
        asked, answered = os.path.join(directory, "questions"), os.path.join(directory, "answers")
        with open(asked, "w") as file:
            json.dump([(question.path, list(question.addresses)) for question in questions], file)
        script = (f"import sys; sys.path.insert(0, {_PACKAGE_PARENT!r}); from tm import lines_gdb; "
                  f"lines_gdb.answer_all({asked!r}, {answered!r})")
        _run([gdb, "-nx", "-q", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off",
              "-ex", f"python {script}"], "", deadline)
        return dict(_read_answers(answered, questions))


def _read_answers(path: str, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
    """A line of JSON for each question that was answered; the last may be half-written."""
    if not os.path.exists(path):
        return
    with open(path) as file:
        for line in file:
            if line.endswith("\n"):
                number, answer = json.loads(line)
                found = [Found(tuple(Line(*one) for one in lines), function, offset)
                         for lines, function, offset in answer]
                yield number, dict(zip(questions[number].addresses, found))


def _ask_addr2line(addr2line: str, question: Question, deadline: float) -> Answer | None:
    if time.monotonic() >= deadline:
        return None
    output = _run([addr2line, "-a", "-f", "-i", "-C", "-e", question.debug_path],
                  "".join(f"{address:#x}\n" for address in question.addresses), deadline)
    if output is None:
        return None
    # A line with the address, then two for each frame: function and place.
    parts = re.split(r"^0x[0-9a-f]+\n", output, flags=re.MULTILINE)[1:]
    parsed = ((address, _parse_lines(part.splitlines())) for address, part in zip(question.addresses, parts))
    return {address: Found(lines) for address, lines in parsed if lines}


def _parse_lines(texts: Sequence[str]) -> tuple[Line, ...]:
    lines: list[Line] = []
    for function, place in zip(texts[::2], texts[1::2]):
        match = re.fullmatch(r"(.*):(\d+|\?)(?: \(discriminator \d+\))?", place)
        lineno = int(match[2]) if match and match[2] != "?" else 0
        if match is None or not lines and not lineno:
            return ()
        lines.append(Line(os.path.normpath(match[1]), lineno,
                          None if function == "??" else without_parameters(function)))
    return tuple(lines)


def _run(command: Sequence[str], text: str, deadline: float) -> str | None:
    """What a command prints; None if it fails or is not done at the deadline."""
    try:
        # In a session of its own: Ctrl-C is for us, who then end it.
        return subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8",
                              errors="surrogateescape", check=True, start_new_session=True,
                              timeout=max(deadline - time.monotonic(), 0.1)).stdout
    except (OSError, subprocess.SubprocessError):
        return None
