"""test_pages.py: the manual pages against what they describe: GDB's commands, the header, the launcher's help."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(os.environ.get("TM_TOP_SRCDIR", Path(__file__).resolve().parents[2])).resolve()
BUILD = Path(os.environ.get("TM_TOP_BUILDDIR", SOURCE)).resolve()
DOC = SOURCE / "doc"
COMMANDS, LIBRARY, LAUNCHER = DOC / "tracemalloc-gdb.7", DOC / "libtracemalloc.3", DOC / "tracemalloc.1"
PAGES = [page for page in (COMMANDS, LIBRARY, LAUNCHER) if page.exists()]
HEADER = SOURCE / "runtime" / "tracemalloc.h"


# What GDB says of itself, for a file.
_ANSWERS = """
import json
answer = {command: gdb.execute(command, to_string=True) for command in ("complete tm", "help set tm", "help function")}
for name in answer["complete tm"].split():
    answer["help " + name] = gdb.execute("help " + name, to_string=True)
with open("answers.json", "w") as file:
    json.dump(answer, file)
"""


def requests(page: Path) -> list[str]:
    """The lines of a page that are not comments."""
    return [line for line in page.read_text().splitlines() if not line.startswith('.\\"')]


def plain(text: str) -> str:
    """mdoc without its escapes."""
    return text.replace("\\-", "-").replace("\\&", "")


class Form(unittest.TestCase):
    def assertSilent(self, *command: str) -> None:
        if shutil.which(command[0]) is None:
            self.skipTest(f"there is no {command[0]} here")
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        # Which other pages there are is the machine's.
        self.assertEqual([line for line in done.stdout.splitlines()
                          if "referenced manual not found" not in line and "outdated mandoc.db" not in line], [])

    def test_mandoc(self) -> None:
        for page in PAGES:
            self.assertSilent("mandoc", "-T", "lint", str(page))

    def test_groff(self) -> None:
        for page in PAGES:
            self.assertSilent("groff", "-ww", "-z", "-mandoc", "-T", "utf8", str(page))


class Markdown(unittest.TestCase):
    """The README and the documents below doc/."""

    documents = [SOURCE / "README.md", *DOC.rglob("*.md")]

    def test_links(self) -> None:
        for document in self.documents:
            text = re.sub(r"(?ms)^```.*?^```", "", document.read_text())
            for link in re.findall(r"\]\(([^)#\s]+)", text):
                with self.subTest(document=document.name, link=link):
                    self.assertTrue("://" in link or (document.parent / link).exists())

    def test_the_index_and_the_build_have_every_chapter(self) -> None:
        chapters = {path.name for path in (DOC / "manual").glob("*.md")}
        index = (DOC / "manual" / "index.md").read_text()
        self.assertEqual(set(re.findall(r"\]\(([\w-]+\.md)\)", index)), chapters - {"index.md"})
        listed = re.findall(r"doc/manual/([\w-]+\.md)", (DOC / "files.am").read_text())
        self.assertEqual(sorted(listed), sorted(chapters))


class Commands(unittest.TestCase):
    """tracemalloc-gdb(7): each name that GDB knows is in the page, and the other way round."""

    answers: dict[str, str]

    @classmethod
    def setUpClass(cls) -> None:
        if shutil.which("gdb") is None:
            raise unittest.SkipTest("there is no gdb here")
        with tempfile.TemporaryDirectory() as directory:
            script = Path(directory, "ask.py")
            script.write_text(_ANSWERS)
            subprocess.run(["gdb", "-nx", "-q", "-batch", "-iex", "set auto-load off",
                            "-x", str(SOURCE / "gdb" / "libtracemalloc-gdb.py"), "-x", str(script)],
                           cwd=directory, check=True, stdin=subprocess.DEVNULL)
            cls.answers = json.loads(Path(directory, "answers.json").read_text())

    def words(self, command: str, pattern: str) -> set[str]:
        return set(re.findall(pattern, self.answers[command], re.MULTILINE))

    def assertNamed(self, named: set[str], known: set[str]) -> None:
        self.assertTrue(known)
        self.assertEqual(named, known)

    def entries(self) -> dict[str, list[str]]:
        """The lines on each command, by its name."""
        entries: dict[str, list[str]] = {}
        name = ""
        for line in requests(COMMANDS):
            match = re.match(r"\.It Ic (tm(?:-[\w-]+)?)(?= |$)", line)
            name = match[1] if match else "" if re.match(r"\.Sh ", line) else name
            if name:
                entries.setdefault(name, []).append(line)
        return entries

    def test_commands(self) -> None:
        self.assertNamed(set(self.entries()), self.words("complete tm", r"^tm(?:-[\w-]+)?$"))

    def test_names_elsewhere(self) -> None:
        named = set(re.findall(r"(?<![\w-])tm-[a-z-]*[a-z]", plain("\n".join(requests(COMMANDS)))))
        self.assertEqual(named - self.words("complete tm", r"^tm(?:-[\w-]+)?$"), set())

    def test_options(self) -> None:
        entries = self.entries()
        for name, lines in entries.items():
            if name == "tm":  # its help shows how options are written
                continue
            with self.subTest(name):
                usage = self.answers[f"help {name}"]
                known = set(re.findall(r"(?<=[\[ ])-[a-z][a-z-]+(?=[] ])", usage.partition("Example")[0]))
                usages = {f"-{option}" for line in lines if line.startswith(f".It Ic {name}")
                          for option in re.findall(r"Fl ([\w-]+)", line)}
                explained = {f"-{option}" for line in lines for option in re.findall(r"^\.It Fl ([\w-]+)", line)}
                self.assertEqual(usages, known)
                self.assertEqual(explained, known)

    def test_settings(self) -> None:
        named = set(re.findall(r"^\.It Ic set (tm [\w-]+)", "\n".join(requests(COMMANDS)), re.MULTILINE))
        named = {setting.partition(" ")[2] for setting in named}
        self.assertNamed(named, self.words("help set tm", r"(?<=^set tm )[\w-]+"))

    def test_functions(self) -> None:
        named = {f"${name}" for name in re.findall(r"^\.It Fn \$(tm_\w+)", "\n".join(requests(COMMANDS)), re.MULTILINE)}
        known = {f"${name}" for name in self.words("help function", r"^function (tm_\w+)")}
        self.assertNamed(named, known)

    def test_machine_interface(self) -> None:
        """By the package's source: this GDB may be too old for them."""
        named = set(re.findall(r"(?<!\w)-tm-[\w-]*\w", plain("\n".join(requests(COMMANDS)))))
        known = {name for path in (SOURCE / "gdb" / "tm").rglob("*.py")
                 for name in re.findall(r'"(-tm-[\w-]+)"', path.read_text())}
        self.assertNamed(named, known)


