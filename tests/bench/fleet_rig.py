"""What the benchmarks of the fleet share: its servers, each a process of its own, and its commands.

How many tasks: RUNNER_BENCH_TASKS (default 10,000); on a machine that does other work fewer tell
the same in less time.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import process, until

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

TASKS = int(os.environ.get("RUNNER_BENCH_TASKS", "10000"))
WORKERS = 6

FLEET = [sys.executable, "-c", "from runner.fleet.cli.main import main; main()"]

_SQS = """
import json, sys
from sqs_server import SqsServer
server = SqsServer()
print(json.dumps(server.env), flush=True)
for line in sys.stdin:
    counts = {}
    for seen in server.seen:
        counts[seen.operation] = counts.get(seen.operation, 0) + 1
    print(json.dumps(counts), flush=True)
"""


class SqsProcess:
    """The tests' SQS server as a process of its own. ``env``: how a client finds it."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        assert running.stdin is not None and running.stdout is not None
        self._ask, self._told = running.stdin, running.stdout
        self.pid = running.pid
        self.env: dict[str, str] = json.loads(self._told.readline())

    @property
    def url(self) -> str:
        return self.env["AWS_ENDPOINT_URL_SQS"]

    def calls(self) -> dict[str, int]:
        """How often it was called so far, by operation."""
        self._ask.write("?\n")
        self._ask.flush()
        found: dict[str, int] = json.loads(self._told.readline())
        return found


@contextmanager
def sqs() -> Iterator[SqsProcess]:
    command = [sys.executable, "-c", _SQS]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with process(command, text=True, env={**os.environ, "PYTHONPATH": str(TESTS)}, **pipes) as it:
        yield SqsProcess(it)  # type: ignore[arg-type]


@contextmanager
def postgres() -> Iterator[Any]:
    """A PostgresServer, with fsync on, as its defaults are."""
    from postgres_server import PostgresServer

    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()


def lacks(*programs: str) -> bool:
    """Whether this machine has no such servers; told then, and what needs them is left out."""
    from postgres_server import what_is_missing

    gone = [name for name in programs if shutil.which(name) is None]
    why = what_is_missing() or (f"{', '.join(gone)} is not installed" if gone else None)
    if why is not None:
        print(f"     left out: {why}", flush=True)
    return why is not None


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def redis(folder: Path) -> Iterator[int]:
    """Its port. As installed: its state is written now and then, not at each command."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    with process(command, stdout=subprocess.DEVNULL) as it:
        until(lambda: answers(port), alive=it)
        yield port


class MotoServer:
    """S3. ``calls`` counts the lines of its log: one a request."""

    def __init__(self, port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = log

    def calls(self) -> int:
        return sum(b" HTTP/1.1" in line for line in self._log.read_bytes().splitlines())

    def make_bucket(self, name: str) -> None:
        asked = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        urllib.request.urlopen(asked).close()


@contextmanager
def moto(folder: Path) -> Iterator[MotoServer]:
    port, log = free_port(), folder / "moto.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with open(log, "wb") as told, process(command, stdout=told, stderr=told, cwd=folder) as it:
        until(lambda: answers(port), alive=it)
        yield MotoServer(port, log)


@dataclass
class BenchFleet:
    """The fleet's commands with a database, a state folder and variables of their own."""

    root: Path
    address: str
    more: dict[str, str] = field(default_factory=dict)
    job: str = "j"

    @property
    def env(self) -> dict[str, str]:
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("RUNNER", "BEC", "AWS"))}
        own = {"RUNNER_FLEET": self.address, "HOME": str(self.root)}
        return {**ours, **own, "RUNNER_STATE_DIR": str(self.root / "state"), **self.more}

    def call(self, *words: str) -> float:
        """Seconds that a command takes."""
        begun = time.perf_counter()
        done = subprocess.run(
            [*FLEET, *words], env=self.env, cwd=self.root, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return time.perf_counter() - begun

    def create(self, *more: str, command: str = "true") -> None:
        """The database, and a job in it."""
        self.root.mkdir(exist_ok=True)
        self.call("migrate")
        results = [] if "--results" in more else ["--results", str(self.root / "results")]
        self.call("jobs", "create", "--name", self.job, "--command", command, *results, *more)

    def enqueue(self, count: int) -> float:
        """Seconds for so many new volumes, from a file."""
        file = self.root / "volumes.txt"
        file.write_text("".join(f"W{i // 100},I{i}\n" for i in range(count)))
        return self.call("queue", "enqueue", "--job-name", self.job, "--file", str(file))

    def worker(self, number: int, *more: str, end: bool = True) -> subprocess.Popen[bytes]:
        """Begin a worker; ``end``: it ends when nothing is left."""
        words = ["worker", "--job-name", self.job, "--state-dir", f"{self.root}/w{number}", *more]
        if end:
            words += ["--poll-wait", "1", "--shutdown-after-empty", "1"]
        return subprocess.Popen(
            [*FLEET, *words], env=self.env, cwd=self.root, stdout=subprocess.DEVNULL
        )

    def work(self, workers: int = WORKERS) -> float:
        """Seconds until so many workers have done all tasks, their start and end included."""
        return all_of(lambda number: self.worker(number), workers)


def all_of(start: Callable[[int], subprocess.Popen[bytes]], count: int) -> float:
    """Seconds until so many processes have ended well."""
    begun = time.perf_counter()
    running = [start(number) for number in range(count)]
    try:
        codes = [each.wait() for each in running]
    finally:
        for each in running:
            if each.poll() is None:
                each.kill()
                each.wait()
    assert not any(codes), codes
    return time.perf_counter() - begun
