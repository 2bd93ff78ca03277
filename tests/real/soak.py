"""soak.py: redis under mixed load for a long time: `make soak`. Looks at it from outside, prints a table and a verdict.

SOAK_SECONDS (600) is how long. The verdict asks for three things: the blocks sum up to what the counters say at every
look; no block is lost; the tracer's own memory, which follows the number of blocks and of sites, does not creep: the
most of the last quarter is no more than 2 % above the most of the second quarter, for its tables grow in pieces.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path
from typing import NamedTuple

from programs import find, need, plain, traced
from support import gdb, new_directory, python

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
_LOOKS = 40
_REST = 0.4  # seconds between rounds: it is a long test, not a race
_DRIFT = 1.02  # of the tracer's memory
_TESTS = ["set", "get", "incr", "lpush", "rpush", "lpop", "rpop", "sadd", "hset", "spop", "zadd", "zpopmin",
          "lrange_100", "mset", "ping"]
_COMMANDS = [
    "bgsave", "bgrewriteaof", "flushall async", "script flush", "memory purge", "client list", "latency reset",
    "eval \"for i = 1, 2000 do redis.call('hset', 'h' .. i % 50, i, string.rep('x', i % 300)) end return {NUMBER}\" 0",
    "eval \"for i = 1, 2000 do redis.call('zadd', 'z' .. i % 50, i, 'member' .. i) end return {NUMBER}\" 0",
    "eval \"local t = {} for i = 1, 3000 do t[i] = {i, tostring(i)} end return #cjson.encode(t) + {NUMBER}\" 0",
    "debug reload", "config rewrite", "object freq key", "unlink h1 h2 h3 z1 z2 z3", "config resetstat",
]
_LOOK = """
from tm.reader import Reader
reader = Reader()
counted, state = reader.tables.count_blocks(), reader.tables.state
answer = {"blocks": sum(counted.counts), "bytes": sum(size * n for size, n in zip(counted.sizes, counted.counts)),
          "counters": state.current, "tracer": state.arena_bytes, "sites": state.site_count,
          "nodes": state.node_count, "lost": state.lost, "inside": state.inside, "notes": list(reader.notes)}