class Library(unittest.TestCase):
    """libtracemalloc(3) against the header and the library's sources."""

    def test_prototypes(self) -> None:
        header = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
        known = {" ".join(prototype.split()) for prototype in re.findall(r"^TM_API ([^;{]+);", header, re.MULTILINE)}
        lines = requests(LIBRARY)
        synopsis = lines[lines.index(".Sh SYNOPSIS"):lines.index(".Sh DESCRIPTION")]
        named = set()
        for kind, function in zip(synopsis, synopsis[1:]):
            if kind.startswith(".Ft ") and function.startswith(".Fn "):
                name, *parameters = re.findall(r'"[^"]*"|\S+', function[len(".Fn "):])
                named.add(f"{kind[len('.Ft '):]} {name}({', '.join(word.strip(chr(34)) for word in parameters)})")
        self.assertTrue(known)
        self.assertEqual(named, known)

    def test_names_and_links(self) -> None:
        functions = set(re.findall(r"\b(tm_\w+)\(", re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)))
        lines = requests(LIBRARY)
        self.assertEqual({line.split()[1] for line in lines if line.startswith(".Nm tm_")}, functions)
        described = "\n".join(lines[lines.index(".Sh DESCRIPTION"):lines.index(".Sh ENVIRONMENT")])
        self.assertEqual(set(re.findall(r"Fn (tm_\w+)", described)), functions)
        links = re.search(r"(?m)^man_links = ((?:.*\\\n)*.*)", (SOURCE / "doc" / "files.am").read_text())
        assert links
        self.assertEqual(set(re.findall(r"doc/(tm_\w+)\.3", links[1])), functions)

    def test_environment(self) -> None:
        known = {name for path in (SOURCE / "runtime").glob("*.c")
                 for name in re.findall(r'"(TRACEMALLOC(?:_[A-Z]+)?)"', path.read_text())}
        named = set(re.findall(r"^\.It Ev (TRACEMALLOC\w*)", "\n".join(requests(LIBRARY)), re.MULTILINE))
        self.assertTrue(known)
        self.assertEqual(named, known)


class Launcher(unittest.TestCase):
    """tracemalloc(1) against the command's own help."""

    program = BUILD / "tracemalloc"

    @classmethod
    def setUpClass(cls) -> None:
        if not cls.program.exists():
            raise unittest.SkipTest("the command tracemalloc is not built")

    @classmethod
    @functools.lru_cache(maxsize=None)
    def help(cls, *words: str) -> str:
        return subprocess.run([cls.program, *words, "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout

    def commands(self) -> set[str]:
        listed = self.help().partition("commands:\n")[2].partition("\n\n")[0]
        return set(re.findall(r"^  ([a-z]+) ", listed, re.MULTILINE))

    def test_commands(self) -> None:
        lines = requests(LAUNCHER)
        described = lines[lines.index(".Sh DESCRIPTION"):lines.index(".Sh OPTIONS")]
        synopsis = lines[lines.index(".Sh SYNOPSIS"):lines.index(".Sh DESCRIPTION")]
        self.assertEqual({line.split()[2] for line in described if line.startswith(".It Cm ")}, self.commands())
        self.assertEqual({line.split()[1] for line in synopsis if line.startswith(".Cm ")}, self.commands())

    def test_options(self) -> None:
        known = {option for command in self.commands()
                 for option in re.findall(r"^ +(?:-\w[^,\n]*, )?(--[\w-]+)", self.help(command), re.MULTILINE)}
        short = {option for command in self.commands()
                 for option in re.findall(r"^ +(-\w)[ ,]", self.help(command), re.MULTILINE)}
        named = {f"-{option}" for line in requests(LAUNCHER) if line.startswith(".It Fl ")
                 for option in re.findall(r"Fl (-?[\w-]+)", line)}
        self.assertEqual(named, known - {"--help"} | short - {"-h"})

    def test_exit_statuses(self) -> None:
        listed = self.help().partition("exit status:\n")[2]
        lines = requests(LAUNCHER)
        statuses = lines[lines.index(".Sh EXIT STATUS"):lines.index(".Sh EXAMPLES")]
        self.assertEqual([line.split()[1] for line in statuses if line.startswith(".It ")],
                         re.findall(r"^  (\d+)", listed, re.MULTILINE))


if __name__ == "__main__":
    unittest.main()
