"""test_examples.py: every example of the README and of the manual is typed, and what is printed held against it.

    make check TESTS=tests/doc/test_examples.py     tests
    make examples-refresh                           writes what is printed now where a document shows something else
    test_examples.py --anew DOCUMENT...             writes it everywhere in these: all times and addresses of one run

document.py says how a block is marked that is not to be run, matching.py what may differ. An example sees what a user
would: the installed files, a terminal, an empty home. A document's examples run one after the other in one shell.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Iterator, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

from document import Block, Step, blocks, is_excerpt, patched  # noqa: E402
from matching import matches, refreshed, useful  # noqa: E402
from terminal import GDB_IS_READY, Stuck, Terminal  # noqa: E402

SOURCE = Path(os.environ.get("TM_TOP_SRCDIR", Path(__file__).resolve().parents[2])).resolve()
BUILD = Path(os.environ.get("TM_TOP_BUILDDIR", SOURCE)).resolve()
DOCUMENTS = [SOURCE / "README.md", *sorted((SOURCE / "doc").rglob("*.md"))]
TIMEOUT = 120

# Where documents say that things lie.
SHOWN_HOME = "/home/you"
SHOWN_PREFIX = "/usr/local"

# What keeps an example's output the same on all terminals, and whatever debug packages there are. The rest of GDB is
# as it comes.
_GDB = """#!/bin/sh
exec {gdb} -q -iex 'set editing off' -iex 'set prompt {mark}' -iex 'set confirm off' -iex 'set height 0' \\
    -iex 'set width 0' -iex 'set style enabled off' -iex 'set debuginfod enabled off' \\
    -iex 'set debug-file-directory /nonexistent' "$@"
"""


class Outcome(NamedTuple):
    """What came of a block's steps; `printed` has no more entries than were reached."""

    block: Block
    steps: list[Step]
    printed: list[list[str]]
    complaint: str  # empty: it is as the document says


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


class Place:
    """A machine as the documents take it for: everything installed, and a home to work in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.prefix = root / SHOWN_PREFIX.lstrip("/")
        self.tools = root / "tools"

    def make(self) -> None:
        """CalledProcessError says what did not install."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        subprocess.run(["make", "-s", "-C", str(BUILD), "install-am", f"DESTDIR={self.root}", f"prefix={SHOWN_PREFIX}"],
                       env=environment, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
        for description in self.prefix.rglob("tracemalloc.pc"):
            text = re.sub(r"(?m)^prefix=.*", f"prefix={self.prefix}", description.read_text())
            description.write_text(text)
        self.tools.mkdir()
        wrapper = self.tools / "gdb"
        wrapper.write_text(_GDB.format(gdb=shutil.which("gdb"), mark=GDB_IS_READY))
        wrapper.chmod(0o755)

    def new_home(self, document: str) -> None:
        """An empty one. The README's reader sits in the built tree."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        if document == "README.md":
            for name in ("tracemalloc", "examples/server"):
                (self.home / name).parent.mkdir(exist_ok=True)
                (self.home / name).symlink_to(BUILD / name)
        else:
            door = self.prefix / "share/tracemalloc/gdb/libtracemalloc-gdb.py"
            (self.home / ".gdbinit").write_text(f"source {door}\n")

    def environment(self) -> dict[str, str]:
        libraries = next(self.prefix.rglob("libtracemalloc.so")).parent
        dropped = ("LD_", "TRACEMALLOC", "TM_", "MAKE", "MFLAGS", "PYTHON", "COLUMNS", "LINES", "LANG", "LC_")
        return {**{name: value for name, value in os.environ.items() if not name.startswith(dropped)},
                "PATH": f"{self.tools}:{self.prefix}/bin:{os.environ['PATH']}", "HOME": str(self.home),
                "LD_LIBRARY_PATH": str(libraries), "PKG_CONFIG_PATH": f"{libraries}/pkgconfig", "TERM": "dumb",
                "NO_COLOR": "1", "SHELL": "/bin/sh", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}

    def real(self, text: str) -> str:
        return text.replace(SHOWN_HOME, str(self.home)).replace(SHOWN_PREFIX, str(self.prefix))

    def shown(self, text: str) -> str:
        for path, name in ((self.home, SHOWN_HOME), (self.prefix, SHOWN_PREFIX), (BUILD, SHOWN_HOME)):
            text = text.replace(str(path), name)
        return text


@functools.lru_cache(maxsize=None)
def place() -> Place:
    """Made once; gone when the tests are."""
    directory = tempfile.TemporaryDirectory(prefix="tm-examples-")
    unittest.addModuleCleanup(directory.cleanup)
    made = Place(Path(directory.name).resolve())
    made.make()
    return made


def outcomes(path: Path) -> Iterator[Outcome]:
    """What comes of a document's examples, block by block."""
    name = name_of(path)
    todo = list(blocks(path, name))
    if not todo:
        return
    where = place()
    where.new_home(name)
    with Terminal(where.home, where.environment(), TIMEOUT) as terminal:
        for block in todo:
            yield _outcome(block, where, terminal)


def why_not_run(block: Block, where: Place) -> str:
    """Empty if it is to be run."""
    if "not run" in block.directives:
        return block.directives["not run"]
    path = where.environment()["PATH"]
    needed = [] if "from" in block.directives else block.directives.get("needs", "").split()
    missing = [name for name in needed if not shutil.which(name, path=path)]
    return f"there is no {missing[0]} here" if missing else ""


