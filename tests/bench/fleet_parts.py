"""A fleet of 6 workers on no-op tasks beside each of its parts alone, in one run.

The parts: the database with the same statements (pgbench), the SQS server with a receive and a
delete a task, the S3 server with as many calls as a task makes, and ``runner run`` with a queue of
one job and results. The fleet is to do half of what the slowest part can do.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import fleet_rig
from fleet_rig import TASKS, WORKERS, BenchFleet, all_of, lacks, postgres, sqs
from measure import Lab, Report, chain

from runner.fleet.connection import POSTGRESQL, Row
from runner.fleet.database import open_database
from runner.fleet.records import JobOptions, Metrics, TaskItem

PART = Path(__file__).with_name("fleet_part.py")
SECONDS = 10.0
SENTINEL = 123_456_789

AGAIN = """import subprocess, sys
for _ in range({0}):
    subprocess.run([*sys.argv[1:], "--fresh"], check=True, stdout=subprocess.DEVNULL)
"""


def statements(address: str) -> str:
    """What a worker asks the database for each task, as a script for pgbench."""
    import psycopg

    with closing(open_database(address)) as database:
        job = database.job("j")
        worker = database.register(job.id, "pgbench")
        asked: list[tuple[str, Mapping[str, Any]]] = []
        sql = database._sql
        query, change = sql.query, sql.change

        def noted_query(text: str, values: Mapping[str, Any] = {}) -> list[Row]:
            asked.append((text, values))
            return query(text, values)

        def noted_change(text: str, values: Mapping[str, Any] = {}) -> int:
            asked.append((text, values))
            return change(text, values)

        sql.query, sql.change = noted_query, noted_change  # type: ignore[method-assign]
        task = database.tasks.claim_next(job.id, worker, "pgbench", 300)
        assert task is not None
        database.job("j")
        assert database.tasks.finish(task, Metrics(duration_ms=1.0))
    lines = []
    with psycopg.connect(address) as connection:
        cursor = psycopg.ClientCursor(connection)
        for text, values in asked:
            named = {k: SENTINEL if k in ("task", "id") else v for k, v in values.items()}
            written = " ".join(cursor.mogrify(POSTGRESQL.written(text), named).split())
            written = written.replace(str(SENTINEL), ":id")
            lines.append(written + (" \\gset" if "RETURNING id" in written else ";"))
    return "\n".join(lines)


def _pgbench(server: Any, address: str, folder: Path) -> float:
    """Tasks a second of the database alone."""
    script = folder / "claims.sql"
    script.write_text(statements(address))
    told = subprocess.run(
        ["pgbench", "-n", "-c", str(WORKERS), "-T", f"{SECONDS:.0f}", "-f", str(script), address],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found = re.search(r"tps = ([0-9.]+)", told)
    assert found is not None and "failed" not in told.split("number of failed")[0], told
    return float(found[1])


def _filled(address: str, rows: int) -> None:
    with closing(open_database(address)) as database:
        database.migrate()
        job = database.create_job("j", "{}", JobOptions(command="true"))
        database.tasks.enqueue(job.id, [TaskItem.volume("W", f"I{i}") for i in range(rows)])


def _clients(kind: str, env: Mapping[str, str], *words: str) -> float:
    """Rounds a second of 6 processes that do one kind of call for a while."""
    command = [sys.executable, str(PART), kind, str(SECONDS), *words]
    running = [
        subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    rates = []
    for each in running:
        told, _ = each.communicate()
        assert each.returncode == 0
        rates.append(float(told))
    return sum(rates)


def database(report: Report, root: Path) -> None:
    """6 workers' claims and finishes, beside pgbench's of the same statements."""
    if lacks("pgbench"):
        return
    with postgres() as server:
        address = server.database()
        _filled(address, 200_000)
        alone = _pgbench(server, address, root)
        ours = _clients("claims", {}, address)
    report.add("fleet: claim + finish, the database alone, of the fleet's", alone / ours, 2, "×",
               f"pgbench {alone:.0f}/s, 6 processes of ours {ours:.0f}/s")  # fmt: skip


def _queue_alone() -> float:
    with sqs() as queue:
        return _clients("sqs", queue.env)


def _s3_env(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "AKIATESTS",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _run_alone(root: Path) -> tuple[float, float]:
    """Queues of one job a second, six at once; jobs a second of one queue of many jobs."""
    labs = [Lab(root) for _ in range(WORKERS)]
    each = max(5, min(TASKS, 300) // WORKERS)
    code = AGAIN.format(each)
    took = all_of(
        lambda number: subprocess.Popen(
            [sys.executable, "-c", code, *labs[number].run_command(
                labs[number].document(chain(1)))],
            cwd=labs[number].root,
        ),
        WORKERS,
    )  # fmt: skip
    lab, jobs = Lab(root), min(TASKS, 1000)
    return each * WORKERS / took, jobs / lab.run(lab.document(chain(jobs)))


def parts(report: Report, root: Path) -> None:
    """The whole on PostgreSQL, SQS and S3, and what the slowest of its parts can do."""
    if lacks("pgbench"):
        return
    found: dict[str, float] = {}
    with postgres() as server, sqs() as queue, fleet_rig.moto(root) as s3:
        address = server.database()
        _filled(address, 100_000)
        found["database"] = _pgbench(server, address, root)
        found["SQS server"] = _queue_alone()
        env = {**queue.env, **_s3_env(s3.url), "BEC_REGION": "us-east-1"}
        s3.make_bucket("bench")
        fleet = BenchFleet(root / "parts", server.database(), env)
        fleet.create("--results", "s3://bench/j")
        fleet.enqueue(TASKS)
        before = s3.calls()
        whole = TASKS / fleet.work()
        calls = (s3.calls() - before) / TASKS
        found["S3 server"] = _clients("s3", _s3_env(s3.url)) / calls
        print(f"     the fleet {whole:.1f}/s, parts alone {found}", flush=True)
    found["runner run"], jobs = _run_alone(root)
    slowest = min(found, key=lambda name: found[name])
    told = ", ".join(f"{name} {rate:.1f}/s" for name, rate in found.items())
    more = f"the fleet {whole:.1f}/s; S3 calls a task {calls:.1f}; a chain's jobs {jobs:.0f}/s"
    report.add(f"fleet: the slowest part alone ({slowest}), of the fleet", found[slowest] / whole,
               2, "×", f"{told}; {more}")  # fmt: skip


CASES: dict[str, Callable[[Report, Path], None]] = {
    "fleet-database": database,
    "fleet-parts": parts,
}
