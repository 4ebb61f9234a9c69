"""The Executor on a fleet whose workers, programs, databases and stores come to grief."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from executor_targets import until
from postgres_server import PostgresServer
from s3_endpoint import Endpoint

from runner import Executor, JobError, PayloadError
from runner.fleet.connection import Row
from runner.fleet.database import open_database
from runner.fleet.sqlite_connection import SqliteConnection

pytestmark = pytest.mark.share

PATIENCE = 120
WORKER = [sys.executable, "-c", "from runner.fleet.cli.main import main; main()", "worker"]


class Workers:
    """Workers elsewhere: processes that no Executor has started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "workers.log"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, database: str, job: str, *flags: str, lease: int = 3) -> None:
        words = ["--job-name", job, "--database", database, "--poll-wait", "0.5"]
        words += ["--visibility-timeout", str(lease), *flags]
        words += ["--state-dir", str(self._folder / f"state-{len(self.processes)}")]
        with open(self._log, "ab") as log:
            self.processes.append(subprocess.Popen([*WORKER, *words], stdout=log, stderr=log))

    def close(self) -> None:
        for each in self.processes:
            each.terminate()
        for each in self.processes:
            each.wait(60)
        assert not self._log.exists() or "Traceback" not in self._log.read_text()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path)
    yield made
    made.close()


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def note(path: Path, wait_for: Path | None) -> str:
    """Say that it ran; the first one waits for a file."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    while wait_for is not None and not wait_for.exists():
        time.sleep(0.02)
    return f"run {len(path.read_text().splitlines())}"


def test_a_killed_workers_call_is_made_by_another(tmp_path: Path, workers: Workers) -> None:
    """A spot machine that goes would take calls with it, or have two of them count."""
    database, ran, go = str(tmp_path / "fleet"), tmp_path / "ran", tmp_path / "go"
    modules = [sys.modules[__name__]]
    with Executor(target="fleet", database=database, job="j", modules=modules) as ex:
        call = ex.submit(note, ran, go)
        workers.start(database, "j", "--shutdown-after-empty", "0")
        until(lambda: lines(ran) == 1, PATIENCE)
        until(call.running, PATIENCE)
        workers.processes[0].send_signal(signal.SIGKILL)
        workers.processes[0].wait()
        workers.start(database, "j", "--shutdown-after-empty", "0")
        until(lambda: lines(ran) == 2, PATIENCE)
        assert not call.done()
        go.touch()
        assert call.result(PATIENCE) == "run 2" and lines(ran) == 2
    opened = open_database(database)
    task = opened.tasks.named(opened.job("j").id, call.job_id)
    opened.close()
    assert task is not None and task.epoch == 2


SESSION = """
    import sys, time
    from pathlib import Path
    from runner import Executor
    database, ran, go = sys.argv[1:]

    def note(wait_for):
        with open(ran, "a") as file:
            file.write("ran\\n")
        while not Path(wait_for).exists():
            time.sleep(0.02)
        return "done"

    ex = Executor(target="fleet", database=database, job="j")
    calls = [ex.submit(note, go) for _ in range(3)]
    print(*(each.job_id for each in calls), flush=True)
    time.sleep(600)
