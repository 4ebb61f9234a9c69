"""The fleet alone: filling it, claims, statistics, what a worker costs that has nothing to do."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from cases import timed
from fleet_rig import FLEET, BenchFleet, lacks, postgres, sqs
from measure import Report, median, until

from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.records import JobOptions, Metrics

ITEMS = 100_000
ROWS = (1_000, 1_000_000)
CLAIMS = 300
IDLE = 60.0
"""Seconds for which an idle worker is watched: three long polls."""


def enqueue(report: Report, root: Path) -> None:
    """100,000 volumes from a file, into each kind of database."""
    fleet = BenchFleet(root / "e-sqlite", str(root / "e-sqlite/fleet"))
    fleet.create()
    report.add(f"fleet: enqueue {ITEMS:,}, SQLite", fleet.enqueue(ITEMS), 60, "s")
    if lacks():
        return
    with postgres() as server:
        fleet = BenchFleet(root / "e-postgres", server.database())
        fleet.create("--no-sqs")
        report.add(f"fleet: enqueue {ITEMS:,}, PostgreSQL", fleet.enqueue(ITEMS), 60, "s")
        with sqs() as queue:
            more = {**queue.env, "BEC_REGION": "us-east-1"}
            fleet = BenchFleet(root / "e-sqs", server.database(), more)
            fleet.create()
            took = fleet.enqueue(ITEMS)
            sent = queue.calls()["SendMessageBatch"]
            told = f"{sent} SendMessageBatch"
            report.add(f"fleet: enqueue {ITEMS:,}, PostgreSQL + SQS", took, 60, "s", told)


# -- many rows ---------------------------------------------------------------------------------

_FILL = """INSERT INTO task_executions (job_id, task_key, params, state, epoch, run, not_before,
    enqueued_at, started_at, done_at, total_images, nb_errors, total_duration_ms, metrics)
