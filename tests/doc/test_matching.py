"""test_matching.py: the tests of the documents themselves can fail: what must match, and what must not."""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from document import Block, blocks, is_excerpt, patched  # noqa: E402
from matching import matches, refreshed  # noqa: E402

SHOWN = ["process 4711 (hits): 37.0 KiB in 3,206 blocks", "1  hits.c:42: size=30.6 KiB, count=3003, average=10 B"]


def read(text: str) -> list[Block]:
    with tempfile.NamedTemporaryFile("w", suffix=".md") as file:
        file.write(text)
        file.flush()
        return list(blocks(Path(file.name), "a.md"))


class Matching(unittest.TestCase):
    def assertMatches(self, shown: list[str], printed: list[str], varies: bool = False) -> None:
        self.assertTrue(matches(shown, printed, varies), (shown, printed))

    def assertDiffers(self, shown: list[str], printed: list[str], varies: bool = False) -> None:
        self.assertFalse(matches(shown, printed, varies), (shown, printed))

    def test_what_differs_from_run_to_run(self) -> None:
        self.assertMatches(SHOWN, ["process 12 (hits): 37.0 KiB in 3,206 blocks", SHOWN[1]])
        self.assertMatches(["0x5555abcd is in"], ["0x7fffffff1234 is in"])
        self.assertMatches(["a.snap (15:36:59) -> b, 14 s later"], ["a.snap (01:02:03) -> b, 1 min 2 s later"])
        self.assertMatches(["saved a.snap; the file has 9876 B"], ["saved a.snap; the file has 12.5 KiB"])
        self.assertMatches(["[Thread debugging using libthread_db enabled]", "a", ""], ["[New Thread 0x7f 12]", "a"])

    def test_figures_words_and_lines_count(self) -> None:
        self.assertDiffers(SHOWN, [SHOWN[0].replace("3,206", "3,207"), SHOWN[1]])
        self.assertDiffers(SHOWN, [SHOWN[0], SHOWN[1].replace(":42", ":43")])
        self.assertDiffers(SHOWN, [SHOWN[0], SHOWN[1].replace("count", "blocks")])
        self.assertDiffers(SHOWN, SHOWN[:1])
        self.assertDiffers(SHOWN[:1], SHOWN)
        self.assertDiffers([], SHOWN)
        self.assertDiffers(SHOWN, [])
        self.assertDiffers(SHOWN, SHOWN[::-1])

    def test_where_numbers_vary_the_form_counts(self) -> None:
        other = ["process 1 (hits): 9 B in 3 blocks", "1  hits.c:42: size=700 B, count=3, average=1.5 KiB"]
        self.assertMatches(SHOWN, other, varies=True)
        self.assertDiffers(SHOWN, other)
        self.assertDiffers(SHOWN, [other[0], other[1].replace(":42", ":43")], varies=True)
        self.assertDiffers(SHOWN, [other[0], other[1].replace("700 B", "many")], varies=True)
        self.assertDiffers(SHOWN, [other[0], other[1].replace("count=", "n=")], varies=True)

    def test_what_is_left_out(self) -> None:
        for shown in ("a…", "…d", "a…d", "…", "a…b…d", "abcd…"):
            self.assertMatches(list(shown), list("abcd"))
        for shown in ("b…", "…c", "a…x…d", "a…cb…", "ab…b"):
            self.assertDiffers(list(shown), list("abcd"))
        self.assertMatches(["process 3 is … tracing"], ["process 4 is by no means tracing"])
        self.assertDiffers(["process 3 is … tracing"], ["process 4 is by no means alive"])

    def test_refreshed_keeps_what_is_left_out(self) -> None:
        self.assertEqual(refreshed(["x", "…"], ["a", "b", "c"]), ["a", "…"])
        self.assertEqual(refreshed(["x", "…", "y"], ["a", "b", "c"]), ["a", "…", "c"])
        self.assertEqual(refreshed(["x", "…", "y"], ["a", "c"]), ["a", "c"])
        self.assertEqual(refreshed(["x"], ["", "a", "", "b", ""]), ["a", "", "b"])
        self.assertEqual(refreshed(["x"], [""]), [])
        self.assertEqual(refreshed(["at … in", "x"], ["at 3 in", "b"]), ["at … in", "b"])


class Documents(unittest.TestCase):
    def test_steps(self) -> None:
        block, = read("text\n\n```\n$ cat <<.\n> x\n> .\nx\n(gdb) p 1\n$1 = 1\n```\n")
        self.assertTrue(block.is_session)
        self.assertEqual([(step.prompt, step.command, step.printed) for step in block.steps()],
                         [("$", "cat <<.\nx\n.", ["x"]), ("(gdb)", "p 1", ["$1 = 1"])])

    def test_directives(self) -> None:
        block, = read("<!-- needs: sqlite3 -->\n<!-- varies: by its version -->\n```sh\n$ x\n```\n")
        self.assertEqual(block.directives, {"needs": "sqlite3", "varies": "by its version"})
        self.assertEqual((block.first, block.last, block.language, block.place), (3, 4, "sh", "a.md:3"))

    def test_what_a_document_must_not_have(self) -> None:
        for text, word in [("```\nx\n", "does not end"), ("<!-- norun: x -->\n```\nx\n```\n", "unknown norun"),
                           ("  ```\n  x\n  ```\n", "do not read"), ("```c++ x\ny\n```\n", "do not read"),
                           ("text\n\n    -tm-stats\n    ^done\n", "want of a fence"),
                           ("\t$ ls\n", "want of a fence"), ("    (gdb) p 1\n", "want of a fence")]:
            with self.assertRaisesRegex(ValueError, word):
                read(text)
        block, = read("```\nx\n$ y\n```\n")
        with self.assertRaisesRegex(ValueError, "output before"):
            block.steps()

    def test_patches(self) -> None:
        self.assertEqual(patched("a\nb\nc\n", [" a", "-b", "+x", "+y"]), "a\nx\ny\nc\n")
        for text in ("a\nc\n", "a\nb\na\nb\n"):
            with self.assertRaises(ValueError):
                patched(text, [" a", "-b", "+x"])

    def test_excerpts(self) -> None:
        text = "int f(void)\n{\n    return 1;\n}\n"
        self.assertTrue(is_excerpt(["{", "return 1;", "}"], text))
        self.assertTrue(is_excerpt(["int f(void)", "…", "}"], text))
        self.assertFalse(is_excerpt(["{", "}"], text))
        self.assertFalse(is_excerpt(["}", "…", "{"], text))
        self.assertFalse(is_excerpt(["return 2;"], text))


if __name__ == "__main__":
    unittest.main()
