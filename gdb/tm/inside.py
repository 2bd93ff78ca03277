"""inside.py: which threads of the stopped program are within the runtime or the allocator."""

from __future__ import annotations

import re
from typing import Any, Callable, NamedTuple

import gdb

from .process import Process, selection_kept

_FRAMES_LOOKED_AT = 50

# What the runtime is entered by. Where it is part of the program itself, only names tell it from the program.
_ENTRANCES = frozenset(("malloc", "free", "calloc", "realloc", "reallocarray", "posix_memalign", "aligned_alloc",
                        "memalign", "valloc", "pvalloc", "dlclose", "fork"))

# The allocators of libc and the dynamic linker, with what the compiler appends to the names of clones.
_ALLOCATOR = re.compile(
    r"(?:__GI_)?(?:_{0,2}(?:libc_|rtld_|minimal_|int_|mid_)?"
    r"(?:malloc|calloc|realloc|reallocarray|free|cfree|memalign|posix_memalign|aligned_alloc|valloc|pvalloc)(?:_check)?"
    r"|sysmalloc\w*|systrim|mtrim|_*malloc_\w+|_*tcache_\w+|unlink_chunk|alloc_perturb|free_perturb"
    r"|arena_get\w*|reused_arena|get_free_list|detach_arena|_int_new_arena|(?:new|grow|shrink|alloc_new)_heap|heap_trim"
    r"|munmap_chunk|mremap_chunk|ptmalloc_init\w*)(?:\.\w+)*")

_Test = Callable[[Any], bool]


class Inside(NamedTuple):
    """A thread that is within a function: `level` is the number of the function's frame."""

    thread: int
    name: str  # of the thread; empty where GDB knows none
    function: str
    level: int

    def __str__(self) -> str:
        return f"{self.thread} ({self.name})" if self.name else f"{self.thread}"


def in_runtime(process: Process, layout_address: int) -> list[Inside]:
    """The threads that were stopped in the runtime whose tm_layout lies at that address."""
    return _threads_in(process, _runtime_test(process, layout_address))


def in_runtime_or_allocator(process: Process, layout_address: int) -> list[Inside]:
    """Those, and the threads that were stopped in libc's allocator without it."""
    is_in_runtime = _runtime_test(process, layout_address)
    return _threads_in(process, lambda frame: is_in_runtime(frame) or bool(_ALLOCATOR.fullmatch(frame.name() or "")))


def _threads_in(process: Process, test: _Test) -> list[Inside]:
    inside = []
    with selection_kept():
        for thread in process.threads():
            found = _outermost(thread, test)
            if found is not None:
                level, function = found
                inside.append(Inside(int(thread.num), thread.name or "", function, level))
    return inside


def _runtime_test(process: Process, layout_address: int) -> _Test:
    runtime = process.module_at(layout_address)
    is_in_program = runtime is None or runtime.rpartition("/")[2] == process.program.rpartition("/")[2]

    def is_inside(frame: Any) -> bool:
        if process.module_at(frame.pc()) != runtime:
            return False
        name = frame.name() or ""
        return not is_in_program or name in _ENTRANCES or name.startswith("tm_")

    return is_inside


def _outermost(thread: Any, test: _Test) -> tuple[int, str] | None:
    """The (number, function) of the outermost of the thread's newest frames that passes. A stack that cannot be
    unwound ends there."""
    found = None
    try:
        thread.switch()
        frame: gdb.Frame | None = gdb.newest_frame()
        for level in range(_FRAMES_LOOKED_AT):
            if frame is None:
                break
            if test(frame):
                found = level, frame.name() or "??"
            frame = frame.older()
    except gdb.error:
        pass
    return found
