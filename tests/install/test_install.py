"""What make install leaves: configured elsewhere from what would ship, built, installed, used, and uninstalled."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gdb"))
from support import BUILD, CC, GdbTest, compile_file, new_directory, program, run_traced, work_directory  # noqa: E402

HERE = Path(__file__).resolve().parent
PREFIX = work_directory() / "prefix"
AUTO_LOAD = PREFIX / "share/gdb/auto-load"
LIBRARY = PREFIX / "lib/libtracemalloc.so"
GDB = shutil.which("gdb") or "gdb"
# Those of a make around us are not meant for ours.
INHERITED = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "DESTDIR", "DEBUGINFOD_URLS", "XDG_CONFIG_HOME")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in INHERITED}


def call(*command: str | Path, directory: Path | None = None, **environment: str | Path) -> str:
    """What the command prints; with all that it said if it fails."""
    done = subprocess.run([str(word) for word in command], cwd=directory or work_directory(), text=True,
                          env={**ENVIRONMENT, **{name: str(value) for name, value in environment.items()}},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def make(*arguments: str | Path, **environment: str | Path) -> str:
    return call("make", "-s", *arguments, directory=work_directory() / "build", **environment)


def gdb(*commands: str, options: tuple[str | Path, ...] = (), home: Path | None = None) -> str:
    """What a GDB with default settings prints; HOME may hold a .gdbinit."""
    words = [word for command in commands for word in ("-ex", command)]
    return call(GDB, "-q", "-batch", "-iex", "set debuginfod enabled off", *options, *words, "-ex", "echo \\n",
                directory=new_directory(), HOME=home or new_directory())


def started(number_of_frames: int = 25) -> list[str]:
    """GDB commands that run a program with the installed library preloaded to its first checkpoint."""
    return ["set startup-with-shell off", f"set environment LD_PRELOAD {LIBRARY}",
            f"set environment TRACEMALLOC {number_of_frames}", "break checkpoint", "run"]


@functools.lru_cache(maxsize=None)
def data_directory() -> Path:
    """The data directory of a GDB that lives in the same prefix, but for what it loads by itself."""
    real = Path(call(GDB, "-nx", "-batch", "-ex", "python print(gdb.PYTHONDIR)").strip()).parent
    own = PREFIX / "share/gdb"
    own.mkdir(parents=True)
    for entry in real.iterdir():
        if entry.name != "auto-load":
            (own / entry.name).symlink_to(entry)
    return own


@functools.lru_cache(maxsize=None)
def installed() -> str:
    """What make install said at the end, beside a GDB in the same prefix."""
    source, build = work_directory() / "source", work_directory() / "build"
    call("make", "-s", "distdir", f"distdir={source}", directory=BUILD)
    build.mkdir()
    call(source / "configure", "-q", f"--prefix={PREFIX}", directory=build)
    make("-j2")
    tools = new_directory()
    wrapper = tools / "gdb"
    wrapper.write_text(f"#!/bin/sh\nexec '{GDB}' --data-directory='{data_directory()}' \"$@\"\n")
    wrapper.chmod(0o755)
    return make("install", PATH=f"{tools}:{ENVIRONMENT['PATH']}")


def tree(top: Path) -> dict[str, str]:
    """Everything below a directory."""
    def kind(path: Path) -> str:
        if path.is_symlink():
            return f"-> {os.readlink(path)}"
        return "directory" if path.is_dir() else path.read_bytes().hex()
    return {str(path.relative_to(top)): kind(path) for path in sorted(top.rglob("*"))}


def real_name() -> str:
    return LIBRARY.resolve().name


class InstalledTest(GdbTest):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        installed()


class Uninstall(InstalledTest):
    def test_an_empty_root_is_empty_again(self) -> None:
        root = new_directory()
        make("install", f"DESTDIR={root}")
        self.assertIn(f"{LIBRARY}"[1:], tree(root))
        make("uninstall", f"DESTDIR={root}")
        self.assertEqual({}, tree(root))

    def test_a_root_in_use_is_as_before(self) -> None:
        root = new_directory()
        prefix = Path(f"{root}{PREFIX}")
        for directory in ("include", "lib64", "share/doc/other", "share/gdb/auto-load/usr"):
            (prefix / directory).mkdir(parents=True)
        (prefix / "share/gdb/auto-load/other-gdb.py").write_text("pass\n")
        (prefix / "lib").symlink_to("lib64")
        before = tree(root)
        make("install", f"DESTDIR={root}")
        make("install", f"DESTDIR={root}")
        package = prefix / "share/tracemalloc/gdb"
        call(sys.executable, "-c", "import tm, tm.export", PYTHONPATH=package, PYTHONDONTWRITEBYTECODE="")
        self.assertTrue((package / "tm/__pycache__").exists())
        # GDB resolves links before it looks for what to load.
        self.assertIn(f"{AUTO_LOAD}{PREFIX}/lib64/{real_name()}-gdb.py"[1:], tree(root))
        make("uninstall", f"DESTDIR={root}")
        self.assertEqual(before, tree(root))


@unittest.skipIf(shutil.which("pkg-config") is None, "there is no pkg-config here")
class PkgConfig(InstalledTest):
    def flags(self, *options: str) -> list[str]:
        return call("pkg-config", *options, "tracemalloc", PKG_CONFIG_PATH=PREFIX / "lib/pkgconfig").split()

    def check(self, compiler: list[str], *flags: str) -> None:
        binary = new_directory() / "embedded"
        call(*compiler, "-Wall", "-Wextra", "-Werror", "-pedantic-errors", HERE / "embedded.c", "-o", binary, *flags)
        self.assertEqual("1234\n", call(binary))

    def test_flags(self) -> None:
        self.assertEqual([f"-I{PREFIX}/include", f"-L{PREFIX}/lib", "-ltracemalloc"], self.flags("--cflags", "--libs"))

    def test_c(self) -> None:
        self.check([*CC, "-std=c99", "-fno-builtin"], *self.flags("--cflags", "--libs"), f"-Wl,-rpath,{PREFIX}/lib")

    def test_cxx(self) -> None:
        if shutil.which("c++") is None:
            raise unittest.SkipTest("there is no C++ compiler here")
        self.check(["c++", "-x", "c++", "-std=c++11", "-fno-builtin"], *self.flags("--cflags", "--libs"),
                   f"-Wl,-rpath,{PREFIX}/lib")

    def test_archive(self) -> None:
        self.check([*CC, "-std=c99", "-fno-builtin"], *self.flags("--cflags"), "-Wl,-Bstatic", *self.flags("--libs"),
                   "-Wl,-Bdynamic")

    def test_static(self) -> None:
        self.check([*CC, "-std=c99", "-fno-builtin", "-static"], *self.flags("--static", "--cflags", "--libs"))


class InGdb(InstalledTest):
    def test_the_printed_line_works_when_pasted(self) -> None:
        lines = re.findall(r"^  (source .*)$", installed(), re.MULTILINE)
        self.assertEqual([f"source {PREFIX}/share/tracemalloc/gdb/libtracemalloc-gdb.py"], lines)
        home = new_directory()
        (home / ".gdbinit").write_text(lines[0] + "\n")
        output = gdb("help tm-stats", "help tm", *started(), "tm-stats lineno", options=(program("known"),), home=home)
        self.assertIn("Usage: tm-stats", output)
        self.assertIn(f"  (gdb) set environment LD_PRELOAD {LIBRARY}.0\n", output)
        self.assertRegex(output, r"known\.c:\d+: size=")
        self.assertNotIn("auto-load", output)

    def test_elsewhere_gdb_is_left_alone(self) -> None:
        output = gdb(*started(), "tm-stats", options=(program("known"),))
        self.assertIn('Undefined command: "tm-stats"', output)
        self.assertNotIn("auto-load", output)

    def test_install_knows_whether_gdb_loads_by_itself(self) -> None:
        self.assertIn("GDB loads the tm- commands when a program with the library starts.", installed())
        said = make("install", f"DESTDIR={new_directory()}")
        self.assertNotIn("when a program with the library starts", said)
        self.assertIn("To have the tm- commands in GDB, put this line into ~/.gdbinit:", said)

    def check_loads(self, output: str) -> None:
        before, _, after = output.partition("loaded?\n")
        self.assertIn('Undefined command: "tm-info"', before)
        self.assertRegex(after, r"Blocks: +[1-9]")
        self.assertNotIn("auto-load", output)

    def test_loads_by_itself_live_and_from_a_core(self) -> None:
        own = (f"--data-directory={data_directory()}", program("known"))
        core = new_directory() / "known.core"
        self.check_loads(gdb("tm-info", *started(), "echo loaded?\\n", "tm-info", f"generate-core-file {core}",
                             options=own))
        self.check_loads(gdb("tm-info", f"core-file {core}", "echo loaded?\\n", "tm-info", options=own))

    def test_loads_by_itself_on_attach(self) -> None:
        process = run_traced(program("known"), "wait", runtime=LIBRARY)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            self.check_loads(gdb("tm-info", f"attach {process.pid}", "echo loaded?\\n", "tm-info",
                                 options=(f"--data-directory={data_directory()}",)))
        finally:
            process.kill()
            process.communicate()

    def test_loads_by_itself_in_a_linked_program(self) -> None:
        binary = compile_file(HERE / "embedded.c", new_directory() / "embedded", "-I", f"{PREFIX}/include",
                              "-L", f"{PREFIX}/lib", "-ltracemalloc", f"-Wl,-rpath,{PREFIX}/lib")
        output = gdb("break tm_get_traced_memory", "run", "tm-stats", options=(
            f"--data-directory={data_directory()}", binary))
        self.assertRegex(output, r"embedded\.c:\d+: size=1234 B")

    def test_a_directory_that_is_made_safe(self) -> None:
        self.check_loads(gdb("tm-info", *started(), "echo loaded?\\n", "tm-info", options=(
            "-iex", f"add-auto-load-scripts-directory {AUTO_LOAD}", "-iex", f"add-auto-load-safe-path {AUTO_LOAD}",
            program("known"))))

    def test_loads_once(self) -> None:
        for door in (f"{PREFIX}/share/tracemalloc/gdb/libtracemalloc-gdb.py",
                     str(HERE.parents[1] / "gdb/libtracemalloc-gdb.py")):
            output = gdb(f"source {door}", "set tm wrappers xmalloc", *started(), f"source {door}", "kill", "run",
                         "show tm wrappers", "tm-info",
                         options=(f"--data-directory={data_directory()}", program("known")))
            # Commands and settings made anew would have lost it.
            self.assertIn("Wrappers: xmalloc", output)
            self.assertRegex(output, r"Blocks: +[1-9]")
            self.assertNotIn("auto-load", output)


if __name__ == "__main__":
    unittest.main()