SELECT {job}, 'W' || (i / 100) || '/I' || i, '{{}}', {state}, 1, 1, {then}, {then}, {then}, {then},
    10, 1, 12.5, '{{"total_images": 10, "nb_errors": 1}}' FROM {numbers}"""

_OF_TEN = """CASE WHEN i %% 10 < 6 THEN 'done' WHEN i %% 10 = 6 THEN 'terminal_failed'
    ELSE 'pending' END"""


def fill(database: FleetDatabase, name: str, rows: int, state: str = _OF_TEN) -> int:
    """A job with so many tasks: by default 60 % done, 10 % failed, 30 % pending. Its number."""
    job = database.create_job(name, "{}", JobOptions(command="true")).id
    sql = database._sql
    if sql.dialect == "sqlite":
        numbers = (
            f"(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
            " SELECT i FROM n)"
        )
        then, state = "{now} - 100000 + (i * 7919 % 90000)", state.replace("%%", "%")
    else:
        numbers, then = f"generate_series(1, {rows}) AS i", "{now} - interval '1 day'"
    sql.change(_FILL.format(job=job, state=state, then=then, numbers=numbers))
    sql.change("ANALYZE")
    return job


def _databases(root: Path, name: str, act: Callable[[str, FleetDatabase], None]) -> None:
    with closing(open_database(str(root / name))) as database:
        database.migrate()
        act("SQLite", database)
    if lacks():
        return
    with postgres() as server, closing(open_database(server.database())) as database:
        database.migrate()
        act("PostgreSQL", database)


def stats(report: Report, root: Path) -> None:
    """`jobs stats` is exact: it counts a million rows. The shortest of three commands."""

    def act(kind: str, database: FleetDatabase) -> None:
        rows = ROWS[-1]
        fill(database, "j", rows)
        address = str(root / "stats") if kind == "SQLite" else database._sql._conninfo  # type: ignore[attr-defined]
        fleet = BenchFleet(root / f"stats-{kind}", address)
        fleet.root.mkdir()
        before = os.times()
        took = [fleet.call("jobs", "stats", "j") for _ in range(3)]
        after = os.times()
        spent = sum(after[2:4]) - sum(before[2:4])
        begun = time.perf_counter()
        database.views.totals(1)
        query = time.perf_counter() - begun
        name = f"fleet: jobs stats, {rows:,} rows, {kind}"
        told = f"the query {query:.2f} s; processor time of a command {spent / 3:.2f} s"
        report.add(name, min(took), 1, "s", told)

    _databases(root, "stats", act)


def claims(report: Report, root: Path) -> None:
    """Claim and finish, beside a job of 1,000 rows and beside one of 1,000,000."""

    def act(kind: str, database: FleetDatabase) -> None:
        took = []
        for rows in ROWS:
            job = fill(database, f"j{rows}", rows)
            worker = database.register(job, "bench")
            took.append(_claimed(database, job, worker))
        ratio = took[-1] / took[0]
        told = " · ".join(f"{each * 1000:.2f} ms" for each in took)
        report.add(f"fleet: claim + finish, 1,000,000 rows, of 1,000's, {kind}", ratio, 1.5, "×",
                   told)  # fmt: skip

    _databases(root, "claims", act)


def _claimed(database: FleetDatabase, job: int, worker: int) -> float:
    """The median of the seconds that one takes."""
    took = []
    for number in range(CLAIMS):
        begun = time.perf_counter()
        task = database.tasks.claim_next(job, worker, f"{job}-{number}", 300)
        assert task is not None and database.tasks.finish(task, Metrics())
        took.append(time.perf_counter() - begun)
    return median(took)


# -- a worker with nothing to do ---------------------------------------------------------------


def idle(report: Report, root: Path) -> None:
    """What it asks of SQS, which costs money, and its memory after a task."""
    if lacks():
        return
    with postgres() as server, sqs() as queue:
        more = {**queue.env, "BEC_REGION": "us-east-1"}
        fleet = BenchFleet(root / "idle", server.database(), more)
        fleet.create()
        fleet.enqueue(20)
        worker = fleet.worker(1, "--shutdown-after-empty", "0", end=False)
        try:
            with closing(open_database(fleet.address)) as database:
                until(lambda: _done(database) == 20, alive=worker, every=0.1, seconds=120)
            memory = _memory(worker.pid)
            before, begun = queue.calls(), time.perf_counter()
            until(lambda: time.perf_counter() > begun + IDLE, seconds=IDLE + 60, every=1.0)
            after = queue.calls()
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait()
    made = {name: count - before.get(name, 0) for name, count in after.items()}
    made = {name: count for name, count in made.items() if count}
    hourly = sum(made.values()) * 3600 / IDLE
    told = ", ".join(f"{count} {name}" for name, count in made.items())
    name = "fleet: an idle worker's calls to SQS an hour"
    # One poll more than whole ones may begin in the time that is watched.
    report.add(name, hourly, 180 + 3600 / IDLE, "", f"in {IDLE:.0f} s: {told}; 20 s each: 180")
    report.add("fleet: a worker's memory after 20 tasks, its forker too", memory, 110, "MB")


def _done(database: FleetDatabase) -> int:
    return sum(each.count for each in database.views.totals(1) if each.state.value == "done")


def _memory(pid: int) -> float:
    """MB of a process and its children: what is theirs, and their part of what is shared."""
    pids = [pid, *map(int, _children(pid))]
    total = 0
    for each in pids:
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total * 1024 / 1e6


def _children(pid: int) -> list[str]:
    found: list[str] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        found += Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    return found


def start_up(report: Report, root: Path) -> None:
    """Commands that look, with the embedded database, against a bare interpreter."""
    fleet = BenchFleet(root / "start", str(root / "start/fleet"))
    fleet.create()
    bare = [sys.executable, "-c", "pass"]
    env = {**fleet.env, "PYTHONDONTWRITEBYTECODE": ""}
    for bound, words in ((5, ["--version"]), (12, ["jobs", "list", "--json"]),
                         (16, ["jobs", "list"])):  # fmt: skip
        ratios = [timed([*FLEET, *words], env) / timed(bare, env) for _ in range(15)]
        report.add(f"runner-fleet {' '.join(words)}, of a bare python", median(ratios), bound, "×")


CASES: dict[str, Callable[[Report, Path], None]] = {
    "fleet-enqueue": enqueue,
    "fleet-stats": stats,
    "fleet-claims": claims,
    "fleet-idle": idle,
    "fleet-start": start_up,
}
