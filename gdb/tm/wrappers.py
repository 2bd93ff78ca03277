"""wrappers.py: who allocates on behalf of a caller, as patterns for Snapshot.skip_wrappers."""

from __future__ import annotations

from typing import Iterable, Iterator

DEFAULT = "default"  # stands for the patterns below

# Where these are linked into the program, libc's file does not tell them.
_LIBC_FUNCTIONS = ("strdup", "strndup", "wcsdup", "getdelim", "getline", "asprintf", "vasprintf", "asprintf_chk",
                   "vasprintf_chk", "vasprintf_internal", "reallocarray", "open_memstream", "open_wmemstream",
                   "fopen", "fopen64", "fopen_internal", "fdopen", "popen", "opendir", "alloc_dir", "libc_malloc",
                   "libc_calloc", "libc_realloc", "libc_reallocarray", "libc_scratch_buffer_*", "libc_dynarray_*",
                   "libc_alloc_buffer_*")
_ALIASES = ("", "__", "__GI_", "__GI___")

PATTERNS = (
    # C++: operator new, and what the standard library's templates are made of
    "operator new*", "*::operator new*", "std::*", "__gnu_cxx::*", "__cxa_allocate_exception",
    # libc and its loader as a whole
    "*/libc.so.*", "*/libc-2.*.so", "*/ld-linux*.so.*", "*/ld-2.*.so", "*/ld-musl-*.so.*",
    *(alias + function for function in _LIBC_FUNCTIONS for alias in _ALIASES),
    "_IO_getdelim", "_IO_vasprintf", "_IO_file_doallocate", "_IO_doallocbuf",
    # the names that C programs use
    "xmalloc", "xcalloc", "xzalloc", "xrealloc", "xnmalloc", "xnrealloc", "x2realloc", "x2nrealloc", "xmemdup",
    "xstrdup", "xstrndup", "xasprintf", "xvasprintf",
    # GLib
    "g_malloc*", "g_realloc*", "g_try_malloc*", "g_try_realloc*", "g_slice_alloc*", "g_strdup*", "g_strndup",
    "g_strconcat", "g_strjoin*", "g_memdup*",
)


def expanded(words: Iterable[str]) -> Iterator[str]:
    """The patterns that these words are, each `default` replaced by those above."""
    for word in words:
        if word == DEFAULT:
            yield from PATTERNS
        else:
            yield word


def described() -> list[str]:
    """The patterns behind `default` without the aliases of one function."""
    aliases = {alias + function for function in _LIBC_FUNCTIONS for alias in _ALIASES[1:]}
    return [pattern for pattern in PATTERNS if pattern not in aliases]
