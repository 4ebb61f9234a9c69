"""The measurements, one function each."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import RUNNER, Lab, Report, chain, floor, median, percentile, process, until

from runner.control.client import Client
from runner.core.states import QueueState
from runner.store import database
from runner.store.paths import QueuePaths


def dispatch(report: Report, root: Path) -> None:
    """A chain of no-op jobs against the durable floor, and what ten times as many cost."""
    floors, short, per_job = [], [], []
    for _ in range(3):
        lab = Lab(root)
        floors.append(floor(lab.root, 300))
        short.append(lab.run(lab.document(chain(1))))
        lab = Lab(root)
        per_job.append((lab.run(lab.document(chain(1000))) - median(short)) / 999)
        floors.append(floor(lab.root, 300))
    detail = f"{median(per_job) * 1e3:.2f} ms a job, floor {median(floors) * 1e3:.2f} ms"
    report.add("a chain of 1,000: cost a job", median(per_job) / median(floors), 2.0, "×", detail)
    gaps(report, root)
    lab = Lab(root)
    many = (lab.run(lab.document(chain(10_000))) - median(short)) / 9_999
    lab = Lab(root)
    per_job.append((lab.run(lab.document(chain(1000))) - median(short)) / 999)
    detail = f"{many * 1e3:.2f} ms a job"
    report.add("10,000 jobs: cost a job, of 1,000's", many / median(per_job), 1.2, "×", detail)


def gaps(report: Report, root: Path) -> None:
    """From a job's exit to the next one's start, against two commits of the same kind."""
    lab = Lab(root)
    lab.run(lab.document(chain(2000)))
    paths = QueuePaths(lab.state / "queues" / "bench")
    rows = sqlite3.connect(paths.database).execute("SELECT record FROM jobs ORDER BY idx")
    records = [json.loads(row[0]) for row in rows]
    found = [
        after["completed_at"] - after["duration"] - before["completed_at"]
        for before, after in itertools.pairwise(records)
    ]
    pairs = two_commits(Lab(root).root, 2000)
    ratio = percentile(found, 0.99) / percentile(pairs, 0.99)
    detail = (
        f"p50 {median(found) * 1e3:.2f} p99 {percentile(found, 0.99) * 1e3:.2f} ms; two commits "
        f"p50 {median(pairs) * 1e3:.2f} p99 {percentile(pairs, 0.99) * 1e3:.2f} ms"
    )
    report.add("exit of a job → start of the next, p99", ratio, 4.0, "×", detail)


def two_commits(folder: Path, count: int) -> list[float]:
    """Seconds for two commits of one job's record each."""
    from runner.core.states import PENDING

    paths = QueuePaths(folder / "q")
    database.create(paths, "{}", QueueState("run"), {})
    opened = database.Database(paths.database)
    found = []
    for index in range(count):
        begun = time.perf_counter()
        for _ in range(2):
            opened.commit(QueueState("run"), [(index, PENDING)], [], [])
        found.append(time.perf_counter() - begun)
    opened.close()
    return found


def large(report: Report, root: Path) -> None:
    """100,000 jobs: validated, started, and what it takes of memory."""
    lab = Lab(root)
    mark = lab.root / "started"
    document = lab.document(chain(100_000, f"date +%s.%N >> {mark}; exec sleep 60"))
    begun = time.perf_counter()
    subprocess.run([*RUNNER, "validate", str(document)], stdout=subprocess.DEVNULL, check=True)
    report.add("100,000 jobs: validated", time.perf_counter() - begun, 4.0, "s")
    begun = time.perf_counter()
    with process(lab.run_command(document), stdout=subprocess.DEVNULL, cwd=lab.root) as run:
        until(mark.exists, alive=run)
        report.add("100,000 jobs: first job after", time.perf_counter() - begun, 8.0, "s")
        time.sleep(3)  # reason: the first projection is part of the peak
        peak = int(_status(run.pid, "VmHWM")) / 1024
        report.add("100,000 jobs: peak memory", peak, 600, "MB")
        run.send_signal(signal.SIGINT)
        run.wait(60)


def restart(report: Report, root: Path) -> None:
    """A restart with 10,000 jobs done: how soon is the next one running?"""
    lab = Lab(root)
    mark = lab.root / "mark"
    jobs = chain(10_001)
    jobs[-1]["command"] = f"test -e {mark}.go && touch {mark} && exit 0; exec sleep 600"
    document = lab.document(jobs)
    with process(lab.run_command(document), stdout=subprocess.DEVNULL, cwd=lab.root) as run:
        last = lab.root / "logs/queues/bench/jobs/j10000-stdout.log"
        until(last.exists, 300, 0.05, alive=run)
        run.send_signal(signal.SIGINT)
        run.wait(60)
    Path(f"{mark}.go").touch()
    begun = time.perf_counter()
    with process(lab.run_command(document), stdout=subprocess.DEVNULL, cwd=lab.root) as run:
        until(mark.exists, alive=run)
        report.add("restart with 10,000 jobs done: next job", time.perf_counter() - begun, 1.0, "s")
        run.wait(60)


def asking(report: Report, root: Path) -> None:
    """Status of a queue of 10,000 jobs while they are dispatched."""
    times = []
    with _dispatching(root, 10_000) as client:
        until(lambda: client.ask("status", limit=0)["queue"]["counts"]["completed"] > 100)
        for _ in range(500):
            begun = time.perf_counter()
            client.ask("status", limit=0)
            times.append(time.perf_counter() - begun)
            time.sleep(0.01)  # reason: spreads the requests over several projections
    detail = f"p50 {median(times) * 1e3:.2f} ms"
    title = "status of 10,000 jobs while dispatching, p99"
    report.add(title, percentile(times, 0.99) * 1e3, 15, "ms", detail)


