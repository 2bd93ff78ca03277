"""The GDB commands: one file each, registered by `register`."""

from __future__ import annotations

_is_registered = False


def register() -> None:
    """Makes the commands known to GDB, once however often it is called."""
    global _is_registered
    if _is_registered:
        return
    from .. import functions
    from . import compare, control, export, filter, info, mi, overview, settings, snapshot, stats, traceback, traces
    for module in (settings, compare, control, export, filter, info, snapshot, stats, traceback, traces, overview,
                   mi, functions):
        module.register()
    _is_registered = True
