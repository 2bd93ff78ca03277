"""driver.py: runs inside GDB: takes commands from a file, leaves what each of them printed in another."""

from __future__ import annotations

import json
import os
import traceback
from typing import Any

import gdb


def run(step: str | dict[str, str]) -> dict[str, Any]:
    """{"output", "error", "answer"} of one step: a GDB command, or {"python": source} that may set `answer`."""
    result: dict[str, Any] = {"output": "", "error": None, "answer": None}
    try:
        if isinstance(step, str):
            result["output"] = gdb.execute(step, to_string=True)
        else:
            names: dict[str, Any] = {"gdb": gdb}
            exec(step["python"], names)
            result["answer"] = names.get("answer")
    except gdb.error as error:
        result["error"] = str(error)
    except Exception:
        result["error"] = traceback.format_exc()
    return result


def main() -> None:
    with open(os.environ["TM_TEST_STEPS"]) as file:
        steps = json.load(file)
    results = [run(step) for step in steps]
    with open(os.environ["TM_TEST_RESULTS"], "w") as file:
        json.dump(results, file)


main()
