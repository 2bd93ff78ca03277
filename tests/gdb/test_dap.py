"""test_dap.py: in the console of an editor that debugs by DAP, `gdb -i=dap`, the commands work as they are."""

from __future__ import annotations

import json
import subprocess
import threading
import unittest
from typing import Any

from support import DOOR, GdbTest, RUNTIME, TIMEOUT, gdb, line_of, new_directory, program, python

HAS_DAP = python("import importlib.util\nanswer = importlib.util.find_spec('gdb.dap') is not None")


class Dap:
    """A GDB that is talked to by the Debug Adapter Protocol."""

    def __init__(self) -> None:
        self._gdb = subprocess.Popen(
            ["gdb", "-nx", "-q", "-i=dap", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off",
             "-iex", f"source {DOOR}"], cwd=new_directory(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL)
        self._watch = threading.Timer(TIMEOUT, self._gdb.kill)
        self._watch.start()
        self._number = 0

    def close(self) -> None:
        self._watch.cancel()
        self._gdb.kill()
        self._gdb.communicate()

    def send(self, command: str, **arguments: Any) -> int:
        self._number += 1
        text = json.dumps({"seq": self._number, "type": "request", "command": command, "arguments": arguments})
        assert self._gdb.stdin is not None
        self._gdb.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(text), text.encode()))
        self._gdb.stdin.flush()
        return self._number

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        number = self.send(command, **arguments)
        while True:
            message: dict[str, Any] = self._message()
            if message.get("request_seq") == number:
                return message

    def event(self, name: str) -> None:
        while self._message().get("event") != name:
            pass

    def say(self, text: str) -> str:
        """What the console answers."""
        answer = self.ask("evaluate", expression=text, context="repl")
        return str(answer["body"]["result"] if answer["success"] else answer["message"])

    def _message(self) -> Any:
        assert self._gdb.stdout is not None
        length = 0
        for line in self._gdb.stdout:
            if line.startswith(b"Content-Length:"):
                length = int(line.partition(b":")[2])
            elif not line.strip():
                return json.loads(self._gdb.stdout.read(length))
        raise AssertionError("GDB ended")


class DapTest(GdbTest):

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if not gdb([HAS_DAP])[0].answer:
            raise unittest.SkipTest("this GDB does not speak DAP")

    def test_the_console(self) -> None:
        dap = Dap()
        self.addCleanup(dap.close)
        dap.ask("initialize", adapterID="gdb")
        dap.event("initialized")
        launch = dap.send("launch", program=str(program("known")),
                          env={"LD_PRELOAD": str(RUNTIME), "TRACEMALLOC": "25"})
        self.assertGreater(launch, 0)
        self.assertIn("no process", dap.say("tm-stats"))
        dap.ask("setFunctionBreakpoints", breakpoints=[{"name": "checkpoint"}])
        dap.ask("configurationDone")
        dap.event("stopped")
        stats = dap.say("tm-stats lineno")
        self.assertIn("in 1,003 blocks from 5 lines\n", stats)
        self.assertIn(f"known.c:{line_of('known.c', 'grow')}: size=1024 KiB, count=1, average=1024 KiB\n", stats)
        self.assertIn("is the start of a 107-byte block", dap.say("tm-traceback leaks[7]"))
        self.assertEqual(dap.say("output $tm_count()"), "1003")
        self.assertIn("colour", dap.say("tm-stats colour"))
        watched = dap.ask("evaluate", expression="$tm_size(leaks[7])", context="watch")
        self.assertEqual(watched["body"]["result"], "107")


if __name__ == "__main__":
    unittest.main()
