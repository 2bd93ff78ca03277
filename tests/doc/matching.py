"""matching.py: what was printed against what a document shows.

Lines are equal but for what differs from run to run, which RUNS names, and for what the document leaves out with `…`:
alone in a line it stands for any lines, within a line for any text.
"""

from __future__ import annotations

import re
from typing import Sequence

# What differs from run to run, and what both sides are read as.
RUNS = [(re.compile(pattern), replacement) for pattern, replacement in [
    (r"0x[0-9a-f]{5,}", "0xADDRESS"),
    (r"\b(process|Process|PID|pid|LWP|child) \d+", r"\1 PID"),
    (r"\b\d{4}-\d\d-\d\d\b", "DATE"),
    (r"\b\d\d:\d\d:\d\d\b", "TIME"),
    (r"\b\d+ (s|min|h|d)( \d+ (s|min|h))? (later|earlier|ago)\b", r"A WHILE \4"),
    (r"the file has [\d.]+ (B|KiB|MiB)", "the file has SIZE"),
    (r"^(Peak|Tracer's memory|Nodes): .*\d.*", r"\1: FIGURES"),
    (r"\.core\.\d+", ".core.PID"),
]]

# GDB's talk of the machine and of threads as they come: no part of an example.
NOISE = re.compile(r"""\[Thread\ debugging\ using\ |Using\ host\ libthread_db\ library
    |\[New\ (Thread|LWP)\ |\[Thread\ 0x[0-9a-f]+\ .*exited\]|\[Switching\ to\ |\[Current\ thread\ is\ [0-9]
    |warning:\ (Error\ disabling\ address\ space\ randomization|.*debuginfo|.*separate\ debug)
    |Download(ing|\ failed)|Reading\ symbols\ from\ |\(No\ debugging\ symbols\ found
    |__[a-z_]+\ \(.*\)\ at\ \.\./sysdeps/|\d+\t\.\./sysdeps/|\d+\tin\ \.\./sysdeps/
    """, re.VERBOSE)

# A number as people read it, maybe with a unit; not a line's number behind a file's name, nor a version.
_NUMBER = re.compile(r"(?<![\w.:#/-])[+-]?\d[\d,]*(\.\d+)?( (B|KiB|MiB|GiB)\b)?(?![\w.]*\w)")


def useful(lines: Sequence[str]) -> list[str]:
    """The lines that belong to an example; blank ones do not count."""
    return [line.rstrip() for line in lines if line.strip() and not NOISE.match(line)]


def _plain(line: str, varies: bool) -> str:
    line = " ".join(line.split())
    for pattern, replacement in RUNS:
        line = pattern.sub(replacement, line)
    return _NUMBER.sub("N", line) if varies else line


def is_line(shown: str, printed: str, varies: bool) -> bool:
    """Whether a line of the document stands for what was printed."""
    parts = [re.escape(_plain(part, varies)) for part in shown.split("…")]
    return re.fullmatch(r"\s*.*?\s*".join(parts), _plain(printed, varies)) is not None


def matches(shown: Sequence[str], printed: Sequence[str], varies: bool) -> bool:
    """Whether the document shows what was printed."""
    wanted, there = useful(shown), useful(printed)
    # reached[i]: the lines of `wanted` so far may stand for the first i of `there`.
    reached = {0}
    for line in wanted:
        if line.strip() == "…":
            reached = set(range(min(reached), len(there) + 1)) if reached else set()
        else:
            reached = {at + 1 for at in reached if at < len(there) and is_line(line, there[at], varies)}
    return len(there) in reached


def refreshed(shown: Sequence[str], printed: Sequence[str]) -> list[str]:
    """What a document is to show of what was printed: as many lines before and after a `…` as it did, and what it left
    out within a line."""
    there = useful(printed)
    marks = [at for at, line in enumerate(useful(shown)) if line.strip() == "…"]
    if not marks:
        text = "\n".join(line.rstrip() for line in printed if not NOISE.match(line)).strip("\n")
        lines = text.split("\n") if text else []
    else:
        before, after = marks[0], len(useful(shown)) - marks[-1] - 1
        lines = there if len(there) <= before + after else [*there[:before], "…", *there[len(there) - after:]]
    partial = [line for line in shown if "…" in line and line.strip() != "…"]
    return [next((line for line in partial if is_line(line, new, varies=False)), new) for new in lines]
