"""failure.py: how the command ends when it cannot do what was asked: one line and an exit status."""

from __future__ import annotations

EMPTY = 1         # done, but there is nothing: no block is left, nothing changed
USAGE = 2         # the command line is wrong
UNREADABLE = 3    # what was named cannot be read: missing, damaged, no permission, no runtime in it, not tracing
NO_DEBUGGER = 4   # GDB is missing or failed
CANNOT_RUN = 125  # of `run` alone: the program cannot be traced; as with env, nohup and timeout
NOT_RUNNABLE = 126
NOT_FOUND = 127


class Failure(Exception):
    """Its text is for the user."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status
