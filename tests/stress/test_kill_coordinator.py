"""Coordinators on AWS Batch and their hosts: killed at any instant, replaced, without an answer."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_laptop import Laptop
from lost_hosts import LosesHosts
from on_batch import job
from s3_endpoint import Endpoint

from runner.core.run_mode import RunMode
from runner.errors import UnreachableError
from runner.targets.batch import connection as batch_connection

QUEUES = 40


@pytest.fixture
def laptop(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    made = Laptop(endpoint, tmp_path)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(batch_connection, "ANSWER_EVERY", 0.05)
    yield made
    made.account.close()


def test_without_an_answer_the_request_still_stands(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user would ask twice, or take for refused what is carried out later."""
    monkeypatch.setattr(batch_connection, "ANSWER_WITHIN", 0.3)
    server, environment = laptop.account.server, laptop.account.environment
    server.set_placing(environment, False)
    laptop.launch(laptop.document(job("a", "sleep 1000")))
    there = laptop.connect()
    with pytest.raises(UnreachableError, match="cancel still stands"):
        there.act("cancel")
    assert "RUNNABLE" in there.query("status", limit=0)["queue"]["queued"]
    server.set_placing(environment, True)
    assert laptop.wait()["status"] == "cancelled"


def test_what_failed_is_run_again_by_another_coordinator(laptop: Laptop) -> None:
    """A queue that has failed would have to be begun anew."""
    jobs = [job("good"), job("bad", "exit 1"), job("x", depends_on=["bad"])]
    laptop.launch(laptop.document(*jobs))
    assert laptop.wait()["status"] == "failed"
    jobs[1] = job("bad", "true")
    again = laptop.launch(laptop.document(*jobs), RunMode(retry_failed=True))
    assert laptop.account.wait(str(again.job))["status"] == "SUCCEEDED"
    assert laptop.wait()["status"] == "completed"
    rows = laptop.jobs()
    attempts = {name: each["attempt"] for name, each in rows.items()}
    assert attempts == {"good": 1, "bad": 2, "x": 1}


def test_killed_at_any_instant_it_goes_on_as_if_nothing_had_been(
    laptop: Laptop, scaled: Callable[[int], int], seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job would be submitted twice and run twice, or be forgotten; an attempt be miscounted."""
    killed = lost = 0
    for number in range(scaled(QUEUES)):
        draw = random.Random((seed << 20) + number)
        proof = laptop.folder / f"proof-{number}"
        ran = f'echo "$JOB_ID $RUNNER_ARRAY_INDEX $JOB_ATTEMPT" >> {proof}; sleep 0.1'
        queue = laptop.document(
            job("a", ran),
            job("flaky", f"{ran}; exit $((JOB_ATTEMPT < 3))", depends_on=["a"],
                retry={"max_attempts": 3, "base_delay": "50ms"}),
            job("x", ran, array=3, depends_on=["a"]),
            job("bad", f"{ran}; exit 7"),
            job("skipped", ran, depends_on=["bad"]),
            job("always", ran, depends_on=["bad"], run_if="always"),
            job("last", ran, depends_on=["flaky", "x"]),
            queue_id=f"q{number}",
        )  # fmt: skip
        laptop.queue_id = f"q{number}"
        launch = laptop.launch(queue)
        numbers = draw.choices((signal.SIGKILL, signal.SIGTERM), (3, 1), k=draw.randint(1, 4))
        kills = [(draw.uniform(0.2, 3.0), each) for each in numbers]
        with LosesHosts(laptop.account.server, draw, draw.randrange(3), 1.0) as hosts:
            killed += laptop.kill_after(str(launch.job), kills)
        lost += hosts.count
        assert laptop.wait()["status"] == "failed"
        _came_to_what_it_would_have(laptop.jobs(), proof.read_text().split("\n")[:-1])
    with capsys.disabled():
        print(f"\n{number + 1} queues, killed: {killed} coordinators, {lost} hosts")


def _came_to_what_it_would_have(rows: dict[str, dict[str, Any]], told: list[str]) -> None:
    """Each attempt ran once; only a lost host makes another one."""
    assert {name: each["status"] for name, each in rows.items()} == {
        "a": "completed", "flaky": "completed", "x": "completed", "bad": "failed",
        "skipped": "skipped", "always": "completed", "last": "completed",
    }  # fmt: skip
    lines = Counter(told)
    assert set(lines.values()) == {1}, lines
    newest: dict[str, int] = {}
    for line in lines:
        unit, _, attempt = line.rpartition(" ")
        newest[unit] = max(newest.get(unit, 0), int(attempt))
    assert set(newest) == {
        "a ", "flaky ", "x 0", "x 1", "x 2", "bad ", "always ", "last "
    }  # fmt: skip
    for name in ("a", "bad", "always", "last", "flaky"):
        row = rows[name]
        assert row["attempt"] == newest[f"{name} "], (row, lines)
        if name != "flaky":
            assert row["attempt"] - row.get("interruptions", 0) == 1, row
    assert newest["flaky "] >= 3
