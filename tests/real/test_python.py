"""A dozen and more of CPython's own test modules, each test of them with the library as without it."""

from __future__ import annotations

from python_modules import case_for

Modules = case_for([
    "test_subprocess", "test_threading", "test_fork1", "test_os", "test_decimal", "test_gc", "test_ctypes", "test_json",
    "test_posix", "test_thread", "test_threading_local", "test_mmap", "test_struct", "test_zlib", "test_hashlib",
    "test_re", "test_dbm"])
