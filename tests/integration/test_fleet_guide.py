"""What the guide of the BEC CLI prints: its flags with their defaults, its tables, its messages."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.fleet.cli.main import parser, run_command
from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.records import JobOptions, Metrics, TaskItem

GUIDE: dict[str, dict[str, object]] = {
    "jobs create": {
        "--name": None, "--config": None, "--config-text": None, "--queue-url": None,
        "--dlq-url": None,
    },
    "jobs list": {},
    "jobs show": {},
    "jobs update": {"--config": None},
    "jobs delete": {"--yes": False},
    "jobs stats": {},
    "jobs tasks": {"--limit": 10, "--status": None},
    "queue enqueue": {"--job-name": None, "--file": None, "--volume": []},
    "queue stats": {"--job-name": None},
    "queue purge": {"--job-name": None, "--yes": False},
    "queue redrive": {
        "--source-queue-url": None, "--dest-queue-url": None, "--max-messages": None,
    },
    "worker": {
        "--job-name": None, "--poll-wait": 20, "--visibility-timeout": 300,
        "--shutdown-after-empty": 6, "--s3-source-bucket": None, "--s3-dest-bucket": None,
        "--region": None, "--model-path": None,
    },
}  # fmt: skip
"""Every command of the guide, its flags and their defaults."""


def command(words: str) -> argparse.ArgumentParser:
    found: Any = parser("bec")
    for word in words.split():
        (below,) = [a for a in found._actions if isinstance(a, argparse._SubParsersAction)]
        found = below.choices[word]
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("words", GUIDE)
def test_the_guides_commands_flags_and_defaults(words: str) -> None:
    """A script of before would be refused, or do something else than it did."""
    actions = {flag: each for each in command(words)._actions for flag in each.option_strings}
    found = {flag: actions[flag].default for flag in GUIDE[words]}
    assert found == GUIDE[words]


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    found = str(tmp_path / "fleet")
    monkeypatch.setenv("RUNNER_FLEET", found)
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
def database(address: str) -> Iterator[FleetDatabase]:
    made = open_database(address)
    made.migrate()
    yield made
    made.close()


def bec(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    found = run_command(list(words), "bec")
    told = capsys.readouterr()
    assert found == code, told.err
    return told.out if not code else told.err


LIST = """\
┏━━━━┳━━━━━━┳━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━┓
┃ ID ┃ Name ┃ Queue          ┃ Config      ┃
┡━━━━╇━━━━━━╇━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━┩
│ 1  │ ldv1 │ bec_ldv1_tasks │ {"use_gp... │
└────┴──────┴────────────────┴─────────────┘
"""
SHOW = """\
Job 1
Name: ldv1
Queue URL: https://sqs.us-east-1.amazonaws.com/1/bec_ldv1_tasks
DLQ URL: https://sqs.us-east-1.amazonaws.com/1/bec_ldv1_dlq
"""
CONFIGURATION = """\
Configuration:
{
  "use_gpu": true,
  "batch_size": 16
}
"""
STATS = """\
Job Statistics: ldv1 (id=1)

                               Task Execution Status                               \n\
┏━━━━━━━━━━━━━━━━━━┳━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━┓
┃ Status           ┃ Count ┃ Total Images ┃ Total Errors ┃ Avg Duration (ms) ┃
┡━━━━━━━━━━━━━━━━━━╇━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━┩
│ running          │     1 │            0 │            0 │                 0 │
│ done             │     2 │          400 │            3 │           1500.00 │
│ retryable_failed │     1 │          150 │           15 │           1000.00 │
│ terminal_failed  │     1 │           50 │            2 │            500.00 │
└──────────────────┴───────┴──────────────┴──────────────┴───────────────────┘

Overall Totals:
  Total Tasks: 5
  Total Images: 600
  Total Errors: 20
  Avg Duration per Task: 1125.00 ms
  Avg Duration per Page: 7.50 ms
"""
TASKS = """\
Recent Task Executions: ldv1 (id=1)

┏━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━━┓
┃ ID ┃ Volume       ┃ Status ┃ Images ┃ Errors ┃ Duration (s) ┃ Worker   ┃
┡━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━━┩
"""


def test_the_guides_tables_are_printed(
    database: FleetDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    """What people look for on a screen, and scripts cut out of it, would be somewhere else."""
    base = "https://sqs.us-east-1.amazonaws.com/1/bec_ldv1"
    config = '{"use_gpu": true, "batch_size": 16}'
    options = JobOptions(command="true")
    job = database.create_job("ldv1", config, options, f"{base}_tasks", f"{base}_dlq").id
    assert bec(capsys, "jobs", "list") == LIST
    shown = bec(capsys, "jobs", "show", "ldv1")
    assert shown.startswith(SHOW) and shown.endswith(CONFIGURATION)
    tasks, worker = database.tasks, database.register(job, "i-abc123")
    tasks.enqueue(job, [TaskItem.volume("W22084", f"I088{n}") for n in range(5)])

    def claimed() -> Any:
        return tasks.claim_next(job, worker, "c", 60)

    tasks.finish(claimed(), Metrics(200, 2, 1000.0))
    tasks.finish(claimed(), Metrics(200, 1, 2000.0))
    tasks.retry_later(claimed(), "no", 60, Metrics(150, 15, 1000.0))
    tasks.fail(claimed(), "no", Metrics(50, 2, 500.0))
    assert claimed() is not None
    found = [line.strip() for line in bec(capsys, "jobs", "stats", "ldv1").splitlines()]
    assert found == [line.strip() for line in STATS.splitlines()]
    done = bec(capsys, "jobs", "tasks", "ldv1", "--status", "done")
    assert done.startswith(TASKS)
    assert "│ 1  │ W22084/I0880 │ done   │    200 │      2 │          1.0 │ i-abc123 │\n" in done
    every = bec(capsys, "jobs", "tasks", "ldv1", "--limit", "20")
    assert "│ running          │      - │      - │            - │ i-abc123 │\n" in every


def test_a_model_is_found_or_refused(
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A worker would start, and each of its tasks fail, for a path with a typing error."""
    monkeypatch.setenv("BEC_LD_MODEL_PATH", str(tmp_path / "model.pth"))
    command = 'cat "$RUNNER_MODEL_PATH" "$BEC_LD_MODEL_PATH"'
    bec(capsys, "jobs", "create", "--name", "ldv1", "--command", command)
    bec(capsys, "queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1")
    words = ("worker", "--job-name", "ldv1", "--poll-wait", "0", "--shutdown-after-empty", "1")
    assert f"--model-path: there is no {tmp_path}/model.pth" in bec(capsys, *words, code=2)
    (tmp_path / "model.pth").write_text("weights\n")
    assert "Successfully processed message: 1\n" in bec(capsys, *words)
    told = bec(capsys, "logs", "W1/I1", "--job-name", "ldv1", "--stdout")
    assert told == "weights\nweights\n"


SQL = """SELECT * FROM task_executions
WHERE job_id = 1 AND status IN ('retryable_failed', 'terminal_failed')
ORDER BY done_at DESC;"""
"""As the guide prints it."""


@pytest.mark.long
def test_the_guides_psql_lines_run(postgres: Any, tmp_path: Path) -> None:
    """`psql -f schema.sql` would not load, or the guide's SELECT not find what has failed."""
    program = shutil.which("psql")
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("psql is not installed")
    url = postgres.database()

    def psql(*words: str) -> str:
        done = subprocess.run(
            [program, "-X", "-v", "ON_ERROR_STOP=1", "-d", url, *words], text=True, timeout=60,
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "(1 row)" in psql("-c", "SELECT 1")
    psql("-f", str(Path(__file__).parents[2] / "runner/fleet/schema.sql"))
    database = open_database(url)
    job = database.create_job("ldv1", "{}", JobOptions(command="true")).id
    database.tasks.enqueue(job, [TaskItem.volume("W1", f"I{n}") for n in range(3)])
    worker = database.register(job, "w")
    for fail in (
        lambda task: database.tasks.fail(task, "no", Metrics(7, 7, 1.0)),
        lambda task: database.tasks.retry_later(task, "no", 60, Metrics()),
    ):
        assert fail(database.tasks.claim_next(job, worker, "c", 60))
    told = psql("-c", SQL)
    assert "(2 rows)" in told
    for column in ("total_images", "nb_errors", "total_duration_ms", "worker_id", "volume_id"):
        assert column in told
    database.close()
