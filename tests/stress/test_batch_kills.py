"""Drivers and hosts that are killed at any instant, answers that are lost: each job runs once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from batch_account import ENDED, BatchAccount
from batch_server import Fault
from lost_hosts import LosesHosts
from on_batch import account_with, job
from s3_endpoint import Endpoint

DRIVER = Path(__file__).parents[1] / "drive_on_batch.py"
ROUNDS = 40
KILLS = 6
"""Times that a driver is killed; the next one is left in peace."""

HOSTS = 3
"""Hosts that are lost at most while one driver is there."""


class Counts(NamedTuple):
    """What was done to queues. ``lost``: answers to SubmitJob and requests for it."""

    drivers: int = 0
    hosts: int = 0
    lost: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


@pytest.fixture
def account(endpoint: Endpoint) -> Iterator[BatchAccount]:
    made = account_with(endpoint)
    yield made
    made.close()


def _document(proof: Path, bucket: str) -> dict[str, Any]:
    """Jobs that each leave a line when they begin, and another when they end, and hold a lock
    meanwhile: one that runs twice at once says so."""
    told = (
        f'who="$JOB_ID $RUNNER_ARRAY_INDEX $JOB_ATTEMPT"; exec 9>> "{proof}.$JOB_ID.'
        f'$RUNNER_ARRAY_INDEX"; flock -n 9 || echo "$who twice" >> {proof}; '
        f'echo "$who begins" >> {proof}; sleep 0.$((RANDOM % 9)) 9>&-; '
        f'echo "$who ends" >> {proof}'
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


def _faults(account: BatchAccount, dice: random.Random) -> int:
    """How many answers to SubmitJob will be lost, or its requests."""
    faults, lost = account.server.faults, 0
    for _ in range(dice.randrange(4)):
        fault = dice.choice([Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.THROTTLED, Fault.BROKEN])
        faults.add("SubmitJob", fault)
        lost += fault in (Fault.LOST_ANSWER, Fault.LOST_REQUEST)
    for operation in ("DescribeJobs", "ListJobs", "TerminateJob"):
        if dice.random() < 0.3:
            faults.add(operation, dice.choice([Fault.THROTTLED, Fault.LOST_ANSWER]))
    account.server.set_visibility((0.0, dice.choice([0.0, 0.0, 1.0])))
    return lost


@pytest.mark.share
@pytest.mark.parametrize("chunk", range(4))
def test_no_job_runs_twice_however_often_driver_and_hosts_are_killed(
    chunk: int,
    account: BatchAccount,
    endpoint: Endpoint,
    tmp_path: Path,
    scaled: Callable[[int], int],
    seed: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A job's work would be done twice, or never."""
    counts = Counts()
    for number in range(scaled(ROUNDS // 4)):
        dice = random.Random(f"{seed}/{chunk}/{number}")
        folder = tmp_path / str(number)
        folder.mkdir()
        counts = counts.plus(_one_queue(account, endpoint, folder, dice))
    with capsys.disabled():
        print(f"\nchunk {chunk}: {number + 1} queues, killed: {counts}")


def _one_queue(
    account: BatchAccount, endpoint: Endpoint, folder: Path, dice: random.Random
) -> Counts:
    proof, path = folder / "proof", folder / "q.json"
    proof.touch()
    path.write_text(json.dumps(_document(proof, endpoint.bucket())))
    env = {**os.environ, **endpoint.env, **account.env}
    counts = Counts()
    for turn in range(KILLS + 1):
        lost = _faults(account, dice)
        most = dice.randrange(HOSTS + 1)
        with (
            LosesHosts(account.server, dice, most, 1.0) as hosts,
            subprocess.Popen(
                [sys.executable, str(DRIVER), str(folder), str(path)],
                env=env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            ) as driver,
        ):
            _has_asked(account, driver)
            try:
                patience = 240 if turn == KILLS else dice.uniform(0.0, 3.0)
                _, told = driver.communicate(timeout=patience)
            except subprocess.TimeoutExpired:
                driver.kill()
                assert turn < KILLS, "it hangs"
        killed = driver.returncode == -signal.SIGKILL
        counts = counts.plus(Counts(int(killed), hosts.count, lost))
        if not killed:
            break
    assert driver.returncode == 100, told.decode()
    _comes_to_what_it_would_have(folder, proof)
    _nothing_is_left(account)
    return counts


def _has_asked(account: BatchAccount, driver: subprocess.Popen[bytes]) -> None:
    """Wait until it is at work: on a busy machine it takes seconds to begin."""
    seen = account.server.seen
    before, until = len(seen), time.monotonic() + 120
    while len(seen) == before and driver.poll() is None:
        assert time.monotonic() < until, "it never begins"
        time.sleep(0.02)


def _comes_to_what_it_would_have(folder: Path, proof: Path) -> None:
    """Each attempt ran once, each job to its end; only a lost host makes another attempt."""
    lines = Counter(proof.read_text().splitlines())
    assert set(lines.values()) == {1}, lines
    assert not [line for line in lines if line.endswith("twice")]
    last: dict[str, int] = {}
    for line in lines:
        unit, attempt, _ = line.rsplit(" ", 2)
        last[unit] = max(last.get(unit, 0), int(attempt))
    assert sorted(last) == ["a ", "b ", "c ", "d ", "e ", "x 0", "x 1", "x 2"]
    for unit, attempt in last.items():
        assert f"{unit} {attempt} ends" in lines, (unit, lines)
    state = json.loads((folder / "state/queues/q/queue-state.json").read_text())
    jobs = {each["job_id"]: each for each in state["jobs"]}
    found = {name: each["status"] for name, each in jobs.items()}
    assert found == {**dict.fromkeys("abxde", "completed"), "c": "failed"}
    for name in "abcde":
        assert jobs[name]["attempt"] - jobs[name].get("interruptions", 0) == 1, jobs[name]
        assert jobs[name]["attempt"] == last[f"{name} "]


def _nothing_is_left(account: BatchAccount) -> None:
    """No job waits or runs that no driver knows of."""
    until = time.monotonic() + 60
    while left := [each.name for each in account.server.jobs() if each.state.value not in ENDED]:
        assert time.monotonic() < until, left
        time.sleep(0.05)
