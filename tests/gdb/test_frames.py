"""test_frames.py: how frames read: inlined functions, unloaded modules, signals, threads, files of one name."""

from __future__ import annotations

import os
import unittest

from support import (GdbTest, PROGRAMS, at_checkpoint, compile_file, gdb, line_of, new_directory, preload, program,
                     python, rows)


class FramesTest(GdbTest):

    def test_inlined_functions_have_frames_of_their_own(self) -> None:
        output = gdb([*preload(), *at_checkpoint(), "tm-traceback kept"], program("inlined", "-O2"))[-1].output
        self.assertEqual([line.split("  ")[1] for line in output.splitlines() if line.startswith("#")], [
            f"inner at inlined.h:{line_of('inlined.h', 'inner')}",
            f"outer at inlined.h:{line_of('inlined.h', 'outer')}",
            f"main at inlined.c:{line_of('inlined.c', 'main')}"])

    def test_files_of_one_name_stay_apart(self) -> None:
        directory = new_directory()
        objects = []
        for name in ("a", "b"):
            (directory / name).mkdir()
            source = directory / name / "util.c"
            source.write_text((PROGRAMS / f"same_{name}.c").read_text())
            objects.append(str(compile_file(source, directory / f"{name}.o", "-c")))
        linked = compile_file(PROGRAMS / "same.c", directory / "same", *objects)
        stats = gdb([*preload(), *at_checkpoint(), "tm-stats filename"], linked)[-1].output
        self.assertEqual(rows(stats), ["b/util.c: size=20 B, count=1, average=20 B",
                                       "a/util.c: size=10 B, count=1, average=10 B"])

    def test_a_source_that_changed_after_the_build_is_named(self) -> None:
        directory = new_directory()
        source = directory / "known.c"
        source.write_text((PROGRAMS / "known.c").read_text())
        built = compile_file(source, directory / "known", f"-I{PROGRAMS}")
        commands = [*preload(), *at_checkpoint(), "tm-stats", "tm-stats traceback"]
        self.assertNotIn("was changed after", "".join(result.output for result in gdb(commands, built)))
        os.utime(source, (built.stat().st_mtime + 10,) * 2)
        for result in gdb(commands, built)[-2:]:
            self.assertIn("Note: known.c was changed after known was built", result.output)

    def test_names_are_known_while_gdb_echoes_commands(self) -> None:
        known = program("known", "-g0")
        commands = [*preload(), *at_checkpoint(), "tm-stats function", "set trace-commands on", "tm-stats function"]
        plain, _, echoed = gdb(commands, known)[-3:]
        self.assertGreater(len(rows(plain.output)), 1)
        self.assertEqual(rows(plain.output), rows(echoed.output))

    def test_frames_of_an_unloaded_module(self) -> None:
        for strip in ((), ("-s",)):
            with self.subTest(strip=strip):
                directory = new_directory()
                for name in ("libplugin.so", "libother.so"):
                    compile_file(PROGRAMS / "plugin.c", directory / name, "-shared", "-fPIC", *strip)
                host = program("plugin_host", "-ldl")
                results = gdb([*preload(), "set width 0", *at_checkpoint(), "tm-traceback from_gone",
                               "tm-traceback from_other", "tm-stats filename", "tm-info"], host, directory=directory)
                self.assertWorked(results)
                gone, other, stats, info = (result.output for result in results[-4:])
                helper = r"\+0x" if strip else r"helper\+0x"
                self.assertRegex(gone, rf"#0  libplugin\.so\({helper}[0-9a-f]+\) \[unloaded\]\n"
                                       r"#1  libplugin\.so\(plugin_make\+0x[0-9a-f]+\) \[unloaded\]\n#2  use at ")
                self.assertNotIn("[unloaded]", other)
                self.assertRegex(other, r"#1  libother\.so\(plugin_make" if strip else r"#1  plugin_make at plugin\.c:")
                self.assertRegex(stats, r"\d  libplugin\.so: size=1111 B, count=1")
                self.assertRegex(info, r"Unloaded modules: +1\n")

    def test_a_frame_that_a_signal_interrupted(self) -> None:
        output = gdb([*preload(), "handle SIGSEGV nostop noprint pass", *at_checkpoint(), "tm-traceback kept"],
                     program("interrupted"))[-1].output
        frames = [line.split("  ")[1] for line in output.splitlines() if line.startswith("#")]
        self.assertEqual(frames, [f"handler at interrupted.c:{line_of('interrupted.c', 'handler')}",
                                  "<signal handler called>",
                                  f"fault at interrupted.c:{line_of('interrupted.c', 'fault')}",
                                  f"main at interrupted.c:{line_of('interrupted.c', 'main')}"])

    def test_without_line_information_frames_name_the_place(self) -> None:
        results = gdb([*preload(), *at_checkpoint(), "tm-stats", "tm-stats filename", python("""
import tm
answer = [[f.filename, f.lineno, f.function] for s in tm.take_snapshot().statistics('lineno') for f in s.traceback]
""")], program("known", "-g0"))
        self.assertRegex(rows(results[-3].output)[1], r"^known\(leak\+0x[0-9a-f]+\): size=")
        self.assertRegex(rows(results[-2].output)[0], r"^known: size=")
        filename, lineno, function = results[-1].answer[1]
        self.assertRegex(filename, r"^known\(leak\+0x[0-9a-f]+\)$")
        self.assertEqual((lineno, function), (0, "leak"))


class ThreadsTest(GdbTest):

    def test_eight_threads_sum_up_exactly(self) -> None:
        results = gdb([*preload(), *at_checkpoint(), python("""
import tm
snapshot = tm.take_snapshot()
kept = [s for s in snapshot.statistics('traceback') if s.traceback[-1].function == 'fill']
expected = [int(gdb.parse_and_eval(name)) for name in ('expected_blocks', 'expected_bytes')]
current, peak = tm.get_traced_memory()
others = sum(s.size for s in snapshot.statistics('lineno')) - sum(s.size for s in kept)
answer = [[sum(s.count for s in kept), sum(s.size for s in kept)], expected, current - others, peak >= current,
          len(kept), [[f.function for f in s.traceback] for s in kept]]
"""), "tm-traceback kept[5][1234]"], program("threads", "-pthread"))
        self.assertWorked(results)
        found, expected, current, is_peak_above, sites, functions = results[-2].answer
        self.assertEqual(found, expected)
        self.assertEqual(current, expected[1])
        self.assertTrue(is_peak_above)
        self.assertEqual((sites, functions), (1, [["thread_start", "fill"]]))
        self.assertIn(f"is the start of a {16 * 6 + 34}-byte block", results[-1].output)
        self.assertEqual(results[-1].output.count("\n#"), 2)


if __name__ == "__main__":
    unittest.main()
