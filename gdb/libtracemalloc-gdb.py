"""libtracemalloc-gdb.py: the door. `source` it in GDB, or start `gdb -x` with it, and the tm- commands are there.

Finds the package tm beside itself, or under a prefix that it was installed to, and registers the commands once.
"""

import os
import sys

import gdb


def _package_directories():
    """Where the package may lie, the nearest first."""
    # Not __file__: GDB leaves it at the outer script's when one script sources another.
    here = os.path.dirname(os.path.realpath(_load.__code__.co_filename))
    yield here
    while here != os.path.dirname(here):
        here = os.path.dirname(here)
        yield os.path.join(here, "tracemalloc", "gdb")
        yield os.path.join(here, "share", "tracemalloc", "gdb")


def _load():
    """Registers the commands, or says in one line why not."""
    for directory in _package_directories():
        if os.path.isfile(os.path.join(directory, "tm", "__init__.py")):
            break
    else:
        return "libtracemalloc-gdb.py does not find its package tm: keep the directory tm beside it"
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        from tm.commands import register
        register()
    except (SyntaxError, ImportError, AttributeError, TypeError) as error:
        return ("tracemalloc for C needs GDB 12 or later with Python 3.9 or later; this is GDB %s with Python %s, "
                "which fails on: %s" % (gdb.VERSION, sys.version.split()[0], error))
    return ""


def _main():
    complaint = _load()
    # An exception would come with Python's traceback.
    if complaint:
        gdb.write(complaint + "\n", gdb.STDERR)


_main()
