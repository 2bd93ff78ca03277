"""variants.py: the ways in which a workload runs: untraced, under our tracer, and under each peer that is installed."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

CC = os.environ.get("CC", "cc").split()
FRAMES = 25
MORE_FRAMES = 50
SLOW_SHARE = 10
_LIBRARY_FOLDERS = ("/usr/lib/*-linux-gnu*", "/usr/lib64", "/usr/lib", "/usr/local/lib")

# What each build of the C workloads is compiled with.
BUILDS: dict[str, list[str]] = {
    "plain": [],
    "leak": ["-fsanitize=leak", "-fno-omit-frame-pointer"],
    "address": ["-fsanitize=address", "-fno-omit-frame-pointer"],
}


@dataclass(frozen=True)
class Variant:
    """`{out}` in the prefix and the environment is a fresh folder for what the tracer writes."""

    name: str
    meaning: str
    build: str = "plain"
    preload: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    is_peer: bool = True
    is_slow: bool = False  # gets fewer rounds
    share: int = 1  # of a workload's operations it does 1/share
    is_for_deep: bool = False  # only for stacks deeper than FRAMES
    missing: str = ""

    def argv(self, program: list[str], out: Path) -> list[str]:
        return [part.format(out=out) for part in self.prefix] + program

    def environment_for(self, is_program: bool, out: Path) -> dict[str, str]:
        """A sanitizer is built into the C workloads and preloaded into programs."""
        environment = {name: value.format(out=out) for name, value in self.environment.items()}
        if self.preload and (is_program or self.build == "plain"):
            environment["LD_PRELOAD"] = self.preload
        return environment


def all_variants(library: Path) -> list[Variant]:
    return _ours(library) + _sanitizers() + _heaptrack() + _allocators() + _massif()


def _ours(library: Path) -> list[Variant]:
    missing = "" if library.exists() else f"{library.name} is not built"

    def ours(name: str, meaning: str, frames: int, is_for_deep: bool = False) -> Variant:
        environment = {"TRACEMALLOC": str(frames)} if frames else {}
        return Variant(name, meaning, preload=str(library), environment=environment, is_peer=False,
                       is_for_deep=is_for_deep, missing=missing)

    return [
        Variant("untraced", "the program alone; the figures of this row are absolute", is_peer=False),
        ours("ours, dormant", "preloaded, not started", 0),
        ours("ours", f"preloaded, TRACEMALLOC={FRAMES}", FRAMES),
        ours(f"ours, {MORE_FRAMES} frames", f"the same, TRACEMALLOC={MORE_FRAMES}", MORE_FRAMES, True),
    ]


def _sanitizers() -> list[Variant]:
    options = f"detect_leaks=0:malloc_context_size={FRAMES}"

    def sanitizer(name: str, build: str, library: str, variable: str) -> Variant:
        path = _compilers_library(library)
        meaning = (f"built with {' '.join(BUILDS[build])}; in programs by preload, where it finds few frames without "
                   f"frame pointers; {variable}={options}")
        return Variant(name, meaning, build, path, {variable: options},
                       missing="" if path else f"the compiler has no {library}")

    return [sanitizer("LSan", "leak", "liblsan.so", "LSAN_OPTIONS"),
            sanitizer("ASan", "address", "libasan.so", "ASAN_OPTIONS")]


def _heaptrack() -> list[Variant]:
    script = shutil.which("heaptrack")
    found = Path(script).resolve().parents[1] / "lib" / "heaptrack" / "libheaptrack_preload.so" if script else Path()
    missing = "" if found.is_file() else "heaptrack is not installed"
    return [
        Variant("heaptrack, raw", "its library alone, writing to a file in memory", preload=str(found),
                environment={"DUMP_HEAPTRACK_OUTPUT": "{out}/raw"}, missing=missing),
        Variant("heaptrack", "as shipped: a second process interprets and compresses what the first writes",
                prefix=("heaptrack", "-o", "{out}/heaptrack"), is_slow=True, missing=missing),
    ]


def _allocators() -> list[Variant]:
    jemalloc, tcmalloc = _library("libjemalloc.so.2"), _library("libtcmalloc.so.4")
    profiling = {"MALLOC_CONF": "prof:true,lg_prof_sample:0"}
    return [
        Variant("jemalloc, every block", f"MALLOC_CONF={profiling['MALLOC_CONF']}", preload=jemalloc,
                environment=profiling, is_slow=True, share=SLOW_SHARE,
                missing=_why_no_profiling(jemalloc, profiling)),
        Variant("gperftools", "HEAPPROFILE, without dumps amid the run", preload=tcmalloc, is_slow=True,
                share=SLOW_SHARE,
                environment={"HEAPPROFILE": "{out}/profile", "HEAP_PROFILE_ALLOCATION_INTERVAL": "0",
                             "HEAP_PROFILE_INUSE_INTERVAL": "0"},
                missing="" if tcmalloc else "libtcmalloc is not installed"),
    ]


def _massif() -> list[Variant]:
    options = ("--tool=massif", f"--depth={FRAMES}")
    return [Variant("massif", f"valgrind {' '.join(options)}", is_slow=True, share=SLOW_SHARE,
                    prefix=("valgrind", "-q", *options, "--massif-out-file={out}/massif"),
                    missing="" if shutil.which("valgrind") else "valgrind is not installed")]


def _why_no_profiling(jemalloc: str, environment: dict[str, str]) -> str:
    """jemalloc says on stderr that it does not know `prof` where it was built without."""
    if not jemalloc:
        return "libjemalloc is not installed"
    probe = subprocess.run(["true"], env=os.environ | environment | {"LD_PRELOAD": jemalloc}, capture_output=True)
    return "libjemalloc was built without profiling" if b"prof" in probe.stderr else ""


def _compilers_library(name: str) -> str:
    """The compiler answers with the bare name for what it does not have."""
    path = subprocess.run([*CC, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    return os.path.realpath(path) if os.path.isabs(path) else ""


def _library(name: str) -> str:
    for folder in _LIBRARY_FOLDERS:
        for path in sorted(glob.glob(f"{folder}/{name}")):
            return path
    return ""
