"""Damaged records at every door: refused as a whole, or fit for all that is done with them."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from doors import DOORS, STATE, Door
from mutations import damaged

from runner.core.state_file import StateFile, StateFileJob, parse_state
from runner.core.states import JobState, JobStatus, QueueState, QueueStatus
from runner.errors import RunnerError, StateError
from runner.model.records import keys
from runner.store.projection import job_view, queue_view

ROUNDS = 60


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_a_sample_enters(door: Door) -> None:
    """What runner itself writes would be refused."""
    door.enter(json.dumps(door.sample).encode())


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_damage_is_refused_or_harmless(door: Door) -> None:
    """An error that nobody catches would end a daemon, an upload or a command."""
    draw = random.Random(door.name)
    refused = 0
    for _ in range(ROUNDS):
        data = damaged(door.sample, draw)
        try:
            door.enter(data)
        except RunnerError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{data[:2000]!r}") from error
    assert refused < ROUNDS


def test_a_refused_state_names_itself_and_the_place() -> None:
    """Nobody would know which object to look at."""
    with pytest.raises(StateError, match=r"^queue-state.json in s3://b/q: jobs\[1\].attempt: must"):
        state = json.loads(json.dumps(STATE))
        state["jobs"][1]["attempt"] = "2"
        parse_state(json.dumps(state), "queue-state.json in s3://b/q")


def test_a_job_may_be_there_once() -> None:
    """Of two records of one job either could count."""
    with pytest.raises(StateError, match=r"jobs\[2\].job_id: is given twice"):
        parse_state(json.dumps({**STATE, "jobs": [*STATE["jobs"], STATE["jobs"][0]]}), "it")  # type: ignore[misc,index]


def test_all_that_a_state_tells_is_read() -> None:
    """A field would be stored and, elsewhere, neither shown nor gone by."""
    job = JobState(
        JobStatus.RUNNING, 1, 1, 1, 1, 1.0, 1.0, 1.0, 0, "SIGTERM", True, 7, 1.0, 1, True, "e", "r",
        1.0, None, False, "e",
    )  # fmt: skip
    assert job_view("a", job).keys() <= keys(StateFileJob)
    queue = QueueState("r", QueueStatus.RUNNING, "w", 1.0, 1.0, 1.0, 1.0, paused=True, resumed="a")
    queue = replace(queue, incomplete=True)
    assert queue_view("q", "n", queue).keys() <= keys(StateFile)