"""


def test_a_killed_programs_calls_go_on_once(tmp_path: Path, workers: Workers) -> None:
    """kill -9 of a notebook would end its work, or another session would do it again."""
    database, ran, go = str(tmp_path / "fleet"), tmp_path / "ran", tmp_path / "go"
    program = [sys.executable, "-c", textwrap.dedent(SESSION), database, str(ran), str(go)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            ids = process.stdout.readline().split()
            opened = open_database(database)
            job = opened.job("j").id
            until(lambda: opened.views.backlog(job).due == 3, PATIENCE)
            workers.start(database, "j", "--shutdown-after-empty", "2", lease=60)
            until(lambda: lines(ran) == 1, PATIENCE)
        finally:
            process.kill()
    with Executor(target="fleet", database=database, job="j") as ex:
        calls = [ex.attach(each) for each in ids]
        until(calls[0].running, PATIENCE)
        assert calls[2].status() == "pending"
        go.touch()
        assert [each.result(PATIENCE) for each in calls] == ["done"] * 3
    assert lines(ran) == 3
    assert workers.processes[0].wait(PATIENCE) == 0  # nothing is left: it ends by itself
    opened.close()


def test_workers_of_ones_own_are_replaced_and_end_with_their_program(tmp_path: Path) -> None:
    """A worker that is killed would leave an Executor without one; a program, workers behind."""
    database = str(tmp_path / "fleet")
    program = textwrap.dedent("""
        import os, sys, time
        from runner import Executor
        ex = Executor(target="fleet", database=sys.argv[1], job="j", workers=2)
        print(ex.submit(os.getppid).job_id, flush=True)
        time.sleep(600)
    """)

    with subprocess.Popen(
        [sys.executable, "-c", program, database],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            process.stdout.readline()
            opened = open_database(database)
            job = opened.job("j").id
            until(lambda: len(opened.workers(job)) == 2, PATIENCE)
            os.kill(opened.workers(job)[0].pid, signal.SIGKILL)
            until(lambda: len(opened.workers(job)) == 3, PATIENCE)
        finally:
            process.kill()
    until(lambda: all(not _lives(each.pid) for each in opened.workers(job)), PATIENCE)
    stopped = [each.stopped_at is not None for each in opened.workers(job)]
    assert stopped == [False, True, True]
    opened.close()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_database_that_goes_down_and_comes_back(postgres: PostgresServer, tmp_path: Path) -> None:
    """A restart of the database would fail all Futures, or lose what was being submitted."""
    url = postgres.database()
    opened = open_database(url)
    opened.migrate()
    opened.close()
    results = tmp_path / "results"
    with Executor(target="fleet", database=url, job="j", results=results, workers=2) as ex:
        before = [ex.submit(pow, 2, each) for each in range(10)]
        before[0].result(PATIENCE)
        postgres.kill()
        during = [ex.submit(pow, 3, each) for each in range(10)]
        time.sleep(1.0)  # reason: the outage itself
        postgres.start()
        assert [each.result(PATIENCE) for each in before] == [2**each for each in range(10)]
        assert [each.result(PATIENCE) for each in during] == [3**each for each in range(10)]


def test_a_worker_of_another_python_is_an_error_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would end with a segmentation fault, on a machine that is far away."""
    from runner.api import fleet_files

    real = fleet_files.encoded
    monkeypatch.setattr(
        fleet_files,
        "encoded",
        lambda header, body: [
            part.replace(b'"cpython-', b'"cpython-0', 1) for part in real(header, body)
        ],
    )
    with Executor(target="fleet", database=tmp_path / "fleet", job="j", workers=1) as ex:
        call = ex.submit(int)
        with pytest.raises(PayloadError, match=r"Python 3\.[0-9.]+ \(cpython-0[0-9]+\)"):
            call.result(PATIENCE)
        monkeypatch.setattr(fleet_files, "encoded", real)
        assert ex.submit(int).result(PATIENCE) == 0


def test_what_can_not_be_run_is_told_with_the_fleets_reason(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is gone from its store would seem to have returned nothing."""
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    bucket = endpoint.bucket()
    place = {"database": tmp_path / "fleet", "job": "j", "results": f"s3://{bucket}/x"}
    with Executor(target="fleet", **place) as ex:  # type: ignore[arg-type]
        call, said = ex.submit(int), ex.submit_command("echo said")
        (key,) = [each for each in endpoint.keys(bucket) if each.endswith(f"{call.job_id}/call")]
        endpoint.client().delete_object(Bucket=bucket, Key=key)
        assert re.fullmatch(r"x/j/[0-9a-f]{8}/_items/int-1-1/call", key)
        with Executor(target="fleet", workers=1, **place):  # type: ignore[arg-type]
            with pytest.raises((PayloadError, JobError), match=r"int-1-1.*call"):
                call.result(PATIENCE)
            assert said.result(PATIENCE).stdout == "said\n"


def test_ten_thousand_in_flight_cost_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scaled: Callable[[int], int]
) -> None:
    """A query for each Future would keep the database busy with nothing; a thread, the machine."""
    count = scaled(10_000)
    asked: list[float] = []
    real = SqliteConnection.query

    def query(connection: SqliteConnection, sql: str, values: Any = {}) -> list[Row]:  # noqa: B006
        if threading.current_thread().name == "runner-fleet":
            asked.append(time.monotonic())
        return real(connection, sql, values)

    monkeypatch.setattr(SqliteConnection, "query", query)
    ex = Executor(target="fleet", database=tmp_path / "fleet", job="j")
    threads = threading.active_count()
    began = time.monotonic()
    futures = [ex.submit_command("true") for _ in range(count)]
    submitted = time.monotonic() - began
    opened = open_database(str(tmp_path / "fleet"))
    job = opened.job("j").id
    until(lambda: opened.views.backlog(job).due == count, PATIENCE)
    assert threading.active_count() == threads
    before, began = len(asked), time.monotonic()
    used = time.process_time()
    until(lambda: time.monotonic() > began + 10, PATIENCE)
    used, queries = time.process_time() - used, len(asked) - before
    began = time.monotonic()
    ex.shutdown(cancel_futures=True)
    cancelled = time.monotonic() - began
    assert all(each.cancelled() for each in futures)
    told = {"submit_s": submitted, "queries_in_10_s": queries, "cpu_in_10_s": used}
    print(json.dumps({**told, "cancel_s": cancelled}))
    assert queries <= 60 and used < 2.0
    opened.close()
