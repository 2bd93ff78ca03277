"""tm: CPython's tracemalloc for the heap of a C program that GDB debugs, alive or as a core.

The classes work in plain python3 as well. The functions read the program that GDB has selected; start, stop,
clear_traces and reset_peak call a function in it. What they raise is a RuntimeError with one sentence for the user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .memory import LayoutError
from .model import (BaseFilter, DomainFilter, Filter, Frame, Snapshot, Statistic, StatisticDiff, Trace, Traceback,
                    format_size)
from .snapfile import SnapshotError

if TYPE_CHECKING:
    from .reader import Reader

__all__ = ["BaseFilter", "DomainFilter", "Filter", "Frame", "LayoutError", "Snapshot", "SnapshotError", "Statistic",
           "StatisticDiff", "Trace", "Traceback", "clear_traces", "format_size", "get_object_traceback",
           "get_traceback_limit", "get_traced_memory", "get_tracemalloc_memory", "is_tracing", "reset_peak", "start",
           "stop", "take_snapshot"]


def _need_gdb() -> None:
    try:
        import gdb
        gdb.selected_inferior  # a folder of that name is no GDB
    except (ImportError, AttributeError):
        raise RuntimeError("this needs the program that GDB debugs: call it in GDB's Python, after "
                           "`source libtracemalloc-gdb.py`") from None


def _reader() -> Reader:
    _need_gdb()
    from .reader import Reader
    return Reader()


def start(nframe: int = 1) -> None:
    """Lets the selected program record its blocks from now on, with tracebacks of up to `nframe` frames; does nothing
    while it does already. It calls a function in the program: RuntimeError where that cannot be done."""
    _need_gdb()
    from . import control
    control.start(nframe)


def stop() -> None:
    """Lets the selected program stop recording and forget all blocks. RuntimeError as by start."""
    _need_gdb()
    from . import control
    control.stop()


def clear_traces() -> None:
    """Lets the selected program forget all blocks that it has recorded. RuntimeError as by start."""
    _need_gdb()
    from . import control
    control.clear_traces()


def reset_peak() -> None:
    """Makes the selected program's peak what is current now. RuntimeError as by start."""
    _need_gdb()
    from . import control
    control.reset_peak()


def take_snapshot() -> Snapshot:
    """All live blocks of the selected program. RuntimeError if it is not tracing."""
    return _reader().take_snapshot()


def is_tracing() -> bool:
    """Whether the selected program records its blocks."""
    return _reader().is_tracing


def get_traced_memory() -> tuple[int, int]:
    """Bytes in live blocks now, and the most there ever were."""
    state = _reader().state
    return state.current, state.peak


def get_traceback_limit() -> int:
    """How many frames the program keeps of a traceback."""
    return _reader().state.frame_limit


def get_tracemalloc_memory() -> int:
    """Bytes that the tracer itself took from the kernel."""
    return _reader().state.arena_bytes


def get_object_traceback(address: Any) -> Traceback | None:
    """Where the block that holds `address` was allocated; None if no traced block does.

    `address` is a number or a gdb.Value: a pointer, or an object in memory whose address is meant.
    """
    reader = _reader()
    block = reader.block_holding(reader.address_of(address))
    return Traceback(*reader.traceback_of(block)) if block else None
