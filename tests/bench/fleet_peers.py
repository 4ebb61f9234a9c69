"""6 workers on no-op tasks, beside the task queues that a user would pick instead, in one run.

The peers are installed into a folder of their own at the first time (``.bench/peers``). Each works
with one process a worker and one task at a time, acknowledges after the task (as the fleet does),
and starts a process for each task, as a job that is a command does; a second figure of each is a
call of a function that does nothing, which is all that the peers need to do. Printed for the page;
the bound is the slowest peer that starts processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fleet_rig import TASKS, WORKERS, BenchFleet, lacks, postgres, redis, sqs
from measure import Report, until

PACKAGES = ["procrastinate", "psycopg[binary]", "dramatiq[redis]", "celery[sqs]"]
PROGRAM = Path(__file__).with_name("fleet_peer.py")


def peers_python() -> Path:
    """The interpreter of an environment that has the peers, which is made if there is none."""
    made = Path(os.environ.get("RUNNER_BENCH_PEERS", ".bench/peers")).absolute()
    python = made / "bin/python"
    if not (made / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (made / "installed").touch()
    return python


class Peer:
    """One of them: its tasks are sent, then so many workers begin, and end when all are done."""

    def __init__(self, root: Path, name: str, env: dict[str, str]) -> None:
        self.root = root / name
        self.root.mkdir()
        self.name = name
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("AWS", "RUNNER"))}
        self.env = {**ours, **env, "PEER": name, "PEER_DONE": str(self.root / "done")}
        self._python = str(peers_python())

    def run(self, *words: str) -> None:
        subprocess.run(
            [self._python, str(PROGRAM), *words], env=self.env, cwd=self.root, check=True
        )

    def rate(self, kind: str) -> float:
        """Tasks a second, the start of the workers included, as is the fleet's."""
        self.run("prepare")
        self.run("send", kind, str(TASKS))
        done = Path(self.env["PEER_DONE"])
        done.write_bytes(b"")
        begun = time.perf_counter()
        workers = [self._worker() for _ in range(WORKERS)]
        try:
            until(lambda: done.stat().st_size >= TASKS, seconds=7200, every=0.05)
            return TASKS / (time.perf_counter() - begun)
        finally:
            for each in workers:
                each.terminate()
            for each in workers:
                try:
                    each.wait(20)
                except subprocess.TimeoutExpired:
                    each.kill()
                    each.wait()

    def _worker(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self._python, str(PROGRAM), "work"], env=self.env, cwd=self.root,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


@contextmanager
def _peers(root: Path) -> Iterator[list[Peer]]:
    with ExitStack() as stack:
        server = stack.enter_context(postgres())
        (root / "redis").mkdir()
        port = stack.enter_context(redis(root / "redis"))
        queue = stack.enter_context(sqs())
        yield [
            Peer(root, "procrastinate", {"PEER_URL": server.database()}),
            Peer(root, "dramatiq", {"PEER_URL": f"redis://127.0.0.1:{port}/0"}),
            Peer(root, "celery", {**queue.env, "PEER_URL": queue.url}),
        ]


def peers(report: Report, root: Path) -> None:
    """The fleet on its three kinds of database, then the peers."""
    if lacks("redis-server"):
        return
    try:
        peers_python()
    except subprocess.CalledProcessError:
        print("     left out: the peers can't be installed", flush=True)
        return
    ours = {}
    with postgres() as server, sqs() as queue:
        more = {**queue.env, "BEC_REGION": "us-east-1"}
        for kind, address, variables in (
            ("SQLite", str(root / "SQLite/fleet"), {}),
            ("PostgreSQL", server.database(), {}),
            ("PostgreSQL + SQS", server.database(), more),
        ):
            fleet = BenchFleet(root / kind.replace(" ", ""), address, variables)
            fleet.create(*([] if variables else ["--no-sqs"]))
            fleet.enqueue(TASKS)
            ours[kind] = TASKS / fleet.work()
            print(f"     fleet on {kind}: {ours[kind]:.1f} tasks/s", flush=True)
    slowest = float("inf")
    with _peers(root) as theirs:
        for peer in theirs:
            found = {kind: peer.rate(kind) for kind in ("command", "call")}
            slowest = min(slowest, found["command"])
            told = " · ".join(f"{kind} {rate:.1f}/s" for kind, rate in found.items())
            print(f"     {peer.name}: {told}", flush=True)
    told = f"{TASKS:,} tasks, {WORKERS} workers: " + ", ".join(
        f"{kind} {rate:.1f}/s" for kind, rate in ours.items()
    )
    # A task here has a state, logs, results, a marker; theirs is a process and its exit status.
    report.add("fleet: slowest peer's commands/s, of the fleet's", slowest / min(ours.values()), 10,
               "×", told)  # fmt: skip


CASES: dict[str, Callable[[Report, Path], None]] = {"fleet-peers": peers}
