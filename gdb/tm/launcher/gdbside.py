"""gdbside.py: runs in the GDB that debugger.py starts: attaches or opens a core, looks, lets go."""

from __future__ import annotations

import json
from typing import Any

import gdb

from ..process import ProcessError
from ..reader import NOT_TRACING, Reader


def answer(question_file: str, answer_file: str) -> None:
    """Reads a question, writes the answer: {"error": sentence} if there is none."""
    with open(question_file) as file:
        question = json.load(file)
    try:
        result = _answer(question)
    except (gdb.error, RuntimeError, ValueError, OSError) as error:
        result = {"error": " ".join(str(error).split()).rstrip(".")}
    except KeyboardInterrupt:
        result = {"error": "interrupted"}
    with open(answer_file, "w") as file:
        json.dump(result, file)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    """`pid` or `core` (with `program` and `sysroot`, which may be empty); `save`: a file for the snapshot, with
    `addresses` or without; else what the tracer says of itself is asked for."""
    for setting in ("confirm off", "pagination off", "width 0"):
        gdb.execute(f"set {setting}")
    try:
        _open(question)
        reader = _reader(question)
        result = _saved(reader, question) if "save" in question else _facts(reader)
        return {**result, "name": reader.process.name, "notes": list(reader.notes)}
    finally:
        if "pid" in question and gdb.selected_inferior().pid:
            gdb.execute("detach", to_string=True)


def _open(question: dict[str, Any]) -> None:
    if question["sysroot"]:
        gdb.execute(f"set sysroot {question['sysroot']}", to_string=True)
    if question["program"]:
        gdb.execute(f"file {_quoted(question['program'])}", to_string=True)
    if "pid" in question:
        gdb.execute(f"attach {question['pid']}", to_string=True)
    else:
        _open_core(question["core"])


def _open_core(path: str) -> None:
    """Older GDBs take the rest of the line for the name, newer ones take quotes off."""
    try:
        gdb.execute(f"core-file {path}", to_string=True)
    except gdb.error:
        if path == _quoted(path).strip('"') and " " not in path:
            raise
        gdb.execute(f"core-file {_quoted(path)}", to_string=True)


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _reader(question: dict[str, Any]) -> Reader:
    try:
        return Reader()
    except ProcessError:
        if "pid" not in question:
            raise
        raise ProcessError(f"there is no tracemalloc runtime in process {question['pid']}: start the program with "
                           "`tracemalloc run`, or link it with -ltracemalloc") from None


def _saved(reader: Reader, question: dict[str, Any]) -> dict[str, Any]:
    if not reader.is_tracing:
        raise RuntimeError(f"{reader.process.name} is not tracing: it runs without TRACEMALLOC=25 in its environment, "
                           "or called tm_stop") from None
    try:
        survey = reader.survey(question["addresses"])
    except RuntimeError as error:
        raise RuntimeError(str(error).replace(NOT_TRACING, f"{reader.process.name} is not tracing")) from None
    survey.snapshot.dump(question["save"])
    return {"sites": [site.number for site in survey.sites]}


def _facts(reader: Reader) -> dict[str, Any]:
    """What tm-info prints, and its figures as numbers."""
    from ..commands import register
    register()
    text = gdb.execute("tm-info", to_string=True)
    counted = reader.tables.count_blocks()
    figures: dict[str, Any] = {"count": sum(counted.counts), "tracing": reader.is_tracing,
                               "size": sum(size * many for size, many in zip(counted.sizes, counted.counts))}
    try:
        state = reader.state
    except RuntimeError:
        return {"text": text, "figures": figures}
    figures |= {"size": state.current, "peak": state.peak, "peak_bound": state.peak_bound, "frames": state.frame_limit,
                "tracer_memory": state.arena_bytes, "lost": state.lost, "sites": state.site_count,
                "unloaded_modules": state.unloads}
    return {"text": text, "figures": figures}
