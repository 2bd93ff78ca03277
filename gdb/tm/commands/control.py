"""control.py: tm-start, tm-stop, tm-clear and tm-reset-peak, the commands that change what the program does."""

from __future__ import annotations

from typing import Sequence

import gdb

from .. import control
from ..model import format_size
from ..reader import Reader
from ..tables import Counted
from .arguments import refuse_any, refuse_more
from .command import Command, tracing_reader
from .rows import count

_DEFAULT_FRAMES = 25


class Start(Command):
    """Let the program record its blocks from now on.
Usage: tm-start [N]

The blocks that it has already stay unknown. N is how many frames of a block's
traceback are kept, 1 to 65535. Unless given, it is what the program had before
(TRACEMALLOC, or the tm-start before a tm-stop), or 25 if it never traced: in C
the innermost frame is often a wrapper of malloc, so one frame, which is the
default of Python's tracemalloc, says little. While the program records already,
nothing changes: tm-stop first for another N.

This and tm-stop, tm-clear and tm-reset-peak alone call a function in the
program. They run the selected thread and no other, so they need a live process,
and no thread inside the allocator.

Example:
  (gdb) tm-start
  process 4711 (server) is tracing now, up to 25 frames a traceback
  (gdb) continue
  (gdb) tm-stats"""

    name = "tm-start"

    def run(self, argument: str) -> None:
        nframe = _frames(gdb.string_to_argv(argument))
        reader = Reader()
        if reader.is_tracing and reader.process.kind != "core":
            print(f"{reader.process.name} is tracing already, up to {count(reader.state.frame_limit, 'frame')} a "
                  "traceback; for another number, tm-stop first")
            return
        why = ""
        if nframe is None:
            nframe = _DEFAULT_FRAMES
            if reader.process.kind != "core" and reader.state.started:
                nframe, why = reader.state.frame_limit, " as before; for another number, tm-stop and tm-start N"
        control.start(nframe)
        print(f"{reader.process.name} is tracing now, up to {count(nframe, 'frame')} a traceback{why}")


def _frames(words: Sequence[str]) -> int | None:
    """The number that was given; None without one."""
    if not words:
        return None
    refuse_more(words[1:], "tm-start [N]")
    try:
        nframe = int(words[0])
    except ValueError:
        raise gdb.GdbError(f'"{words[0]}" is no number of frames: tm-start [N], with N from 1 to 65535') from None
    control.check_frames(nframe)
    return nframe


class _Change(Command):
    """A command without arguments that needs a tracing program."""

    def run(self, argument: str) -> None:
        refuse_any(self.name, argument)
        self.change()

    def change(self) -> None:
        raise NotImplementedError


class Stop(_Change):
    """Let the program stop recording, and forget its blocks.
Usage: tm-stop

Save them first with tm-snapshot if you need them. tm-start goes on, with the
blocks from then on.

Example:
  (gdb) tm-snapshot save last.snap
  (gdb) tm-stop
  process 4711 (server) is not tracing any more; 9 blocks, 1640 B, are forgotten"""

    name = "tm-stop"

    def change(self) -> None:
        reader = Reader()
        if not reader.is_tracing and reader.process.kind != "core":
            print(f"{reader.process.name} is not tracing")
            return
        forgotten = _shown(reader.tables.count_blocks())
        control.stop()
        print(f"{reader.process.name} is not tracing any more; {forgotten} forgotten")


class Clear(_Change):
    """Let the program forget its blocks, and go on recording.
Usage: tm-clear

What is shown afterwards was allocated since. A block from before is unknown,
and its free changes nothing.

Example:
  (gdb) tm-clear
  process 4711 (server) goes on tracing; 9 blocks, 1640 B, are forgotten
  (gdb) finish
  (gdb) tm-stats"""

    name = "tm-clear"

    def change(self) -> None:
        reader = tracing_reader()
        forgotten = _shown(reader.tables.count_blocks())
        control.clear_traces()
        print(f"{reader.process.name} goes on tracing; {forgotten} forgotten")


class ResetPeak(_Change):
    """Make the peak of the traced memory what is current now.
Usage: tm-reset-peak

tm-info then shows the peak of what follows.

Example:
  (gdb) tm-reset-peak
  the peak of process 4711 (server) was 60.2 MiB and is 45.6 MiB now
  (gdb) next
  (gdb) tm-info"""

    name = "tm-reset-peak"

    def change(self) -> None:
        reader = tracing_reader()
        control.reset_peak()
        now = Reader().state.peak
        print(f"the peak of {reader.process.name} was {format_size(reader.state.peak, False)} and is "
              f"{format_size(now, False)} now")


def _shown(counted: Counted) -> str:
    blocks = sum(counted.counts)
    size = sum(size * number for size, number in zip(counted.sizes, counted.counts))
    return f"{count(blocks, 'block')}, {format_size(size, False)}, {'is' if blocks == 1 else 'are'}"


def register() -> None:
    for command in (Start, Stop, Clear, ResetPeak):
        command()
