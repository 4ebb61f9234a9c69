"""What a database has lost, as queue-state.json still tells of it."""

from __future__ import annotations

from typing import Any

import pytest
from core_driver import BOOT, EPOCH, Driver, document, job

from runner.core import events as ev
from runner.core.state_file import read_state
from runner.core.state_recovery import OnRecord, from_file, with_attempts
from runner.errors import StateError
from runner.model.document import QueueSpec, ResultSpec

NOW = ev.Now(EPOCH, 1000.0)
OUT = (ResultSpec("out"),)


def told(name: str, status: str, attempt: int = 1, **more: Any) -> dict[str, Any]:
    return {"job_id": name, "status": status, "attempt": attempt, **more}


def opened(
    queue: QueueSpec, *jobs: dict[str, Any], attempts: list[OnRecord] | None = None
) -> Driver:
    """A session on what was brought back, before its survivors are told of."""
    state = {"queue_id": "q", "run_id": "0123456789abcdef", "status": "running", "jobs": list(jobs)}
    times = {"started_at": "2023-11-14T22:00:00Z", "updated_at": "2023-11-14T22:13:00Z"}
    known = from_file(queue, read_state(state | times, "it"))
    found = with_attempts(queue, *known, attempts or [], NOW, BOOT)
    q = Driver(queue)
    q.load(*found, queue)
    q.session()
    return q


def test_what_has_completed_stays_and_what_lives_is_adopted() -> None:
    """Hours of work are done again, or run beside themselves, for a log that was lost."""
    queue = document(job("a", result_paths=OUT), job("b", "a"), job("c", "b"))
    jobs = [told("a", "completed", exit_code=0), told("b", "running", 3, pid=77, interruptions=2)]
    q = opened(queue, *jobs, told("c", "pending", 0), attempts=[OnRecord("t-9", 4, 900.0, 77)])
    assert q.token("b") == "t-9"
    q.started("b", adopted=True, since=900.0)
    q.told()
    assert (q.states, q.did) == ("a:completed b:running c:pending", [])
    assert (q["b"].attempt, q["b"].interruptions) == (3, 2)
    q.run()
    assert (q.status, q.order) == ("completed", ["c"])


def test_what_ran_and_is_not_on_record_was_interrupted() -> None:
    """A job that nobody can find is taken to run for ever, or to have used up a retry."""
    queue = document(job("a"), job("b"), parallel=2)
    jobs = [told("a", "running", 2, pid=5, interruptions=1), told("b", "running", 1, pid=6)]
    q = opened(queue, *jobs, attempts=[OnRecord("t-2", 0, 900.0, 6)])
    live = q["a"].live
    assert live is not None and live.slot == 1
    q.started("b", adopted=True, since=900.0)
    q.lose("a")
    q.told()
    assert (q.starts, q["a"].attempt, q["a"].counted) == (["a"], 3, 0)


def test_after_a_boot_it_went_with_the_machine() -> None:
    """Of another boot nothing lives: a start with its token could be anybody's."""
    q = opened(document(job("a")), told("a", "running", 1, pid=5))
    assert q.core.queue.boot_id == BOOT
    q.lose("a", machine=True)
    q.told()
    assert (q.starts, q["a"].interruptions) == (["a"], 1)


def test_waits_go_on() -> None:
    """A backoff begins anew, or is forgotten."""
    queue = document(job("a", retry=3), job("b"), parallel=2)
    due = "2023-11-14T22:13:30Z"
    waits = told("a", "pending", 1, exit_code=1, next_attempt_at=due)
    record = [OnRecord("t-1", 0, 900.0, 9)]
    q = opened(queue, waits, told("b", "running", 1, pid=9), attempts=record)
    # The session begins 20 s after the state was written, of a wait of 30 s.
    assert q["a"].retry_due == pytest.approx(1010.0)


def test_a_state_of_another_document_says_nothing() -> None:
    """Jobs of a document that is no more would be taken for those that are."""
    with pytest.raises(StateError):
        opened(document(job("a")), told("b", "completed", exit_code=0))


def test_an_attempt_is_known_by_its_record_alone() -> None:
    """What began in the last second, before the file was written anew, is ended and done again."""
    queue = document(job("a"), job("b", "a"), job("c", "b"))
    record = [OnRecord("t-3", 0, 900.0, 12, (1, 2))]
    jobs = [told("a", "completed", exit_code=0), told("b", "interrupted", 1, interruptions=1)]
    q = opened(queue, *jobs, told("c", "pending", 0), attempts=record)
    assert (q.token("b"), q["b"].attempt) == ("t-3", 2)
    q.started("b", adopted=True, since=900.0)
    q.told()
    assert q.starts == []
    q.run()
    assert q.order == ["c"]


def test_an_attempt_of_another_number_or_before_its_time_is_not_the_jobs() -> None:
    """A job would be taken to be in an attempt that ended long ago, or to run before its turn."""
    queue = document(job("a"), job("b", "a"))
    record = [OnRecord("t-1", 0, 900.0, 12, (0, 1)), OnRecord("t-2", 1, 901.0, 13, (1, 1))]
    q = opened(queue, told("a", "running", 2, pid=40), told("b", "pending", 0), attempts=record)
    assert q.token("a") not in ("t-1", "t-2")
    assert q["b"].live is None


def test_the_databases_own_records_are_completed_too() -> None:
    """What was begun in the lost steps is ended and done again, where no file knows of it."""
    queue = document(job("a"), job("b"), job("c", "b"), parallel=2)
    q = Driver(queue).open()
    q.started("a")
    token = q.token("a")
    q.ok("b")
    q.lose("c")
    q.crash()
    jobs = dict(enumerate(q.core.jobs))
    record = [OnRecord(token, 0, 990.0, 5, (0, 1)), OnRecord("t-8", 1, 995.0, 7, (2, 2))]
    live = jobs.pop(2).live
    assert live is not None
    jobs[2] = live.before
    q.load(*with_attempts(queue, q.core.queue, jobs, record, q.now(), BOOT), queue)
    q.session()
    assert (q.token("a"), q.token("c"), q["c"].attempt) == (token, "t-8", 2)
    q.started("a", adopted=True)
    q.ends("c", ev.Exited(0))
    q.told()
    assert q.did == []
    q.run()
    assert q.status == "completed"


def test_a_record_that_was_written_over_leaves_its_job_lost() -> None:
    """Two attempts in one place of the record would be taken for each other."""
    queue = document(job("a"), job("b"), parallel=2)
    q = Driver(queue).open()
    q.started("a")
    jobs = {0: q["a"]}
    record = [OnRecord("t-9", 0, 999.0, 9, (1, 1))]
    q.load(*with_attempts(queue, q.core.queue, jobs, record, q.now(), BOOT), queue)
    q.session()
    assert q.token("b") == "t-9"
    q.lose("a")
    assert q["a"].interruptions == 1
