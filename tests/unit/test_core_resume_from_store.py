"""A run that another machine began, as its stored state tells of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from core_driver import Driver, document, job

from runner.core.resume_from_store import from_stored
from runner.core.state_file import read_state
from runner.core.states import LOST, JobStatus, QueueStatus
from runner.errors import StateError
from runner.model.document import QueueSpec, ResultSpec
from runner.model.growth import grown

HOUR = "2026-01-22T14:00:00Z"


def stored(*jobs: dict[str, Any], **more: Any) -> dict[str, Any]:
    told = {"queue_id": "q", "run_id": "0123456789abcdef", "status": "running", "epoch": 3}
    times = {"started_at": HOUR, "updated_at": HOUR, "worked_seconds": 90.5}
    return {**told, **times, "jobs": list(jobs), **more}


def told(name: str, status: str, attempt: int = 1, **more: Any) -> dict[str, Any]:
    return {"job_id": name, "status": status, "attempt": attempt, **more}


def taken(queue: QueueSpec, state: dict[str, Any]) -> Driver:
    """A new machine's session, opened on what was stored."""
    made, jobs = from_stored(queue, read_state(state, "it"))
    q = Driver(queue)
    q.load(made, jobs, queue)
    q.session(collects=True)
    for index in sorted(q.core.live):
        q.lose(queue.jobs[index].job_id, machine=True)
    q.told()
    return q


def test_what_was_done_stays_done_and_what_ran_runs_again() -> None:
    """Work of days would be done again; or a job be taken to run for ever."""
    queue = document(job("a"), job("b", "a"), job("c", "b"), parallel=2)
    state = stored(
        told("a", "completed", exit_code=0, results_uploaded=True),
        told("b", "running", 4, interruptions=3, unannounced=1),
        told("c", "pending", 0),
    )
    q = taken(queue, state)
    assert q.states == "a:completed b:running c:pending"
    assert (q["b"].attempt, q["b"].interruptions, q["b"].counted) == (5, 4, 0)
    assert q["b"].unannounced == 2, "one that takes the machine down is found out"
    assert q.core.queue.worked == 90.5 and q.core.queue.epoch == 3
    assert q.core.queue.resumed and "another machine" in q.core.queue.resumed
    q.run()
    assert q.finish is QueueStatus.COMPLETED


def test_declared_results_that_were_never_stored_are_made_again() -> None:
    """What needs them would run without them."""
    queue = document(job("a", result_paths=(ResultSpec("out"),)), job("b", "a"))
    q = taken(
        queue, stored(told("a", "completed", results_uploaded=False), told("b", "pending", 0))
    )
    assert q["a"].status is JobStatus.RUNNING and (q["a"].attempt, q["a"].reason) == (2, LOST)


def test_a_wait_a_failure_and_a_pause_go_on() -> None:
    """A retry would come at once, a stopped queue start new jobs, or a pause end by itself."""
    queue = document(job("a", retry=3), job("b"), on_failure="stop")
    later = "2026-01-22T14:00:40Z"
    waits = told("a", "pending", 1, next_attempt_at=later, exit_code=1)
    q = taken(queue, stored(waits, told("b", "pending", 0), paused=True))
    assert q["a"].counted == 1 and q["a"].retry_due == q.mono + 40
    assert q.core.queue.paused and not q.order
    q = taken(queue, stored(told("a", "failed", 3, exit_code=1), told("b", "pending", 0)))
    assert q.states == "a:failed b:skipped"


@pytest.mark.parametrize(
    "spoil",
    [
        {"jobs": []},
        {"jobs": [{"job_id": "a", "status": "asleep", "attempt": 1}]},
        {"jobs": [{"job_id": "a", "status": "running", "attempt": None}]},
        {"jobs": [7]},
        {"run_id": None, "jobs": [{"job_id": "a", "status": "running", "attempt": 1}]},
        {"started_at": "yesterday"},
    ],
)
def test_what_no_runner_has_stored_is_refused(spoil: dict[str, Any]) -> None:
    """A daemon would break on a file that anybody may have written."""
    state = json.loads(json.dumps({**stored(told("a", "running")), **spoil}))
    with pytest.raises(StateError):
        from_stored(document(job("a")), read_state(state, "it"))


def test_what_was_missing_elsewhere_is_missing_and_not_made_again() -> None:
    """Hours of work would be done again for a glob that matches nothing; or it would pass."""
    queue = document(job("a", result_paths=(ResultSpec("out"),)), job("b", "a"))
    described = [
        told("a", "completed", results_uploaded=False, logs_uploaded=True, result_error="none"),
        told("b", "pending", 0),
    ]
    _, jobs = from_stored(queue, read_state(stored(*described), "it"))
    assert (jobs[0].status, jobs[0].incomplete) == (JobStatus.COMPLETED, True)
    described[0]["logs_uploaded"] = False
    _, jobs = from_stored(queue, read_state(stored(*described), "it"))
    assert (jobs[0].status, jobs[0].reason) == (JobStatus.PENDING, LOST)


def test_a_release_and_an_open_queue_go_with_the_state() -> None:
    """What a person has released would be held again on the next machine, over a weekend."""
    jobs = (job("a", hold=True), job("b", "a", hold=True))
    state = stored(told("a", "running", released=True), told("b", "pending", 0), accepts_jobs=True)
    q = taken(document(*jobs), state)
    assert q.states == "a:running b:pending"
    q.ok("a")
    assert (q["b"].released, q["b"].status.value) == (False, "pending")
    assert q.core.queue.accepts_jobs


def test_what_was_added_and_is_not_told_of_yet_has_not_begun() -> None:
    """A state that was stored just before would make the whole run unusable."""
    queue = grown(document(job("a")), [job("b", "a"), job("c")], [None, None])
    q = taken(
        queue, stored(told("a", "completed", exit_code=0), told("b", "completed", exit_code=0))
    )
    assert q.states == "a:completed b:completed c:running"
    with pytest.raises(StateError, match="not those of its document"):
        taken(queue, stored(told("b", "completed")))