def _outcome(block: Block, where: Place, terminal: Terminal) -> Outcome:
    if why_not_run(block, where):
        return Outcome(block, [], [], "")
    if block.is_session:
        return _session(block, where, terminal)
    return Outcome(block, [], [], _without_session(block, where))


def _without_session(block: Block, where: Place) -> str:
    """Does what a block says that is no session; returns what is wrong with it."""
    if "from" in block.directives:
        source = SOURCE / block.directives["from"]
        return "" if is_excerpt(block.lines, source.read_text()) else f"these lines are not in {source.name}"
    if "file" in block.directives:
        file = where.home / block.directives["file"]
        file.write_text("".join(f"{where.real(line)}\n" for line in block.lines))
        return ""
    if "patch" in block.directives:
        file = where.home / block.directives["patch"]
        try:
            file.write_text(patched(file.read_text(), block.lines))
        except ValueError as error:
            return f"{file.name}: {error}"
        return ""
    return "nothing runs this block: make it a session, or mark it with <!-- not run: why -->"


def _session(block: Block, where: Place, terminal: Terminal) -> Outcome:
    steps = block.steps()
    printed: list[list[str]] = []
    for step in steps:
        type_it = terminal.shell if step.prompt == "$" else terminal.gdb
        try:
            lines = [where.shown(line) for line in type_it(where.real(step.command))]
        except Stuck as error:
            return Outcome(block, steps, printed, str(error))
        printed.append(lines)
        if step.prompt == "(gdb)" and step.command not in ("quit", "kill") and not terminal.in_gdb:
            return Outcome(block, steps, printed, f"GDB ended at: {step.command}")
    wrong = [f"{step.typed[0]}\n  shown:\n{_indented(step.printed)}\n  printed:\n{_indented(useful(lines))}"
             for step, lines in zip(steps, printed) if not matches(step.printed, lines, "varies" in block.directives)]
    return Outcome(block, steps, printed, "\n".join(wrong))


def _indented(lines: list[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def refresh(path: Path, everywhere: bool) -> list[str]:
    """Writes what is printed now into the document where it shows something else, or everywhere. Returns what it could
    not mend."""
    lines = path.read_text().splitlines()
    left = []
    for outcome in reversed(list(outcomes(path))):
        block = outcome.block
        if _is_broken(outcome):
            left.append(f"{block.place}: something is broken:\n{outcome.complaint}")
        elif outcome.complaint and (len(outcome.printed) < len(outcome.steps) or not outcome.steps):
            left.append(f"{block.place}: {outcome.complaint}")
        elif outcome.steps and (outcome.complaint or everywhere):
            print(f"{block.place}: refreshed")
            lines[block.first:block.last] = _rewritten(outcome, everywhere)
    path.write_text("\n".join(lines) + "\n")
    return left


def _is_broken(outcome: Outcome) -> bool:
    """Whether what was printed is nothing that a document is to show."""
    words = ("Traceback (most recent call last)", "Undefined command:", "Python Exception", "command not found")
    printed = [line for lines in outcome.printed for line in lines]
    return bool(outcome.complaint) and any(word in line for line in printed for word in words)


def _rewritten(outcome: Outcome, everywhere: bool) -> list[str]:
    """The block's lines; a step whose output is as shown keeps it, unless all is to be new."""
    lines = []
    for step, printed in zip(outcome.steps, outcome.printed):
        lines += step.typed
        if not everywhere and matches(step.printed, printed, "varies" in outcome.block.directives):
            lines += step.printed
        else:
            lines += refreshed(step.printed, printed)
            lines += [""] if step.printed[-1:] == [""] else []
    return lines


class Examples(unittest.TestCase):
    """A test for each document is added below."""

    @classmethod
    def setUpClass(cls) -> None:
        for tool in ("gdb", "make", "bash", "cc"):
            if shutil.which(tool) is None:
                raise unittest.SkipTest(f"there is no {tool} here")

    def check(self, path: Path) -> None:
        run = 0
        for outcome in outcomes(path):
            reason = why_not_run(outcome.block, place())
            if reason:
                print(f"# {outcome.block.place}: not run: {reason}")
            else:
                run += 1
            with self.subTest(place=outcome.block.place):
                if outcome.complaint:
                    self.fail(f"{outcome.complaint}\nIf this is meant: make examples-refresh")
        print(f"# {name_of(path)}: {run} blocks run")


def _add_test(path: Path) -> None:
    name = re.sub(r"\W", "_", name_of(path)[:-len(".md")])
    setattr(Examples, f"test_{name}", lambda self: self.check(path))


for _path in DOCUMENTS:
    _add_test(_path)


def main(words: list[str]) -> int:
    """`--refresh [DOCUMENT...]`, `--anew [DOCUMENT...]`; the tests without either."""
    if words[:1] not in (["--refresh"], ["--anew"]):
        unittest.main()
    named = {str(Path(word).resolve()) for word in words[1:]}
    left = [complaint for path in DOCUMENTS if not named or str(path) in named
            for complaint in refresh(path, words[0] == "--anew")]
    print("".join(f"not refreshed: {complaint}\n" for complaint in left), end="")
    unittest.doModuleCleanups()
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
