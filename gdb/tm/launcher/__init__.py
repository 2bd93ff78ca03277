"""The command `tracemalloc`: runs programs with the library preloaded, and asks processes, cores and snapshots.

Nothing in here is imported by GDB's side but gdbside.py, which runs in a GDB that debugger.py starts.
"""
