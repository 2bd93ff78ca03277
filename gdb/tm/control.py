"""control.py: start, stop, clear_traces, reset_peak: the only calls of functions in the program.

A call runs the selected thread alone, without the user's breakpoints, and leaves GDB's settings and the selected
frame as they were. It is refused where it might wait for a thread that does not run.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from typing import Any, Iterator

import gdb

from .holding import held, surely
from .inside import in_runtime_or_allocator
from .layout import FRAMES_MAX
from .process import Process, ProcessError, in_c, symbol_address
from .reader import Reader
from .runtime import Runtime


def start(nframe: int) -> None:
    """Lets the selected program record its blocks from now on, with up to `nframe` frames each; does nothing if it
    does already. ValueError for a number out of range, RuntimeError if it cannot be done."""
    check_frames(nframe)
    if _call("tm_start", "int", nframe) != 0:
        raise ProcessError("the program has no memory for the tracer's tables: it goes on untraced")


def check_frames(nframe: int) -> None:
    """TypeError or ValueError if a traceback cannot have that many frames."""
    if not isinstance(nframe, int):
        raise TypeError(f"the number of frames must be an int, not {type(nframe).__name__}")
    if not 1 <= nframe <= FRAMES_MAX:
        raise ValueError(f"the number of frames must be in range [1; {FRAMES_MAX}], not {nframe}")


def stop() -> None:
    """Lets the selected program stop recording and forget all blocks. RuntimeError if it cannot be done."""
    _call("tm_stop", "void")


def clear_traces() -> None:
    """Lets the selected program forget all blocks and go on recording. RuntimeError if it cannot be done."""
    _call("tm_clear_traces", "void")


def reset_peak() -> None:
    """Makes the selected program's peak what is current now. RuntimeError if it cannot be done."""
    _call("tm_reset_peak", "void")


def _call(name: str, returns: str, *arguments: int) -> int:
    """What the function in the program returned; 0 where it returns nothing."""
    _refuse_the_past(name)
    reader = Reader()
    assert isinstance(reader.tables, Runtime)  # only a core can have lost the runtime's state
    _refuse_inside(name, reader.process, reader.tables)
    address = symbol_address(name)
    if address is None:
        raise ProcessError(f"{name} cannot be called: GDB finds no symbol of that name, load those of the runtime with "
                           "`sharedlibrary`, or do not strip the program that it is linked into")
    # A function of a stripped library has no type of its own.
    types = ", ".join("int" for _ in arguments) or "void"
    result = _evaluate(name, f"(({returns} (*)({types})) {address:#x})({', '.join(map(str, arguments))})")
    return 0 if returns == "void" else int(result)


def _refuse_the_past(name: str) -> None:
    process = Process()
    if process.is_replaying():
        raise ProcessError(f"{name} cannot be called in a recording's past, which it would change: `record goto end` "
                           "leads back to now")
    if process.kind == "core":
        raise ProcessError(f"{name} needs a live process, and a core cannot run: {process.description()}")


def _refuse_inside(name: str, process: Process, runtime: Runtime) -> None:
    inside = in_runtime_or_allocator(process, runtime.address)
    if inside:
        first = inside[0]
        more = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
        are = "are" if more else "is"
        raise ProcessError(f"{name} cannot be called now: thread {first}{more} {are} inside {first.function}; let it "
                           f"out with `thread {first.thread}`, `frame {first.level}` and `finish`, or with `continue`, "
                           "and try again")
    if runtime.state.inside:
        raise ProcessError(f"{name} cannot be called now: a thread is inside the runtime, not known which; let it out "
                           "with `continue` and try again")


def _evaluate(name: str, expression: str) -> gdb.Value:
    signals: list[str] = []

    def note(event: Any) -> None:
        signal = getattr(event, "stop_signal", None)
        if signal is not None:
            signals.append(signal)

    gdb.events.stop.connect(note)
    try:
        with _alone():
            return in_c(expression)
    except gdb.error as error:
        signals = signals or re.findall(r"received signal (SIG\w+)", str(error))
        _deliver_later(signals)
        raise ProcessError(_interruption(name, signals, error)) from None
    finally:
        gdb.events.stop.disconnect(note)


def _interruption(name: str, signals: list[str], error: gdb.error) -> str:
    if signals:
        return (f"{name} was interrupted by {signals[0]} and given up: `continue` lets the program have the signal, "
                f"then try again")
    return f"{name} cannot be called: {str(error).partition(chr(10))[0].rstrip('.')}"


def _deliver_later(signals: list[str]) -> None:
    """Gives the program the signal that interrupted the call when it goes on; SIGINT was the user's Ctrl-C."""
    if signals and signals[0] != "SIGINT":
        gdb.execute(f"queue-signal {signals[0]}", to_string=True)


@contextmanager
def _alone() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(held("confirm", "off"))
        stack.enter_context(held("scheduler-locking", "on"))
        stack.enter_context(held("unwindonsignal", "on"))
        stack.enter_context(_ctrl_c_kept_out())
        stack.enter_context(_without_breakpoints())
        yield


@contextmanager
def _ctrl_c_kept_out() -> Iterator[None]:
    """The program would stop within the call, and what the runtime has locked there would stay locked. The call is over
    in no time; Ctrl-C counts for GDB itself."""
    text = str(gdb.execute("info signals SIGINT", to_string=True))
    match = re.search(r"^SIGINT\s+(Yes|No)\s+(Yes|No)\s+(Yes|No)\s", text, re.MULTILINE)
    if match is None:
        yield
        return
    words = [word if answer == "Yes" else f"no{word}"
             for word, answer in zip(("stop", "print", "pass"), match.groups())]
    try:
        gdb.execute("handle SIGINT nostop noprint nopass", to_string=True)
        yield
    finally:
        # In this order: stop implies print.
        surely(f"handle SIGINT {' '.join(reversed(words))}")


@contextmanager
def _without_breakpoints() -> Iterator[None]:
    """A stop at one within the call would leave the runtime locked."""
    enabled = [breakpoint for breakpoint in gdb.breakpoints() if breakpoint.enabled]
    try:
        for breakpoint in enabled:
            breakpoint.enabled = False
        yield
    finally:
        try:
            _enable(enabled)
        except KeyboardInterrupt:
            _enable(enabled)
            raise


def _enable(breakpoints: list[Any]) -> None:
    for breakpoint in breakpoints:
        if breakpoint.is_valid():
            breakpoint.enabled = True
