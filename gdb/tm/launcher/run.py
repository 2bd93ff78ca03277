"""run.py: `tracemalloc run`: the environment in which a program traces itself, and the program in place of this one."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple, NoReturn, Sequence

from .executable import find_program, is_to_be_preloaded
from .failure import CANNOT_RUN, NOT_FOUND, NOT_RUNNABLE, Failure

Environment = dict[bytes, bytes]


class Tracing(NamedTuple):
    """What is asked of the library."""

    frames: int = 25
    snapshot: str | None = None  # a pattern
    signal: str | None = None
    interval: int | None = None
    children: bool = True


def inherited_environment() -> Environment:
    """The environment as it was given. Python adds LC_CTYPE to its own where the locale is C."""
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    return dict(entry.partition(b"=")[::2] for entry in entries if b"=" in entry)


def traced(environment: Environment, library: str | None, tracing: Tracing) -> Environment:
    """The environment in which a program is traced. The library is to be preloaded, unless None."""
    new = {name: value for name, value in environment.items() if not name.startswith(b"TRACEMALLOC")}
    if library is not None:
        new[b"LD_PRELOAD"] = _preloaded(library, new.get(b"LD_PRELOAD", b""))
    new[b"TRACEMALLOC"] = b"%d" % tracing.frames
    if tracing.snapshot is not None:
        new[b"TRACEMALLOC_SNAPSHOT"] = os.fsencode(tracing.snapshot)
    if tracing.signal is not None:
        new[b"TRACEMALLOC_SIGNAL"] = os.fsencode(tracing.signal)
    if tracing.interval is not None:
        new[b"TRACEMALLOC_INTERVAL"] = b"%d" % tracing.interval
    if not tracing.children:
        new[b"TRACEMALLOC_CHILDREN"] = b"0"
    return new


def _preloaded(library: str, before: bytes) -> bytes:
    """The library, and behind it what is preloaded already."""
    if any(character in library for character in " :\t\n"):
        raise Failure(f"{library} cannot be preloaded: a path with a blank or a colon has no place in LD_PRELOAD",
                      CANNOT_RUN)
    if not os.path.exists(library):
        raise Failure(f"the library is missing: {library}; `make`, or `make install`, puts it there", CANNOT_RUN)
    own = os.fsencode(library)
    return b":".join([own, *(path for path in before.replace(b" ", b":").split(b":") if path and path != own)])


def check_snapshot_directory(pattern: str) -> None:
    """Failure if no file can be written where the pattern says: better now than at the program's end."""
    directory = os.path.dirname(pattern) or "."
    if "%" in directory:
        return
    if not os.path.isdir(directory):
        raise Failure(f"{directory}: no such directory; the snapshot {pattern} could not be written", CANNOT_RUN)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise Failure(f"{directory}: no permission to write there; the snapshot {pattern} could not be written",
                      CANNOT_RUN)


def run(words: Sequence[str], library: str, tracing: Tracing) -> NoReturn:
    """Becomes the program: its process, its standard streams and its exit status are the program's own."""
    environment = inherited_environment()
    search = os.fsdecode(environment.get(b"PATH", os.fsencode(os.defpath)))
    program = find_program(words[0], search)
    preload = library if is_to_be_preloaded(program, library) else None
    if tracing.snapshot is not None:
        check_snapshot_directory(tracing.snapshot)
    new = traced(environment, preload, tracing)
    # Python ignores these, and a program would inherit that.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execve(program, list(words), new)
    except FileNotFoundError:
        raise Failure(f"{program}: its interpreter or loader does not exist", NOT_FOUND) from None
    except OSError as error:
        if error.errno != 8:  # ENOEXEC: a script without #!
            raise Failure(f"{program}: {error.strerror}", NOT_RUNNABLE) from None
    try:
        os.execve("/bin/sh", ["sh", program, *words[1:]], new)
    except OSError as error:
        raise Failure(f"/bin/sh: {error.strerror}", NOT_RUNNABLE) from None
