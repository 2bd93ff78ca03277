"""workload.py: what test_oracle traces: objects of all kinds and sizes, none of them garbage, from threads too."""

from __future__ import annotations

import array
import collections
import json
import re
import threading
import zlib


class Thing:
    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"thing {number}"


def work() -> dict[object, object]:
    kept: dict[object, object] = {}
    kept["ints"] = list(range(1000, 9000))
    kept["floats"] = [number / 7 for number in range(3000)]
    kept["things"] = [Thing(number) for number in range(2000)]
    kept["bytes"] = [bytes(number) for number in range(700)]
    kept["empty"] = [array.array("b") for _ in range(50)]
    kept["big"] = bytearray(5_000_000)
    kept["dicts"] = [{str(key): key for key in range(number % 40)} for number in range(300)]
    kept["json"] = json.loads(json.dumps([{"a": number, "b": [number] * 3} for number in range(1000)]))
    kept["pattern"] = re.compile("(a|b)*c{3,5}[^x-z]+")
    kept["deque"] = collections.deque(range(5000))
    kept["compressors"] = [zlib.compressobj() for _ in range(3)]
    kept["set"] = set(map(str, range(4000)))

    def part(number: int) -> None:
        kept[number] = [object() for _ in range(500)]

    threads = [threading.Thread(target=part, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    grown = []
    for number in range(10_000):
        grown.append(number)
        kept["grown"] = grown
    return kept
