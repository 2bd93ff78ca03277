"""mi.py: -tm-stats, -tm-compare, -tm-traceback and -tm-info, for programs that talk to GDB in its machine interface.

They take what the console's commands take and answer with the same rows, as GDB/MI results: doc/gdb-mi.md. A GDB whose
Python cannot add such commands goes without.
"""

from __future__ import annotations

import os.path
import shlex
from typing import Any, Callable, Iterable, Mapping, Sequence

import gdb

from .. import domains
from ..errors import in_one_line
from ..model import Frame, Snapshot, Statistic, StatisticDiff, Traceback
from ..reader import Reader
from ..runtime import Runtime
from ..symbols import source_file
from . import compare, stats
from .arguments import Arguments, grouping, parse
from .command import tracing_reader
from .rows import newer_sources
from .traceback import address_of
from .view import View, look

Fields = dict[str, Any]  # what GDB/MI calls a tuple

_MICommand: Any = getattr(gdb, "MICommand", object)


class _Command(_MICommand):  # type: ignore[misc]

    def __init__(self, name: str, answer: Callable[[Sequence[str]], Fields]) -> None:
        super().__init__(name)
        self._answer = answer

    def invoke(self, arguments: Sequence[str]) -> Fields:
        with in_one_line(self.name):
            return self._answer(arguments)


def _stats(words: Sequence[str]) -> Fields:
    arguments = parse(shlex.join(words), stats.OPTIONS)
    key_type = grouping(arguments.words, arguments.is_cumulative)
    reader = tracing_reader()
    view = look(reader.take_snapshot(with_addresses=False), key_type, arguments.is_cumulative)
    rows = view.snapshot.statistics(key_type, arguments.is_cumulative)
    names = domains.names_in(view.snapshot.info)
    return {"source": reader.process.description(), **_how(key_type, arguments, [view]), **_total(view.snapshot),
            "rows": [_statistic(row, key_type, names) for row in rows[:arguments.limit]],
            **_left_out(rows, arguments.limit), "notes": [*view.notes, *_notes_on(rows[:arguments.limit])]}


def _compare(words: Sequence[str]) -> Fields:
    arguments = parse(shlex.join(words), compare.OPTIONS)
    old, new, key_type = compare.chosen(arguments)
    views = [look(side.snapshot, key_type, arguments.is_cumulative) for side in (old, new)]
    was, now = (view.snapshot for view in views)
    diffs = now.compare_to(was, key_type, arguments.is_cumulative)
    rows = [diff for diff in diffs if diff.size_diff or diff.count_diff]
    names = {**domains.names_in(was.info), **domains.names_in(now.info)}
    return {"old": {"source": old.name, **_total(was)}, "new": {"source": new.name, **_total(now)},
            **_how(key_type, arguments, views),
            "rows": [_difference(row, key_type, names) for row in rows[:arguments.limit]],
            **_left_out(rows, arguments.limit),
            "notes": [*compare.warnings(old, new, views, key_type),
                      *(f"{side.name}: {note}" for side, view in zip((old, new), views) for note in view.notes),
                      *_notes_on(rows[:arguments.limit])]}


def _traceback(words: Sequence[str]) -> Fields:
    if not words:
        raise gdb.GdbError("an address is missing: -tm-traceback EXPR, as in -tm-traceback item->body")
    reader = tracing_reader()
    address = address_of(reader, " ".join(words))
    block = reader.block_holding(address)
    answer: Fields = {"address": hex(address)}
    if block is None:
        return {**answer, "notes": reader.notes}
    traceback = Traceback(*reader.traceback_of(block))
    return {**answer, "block": {"address": hex(block.address), "size": block.size, "offset": address - block.address,
                                **_domain(block.domain, reader.tables.domain_names())},
            "cut": int(traceback.total_nframe is None), "frames": _frames(traceback),
            "notes": [*reader.notes, *newer_sources(traceback)]}


def _info(words: Sequence[str]) -> Fields:
    if words:
        raise gdb.GdbError(f"-tm-info takes no argument: {words[0]}")
    reader = Reader()
    counted = reader.tables.count_blocks()
    answer: Fields = {"source": reader.process.description(), "count": sum(counted.counts)}
    if isinstance(reader.tables, Runtime):
        state = reader.tables.state
        answer |= {"tracing": int(state.is_tracing), "frame-limit": state.frame_limit, "size": state.current,
                   "peak": state.peak, "peak-bound": state.peak_bound, "tracer-size": state.arena_bytes,
                   "lost": state.lost, "sites": state.site_count, "threads-inside": state.inside,
                   "layout": ".".join(map(str, reader.tables.abi))}
    return {**answer, "missing": counted.missing, "notes": reader.notes}


def _how(key_type: str, arguments: Arguments, views: Sequence[View]) -> Fields:
    """What the rows are; `skipped` and `stuck` as in a View."""
    return {"group": key_type, "cumulative": int(arguments.is_cumulative),
            "skipped": max(view.skipped for view in views), "stuck": max(view.stuck for view in views)}


def _total(snapshot: Snapshot) -> Fields:
    size, count = snapshot.rows.sums()
    return {"size": size, "count": count}


def _left_out(rows: Sequence[Statistic | StatisticDiff], limit: int | None) -> Fields:
    return {"total-rows": len(rows), "left-out": max(len(rows) - limit, 0) if limit is not None else 0}


def _statistic(row: Statistic | StatisticDiff, key_type: str, names: Mapping[int, str]) -> Fields:
    figures = {"size": row.size, "count": row.count}
    if key_type == "traceback":
        return {**figures, "cut": int(row.traceback.total_nframe is None), "frames": _frames(row.traceback)}
    frame = row.traceback[0]
    if key_type == "domain":
        return {**figures, **_domain(int(frame.filename.rpartition(" ")[2]), names)}
    if key_type == "module":
        return {**figures, "place": frame.filename, "from": frame.filename}
    return {**figures, **_frame(frame), **(_file(frame) if key_type == "filename" else {})}


def _difference(row: StatisticDiff, key_type: str, names: Mapping[int, str]) -> Fields:
    return {**_statistic(row, key_type, names), "size-diff": row.size_diff, "count-diff": row.count_diff}


def _domain(domain: int, names: Mapping[int, str]) -> Fields:
    return {"domain": domain, "name": domains.shown(domain, names)}


def _frames(traceback: Traceback) -> list[Fields]:
    """Innermost first, as GDB/MI lists stacks."""
    return [{"level": level, **_frame(frame)} for level, frame in enumerate(reversed(traceback))]


def _frame(frame: Frame) -> Fields:
    """With the names that GDB/MI has for a frame's fields; those that are not known are left out."""
    known = {"place": str(frame), "addr": hex(frame.pc) if frame.pc is not None else None, "func": frame.function,
             "from": frame.module}
    if frame.lineno:
        known |= {**_file(frame), "line": str(frame.lineno)}
    return {name: value for name, value in known.items() if value is not None}


def _file(frame: Frame) -> Fields:
    return {"file": os.path.basename(frame.filename), "fullname": source_file(frame.filename)}


def _notes_on(rows: Iterable[Statistic | StatisticDiff]) -> list[str]:
    return newer_sources(frame for row in rows for frame in row.traceback)


def register() -> None:
    if hasattr(gdb, "MICommand"):
        for name, answer in (("-tm-stats", _stats), ("-tm-compare", _compare), ("-tm-traceback", _traceback),
                             ("-tm-info", _info)):
            _Command(name, answer)
