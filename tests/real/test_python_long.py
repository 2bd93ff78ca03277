"""Those of CPython's own test modules that take minutes, each test of them with the library as without it."""

from __future__ import annotations

from python_modules import case_for

Modules = case_for([
    "test_asyncio", "test_concurrent_futures", "test_multiprocessing_fork", "test_multiprocessing_forkserver",
    "test_multiprocessing_spawn", "test_signal", "test_io", "test_faulthandler", "test_queue", "test_pickle",
    "test_lzma", "test_bz2", "test_ssl", "test_embed", "test_exceptions", "test_generators",
    "test_unicode", "test_bytes", "test_dict", "test_list", "test_set", "test_itertools", "test_weakref",
    "test_zipfile", "test_tarfile", "test_xml_etree_c", "test_pyexpat", "test_mailbox", "test_pty", "test_popen",
    "test_wait4", "test_tracemalloc", "test_array", "test_memoryview", "test_contextlib"])
