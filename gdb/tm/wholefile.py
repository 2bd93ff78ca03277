"""wholefile.py: a file is written whole or not at all, whatever happens on the way."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Union

Path = Union[str, "os.PathLike[str]"]


class NotReplaceable(ValueError):
    """What is to be replaced is no regular file; in one line, with its name."""


def write_whole(path: Path, write: Callable[[BinaryIO], None]) -> int:
    """Lets `write` fill a file, and only then gives it its name; returns the number of bytes.

    A regular file of that name is replaced and its permissions stay; a symbolic link stays one. NotReplaceable; OSError
    as by open; and whatever `write` raises.
    """
    target = os.path.realpath(path)
    mode = _replaceable_mode(target)
    temporary = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            write(file)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.rename(temporary, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None  # not the temporary name
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    _sync_directory(os.path.dirname(target))
    return size


def shown_path(path: Path) -> str:
    """A path as a message names it, in one line."""
    name = os.fspath(path)
    return name if name.isprintable() else ascii(name)


def _replaceable_mode(target: str) -> int | None:
    """The permissions of the file that is to be replaced; None where there is none. OSError where it must stay."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise NotReplaceable(f"{shown_path(target)} is not a regular file; name one that may be replaced")
    with open(target, "ab"):
        return stat.S_IMODE(mode)


def _sync_directory(directory: str) -> None:
    # The file is whole already; not every file system can do this.
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
