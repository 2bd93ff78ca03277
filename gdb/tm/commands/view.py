"""view.py: what the commands show of a snapshot: filters hold, wrappers are skipped, and the headline says so."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from ..model import Snapshot
from . import filter as filters
from . import settings
from .rows import count

# By these, a block counts for its innermost frame that is no wrapper.
SKIPPING = ("lineno", "filename", "function")


class View(NamedTuple):
    snapshot: Snapshot
    skipped: int  # blocks that count for another frame than the one that called the allocator
    stuck: int    # blocks that count for a wrapper for want of frames
    notes: list[str]
    is_by_allocator: bool  # blocks count for the caller of the allocator, though wrappers are known


def look(snapshot: Snapshot, key_type: str, is_cumulative: bool = False) -> View:
    """What is to be shown of a snapshot by that grouping."""
    patterns = settings.wrapper_patterns()
    if patterns:
        snapshot = snapshot.skip_wrappers(patterns)
    snapshot, notes = filters.filtered(snapshot)
    matters = key_type in SKIPPING and not is_cumulative
    return View(snapshot, snapshot.skipped_blocks if matters else 0, snapshot.wrapper_only_blocks if matters else 0,
                [*snapshot.notes, *notes], key_type == "module" and not is_cumulative and snapshot.skipped_blocks > 0)


def remarks(views: Sequence[View]) -> str:
    """What a headline has to say of them, with a separator before it; mostly nothing."""
    found = []
    if any(view.skipped for view in views):
        found.append("skipping wrappers (show tm wrappers)")
    if any(view.is_by_allocator for view in views):
        found.append("not skipping wrappers, which lineno, filename and function do")
    stuck = max(views, key=lambda view: view.stuck)
    if stuck.stuck:
        kept = count(stuck.snapshot.traceback_limit, "frame")
        found.append(f"{count(stuck.stuck, 'block')} shown at a wrapper: more than {kept} a traceback would help")
    if filters.number():
        found.append(f"filters: {filters.number()} (tm-filter list)")
    return "".join(f"; {remark}" for remark in found)
