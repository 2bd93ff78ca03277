"""The command tracemalloc: every subcommand on processes, cores and snapshots, its exit statuses and its errors."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import pty
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import termios
import threading
import time
import unittest
from pathlib import Path
from typing import Any, Iterator

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "gdb"), str(Path(__file__).resolve().parents[2] / "gdb")]

from support import BUILD, CC, PROGRAMS, RUNTIME, gdb, kernel_core, new_directory, preload, program, rows  # noqa: E402
from preloaded import needs_own_walk, static_options  # noqa: E402
from tm.launcher.corefile import CoreFile  # noqa: E402

LAUNCHER = BUILD / "tracemalloc"
LIMIT = 120
HELD = 4321
FORMS: tuple[list[str], ...] = ([], ["--json"])  # text, JSON
COMMANDS = ("run", "stats", "compare", "traces", "info", "snapshot", "export", "gdb")

Done = subprocess.CompletedProcess


def launch(*words: str | Path | int, directory: Path | None = None, environment: dict[str, str] | None = None,
           launcher: Path = LAUNCHER, **options: Any) -> Done[str]:
    clean = {name: value for name, value in os.environ.items()
             if name != "LD_PRELOAD" and not name.startswith("TRACEMALLOC")}
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([str(launcher), *map(str, words)], cwd=directory, env=environment or clean, timeout=LIMIT,
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@functools.lru_cache(maxsize=None)
def held() -> Path:
    return program("held", "-pthread")


@functools.lru_cache(maxsize=None)
def snapshot() -> Path:
    """Of held, which holds one block at its exit."""
    path = new_directory() / "held.snap"
    done = launch("run", "-o", path, held(), "exit")
    assert done.returncode == 7, done
    return path


@functools.lru_cache(maxsize=None)
def named() -> Path:
    """A copy of it that has the names in it, so that no GDB is asked for them."""
    path = new_directory() / "named.snap"
    done = launch("snapshot", snapshot(), path)
    assert done.returncode == 0, done
    return path


@functools.lru_cache(maxsize=None)
def core() -> Path:
    """Of held while it waits; written by GDB, as the kernel may write none."""
    directory = new_directory()
    results = gdb([*preload(), "break wait_for_input", "run wait", "generate-core-file held.core"], held(),
                  directory=directory)
    assert not any(result.error for result in results), results
    return directory / "held.core"


class LauncherTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls) -> None:
        if not RUNTIME.exists() or not LAUNCHER.exists():
            raise unittest.SkipTest(f"not built: {RUNTIME}, {LAUNCHER}")

    def assertDone(self, done: Done[str], status: int = 0, error: str = "") -> str:
        self.assertEqual((status, error), (done.returncode, done.stderr), done.stdout)
        return done.stdout

    def assertRefused(self, done: Done[str], status: int, *words: str) -> None:
        """One line on stderr that holds these words, nothing on stdout."""
        self.assertEqual((status, "", 1), (done.returncode, done.stdout, len(done.stderr.splitlines())), done.stderr)
        self.assertTrue(done.stderr.startswith("tracemalloc"), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """The program, traced and past its start, until its standard input ends."""
        child = subprocess.Popen([str(LAUNCHER), "run", *map(str, words)], text=True, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
        watchdog = threading.Timer(LIMIT, child.kill)
        watchdog.start()
        self.addCleanup(self.end, child, watchdog)
        return child

    @staticmethod
    def end(child: subprocess.Popen[str], watchdog: threading.Timer) -> None:
        watchdog.cancel()
        child.kill()
        child.communicate()

    def start_held(self) -> int:
        """The process of held, which has its block by then."""
        child = self.start(held(), "pause")
        assert child.stdout is not None
        self.assertEqual("ready\n", child.stdout.readline())
        return child.pid


class Help(LauncherTest):
    def test_run_tells_when_nothing_is_written(self) -> None:
        text = " ".join(self.assertDone(launch("run", "--help")).split())
        self.assertIn("ends by a signal (abort, a crash, kill), or by _exit as some shells do, writes nothing", text)

    def test_overview_and_version(self) -> None:
        text = self.assertDone(launch("--help"))
        for command in COMMANDS:
            self.assertRegex(text, rf"(?m)^  {command} +\w")
        self.assertEqual(text, self.assertDone(launch("help")))
        version = re.findall(r"PACKAGE_VERSION='(.*)'", (BUILD / "config.log").read_text())[0]
        self.assertEqual(f"tracemalloc for C {version}\n", self.assertDone(launch("--version")))

    def test_each_command_explains_itself(self) -> None:
        for command in COMMANDS:
            text = self.assertDone(launch(command, "--help"))
            self.assertTrue(text.startswith(f"usage: tracemalloc {command} "), text)
            self.assertRegex(text, rf"(?s)examples:\n  tracemalloc {command}")
            self.assertLessEqual(max(map(len, text.splitlines())), 100, command)

    def test_without_its_package(self) -> None:
        alone = new_directory() / "tracemalloc"
        shutil.copy(LAUNCHER, alone)
        for command, status in (("stats", 3), ("run", 125)):
            self.assertRefused(launch(command, "true", launcher=alone), status, "does not load")

    def test_wrong_command_lines(self) -> None:
        snap = str(named())
        cases: list[tuple[list[str], str]] = [
            ([], "a command is missing: run, stats"), (["foo"], "unknown command foo"),
            (["stats"], "PID|CORE|SNAP"),
            (["stats", snap, "foo"], "foo"), (["stats", snap, "--limit", "x"], "--limit: x is no number"),
            (["stats", snap, "--frob"], "--frob"), (["stats", snap, "traceback", "--cumulative"], "traceback"),
            (["stats", snap, "lineno", "function"], "function"), (["compare", snap], "NEW"),
            (["traces", snap, "--sort", "age"], "age"), (["traces", snap, "--site", "x"], "x is no number"),
            (["traces", snap, "--site", "99"], "99"),
            (["snapshot", snap], "FILE"), (["export", "xml", snap, "f"], "xml"), (["gdb"], "--"),
            (["gdb", snap], f"tracemalloc stats {snap}"), (["stats", str(held())], f"tracemalloc run {held()}")]
        for words, said in cases:
            with self.subTest(words=words):
                self.assertRefused(launch(*words), 2, said)

    def test_what_cannot_be_read(self) -> None:
        directory = new_directory()
        (directory / "text").write_text("hello")
        (directory / "packed").write_bytes(b"\x28\xb5\x2f\xfd rest")
        damaged = bytearray(snapshot().read_bytes())
        damaged[len(damaged) // 2] ^= 1
        (directory / "damaged").write_bytes(damaged)
        (directory / "cut.core").write_bytes(core().read_bytes()[:3000])
        for word, said in (("nowhere.snap", "No such file"), ("text", "neither a core nor a snapshot"),
                           ("packed", "zstd -d"), ("damaged", "damaged"), (".", "no regular file"),
                           ("4194304999", "no process 4194304999")):
            with self.subTest(word=word):
                self.assertRefused(launch("stats", word, directory=directory), 3, said, word)
        done = launch("stats", "cut.core", directory=directory)
        self.assertEqual((3, ""), (done.returncode, done.stdout))
        self.assertNotIn("Traceback", done.stderr)
        for option in ("--program", "--sysroot"):
            self.assertRefused(launch("stats", core(), option, "/nowhere"), 3, option, "/nowhere")


EXTREMES = (0, 1, 0x7f, 0xffff, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def damages(whole: bytes) -> Iterator[tuple[int, bytes]]:
    """A 64-bit core, by (place, bytes there): its header, its first segments and its notes set to extremes."""
    table, = struct.unpack_from("<Q", whole, 32)
    notes, _, _, size = struct.unpack_from("<QQQQ", whole, table + 8)
    fields = [(16, 2), (18, 2), (20, 4), (24, 8), (32, 8), (40, 8), (48, 4),
              *((place, 2) for place in range(52, 64, 2))]
    fields += [(table + 56 * number + place, width) for number in range(4)
               for place, width in ((0, 4), (4, 4), *((place, 8) for place in range(8, 56, 8)))]
    fields += [(place, 8) for place in range(notes, notes + size - 8, 8)]
    for place, width in fields:
        for value in EXTREMES:
            if value < 1 << 8 * width:
                yield place, value.to_bytes(width, "little")
    # So many segments that their number is elsewhere: in the first section, which here ends in a segment's flags.
    for value in EXTREMES[:6]:
        start = bytearray(whole[:table + 64])
        start[40:48], start[56:58] = (table + 4 - 44).to_bytes(8, "little"), b"\xff\xff"
        start[table + 4:table + 8] = value.to_bytes(4, "little")
        yield 0, bytes(start)


class Damage(LauncherTest):
    """Files that say of themselves what is not so."""

    def test_a_core_that_was_damaged_anywhere(self) -> None:
        path = new_directory() / "damaged.core"
        shutil.copy(core(), path)
        whole = core().read_bytes()
        programs = set()
        with open(path, "r+b", buffering=0) as file:
            for place, content in damages(whole):
                os.pwrite(file.fileno(), content, place)
                with self.subTest(place=place, content=content):
                    programs.add(CoreFile(str(path)).program)
                os.pwrite(file.fileno(), whole[place:place + len(content)], place)
        self.assertLessEqual({"", str(held())}, programs)
        self.assertEqual(str(held()), CoreFile(str(path)).program)

    def test_a_damaged_core_is_one_line(self) -> None:
        path = new_directory() / "damaged.core"
        for place in (32, struct.unpack_from("<Q", core().read_bytes(), 32)[0] + 8):
            content = bytearray(core().read_bytes())
            content[place:place + 8] = (1 << 63).to_bytes(8, "little")
            path.write_bytes(content)
            done = launch("stats", path)
            self.assertEqual((3, ""), (done.returncode, done.stdout))
            for line in done.stderr.splitlines():
                self.assertTrue(line.startswith("tracemalloc"), done.stderr)

    def test_a_program_that_is_not_whole(self) -> None:
        path = new_directory() / "part"
        whole = held().read_bytes()
        beyond = bytearray(whole)
        beyond[32:40] = (1 << 63).to_bytes(8, "little")
        empty = bytearray(whole)
        empty[54:56] = bytes(2)
        for content in (whole[:20], whole[:52], whole[:57], whole[:63], whole[:100], beyond, empty):
            path.write_bytes(content)
            path.chmod(0o755)
            self.assertRefused(launch("run", path), 126, str(path), "not a whole ELF file")


class Run(LauncherTest):
    def test_the_program_is_itself(self) -> None:
        done = launch("run", "sh", "-c", 'echo "$$ $PPID $*"; exit 5', "sh", "-o", "--help", "--", "a b")
        pid, parent, *words = self.assertDone(done, 5).split()
        self.assertEqual(["-o", "--help", "--", "a", "b"], words)
        self.assertEqual(os.getpid(), int(parent))
        self.assertEqual(-signal.SIGKILL, launch("run", "--", "sh", "-c", "kill -9 $$").returncode)
        self.assertEqual("in\n", self.assertDone(launch("run", "cat", stdin=None, input="in\n")))

    def test_the_environment_gets_what_tracing_needs_and_no_more(self) -> None:
        bare = {"LD_PRELOAD": "libm.so.6", "TRACEMALLOC": "3", "TRACEMALLOC_INTERVAL": "7", "A": "b=c"}
        shown = self.assertDone(launch("run", "/usr/bin/env", environment=bare)).splitlines()
        self.assertEqual(sorted(["A=b=c", f"LD_PRELOAD={RUNTIME}:libm.so.6", "TRACEMALLOC=25"]), sorted(shown))
        wanted = {"TRACEMALLOC": "4", "TRACEMALLOC_SNAPSHOT": "%p.snap", "TRACEMALLOC_SIGNAL": "USR1",
                  "TRACEMALLOC_INTERVAL": "60", "TRACEMALLOC_CHILDREN": "0"}
        words = ["-n", "4", "-o", "%p.snap", "--signal", "USR1", "--interval", "60", "--no-children"]
        shown = self.assertDone(launch("run", *words, "cat", "/proc/self/environ", directory=new_directory(),
                                       environment={"PATH": "/usr/bin:/bin"})).split("\0")
        self.assertLessEqual({f"{name}={value}" for name, value in wanted.items()}, set(shown))

    def test_python_leaves_no_signal_ignored(self) -> None:
        shown = self.assertDone(launch("run", "grep", "SigIgn", "/proc/self/status"))
        self.assertEqual(0, int(shown.split()[1], 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1))

    def test_a_snapshot_at_exit(self) -> None:
        directory = new_directory()
        self.assertDone(launch("run", "-n", "2", "-o", "a.snap", held(), "exit", directory=directory), 7)
        self.assertEqual(["a.snap"], os.listdir(directory))
        text = self.assertDone(launch("stats", "a.snap", directory=directory))
        self.assertRegex(text, r"^a\.snap \(held\): 4321 B in 1 block from 1 line\n"
                               r"1  held\.c:\d+: size=4321 B, count=1, average=4321 B\n"
                               r"       held\[0\] = malloc\(4321\);\nTotal: 4321 B in 1 block\n$")
        self.assertEqual(2, json.loads(launch("info", "a.snap", "--json", directory=directory).stdout)["frames"])

    def test_scripts_run_and_what_they_become_is_traced(self) -> None:
        directory = new_directory()
        for name, text in (("first", f"#!/bin/sh\nexec {held()} exit\n"), ("second", f"exec {held()} exit\n")):
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
            self.assertDone(launch("run", "-o", f"{name}.snap", f"./{name}", directory=directory), 7)
            found = json.loads(launch("stats", f"{name}.snap", "--json", directory=directory).stdout)
            self.assertEqual((HELD, str(held())), (found["size"], found["target"]["program"]))

    def test_what_cannot_be_run(self) -> None:
        directory = new_directory()
        (directory / "text").write_text("hello")
        (directory / "badscript").write_text("#!/nowhere/sh\n")
        (directory / "badscript").chmod(0o755)
        cases: list[tuple[list[str], int, str]] = [
            (["./nowhere"], 127, "no such program"), (["nowhere-at-all"], 127, "PATH"),
            (["./text"], 126, "not executable"), (["."], 127, "no such program in PATH"),
            (["./"], 126, "directory"), (["./badscript"], 126, "/nowhere/sh"),
            ([], 125, "a program is missing"), (["-n", "0", "true"], 125, "1 to 65535"),
            (["--frob", "true"], 125, "--frob"), (["--signal", "USR1", "true"], 125, "-o"),
            (["--interval", "x", "-o", "a", "true"], 125, "x is no number"),
            (["-o", "nowhere/a.snap", "true"], 125, "nowhere: no such directory")]
        for words, status, said in cases:
            with self.subTest(words=words):
                self.assertRefused(launch("run", *words, directory=directory), status, said)

    @needs_own_walk
    def test_a_static_program_with_the_library_in_it(self) -> None:
        directory = new_directory()
        static = directory / "held"
        subprocess.run([*CC, "-static", "-o", str(static), str(PROGRAMS / "held.c"), "-pthread", *static_options()],
                       check=True)
        subprocess.run(["strip", "-o", str(directory / "bare"), str(static)], check=True)
        for name in ("held", "bare"):
            with self.subTest(name=name):
                done = launch("run", "-o", "a.snap", f"./{name}", "exit", directory=directory)
                self.assertEqual((done.returncode, done.stderr), (7, ""))
                self.assertEqual(json.loads(launch("stats", "a.snap", "--json", directory=directory).stdout)["size"],
                                 HELD)
        started = launch("gdb", "--", static, "wait", directory=directory, stdin=None,
                         input="break wait_for_input\nrun\ntm-stats\nshow environment LD_PRELOAD\n")
        self.assertIn(f"size={HELD} B", started.stdout)
        self.assertNotIn("libtracemalloc", started.stdout)

    def test_what_cannot_be_traced(self) -> None:
        directory = new_directory()
        static = directory / "static"
        subprocess.run([*CC, "-static", "-o", str(static), "-x", "c", "-"], input=b"int main(void) {return 0;}",
                       check=True)
        self.assertRefused(launch("run", static), 125, "linked statically", str(static))
        foreign = bytearray(held().read_bytes()[:4096])
        foreign[4:5], foreign[18:20] = b"\x01", b"\x03\x00"  # ELFCLASS32, EM_386
        (directory / "foreign").write_bytes(foreign)
        (directory / "foreign").chmod(0o755)
        self.assertRefused(launch("run", directory / "foreign"), 125, "32-bit i386", "64-bit")
        if os.geteuid() == 0:
            shutil.copy(held(), directory / "setuid")
            os.chown(directory / "setuid", 65534, -1)
            (directory / "setuid").chmod(0o755 | stat.S_ISUID)
            self.assertRefused(launch("run", directory / "setuid"), 125, "setuid", "65534")


class Ask(LauncherTest):
    """Processes, cores and snapshots."""

    def test_a_process(self) -> None:
        pid = self.start_held()
        text = self.assertDone(launch("stats", pid))
        self.assertRegex(text, rf"^process {pid} \(held\): 4321 B in 1 block from 1 line\n1  held\.c:\d+: size=4321 B")
        self.assertRegex(self.assertDone(launch("info", pid)), r"Blocks: +1\n")
        found = json.loads(self.assertDone(launch("info", pid, "--json")))
        self.assertEqual((HELD, 1, 25, True), tuple(found[name] for name in ("size", "count", "frames", "tracing")))
        self.assertLessEqual(HELD, found["peak"])
        directory = new_directory()
        saved = self.assertDone(launch("snapshot", pid, "now.snap", "--addresses", directory=directory))
        self.assertRegex(saved, r"^saved now\.snap: 1 block, 4321 B, from 1 site; the file has \d+ B\n$")
        # Nothing was allocated since.
        compared = self.assertDone(launch("compare", "now.snap", pid, directory=directory), 1)
        self.assertRegex(compared, rf"^now\.snap \(.*\) -> process {pid} \(held\), .*: 0 of 1 lines changed")
        by_file = self.assertDone(launch("traces", "now.snap", directory=directory)).splitlines()
        by_process = self.assertDone(launch("traces", pid)).splitlines()
        self.assertEqual(by_file[1:], by_process[1:])
        # It goes on as if nobody had looked.
        state = Path(f"/proc/{pid}/status").read_text()
        self.assertIn("TracerPid:\t0\n", state)
        self.assertRegex(state, r"State:\tS")

    def test_a_core_finds_its_program(self) -> None:
        found = f"tracemalloc: {core()} is of {held()}\n"
        text = self.assertDone(launch("stats", core(), directory=Path("/")), error=found)
        self.assertEqual([f"held.c:{self.line()}: size=4321 B, count=1, average=4321 B"], rows(text))
        document = json.loads(self.assertDone(launch("stats", core(), "--json"), error=found))
        self.assertEqual((str(held()), "core"), (document["target"]["program"], document["target"]["kind"]))
        self.assertIn("Blocks", self.assertDone(launch("info", core()), error=found))
        self.assertRegex(self.assertDone(launch("traces", core()), error=found),
                         rf"(?m)^0x[0-9a-f]+ +4,321 +\d+  main at held\.c:{self.line()}$")

    def line(self) -> int:
        text = (PROGRAMS / "held.c").read_text().splitlines()
        return next(number for number, line in enumerate(text, 1) if "malloc(4321)" in line)

    def test_a_core_of_the_kernels(self) -> None:
        path = kernel_core(held(), "crash")
        text = self.assertDone(launch("stats", path), error=f"tracemalloc: {path} is of {held()}\n")
        self.assertEqual([f"held.c:{self.line()}: size=4321 B, count=1, average=4321 B"], rows(text))

    def test_a_core_whose_program_is_gone_or_another(self) -> None:
        directory = new_directory()
        moved = directory / "moved"
        shutil.copy(held(), moved)
        original = held().read_bytes()
        try:
            held().unlink()
            done = launch("stats", core())
            self.assertEqual(0, done.returncode)
            self.assertIn(f"is of {held()}, which cannot be used: no such file", done.stderr)
            self.assertRegex(done.stdout, r"1  held\(\+0x[0-9a-f]+\): size=4321 B")
            self.assertIn(f"held.c:{self.line()}", self.assertDone(launch("stats", core(), "--program", moved)))
            shutil.copy("/bin/true", held())
            self.assertIn("another build-id", launch("stats", core()).stderr)
            root = directory / "root"
            inside = root / str(held()).lstrip("/")
            inside.parent.mkdir(parents=True)
            shutil.copy(moved, inside)
            self.assertIn(f"is of {inside}\n", launch("stats", core(), "--sysroot", root).stderr)
        finally:
            held().unlink(missing_ok=True)
            held().write_bytes(original)
            held().chmod(0o755)

    def test_the_same_words_as_in_gdb(self) -> None:
        commands = (["stats"], ["stats", "traceback"], ["stats", "function", "-cumulative"], ["traces"])
        results = gdb([f"tm-{' '.join(words)}" for words in commands], held(), core())
        for words, result in zip(commands, results):
            done = launch(words[0], core(), *words[1:])
            self.assertEqual(result.output.splitlines()[1:], done.stdout.splitlines()[1:], words)
            self.assertGreater(len(done.stdout.splitlines()), 2)

    def test_no_program_is_no_process_of_ours(self) -> None:
        child = subprocess.Popen(["sleep", "60"])
        try:
            self.assertRefused(launch("stats", child.pid), 3, f"no tracemalloc runtime in process {child.pid}",
                               "tracemalloc run")
        finally:
            child.kill()
            child.wait()

    def test_a_program_that_is_not_tracing(self) -> None:
        child = subprocess.Popen([str(held()), "wait"], stdin=subprocess.PIPE, env={
            **os.environ, "LD_PRELOAD": str(RUNTIME), "TRACEMALLOC": "0"})
        try:
            while "libtracemalloc" not in Path(f"/proc/{child.pid}/maps").read_text():
                time.sleep(0.01)
            self.assertRefused(launch("stats", child.pid), 3, "is not tracing", "TRACEMALLOC=25")
            self.assertRegex(self.assertDone(launch("info", child.pid)), r"Tracing: +no\n")
        finally:
            child.communicate()

    def test_a_process_that_is_looked_at_already(self) -> None:
        pid = self.start_held()
        asked = f"subprocess.run(['{LAUNCHER}', 'stats', '{pid}'], capture_output=True, text=True)"
        results = gdb([f"attach {pid}", f"python import subprocess; print({asked})", "detach"], load=False)
        self.assertIn(f"process {pid} is being debugged by process", results[1].output)
        self.assertIn("returncode=3", results[1].output)

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("setpriv"), "needs root, to be another user for once")
    def test_no_permission(self) -> None:
        pid = self.start_held()
        done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", str(LAUNCHER), "stats", str(pid)],
                              text=True, capture_output=True, timeout=LIMIT)
        if "Permission denied" in done.stderr and str(LAUNCHER) in done.stderr:
            self.skipTest("another user may not read the build tree")
        self.assertRefused(done, 3, f"no permission to look at process {pid}", "user 0")


class View(LauncherTest):
    def test_json(self) -> None:
        found = json.loads(self.assertDone(launch("stats", named(), "--json")))
        self.assertEqual((HELD, 1, "lineno", 1), tuple(found[name] for name in ("size", "count", "group_by", "groups")))
        row, = found["rows"]
        self.assertEqual((HELD, 1, "main", str(held())), tuple(row[name] for name in ("size", "count", "function",
                                                                                      "module")))
        row, = json.loads(launch("stats", named(), "traceback", "--json").stdout)["rows"]
        self.assertEqual(["main"], [frame["function"] for frame in row["frames"]])
        row, = json.loads(launch("stats", named(), "domain", "--json").stdout)["rows"]
        self.assertEqual((0, "heap"), (row["domain"], row["name"]))
        found = json.loads(launch("traces", snapshot(), "--json").stdout)
        self.assertRegex(found["rows"][0]["address"], "^0x[0-9a-f]+$")
        found = json.loads(launch("compare", named(), named(), "--json").stdout)
        self.assertEqual((0, 0, 0, []), tuple(found[name] for name in ("size_diff", "count_diff", "changed", "rows")))
        self.assertEqual((0, 0), tuple(len(json.loads(launch(*words, "--json").stdout)["rows"]) for words in (
            ("stats", named(), "--exclude", "held.c"), ("traces", snapshot(), "--exclude", "held.c"))))

    def test_filters_and_wrappers(self) -> None:
        line = Ask("line").line()
        for words, status in ((["--include", "held.c"], 0), (["--include", f"held.c:{line}"], 0),
                              (["--include", f"held.c:{line + 1}"], 1), (["--exclude", "held.*"], 1),
                              (["--exclude", "other.c", "--exclude", "third.c"], 0), (["--domain", "heap"], 0),
                              (["--domain", "5"], 1), (["--wrappers", "none"], 0),
                              (["--include", "held.c", "--all-frames", "--domain", "0"], 0)):
            with self.subTest(words=words):
                self.assertDone(launch("stats", named(), *words), status)
        text = self.assertDone(launch("stats", named(), "--wrappers", "default main", "--exclude", "x.c"))
        self.assertNotIn("tm-filter", text)
        self.assertNotIn("show tm", text)

    def test_options_as_gdb_spells_them(self) -> None:
        self.assertEqual(self.assertDone(launch("stats", named(), "--limit", "1")),
                         self.assertDone(launch("stats", "-limit", "1", named())))

    def test_files_whose_names_begin_with_a_hyphen(self) -> None:
        directory = new_directory()
        shutil.copy(named(), directory / "-x.snap")
        for words in (["stats", "--", "-x.snap"], ["stats", "--limit", "1", "--", "-x.snap", "function"],
                      ["info", "--", "-x.snap"], ["traces", "--", "-x.snap"],
                      ["export", "folded", "--", "-x.snap", "-a"], ["export", "folded", str(named()), "--", "-b"],
                      ["snapshot", "--", "-x.snap", "-limit"]):
            with self.subTest(words=words):
                self.assertDone(launch(*words, directory=directory))
        self.assertDone(launch("compare", "--", "-x.snap", named(), directory=directory), 1)
        self.assertEqual({"-x.snap", "-a", "-b", "-limit"}, set(os.listdir(directory)))

    def test_names_that_are_not_utf_8(self) -> None:
        directory = new_directory()
        name = os.fsdecode(b"a\xff.snap")
        shutil.copy(named(), directory / name)
        for locale in ("C", "C.UTF-8", "en_US.UTF-8"):
            with self.subTest(locale=locale):
                environment = {"PATH": os.environ["PATH"], "LC_ALL": locale}
                text = self.assertDone(launch("stats", name, directory=directory, environment=environment))
                self.assertTrue(text.startswith("a\\udcff.snap (held): "), text)

    def test_a_site_that_is_not_there(self) -> None:
        line = Ask("line").line()
        for form in FORMS:
            with self.subTest(form=form):
                self.assertRefused(launch("traces", snapshot(), "--site", "99", *form), 2, "from site 99")
                self.assertDone(launch("traces", snapshot(), "--site", "0", *form))
                self.assertDone(launch("traces", snapshot(), "--site", "0", "--exclude", f"held.c:{line}", *form), 1)

    def test_traces_of_a_site_that_the_filters_leave_out(self) -> None:
        directory = new_directory()
        self.assertDone(launch("run", "-o", "echo.snap", "/bin/echo", directory=directory))
        sites = {row["site"]: row["frames"][0]["filename"] for row in json.loads(
            launch("traces", "echo.snap", "--json", "--wrappers", "none", directory=directory).stdout)["rows"]}
        names = list(sites.values())
        site, filename = next((site, name) for site, name in sites.items() if names.count(name) < len(names))
        for form in FORMS:
            self.assertDone(launch("traces", "echo.snap", "--site", site, "--wrappers", "none", "--exclude", filename,
                                   *form, directory=directory), 1)

    def test_a_group_by_function_has_a_file_in_json(self) -> None:
        row, = json.loads(launch("stats", named(), "function", "--json").stdout)["rows"]
        self.assertEqual((str(PROGRAMS / "held.c"), 0, "main"), (row["filename"], row["lineno"], row["function"]))

    def test_compare_and_limits(self) -> None:
        directory = new_directory()
        self.assertDone(launch("run", "-o", "%e.snap", "/bin/echo", directory=directory))
        text = self.assertDone(launch("compare", named(), "echo.snap", "--limit", "1", "--wrappers", "none",
                                      directory=directory))
        self.assertIn("these are two programs", text)
        self.assertEqual(1, len(rows(text)))
        text = self.assertDone(launch("compare", named(), "echo.snap", "--limit", "unlimited", directory=directory))
        self.assertNotIn("more changed", text)

    def test_export(self) -> None:
        directory = new_directory()
        for name in ("folded", "pprof", "json"):
            self.assertRegex(self.assertDone(launch("export", name, named(), f"f.{name}", directory=directory)),
                             rf"^exported f\.{name} as {name}: 1 block")
        self.assertEqual("main 4321\n", (directory / "f.folded").read_text())

    def test_a_copy_of_a_raw_snapshot_has_the_names(self) -> None:
        environment = {"PATH": "/nowhere"}  # neither GDB nor addr2line
        self.assertIn("held.c:", self.assertDone(launch("stats", named(), environment=environment)))
        raw = launch("stats", snapshot(), environment=environment)
        self.assertIn("have no lines: neither gdb nor addr2line could tell", self.assertDone(raw))

    def test_without_gdb(self) -> None:
        for words in (["stats", str(os.getpid())], ["stats", str(core())]):
            done = launch(*words, environment={"PATH": "/nowhere"})
            self.assertEqual((4, ""), (done.returncode, done.stdout))
            self.assertIn("gdb is not found", done.stderr.splitlines()[-1])
        self.assertRefused(launch("info", os.getpid(), "--gdb", "/bin/true"), 4, "gave no answer")


class Ends(LauncherTest):
    def test_a_closed_pipe_is_quiet(self) -> None:
        for words in (["stats", str(named())], ["stats", str(named()), "--json"], ["--help"]):
            reader, writer = os.pipe()
            os.close(reader)
            done = subprocess.run([str(LAUNCHER), *words], stdout=writer, stderr=subprocess.PIPE, timeout=LIMIT)
            os.close(writer)
            self.assertEqual((141, b""), (done.returncode, done.stderr))

    def test_output_that_cannot_be_written(self) -> None:
        with open("/dev/full", "w") as full:
            done = subprocess.run([str(LAUNCHER), "stats", str(named())], stdout=full, stderr=subprocess.PIPE,
                                  text=True, timeout=LIMIT)
        self.assertEqual((3, "tracemalloc stats: No space left on device\n"), (done.returncode, done.stderr))

    def test_an_interrupt_ends_gdb_too(self) -> None:
        directory = new_directory()
        slow = directory / "slow-gdb"
        slow.write_text(f"#!/bin/sh\ncd {directory}; echo $$ >pid.new; mv pid.new pid; exec sleep 60\n")
        slow.chmod(0o755)
        child = subprocess.Popen([str(LAUNCHER), "stats", str(os.getpid()), "--gdb", str(slow)], stderr=subprocess.PIPE)
        while not (directory / "pid").exists() and child.poll() is None:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=LIMIT)
        self.assertEqual((-signal.SIGINT, b""), (child.returncode, error))
        with self.assertRaises(ProcessLookupError):
            os.kill(int((directory / "pid").read_text()), 0)


class OnATerminal(LauncherTest):
    """With standard output and error on a terminal of 60 columns."""

    def shown(self, *words: str | Path | int, until: str = "", **variables: str) -> str:
        """What comes on the screen, until the command ends or that is on it: then Ctrl-C is sent."""
        environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        try:
            process, screen = pty.fork()
        except OSError as error:
            self.skipTest(f"no terminal can be had here: {error}")
        if process == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
                os.execve(LAUNCHER, [str(LAUNCHER), *map(str, words)], {**environment, **variables})
            finally:
                os._exit(127)
        watchdog = threading.Timer(LIMIT, os.kill, (process, signal.SIGKILL))
        watchdog.start()
        text = b""
        with contextlib.suppress(OSError):  # the terminal is gone
            while chunk := os.read(screen, 4096):
                text += chunk
                if until and until in text.decode():
                    os.write(screen, b"\x03")
                    until = ""
        watchdog.cancel()
        os.waitpid(process, 0)
        os.close(screen)
        return text.decode().replace("\r\n", "\n")

    def test_source_lines_end_where_the_terminal_does(self) -> None:
        directory = new_directory()
        source = directory / "wide.c"
        source.write_text(f"#include <stdlib.h>\nvoid *held; int main(void) {{ held = malloc(9); return 0; /* "
                          f"{'wide ' * 20}*/ }}\n")
        subprocess.run([*CC, "-g", "-o", str(directory / "wide"), str(source)], check=True)
        self.assertDone(launch("run", "-o", directory / "wide.snap", directory / "wide"))
        text = self.shown("stats", directory / "wide.snap")
        cut = [line for line in text.splitlines() if line.endswith("...")]
        self.assertEqual([59], [len(line) for line in cut], text)
        self.assertIn("wide */ }", launch("stats", directory / "wide.snap").stdout)

    def test_progress_comes_after_a_second_and_goes(self) -> None:
        directory = new_directory()
        slow = directory / "slow-gdb"
        slow.write_text("#!/bin/sh\nsleep 2\nexec gdb \"$@\"\n")
        slow.chmod(0o755)
        text = self.shown("info", core(), "--gdb", slow)
        self.assertRegex(text, r"\rtracemalloc: GDB has worked for \d s, Ctrl-C stops it\r +\rProgram: ")
        self.assertNotIn("Ctrl-C", launch("info", core(), "--gdb", slow).stderr)
        slow.write_text("#!/bin/sh\nexec sleep 60\n")
        text = self.shown("info", core(), "--gdb", slow, until="Ctrl-C stops it")
        self.assertRegex(text, r"\r +\r(\^C)?$|\^C\r +\r$")


class Gdb(LauncherTest):
    def test_a_program_a_core_and_a_process(self) -> None:
        commands = "break wait_for_input\nrun\ntm-stats\nshow environment LD_PRELOAD\n"
        text = launch("gdb", "-n", "3", "--", held(), "wait", stdin=None, input=commands).stdout
        self.assertIn("4321 B in 1 block", text)
        self.assertIn(f"LD_PRELOAD = {RUNTIME}", text)
        self.assertIn("4321 B in 1 block", launch("gdb", core(), stdin=None, input="tm-stats\n").stdout)
        self.assertIn("4321 B in 1 block", launch("gdb", self.start_held(), stdin=None, input="tm-stats\n").stdout)


class Installed(LauncherTest):
    def test_wherever_it_was_put(self) -> None:
        """Staged under DESTDIR and used there, through a symbolic link, from another directory."""
        root = new_directory()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        # Not install, which would make directories in the build tree as well.
        made = subprocess.run(["make", "-C", str(BUILD), "install-am", f"DESTDIR={root}"], env=environment,
                              timeout=LIMIT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(0, made.returncode, made.stdout)
        there, = (path for path in root.glob("**/bin/tracemalloc"))
        self.assertNotIn(str(BUILD), there.read_text())
        link = root / "link"
        link.symlink_to(there)
        self.assertDone(launch("run", "-o", root / "a.snap", held(), "exit", launcher=link, directory=Path("/")), 7)
        text = self.assertDone(launch("stats", root / "a.snap", launcher=link, directory=Path("/")))
        self.assertIn("4321 B in 1 block", text)


if __name__ == "__main__":
    unittest.main()
