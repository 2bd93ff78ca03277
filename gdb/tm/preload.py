"""preload.py: where the library lies that was built or installed together with this package."""

from __future__ import annotations

import os
import re

_PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
# From the package's directory, where the command tracemalloc lies: where it was built, and where it is installed.
_COMMANDS = ("../tracemalloc", "../../../bin/tracemalloc")
# For the loader, which looks for it where it looks for all libraries.
_BARE_NAME = "libtracemalloc.so.0"


def library_path() -> str:
    """Its path as it is, or the name by which the loader finds an installed one."""
    found = (_library_of(os.path.join(_PACKAGE, command)) for command in _COMMANDS)
    # Others have no place in LD_PRELOAD.
    return next((path for path in found if os.path.isfile(path) and not re.search(r"[\s:]", path)), _BARE_NAME)


def _library_of(command: str) -> str:
    """What the command tracemalloc at that path has for its library; empty if there is no such command."""
    try:
        with open(command, encoding="utf-8", errors="surrogateescape") as file:
            places = dict(re.findall(r'^(BIN|LIBRARY) = "(.+)"$', file.read(), re.MULTILINE))
    except OSError:
        return ""
    if len(places) != 2:
        return ""
    here = os.path.dirname(os.path.realpath(command))
    return os.path.normpath(os.path.join(here, os.path.relpath(places["LIBRARY"], places["BIN"])))
