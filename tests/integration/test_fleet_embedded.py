"""The embedded fleet, end to end, by its commands: no account, no server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.fleet.cli.main import run_command
from runner.fleet.database import open_database
from runner.fleet.records import JobOptions, Metrics, TaskItem

PROGRAM = [sys.executable, "-c", "from runner.fleet.cli.main import main; main()"]


class Commands:
    """``runner-fleet`` with a database and a state of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ours = {name: v for name, v in os.environ.items() if not name.startswith(("RUNNER", "BEC"))}
        self.env = {**ours, "RUNNER_STATE_DIR": str(folder / "state"), "HOME": str(folder)}

    def call(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [*PROGRAM, *arguments], cwd=self.folder, env=self.env, text=True, timeout=60,
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    def data(self, *arguments: str) -> Any:
        return json.loads(self.call(*arguments, "--json"))


MEASURE = """
test -s "$RUNNER_TASK_CONFIG" && echo "$W_ID $I_ID" > lines.txt
echo '{"total_images": 10, "nb_errors": 1, "mean": 0.5}' > "$RUNNER_TASK_METRICS"
[ "$I_ID" != I2 ] || exit 3
"""


def test_tasks_are_done_once_counted_and_redriven(tmp_path: Path) -> None:
    """A newcomer's first ten minutes would end with an error."""
    fleet = Commands(tmp_path)
    fleet.call(
        "jobs", "create", "--name", "ldv1", "--command", MEASURE, "--config-text", '{"a": 1}',
        "--terminal-on-codes", "3",
    )  # fmt: skip
    volumes = ("--volume", "W1,I1", "--volume", "W1,I2")
    told = fleet.call("queue", "enqueue", "--job-name", "ldv1", *volumes)
    assert "Enqueued 2 tasks" in told
    work = ("worker", "--job-name", "ldv1", "--poll-wait", "0.1", "--shutdown-after-empty", "1")
    told = fleet.call(*work)
    assert "Processing message: 1 for volume W1/I1\nSuccessfully processed message: 1\n" in told
    assert told.endswith("Worker completed successfully\nWorker shutdown complete\n")
    stats = fleet.data("jobs", "stats", "ldv1")
    assert {name: each["count"] for name, each in stats["states"].items()} == {
        "done": 1, "terminal_failed": 1
    }  # fmt: skip
    assert (stats["total_images"], stats["total_errors"]) == (20, 2)
    (failed,) = fleet.data("jobs", "tasks", "ldv1", "--status", "terminal_failed")
    assert failed["reason"] == "task: command execution failed: exit status 3"
    results = tmp_path / "state/fleet/results/ldv1/W1/I1"
    marker = json.loads((results / "success.json").read_text())
    assert marker["metrics"]["mean"] == 0.5
    assert (results / f"{marker['run']}/jobs/task/lines.txt").read_text() == "W1 I1\n"
    assert fleet.data("queue", "redrive", "--job-name", "ldv1")["redriven"] == 1
    assert fleet.data("queue", "stats", "--job-name", "ldv1")["available"] == 1
    assert "needs --yes" in fleet.call("queue", "purge", "--job-name", "ldv1", code=2)


def test_a_job_is_looked_at_and_single_tasks_acted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever operates a fleet would have to write SQL for it."""
    monkeypatch.chdir(tmp_path)
    address = str(tmp_path / "fleet")
    monkeypatch.setenv("RUNNER_FLEET", address)

    def call(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert run_command(list(words), "runner-fleet") == code
        told = capsys.readouterr()
        return told.out + told.err

    assert "There is no job" in call("status")
    call("jobs", "create", "--name", "j", "--command", "true")
    (tmp_path / "v.txt").write_text("W1,I1\nW1 I2\nW1 I3\nW1 I4\n")
    call("queue", "enqueue", "--job-name", "j", "--file", "v.txt")
    database = open_database(address)
    job = database.job("j")
    worker = database.register(job.id, "w")
    task = database.tasks.claim_next(job.id, worker, "c", 60)
    assert task is not None and database.tasks.fail(task, "exit status 3", Metrics())
    held = database.tasks.claim_next(job.id, worker, "c", 60)
    assert held is not None
    told = call("status", "--job-name", "j")
    assert "Left: 3 tasks" in told and "Workers: 1, 1 of them busy" in told
    assert "exit status 3" in told
    found = json.loads(call("status", "--json"))[0]
    assert found["failures"] == [
        {"status": "terminal_failed", "reason": "exit status 3", "count": 1}
    ]
    assert "nothing is stored of run 1 of W1/I1" in call(
        "logs", "W1/I1", "--job-name", "j", code=102
    )
    logs = tmp_path / "fleet/results/j/W1/I1/1/jobs/a"
    logs.mkdir(parents=True)
    (logs / "stdout.log").write_bytes(b"out\n")
    (logs / "stderr.log").write_bytes(b"err")
    told = call("logs", "W1/I1", "--job-name", "j")
    assert told == "==> a stdout <==\nout\n==> a stderr <==\nerr\n"
    assert call("logs", "W1/I1", "--job-name", "j", "--stderr") == "err"
    assert "1 of 1 tasks retried" in call("tasks", "retry", "W1/I1", "--job-name", "j")
    told = call("tasks", "cancel", "W1/I2", "W1/I3", "W1/nobody", "--job-name", "j", code=102)
    assert "2 of 3 tasks cancelled" in told and "1 of the tasks are not there" in told
    assert not database.tasks.extend(held, 60), "its worker ends what runs"
    call("jobs", "pause", "j", "--reason", "a bad model")
    assert "Paused: a bad model" in call("jobs", "show", "j")
    assert database.tasks.claim_next(job.id, worker, "c", 60) is None
    call("jobs", "resume", "j")
    assert database.tasks.claim_next(job.id, worker, "c", 60) is not None
    database.close()


@pytest.mark.long
def test_a_manifest_is_part_of_what_a_task_is(tmp_path: Path) -> None:
    """A volume whose images have changed would stay as it was done; one without would be tried
    for ever."""
    source = tmp_path / "source"
    (source / "works/W1").mkdir(parents=True)
    manifest = source / "works/W1/I1.json"
    manifest.write_text("one")
    fleet = Commands(tmp_path)
    fleet.env["BEC_SOURCE_S3_BUCKET"] = str(source)
    command = 'cp "$RUNNER_TASK_MANIFEST" out.txt'
    fleet.call(
        "jobs", "create", "--name", "j", "--command", command, "--manifest-key",
        "works/{w_id}/{i_id}.json",
    )  # fmt: skip
    enqueue = ("queue", "enqueue", "--job-name", "j", "--volume", "W1,I1")
    fleet.call(*enqueue, "--volume", "W1,I2")
    work = ("worker", "--job-name", "j", "--poll-wait", "0.1", "--shutdown-after-empty", "1")
    told = fleet.call(*work)
    assert f"Source bucket: {source}\n" in told
    missing, done = fleet.data("jobs", "tasks", "j")
    assert (done["status"], missing["status"]) == ("done", "terminal_failed")
    assert missing["reason"] == f"the manifest {source}/works/W1/I2.json is missing"
    assert fleet.data(*enqueue)["reopened"] == 0
    manifest.write_text("two")
    assert fleet.data(*enqueue)["reopened"] == 1
    fleet.call(*work)
    stored = tmp_path / "state/fleet/results/j/W1/I1"
    found = [path.read_text() for path in stored.glob("_v*/[0-9]*/jobs/task/out.txt")]
    assert sorted(found) == ["one", "two"]
    assert len(list(stored.glob("_v*/success.json"))) == 2


def test_workers_are_listed_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody could tell which machine a stuck task is on."""
    monkeypatch.setenv("RUNNER_FLEET", str(tmp_path / "fleet"))
    database = open_database(str(tmp_path / "fleet"))
    database.migrate()
    job = database.create_job("j", "{}", JobOptions(command="true"))
    database.tasks.enqueue(job.id, [TaskItem.volume("W1", "I1")])
    first, second = database.register(job.id, "one"), database.register(job.id, "two")
    assert database.tasks.claim_next(job.id, first, "c", 60) is not None
    database.stop_worker(second)

    def call(*words: str) -> str:
        capsys.readouterr()
        assert run_command(list(words), "runner-fleet") == 0
        return capsys.readouterr().out

    (found,) = json.loads(call("workers", "list", "--job-name", "j", "--json"))
    assert (found["name"], found["task"], found["pid"]) == ("one", "W1/I1", os.getpid())
    assert "stopped" in call("workers", "list", "--all")
    assert f"id: {first}\nname: one\n" in call("workers", "show", str(first))
    database.close()


def test_a_command_imports_what_it_needs(tmp_path: Path) -> None:
    """Each command on a laptop would load PostgreSQL's driver, AWS's clients and the engine: a look
    at the jobs took twice as long."""
    fleet = Commands(tmp_path)
    heavy = {"psycopg", "boto3", "botocore", "structlog", "pydantic"}
    engine = {"asyncio", "runner.service.session", "runner.fleet.worker", "runner.targets"}
    work = ["worker", "--job-name", "j", "--poll-wait", "0", "--shutdown-after-empty", "1"]
    fleet.call("jobs", "create", "--name", "j", "--command", "true")
    for words, none_of in ((["jobs", "list"], heavy | engine), (["status"], heavy | engine),
                           (work, heavy)):  # fmt: skip
        code = (
            "import sys; from runner.fleet.cli.main import run_command\n"
            f"assert run_command({words!r}, 'bec') == 0\n"
            f"assert not {none_of!r} & set(sys.modules), {none_of!r} & set(sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=fleet.env, capture_output=True,
            stdin=subprocess.DEVNULL, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
