"""A driver that is killed at any instant, answers that are lost: each job runs once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_account import ENDED, BatchAccount
from batch_server import Fault
from on_batch import account_with, job
from s3_endpoint import Endpoint

DRIVER = Path(__file__).parents[1] / "drive_on_batch.py"
ROUNDS = 40
KILLS = 6
"""Times that a driver is killed; the next one is left in peace."""


@pytest.fixture
def account(endpoint: Endpoint) -> Iterator[BatchAccount]:
    made = account_with(endpoint)
    yield made
    made.close()


def _document(proof: Path, bucket: str) -> dict[str, Any]:
    """Jobs that each leave a line when they begin, and another when they end."""
    told = (
        f'echo "$JOB_ID $RUNNER_ARRAY_INDEX begins" >> {proof}; sleep 0.$((RANDOM % 9)); '
        f'echo "$JOB_ID $RUNNER_ARRAY_INDEX ends" >> {proof}'
    )
    return {
        "queue_id": "q",
        "queue_name": "q",
        "global_timeout": "10m",
        "on_failure": "continue",
        "max_parallel_jobs": 4,
        "result_s3_bucket": bucket,
        "jobs": [
            job("a", told),
            job("b", told),
            job("x", told, array=3),
            job("c", f"{told}; exit 4", depends_on=["a"]),
            job("d", told, depends_on=["b", "x"]),
            job("e", told, depends_on=["c"], run_if="failure"),
        ],
    }


def _faults(account: BatchAccount, dice: random.Random) -> None:
    faults = account.server.faults
    for _ in range(dice.randrange(4)):
        faults.add("SubmitJob", dice.choice([Fault.LOST_ANSWER, Fault.THROTTLED, Fault.BROKEN]))
    for operation in ("DescribeJobs", "ListJobs", "TerminateJob"):
        if dice.random() < 0.3:
            faults.add(operation, dice.choice([Fault.THROTTLED, Fault.LOST_ANSWER]))
    account.server.set_visibility((0.0, dice.choice([0.0, 0.0, 1.0])))


@pytest.mark.parametrize("chunk", range(4))
def test_no_job_runs_twice_however_often_its_driver_is_killed(
    chunk: int,
    account: BatchAccount,
    endpoint: Endpoint,
    tmp_path: Path,
    scaled: Callable[[int], int],
    seed: int,
) -> None:
    """A job's work would be done twice, or never."""
    for number in range(scaled(ROUNDS // 4)):
        dice = random.Random(f"{seed}/{chunk}/{number}")
        folder = tmp_path / str(number)
        folder.mkdir()
        _one_queue(account, endpoint, folder, dice)


def _one_queue(
    account: BatchAccount, endpoint: Endpoint, folder: Path, dice: random.Random
) -> None:
    proof, path = folder / "proof", folder / "q.json"
    proof.touch()
    path.write_text(json.dumps(_document(proof, endpoint.bucket())))
    env = {**os.environ, **endpoint.env, **account.env}
    for turn in range(KILLS + 1):
        _faults(account, dice)
        with subprocess.Popen(
            [sys.executable, str(DRIVER), str(folder), str(path)],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as driver:
            try:
                _, told = driver.communicate(
                    timeout=240 if turn == KILLS else dice.uniform(0.5, 6.0)
                )
            except subprocess.TimeoutExpired:
                driver.kill()
                assert turn < KILLS, "it hangs"
                continue
        break
    assert driver.returncode == 100, told.decode()
    lines = proof.read_text().splitlines()
    names = ["a ", "b ", "c ", "d ", "e ", "x 0", "x 1", "x 2"]
    assert sorted(lines) == sorted(f"{n} {w}" for n in names for w in ("begins", "ends"))
    state = json.loads((folder / "state/queues/q/queue-state.json").read_text())
    found = {each["job_id"]: (each["status"], each["attempt"]) for each in state["jobs"]}
    assert found == {**dict.fromkeys("abxde", ("completed", 1)), "c": ("failed", 1)}
    _nothing_is_left(account)


def _nothing_is_left(account: BatchAccount) -> None:
    """No job waits or runs that no driver knows of."""
    until = time.monotonic() + 60
    while left := [each.name for each in account.server.jobs() if each.state.value not in ENDED]:
        assert time.monotonic() < until, left
        time.sleep(0.05)
