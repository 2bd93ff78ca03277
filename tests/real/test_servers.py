"""nginx and redis under load: the same answers with the library as without; then, stopped, their heaps' books agree.

A test may call functions in the program; the commands never do.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import os
import signal
import socket
import subprocess
import threading
import time
import unittest
from pathlib import Path
from typing import Iterator, Mapping, Sequence

import tm
from programs import HERE, ProgramTest, find, need, plain, read_report, traced, witnessed
from support import SOURCE, compile_file, facts, gdb, new_directory, python

TIMEOUT = 120

NGINX = """
daemon off; worker_processes 2; pid nginx.pid; error_log stderr error; {user}
events {{ worker_connections 512; }}
http {{
    access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi; keepalive_timeout 300; client_header_timeout 300;
    gzip on; gzip_types *; gzip_min_length 100; default_type text/plain;
    upstream self {{ server unix:{socket}; keepalive 4; }}
    server {{
        listen unix:{socket}; root html;
        location /proxy/ {{ proxy_pass http://self/; proxy_http_version 1.1; proxy_set_header Connection ""; }}
        location ~ ^/rewritten/(.*)$ {{ rewrite ^/rewritten/(.*)$ /$1 last; }}
    }}
}}
"""
PATHS = ("/small", "/big", "/proxy/small", "/proxy/big", "/rewritten/small", "/missing", "/")

REDIS = """
set greeting hello
mset a 1 b 2 c 3
incrby a 41
append greeting " world"
get greeting
eval "for i = 1, 3000 do redis.call('hset', 'h' .. i % 40, 'f' .. i, string.rep('v', i % 90)) end return 1" 0
eval "for i = 1, 3000 do redis.call('zadd', 'z' .. i % 10, i, 'm' .. i) end return 1" 0
eval "for i = 1, 3000 do redis.call('rpush', 'l' .. i % 10, i) end return cjson.encode({1, 2, {x = 'y'}})" 0
eval "for i = 1, 3000 do redis.call('setrange', 's' .. i % 10, i * 10, 'data') end return 1" 0
xadd stream 1-1 field value
pfadd hyper a b c d e
pfcount hyper
zrange z3 0 5 withscores
sort l4 limit 0 5 desc
lrange l3 0 4
object encoding z3
debug digest
save
debug reload
debug digest
bgrewriteaof
nonsense
"""


@contextlib.contextmanager
def running(command: Sequence[str], directory: Path, environment: Mapping[str, str],
            ready: Path, program: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """The server while it runs, from when READY, its socket, takes connections."""
    with open(directory / "log", "wb") as log:
        server = subprocess.Popen(command, executable=program, cwd=directory, env=environment,
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                  start_new_session=True)
    try:
        wait_for_socket(ready, server, directory / "log")
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for_socket(path: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end and server.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            return
        time.sleep(0.05)
    raise AssertionError(f"the server does not answer: {log.read_text(errors='replace')[-3000:]}")


class OverUnix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(str(self._path))


Answer = tuple[str, int, str, str]


def ask(path: Path, rounds: int, answers: set[Answer]) -> None:
    for _ in range(rounds):
        connection = OverUnix(path)
        for target in PATHS * 3:
            for encoding in ("gzip", "identity"):
                connection.request("GET", target, headers={"Accept-Encoding": encoding})
                answer = connection.getresponse()
                body = hashlib.sha256(answer.read()).hexdigest()
                answers.add((target, answer.status, answer.getheader("Content-Encoding", ""), body))
        connection.close()


def nginx_answers(path: Path) -> set[Answer]:
    """What eight clients at once get; a set, for each of them must get the same."""
    answers: set[Answer] = set()
    clients = [threading.Thread(target=ask, args=(path, 6, answers)) for _ in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return answers


def waiting_clients(path: Path, count: int) -> list[socket.socket]:
    """Clients in the middle of their requests' headers."""
    clients = []
    for number in range(count):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        client.sendall(b"GET /small HTTP/1.1\r\nHost: localhost\r\nX-Number: %d\r\n" % number + b"X-More: and\r\n" * 5)
        clients.append(client)
    return clients


def await_idle(path: Path, workers: Sequence[int]) -> None:
    """Returns once the workers have accepted all clients of that socket, and wait with nothing left to read."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        if not waits_for_accept(path) and all(is_asleep(worker) for worker in workers):
            return
        time.sleep(0.05)
    raise AssertionError(f"the workers are still busy; clients wait to be accepted: {waits_for_accept(path)}")


def waits_for_accept(path: Path) -> bool:
    connecting = "02"
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(row[-1] == str(path) and row[5] == connecting for row in rows)


def is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("S")


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Stopped:
    """What the commands say of a process at one stop, and the functions that were called in it at that stop."""

    def __init__(self, pid: int, calls: Sequence[str] = (), values: Sequence[str] = ()) -> None:
        self.snapshot, core = new_directory() / "a.snap", new_directory() / "core"
        values_step = python(f"answer = [int(gdb.parse_and_eval(text)) for text in {list(values)!r}]")
        results = gdb(["tm-info", f"tm-snapshot save {self.snapshot}", *(f"call (void) {call}" for call in calls),
                       values_step, f"generate-core-file {core}", "detach"], "-p", str(pid))
        failed = [result.error for result in results if result.error]
        if failed:
            raise AssertionError(f"GDB cannot look at the server: {failed}")
        self.facts = facts(results[0].output)
        self.values: list[int] = results[-3].answer
        self.core_facts = facts(gdb(["tm-info"], f"/proc/{pid}/exe", str(core))[0].output)

    @property
    def bytes(self) -> int:
        return exact_bytes(self.facts["Current"])

    @property
    def count(self) -> int:
        return int(self.facts["Blocks"].replace(",", ""))


def exact_bytes(fact: str) -> int:
    """Of `861 KiB (881,898 B)` or `12 B`."""
    return int(fact.partition("(")[2].partition(" B")[0].replace(",", "") or fact.partition(" ")[0].replace(",", ""))


class ServerTest(ProgramTest):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        need("gdb")

    def assertReadersAgree(self, stopped: Stopped) -> None:
        """The live process, its core and its snapshot: the blocks and bytes of the same moment."""
        for fact in ("Blocks", "Current", "Lost", "Sites"):
            self.assertEqual(stopped.facts[fact], stopped.core_facts[fact])
        snapshot = tm.Snapshot.load(str(stopped.snapshot))
        self.assertEqual((stopped.count, stopped.bytes),
                         (len(snapshot.traces), sum(trace.size for trace in snapshot.traces)))
        self.assertEqual("0 blocks", stopped.facts["Lost"])


class Nginx(ServerTest):
    def serve(self, environment: Mapping[str, str]) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        nginx = find("nginx")
        self.directory = new_directory()
        (self.directory / "html").mkdir()
        (self.directory / "html" / "small").write_text("small\n" * 30)
        (self.directory / "html" / "big").write_text("".join(f"line {number}\n" for number in range(40_000)))
        (self.directory / "html" / "index.html").write_text("<p>index</p>\n" * 20)
        self.socket = self.directory / "nginx.sock"
        user = "user root;" if os.geteuid() == 0 else ""
        (self.directory / "nginx.conf").write_text(NGINX.format(user=user, socket=self.socket))
        return running([nginx, "-p", str(self.directory), "-c", "nginx.conf", "-e", "stderr"], self.directory,
                       environment, self.socket)

    def end(self, server: subprocess.Popen[bytes]) -> tuple[int, list[str]]:
        """The status, and what the log says without times and numbers of processes."""
        server.send_signal(signal.SIGQUIT)
        status = server.wait(TIMEOUT)
        log = (self.directory / "log").read_text().replace(str(self.directory), "")
        said = {line.partition("] ")[2].partition(" ")[2].partition(" ")[2] for line in log.splitlines()}
        return status, sorted(said)

    def serve_and_end(self, environment: Mapping[str, str]) -> tuple[set[Answer], int, list[str]]:
        with self.serve(environment) as server:
            return nginx_answers(self.socket), *self.end(server)

    def test_answers_are_the_same(self) -> None:
        expected = self.serve_and_end(plain())
        self.assertEqual(0, expected[1], expected)
        self.assertEqual(len(PATHS) * 2, len(expected[0]))
        self.assertEqual(expected, self.serve_and_end(traced()))

    def test_heaps_agree_with_mallinfo(self) -> None:
        reports = new_directory()
        with self.serve(witnessed(reports)) as server:
            nginx_answers(self.socket)
            clients = waiting_clients(self.socket, 100)
            workers = children_of(server.pid)
            self.assertEqual(2, len(workers))
            await_idle(self.socket, workers)
            most = 0
            for worker in workers:
                stopped = Stopped(worker, ["witness_report_now()"])
                report = read_report((reports / f"{worker}.now").read_text())
                self.assertReportIsClean(report)
                self.assertEqual((stopped.count, stopped.bytes), report.agreed)
                self.assertReadersAgree(stopped)
                most = max(most, report.agreed.blocks)
            self.assertGreaterEqual(most, 100)
            for client in clients:
                client.sendall(b"Connection: close\r\n\r\n")
                self.assertTrue(client.recv(20).startswith(b"HTTP/1.1 200 OK"))
                client.close()
            self.assertEqual(0, self.end(server)[0])
        self.assertEqual(5, len(self.assertAccounted(reports, "nginx", 100)))


@functools.lru_cache(maxsize=None)
def usable() -> Path:
    return compile_file(HERE / "usable.c", new_directory() / "usable.so", "-O2", "-fPIC", "-shared", "-I",
                        str(SOURCE / "runtime"))


class Redis(ServerTest):
    def serve(self, environment: Mapping[str, str]) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        need("redis-cli", "redis-benchmark")
        # One program under three names. Debian has the server's in a package that starts it with the machine.
        redis = find("redis-server", "redis-check-rdb")
        self.directory = new_directory()
        self.socket = self.directory / "redis.sock"
        return running(["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--save", "",
                        "--enable-debug-command", "yes", "--io-threads", "2"],
                       self.directory, environment, self.socket, redis)

    def ask(self, commands: str) -> str:
        return subprocess.run(["redis-cli", "-s", str(self.socket)], input=commands, text=True, check=True,
                              env=plain(), stdout=subprocess.PIPE, timeout=TIMEOUT).stdout

    def load(self) -> None:
        done = subprocess.run(["redis-benchmark", "-s", str(self.socket), "-c", "10", "-n", "1500", "-r", "1000",
                               "-d", "100", "--csv", "-P", "4", "-t",
                               "set,incr,lpush,rpop,sadd,hset,spop,zadd,zpopmin"],
                              env=plain(), text=True, capture_output=True, timeout=TIMEOUT)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertNotIn("rror", done.stdout)

    def serve_and_end(self, environment: Mapping[str, str]) -> tuple[str, int]:
        with self.serve(environment) as server:
            said = self.ask(REDIS)
            self.load()
            self.ask("shutdown nosave")
            return said, server.wait(TIMEOUT)

    def test_answers_are_the_same(self) -> None:
        expected = self.serve_and_end(plain())
        self.assertEqual(0, expected[1], expected)
        self.assertIn("hello world", expected[0])
        self.assertEqual(expected, self.serve_and_end(traced()))

    def test_sums_are_those_of_its_own_counting(self) -> None:
        """Byte by byte: each block that its z functions took, by the size its allocator (jemalloc's) gave it."""
        with self.serve({**traced(), "LD_PRELOAD": f"{traced()['LD_PRELOAD']} {usable()}"}) as server:
            self.ask(REDIS)
            self.load()
            own = "((unsigned long (*)(void)) zmalloc_used_memory)()"
            sums = [f"((unsigned long *) &usable_{name})[{at}]" for name in ("counted", "others") for at in range(3)]
            stopped = Stopped(server.pid, ["usable_sum()"], [own, *sums])
            used_memory, count, size, given, other_count, other_size, _ = stopped.values
            self.assertReadersAgree(stopped)
            self.assertEqual((stopped.count, stopped.bytes), (count + other_count, size + other_size))
            self.assertGreater(count, 5_000)
            self.assertEqual(used_memory, given)
            self.ask("shutdown nosave")
            self.assertEqual(0, server.wait(TIMEOUT))


if __name__ == "__main__":
    unittest.main()
