"""errors.py: what GDB shows of a failure: one line that tells what was wrong, never Python's traceback."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

import gdb


@contextmanager
def in_one_line(name: str) -> Iterator[None]:
    """Makes what is raised within it a GdbError of one line; `name` is what the user called."""
    try:
        yield
    except gdb.GdbError:
        raise
    except KeyboardInterrupt:
        raise gdb.GdbError("Quit") from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise gdb.GdbError(f"{place}{error.strerror or error}") from None
    except (RuntimeError, ValueError) as error:
        raise gdb.GdbError(" ".join(str(error).split())) from None
    except MemoryError:
        raise gdb.GdbError(f"{name}: GDB has not enough memory for this") from None
    except Exception as error:
        if gdb.parameter("python print-stack") == "full":
            raise
        raise gdb.GdbError(" ".join(f"{name} failed on {type(error).__name__}: {error}; please report it, with what "
                                    "`set python print-stack full` shows".split())) from None