"""


class Sample(NamedTuple):
    seconds: float
    rounds: int
    blocks: int
    bytes: int
    counters: int
    tracer: int
    sites: int
    nodes: int
    lost: int
    resident: int


class Load(threading.Thread):
    """Rounds of redis-benchmark, and commands that fork, flush and compile, until told to stop."""

    def __init__(self, socket: Path) -> None:
        super().__init__(daemon=True)
        self._socket = str(socket)
        self._random = random.Random(7)
        self._stopped = threading.Event()
        self.rounds = 0
        self.problem = ""

    def run(self) -> None:
        while not self._stopped.wait(_REST) and not self.problem:
            self._round()
            self.rounds += 1

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def _round(self) -> None:
        tests = ",".join(self._random.sample(_TESTS, 4))
        self._run(["redis-benchmark", "-s", self._socket, "-c", "10", "-n", "1500", "-r", "5000", "--csv", "-d",
                   str(self._random.choice([3, 30, 300, 3000])), "-P", str(self._random.choice([1, 8])), "-t", tests])
        command = self._random.choice(_COMMANDS).replace("{NUMBER}", str(self.rounds))
        self._run(["redis-cli", "-s", self._socket], command)

    def _run(self, command: list[str], text: str = "") -> None:
        done = subprocess.run(command, input=text, env=plain(), text=True, capture_output=True, timeout=300)
        if done.returncode and not self._stopped.is_set():
            self.problem = f"{command[0]}: status {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}"


def look(pid: int, since: float, rounds: int) -> Sample:
    """A stop at which no thread works on the tables: in one that does, a block may be counted and not yet entered."""
    for _ in range(20):
        result, = gdb([python(_LOOK)], "-p", str(pid))
        if result.error:
            raise SystemExit(f"soak: GDB cannot look at the server: {result.error}")
        facts = result.answer
        if facts["notes"]:
            raise SystemExit(f"soak: what was read is partial: {facts['notes']}")
        if not facts["inside"]:
            break
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    figures = {name: facts[name] for name in ("blocks", "bytes", "counters", "tracer", "sites", "nodes", "lost")}
    return Sample(time.monotonic() - since, rounds, **figures, resident=pages * os.sysconf("SC_PAGE_SIZE"))


def print_sample(sample: Sample) -> None:
    def kib(size: int) -> str:
        return f"{size / 1024:,.0f}"
    print(f"{sample.seconds:8.0f} {sample.rounds:7} {sample.blocks:10,} {kib(sample.bytes):>12} "
          f"{sample.bytes - sample.counters:7,} {kib(sample.tracer):>11} {sample.sites:7,} {sample.nodes:8,} "
          f"{sample.lost:5} {kib(sample.resident):>12}", flush=True)


def verdict(samples: list[Sample]) -> list[str]:
    """What is wrong; nothing if all is well."""
    problems = [f"at {sample.seconds:.0f} s the blocks sum up to {sample.bytes:,} B and the counters to "
                f"{sample.counters:,} B" for sample in samples if sample.bytes != sample.counters]
    if samples[-1].lost:
        problems.append(f"{samples[-1].lost:,} blocks were lost")
    quarter = len(samples) // 4
    if quarter == 0:
        return [*problems, "too short to say whether the tracer's memory is flat"]
    early = max(sample.tracer for sample in samples[quarter:2 * quarter])
    late = max(sample.tracer for sample in samples[-quarter:])
    if late > early * _DRIFT:
        problems.append(f"the tracer's memory creeps: {early:,} B in the second quarter, {late:,} B in the last")
    return problems


def soak(server: subprocess.Popen[bytes], load: Load) -> list[Sample]:
    """Until the time is up, or Ctrl-C."""
    print(f"{'seconds':>8} {'rounds':>7} {'blocks':>10} {'blocks KiB':>12} {'drift B':>7} {'tracer KiB':>11} "
          f"{'sites':>7} {'nodes':>8} {'lost':>5} {'resident KiB':>12}", flush=True)
    since = time.monotonic()
    samples: list[Sample] = []
    try:
        while time.monotonic() - since < SECONDS and not load.problem:
            time.sleep(SECONDS / _LOOKS)
            if server.poll() is not None:
                raise SystemExit(f"soak: the server ended with status {server.returncode}")
            samples.append(look(server.pid, since, load.rounds))
            print_sample(samples[-1])
    except KeyboardInterrupt:
        print("stopped early")
    return samples


def main() -> int:
    try:
        redis = find("redis-server", "redis-check-rdb")
        need("redis-cli", "redis-benchmark", "gdb")
    except unittest.SkipTest as missing:
        raise SystemExit(f"soak: {missing}") from None
    directory = new_directory()
    socket = directory / "redis.sock"
    (directory / "redis.conf").write_text(f"port 0\nunixsocket {socket}\nsave \"\"\nmaxmemory 48mb\n"
                                          "maxmemory-policy allkeys-lru\nenable-debug-command yes\n")
    with open(directory / "log", "wb") as log:
        server = subprocess.Popen(["redis-server", "redis.conf"], executable=redis, cwd=directory, env=traced(),
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                  start_new_session=True)
    try:
        while not socket.exists() and server.poll() is None:
            time.sleep(0.1)
        load = Load(socket)
        load.start()
        samples = soak(server, load)
        load.stop()
        problems = verdict(samples) if samples else ["there was no time for a look"]
        problems += [load.problem] if load.problem else []
        server.send_signal(signal.SIGTERM)
        if server.wait(60) != 0:
            problems.append(f"the server ended with status {server.returncode}")
    finally:
        if server.poll() is None:
            server.kill()
    for problem in problems:
        print(f"soak: {problem}")
    print(f"soak: {'FAILED' if problems else 'passed'}: {load.rounds:,} rounds, {len(samples)} looks")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
