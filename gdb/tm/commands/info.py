"""info.py: tm-info, what the tracer says of itself."""

from __future__ import annotations

from collections import Counter
from typing import Mapping

from .. import domains
from ..inside import in_runtime
from ..model import exact_size, format_size
from ..reader import Reader
from ..runtime import Runtime, State
from ..tables import Counted
from .arguments import refuse_any
from .command import Command
from .rows import count, notes

# A bound below this share of the peak does not show in the digits that are printed.
_BOUND_THAT_MATTERS = 1 / 1000
# With fewer blocks, what the tracer takes a block tells of its first slabs alone.
_BLOCKS_THAT_TELL = 1000


class Info(Command):
    """How much memory lives, and what the tracer says of itself.
Usage: tm-info

  Program           The process or core, and how GDB came by it.
  Tracing           Whether blocks are recorded, and how many frames of a
                    traceback are kept at most (TRACEMALLOC).
  Blocks            How many blocks live.
  Current           The bytes in them, as the program asked for them.
  Peak              The most that Current has been since tracing began, or
                    since tm-reset-peak.
  Tracer's memory   What the tracer itself took from the kernel, beside Current.
                    It grows in steps.
  Lost              Blocks that went unrecorded, as the tracer got no memory.
  Sites             Places that allocated, each with its callers, whether or
                    not a block from there lives.
  Nodes             Pieces of the tracer's table of blocks; each covers a page
                    of the program's memory.
  Unloaded modules  Libraries that dlclose unloaded; their frames keep names.
  Threads inside    Threads that are stopped within the tracer: a block that
                    they work on may be missing.
  Layout            The version and the place of the tables that GDB reads.
  Domains           The blocks by domain, where the program tracks others than
                    the heap's (tm_track).
  Missing           What cannot be read, as in a core that was cut short.

Works on a live process and on a core, whether or not it is tracing.

Example:
  (gdb) tm-info
  Program:          process 4711 (server), started by GDB
  Tracing:          yes, up to 25 frames a traceback
  Blocks:           12,345
  Current:          45.6 MiB (47,816,704 B)
  ..."""

    name = "tm-info"
    repeats = True

    def run(self, argument: str) -> None:
        refuse_any(self.name, argument)
        reader = Reader()
        facts = _facts(reader)
        width = max(map(len, facts)) + 3
        for name, fact in facts.items():
            for number, line in enumerate(fact.splitlines()):
                print(f"{'' if number else name + ':':{width}}{line}")
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
        facts["Size"] = exact_size(sum(size * number for size, number in zip(counted.sizes, counted.counts)))
        facts["Sites"] = f"{len(counted.sites):,} with live blocks"
    facts |= _domain_facts(counted, reader.tables.domain_names())
    if counted.missing:
        facts["Missing"] = (f"{format_size(counted.missing, False)} of the tracer's tables cannot be read; the blocks "
                            "in them are not counted")
    return facts


def _state_facts(state: State, blocks: int) -> dict[str, str]:
    per_block = f", {state.arena_bytes / blocks:.1f} B a block" if blocks >= _BLOCKS_THAT_TELL else ""
    return {
        "Tracing": _tracing(state),
        "Blocks": f"{blocks:,}",
        "Current": exact_size(state.current),
        "Peak": exact_size(state.peak) + _peak_bound(state),
        "Tracer's memory": exact_size(state.arena_bytes) + per_block,
        "Lost": count(state.lost, "block") + (" for want of memory" if state.lost else ""),
        "Sites": f"{state.site_count:,}",
        "Nodes": f"{state.node_count:,}",
        "Unloaded modules": f"{state.unloads:,}",
    }


def _runtime_facts(reader: Reader, runtime: Runtime) -> dict[str, str]:
    return {
        "Threads inside": _inside(list(map(str, in_runtime(reader.process, runtime.address))), runtime.state),
        "Layout": f"{runtime.abi[0]}.{runtime.abi[1]} at {runtime.address:#x}, {runtime.pointer_size}-byte pointers, "
                  f"{runtime.byteorder} endian",
    }


def _inside(threads: list[str], state: State) -> str:
    """Where stacks cannot be walked, the runtime's own count is left."""
    number = len(threads) or state.inside
    if not number:
        return "none"
    who = ", ".join(threads) or f"{count(number, 'thread')}, not known which"
    blocks = "the block that it works on" if number == 1 else "the blocks that they work on"
    fork = f"; {state.paused} of them waiting for a fork to end" if state.paused else ""
    return f"{who}: {blocks} may be missing{fork}"


def _domain_facts(counted: Counted, names: Mapping[int, str]) -> dict[str, str]:
    """What each domain holds, where there are any but the heap."""
    blocks: Counter[int] = Counter()
    bytes_in: Counter[int] = Counter()
    for number, size, many in zip(counted.numbers, counted.sizes, counted.counts):
        domain = counted.sites[number].domain
        blocks[domain] += many
        bytes_in[domain] += size * many
    if set(blocks) <= {0}:
        return {}
    return {"Domains": "\n".join(f"{domains.shown(domain, names)}: {count(blocks[domain], 'block')}, "
                                 f"{format_size(bytes_in[domain], False)}" for domain in sorted(blocks))}


def _tracing(state: State) -> str:
    frames = f"up to {count(state.frame_limit, 'frame')} a traceback"
    if not state.is_tracing:
        return "no" if not state.started else f"no, stopped ({frames} when it was)"
    return f"yes, {frames}" + (", in the middle of a fork" if state.is_forking else "")


def _peak_bound(state: State) -> str:
    """Several threads count apart: their sum at one moment is not known to the byte."""
    # Without a site nothing was ever recorded.
    if not state.site_count or state.peak_bound <= state.peak * _BOUND_THAT_MATTERS:
        return ""
    if state.peak_bound >= state.peak:
        return f", at most {format_size(state.peak + state.peak_bound, False)}"
    return f", give or take {format_size(state.peak_bound, False)}"


def register() -> None:
    Info()
