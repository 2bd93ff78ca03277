"""info.py: tm-info, what the tracer says of itself."""

from __future__ import annotations

import gdb

from ..model import format_size
from ..reader import Reader
from ..runtime import Runtime, State
from .command import Command
from .rows import count, notes

# A bound below this share of the peak does not show in the digits that are printed.
_BOUND_THAT_MATTERS = 1 / 1000


class Info(Command):
    """What the tracer in the program says of itself: is it tracing, how much memory the live blocks hold.
Usage: tm-info

Works on a live process and on a core, whether or not it is tracing.

Example:
  (gdb) tm-info
  Program:          process 4711 (server), started by GDB
  Tracing:          yes, up to 25 frames a traceback
  Blocks:           12,345
  Current:          45.6 MiB (47,816,704 B)
  ..."""

    name = "tm-info"

    def run(self, argument: str) -> None:
        if argument.strip():
            raise gdb.GdbError(f"tm-info takes no argument: {argument.strip()}")
        reader = Reader()
        facts = _facts(reader)
        width = max(map(len, facts)) + 3
        for name, fact in facts.items():
            print(f"{name + ':':{width}}{fact}")
        notes(reader.notes)


def _facts(reader: Reader) -> dict[str, str]:
    counted = reader.tables.count_blocks()
    blocks = sum(counted.counts)
    facts = {"Program": reader.process.description()}
    if isinstance(reader.tables, Runtime):
        facts |= _state_facts(reader.tables.state, blocks)
        facts |= _runtime_facts(reader, reader.tables)
    else:
        facts["Blocks"] = f"{blocks:,} were found"
        facts["Size"] = _bytes(sum(size * number for size, number in zip(counted.sizes, counted.counts)))
        facts["Sites"] = f"{len(counted.sites):,} with live blocks"
    if counted.missing:
        facts["Missing"] = (f"{format_size(counted.missing, False)} of the tracer's tables cannot be read; the blocks "
                            "in them are not counted")
    return facts


def _state_facts(state: State, blocks: int) -> dict[str, str]:
    per_block = f", {state.arena_bytes / blocks:.1f} B a block" if blocks else ""
    return {
        "Tracing": _tracing(state),
        "Blocks": f"{blocks:,}",
        "Current": _bytes(state.current),
        "Peak": _bytes(state.peak) + _peak_bound(state),
        "Tracer's memory": _bytes(state.arena_bytes) + per_block,
        "Lost": count(state.lost, "block") + (" for want of memory" if state.lost else ""),
        "Sites": f"{state.site_count:,}",
        "Nodes": f"{state.node_count:,}",
        "Unloaded modules": f"{state.unloads:,}",
    }


def _runtime_facts(reader: Reader, runtime: Runtime) -> dict[str, str]:
    names = reader.process.threads_inside(runtime.address)
    # Where stacks cannot be walked, the runtime's own count is left.
    inside = ", ".join(names) or (f"{runtime.state.inside}, which is not known" if runtime.state.inside else "")
    return {
        "Threads inside": f"{inside}: the block that each works on may be missing" if inside else "none",
        "Layout": f"{runtime.abi[0]}.{runtime.abi[1]} at {runtime.address:#x}, {runtime.pointer_size}-byte pointers, "
                  f"{runtime.byteorder} endian",
    }


def _tracing(state: State) -> str:
    frames = f"up to {count(state.frame_limit, 'frame')} a traceback"
    if not state.is_tracing:
        return "no" if not state.started else f"no, stopped ({frames} when it was)"
    return f"yes, {frames}" + (", in the middle of a fork" if state.is_forking else "")


def _bytes(size: int) -> str:
    text = format_size(size, False)
    return text if text.endswith(" B") else f"{text} ({size:,} B)"


def _peak_bound(state: State) -> str:
    """Several threads count apart: their sum at one moment is not known to the byte."""
    if state.peak_bound < state.peak * _BOUND_THAT_MATTERS:
        return ""
    return f", at most {format_size(state.peak_bound, False)} more" if state.peak_bound else ""


def register() -> None:
    Info()
