"""tables.py: statistics, comparisons and blocks as JSON, for scripts: all figures in bytes and whole numbers."""

from __future__ import annotations

import json
from typing import Any, Iterable

from .. import domains
from ..model import Frame, Snapshot, Statistic, StatisticDiff, Traceback, exact_size
from .targets import Taken


def stats(taken: Taken, view: Any, key_type: str, is_cumulative: bool, limit: int | None) -> dict[str, Any]:
    rows = view.snapshot.statistics(key_type, is_cumulative)
    names = domains.names_in(view.snapshot.info)
    shown = [{"size": row.size, "count": row.count, **_place(row, key_type, names)} for row in rows[:limit]]
    return {"target": _target(taken), **_grouping(key_type, is_cumulative, len(rows)), **_sums(view.snapshot),
            "rows": shown, "notes": view.notes}


def comparison(old: Taken, new: Taken, views: Any, key_type: str, is_cumulative: bool,
               limit: int | None) -> dict[str, Any]:
    """The rows are those that changed."""
    was, now = (view.snapshot for view in views)
    names = {**domains.names_in(was.info), **domains.names_in(now.info)}
    every = now.compare_to(was, key_type, is_cumulative)
    changed = [row for row in every if row.size_diff or row.count_diff]
    shown = [{"size": row.size, "size_diff": row.size_diff, "count": row.count, "count_diff": row.count_diff,
              **_place(row, key_type, names)} for row in changed[:limit]]
    sums, before = _sums(now), _sums(was)
    diffs = {"size_diff": sums["size"] - before["size"], "count_diff": sums["count"] - before["count"]}
    notes = [f"{side.name}: {note}" for side, view in zip((old, new), views) for note in view.notes]
    return {"old": _target(old), "new": _target(new), **_grouping(key_type, is_cumulative, len(every)), **sums, **diffs,
            "changed": len(changed), "rows": shown, "notes": notes}


def blocks(taken: Taken, listing: Any, order: Any, limit: int | None, view: Any) -> dict[str, Any]:
    """A row is a block. `order` gives the key to sort by."""
    every = [(address, listing.kinds[entry]) for address, entry in zip(listing.addresses, listing.entries)]
    every.sort(key=lambda block: tuple(order(*block)))
    shown = [{"address": hex(address), "size": kind.size, "site": taken.sites[kind.site_index], "domain": kind.domain,
              "frames": _frames(Traceback(taken.snapshot.rows.sites[kind.site_index].frames))}
             for address, kind in every[:limit]]
    return {"target": _target(taken), "size": listing.size, "count": len(every), "rows": shown, "notes": view.notes}


def info(taken: Taken) -> dict[str, Any]:
    snapshot = taken.snapshot
    return {"target": _target(taken), "frames": snapshot.traceback_limit, **_sums(snapshot),
            "sites": len(snapshot.rows.totals()), "has_addresses": snapshot.rows.has_addresses,
            "notes": list(snapshot.notes)}


def info_text(taken: Taken) -> str:
    snapshot, facts = taken.snapshot, taken.snapshot.info
    sums = _sums(snapshot)
    names = domains.names_in(facts)
    used = sorted({snapshot.rows.sites[index].domain for index, _, _ in snapshot.rows.totals()})
    lines = {
        "Snapshot": taken.name,
        "Program": facts.get("program"),
        "Process": _joined(facts.get("pid"), facts.get("host"), " on "),
        "Taken": _joined(facts.get("time"), facts.get("source"), ", "),
        "Frames": f"up to {snapshot.traceback_limit} a traceback",
        "Blocks": f"{sums['count']:,}",
        "Size": exact_size(sums["size"]),
        "Sites": f"{len(snapshot.rows.totals()):,}",
        "Domains": ", ".join(domains.shown(domain, names) for domain in used) if set(used) - {0} else None,
        "Addresses": "yes" if snapshot.rows.has_addresses else "no",
    }
    width = max(map(len, lines)) + 3
    shown = [f"{name + ':':{width}}{value}" for name, value in lines.items() if value]
    return "\n".join([*shown, *(f"Note: {note}." for note in snapshot.notes)])


def _joined(first: Any, second: Any, between: str) -> str:
    return between.join(str(one) for one in (first, second) if one)


def tracer(answer: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    """What the tracer in a process or core says of itself."""
    return {"target": {"name": name, "kind": kind}, **answer["figures"], "notes": answer["notes"]}


def show(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=1, allow_nan=False))


def _target(taken: Taken) -> dict[str, Any]:
    facts = taken.snapshot.info
    return {"name": taken.name, "kind": taken.kind,
            **{name: facts[name] for name in ("program", "pid", "host", "time") if name in facts}}


def _grouping(key_type: str, is_cumulative: bool, groups: int) -> dict[str, Any]:
    return {"group_by": key_type, "cumulative": is_cumulative, "groups": groups}


def _sums(snapshot: Snapshot) -> dict[str, int]:
    return dict(zip(("size", "count"), snapshot.rows.sums()))


def _place(row: Statistic | StatisticDiff, key_type: str, names: dict[int, str]) -> dict[str, Any]:
    if key_type == "traceback":
        return {"frames": _frames(row.traceback)}
    frame = row.traceback[0]
    if key_type == "domain":
        domain = int(frame.filename.rpartition(" ")[2])
        return {"domain": domain, "name": names.get(domain) or (domains.HEAP if domain == 0 else None)}
    place = _frame(frame)
    group = f"{frame.function or '??'} ("
    if key_type == "function" and frame.filename.startswith(group):
        place["filename"] = frame.filename[len(group):-1]
    return place


def _frames(traceback: Iterable[Frame]) -> list[dict[str, Any]]:
    """Most recent first."""
    return [_frame(frame) for frame in reversed(list(traceback))]


def _frame(frame: Frame) -> dict[str, Any]:
    return {"filename": frame.filename, "lineno": frame.lineno, "function": frame.function, "module": frame.module}