def crowd(report: Report, root: Path) -> None:
    """What a thousand clients cost; the queue is long enough to outlast them."""
    with _dispatching(root, 40_000) as client:
        until(lambda: client.ask("status", limit=0)["queue"]["counts"]["completed"] > 100)
        quiet = rate(client, 4.0)
        with Crowd(client.path, 1000, 10.0):
            crowded = rate(client, 8.0)
        quiet = (quiet + rate(client, 4.0)) / 2
    detail = f"{quiet:.0f} jobs/s alone, {crowded:.0f} with them"
    report.add("1,000 clients every 10 s cost", (1 - crowded / quiet) * 100, 10, "%", detail)


@contextmanager
def _dispatching(root: Path, count: int) -> Iterator[Client]:
    """A client of a run that works on a chain of so many jobs."""
    lab = Lab(root)
    command = lab.run_command(lab.document(chain(count)))
    with process(command, stdout=subprocess.DEVNULL, cwd=lab.root) as run:
        path = lab.state / "queues/bench/control.sock"
        until(path.exists, alive=run)
        with Client(path) as client:
            yield client
        run.send_signal(signal.SIGINT)
        run.wait(60)


def rate(client: Client, seconds: float) -> float:
    """Jobs completed a second."""
    first, begun = client.ask("status", limit=0), time.perf_counter()
    time.sleep(seconds)  # reason: a rate needs a span
    last, took = client.ask("status", limit=0), time.perf_counter() - begun
    done = [answer["queue"]["counts"]["completed"] for answer in (first, last)]
    return (done[1] - done[0]) / took


class Crowd:
    """So many clients, each of which asks every so many seconds, from one other process."""

    def __init__(self, path: Path, count: int, every: float) -> None:
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        code += f"import cases; cases.ask_for_ever({str(path)!r}, {count}, {every})"
        self._process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)

    def __enter__(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def ask_for_ever(path: str, count: int, every: float) -> None:
    """The body of a crowd; ends with its parent, or after two minutes."""
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    clients = []
    for _ in range(count):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(path)
        clients.append(client)
    print("ready", flush=True)
    threading.Timer(120, os._exit, (0,)).start()
    line = b'{"v":1,"request":"status","limit":0}\n'
    begun = time.monotonic()
    number = 0
    while True:
        client = clients[number % count]
        client.sendall(line)
        while not client.recv(65536).endswith(b"\n"):
            pass
        number += 1
        time.sleep(max(0.0, begun + number * every / count - time.monotonic()))  # reason: pace


def start_up(report: Report, root: Path) -> None:
    """The quick verbs against a bare interpreter."""
    lab = Lab(root)
    document = lab.document(chain(3))
    lab.run(document)
    bare = [sys.executable, "-c", "pass"]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    for name, bound, command in (
        ("--version", 2.5, [*RUNNER, "--version"]),
        ("validate", 10, [*RUNNER, "validate", str(document)]),
        ("status", 6, [*RUNNER, "status", "--state-dir", str(lab.state)]),
    ):
        ratios = []
        for _ in range(15):
            ratios.append(timed(command, env) / timed(bare, env))
        report.add(f"runner {name}, of a bare python", median(ratios), bound, "×")
    ratios = []
    for _ in range(9):
        once = Lab(root)
        command = [*RUNNER, "run", str(once.document(chain(1))), "--state-dir", str(once.state)]
        command += ["--log-dir", str(once.root / "logs")]
        ratios.append(timed(command, env) / timed(bare, env))
    report.add("runner run of one job, of a bare python", median(ratios), 18, "×")


def timed(command: list[str], env: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, env=env, check=True)
    return time.perf_counter() - begun


def idle(report: Report, root: Path) -> None:
    """A daemon with nothing to do: memory, processor, wake-ups."""
    lab = Lab(root)
    config = lab.root / "runner.toml"
    folders = "".join(f'{n}_dir = "{lab.root / n}"\n' for n in ("state", "log", "run"))
    config.write_text(('job_user = "root"\n' if os.geteuid() == 0 else "") + folders)
    # As on EC2 while its metadata service is down: asked every 5 s, wherever the bench runs.
    nobody = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"}
    env = {**os.environ, **nobody, "RUNNER_CONFIG": str(config)}
    with process([*RUNNER, "daemon"], env=env, stderr=subprocess.DEVNULL) as daemon:
        until((lab.root / "run/runner.sock").exists)
        time.sleep(1)  # reason: settled after its start
        before = usage(daemon.pid)
        time.sleep(10)  # reason: the span that is measured
        after = usage(daemon.pid)
        report.add("idle daemon: memory", int(_status(daemon.pid, "VmRSS")) / 1024, 45, "MB")
        # One tick of the kernel's clock is 0.1 %: no finer figure can be had.
        share = round((after[0] - before[0]) / 10 * 100, 3)
        report.add("idle daemon: processor", share, 0.1, "%")
        report.add("idle daemon: wake-ups in 10 s", after[1] - before[1], 0, "")


def usage(pid: int) -> tuple[float, int]:
    """Processor seconds used, and voluntary context switches."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK"), int(_status(pid, "voluntary_ctxt_switches"))


def _status(pid: int, name: str) -> str:
    for row in Path(f"/proc/{pid}/status").read_text().splitlines():
        if row.startswith(name + ":"):
            return row.split()[1]
    raise LookupError(name)


CASES: dict[str, Callable[[Report, Path], None]] = {
    "start_up": start_up,
    "idle": idle,
    "dispatch": dispatch,
    "asking": asking,
    "crowd": crowd,
    "large": large,
    "restart": restart,
}
