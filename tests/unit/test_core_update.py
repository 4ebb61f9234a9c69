"""§8: ``--update``, a changed document for a queue that has begun."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from core_driver import Driver, document, drive, job

from runner.core.events import Exited, Signalled
from runner.core.update import carry_over
from runner.errors import ConflictError
from runner.model.document import Queue


def update(q: Driver, new: Queue) -> None:
    """What a session for the new document begins with."""
    kept = {i: state for i, state in enumerate(q.core.jobs) if state != type(state)()}
    queue, jobs = carry_over(q.document, new, q.core.queue, kept)
    q.load(queue, jobs, new)
    q.all.clear()


def test_records_follow_their_jobs_to_other_places() -> None:
    """A completed job would run again, or another be taken for it."""
    q = drive(job("a"), job("b", "a"), job("c"))
    q.ok("a")
    q.started("b")
    token = q.token("b")
    update(q, document(job("new"), job("c"), job("a"), job("b", "a"), job("d", "b")))
    assert q.states == "new:pending c:pending a:completed b:running d:pending"
    q.session()
    assert q.token("b") == token
    q.started("b", adopted=True)
    q.told()
    q.run()
    assert q.order == ["new", "c", "d"]


FIXED: list[tuple[str, Queue, str]] = [
    ("changed", document(job("a", timeout=5.0), job("b", "a"), job("c")), "'a' has started"),
    ("ancestor", document(job("a"), job("b"), job("c")), "'b' has started and can't change"),
    ("removed", document(job("b"), job("c")), "'a' has started and can't be removed"),
]


@pytest.mark.parametrize(("what", "new", "message"), FIXED)
def test_what_has_started_may_not_change(what: str, new: Queue, message: str) -> None:
    """A result would be shown for a command that never ran."""
    q = drive(job("a"), job("b", "a"), job("c"))
    q.ok("a")
    with pytest.raises(ConflictError, match=message):
        update(q, new)


def test_the_ancestors_of_what_has_started_may_not_change_either() -> None:
    """A job that was skipped on the way to a started one would become another."""
    q = drive(job("a"), job("b", "a"), job("clean", "b", "always"))
    q.fail("a")
    assert q.states == "a:failed b:skipped clean:running"
    with pytest.raises(ConflictError, match=r"jobs\[1\]: 'b'.*timeout"):
        update(q, document(job("a"), job("b", "a", timeout=9.0), job("clean", "b", "always")))


def test_all_conflicts_are_told_at_once() -> None:
    """The user would correct them one by one."""
    q = drive(job("a"), job("b"), parallel=2)
    with pytest.raises(ConflictError) as caught:
        update(q, document(job("a", timeout=1.0), job("c")))
    assert len(str(caught.value).splitlines()) == 2


def test_what_never_started_is_judged_anew() -> None:
    """A job skipped for a dependency that it no longer has would stay skipped."""
    q = drive(job("a"), job("b", "a"), job("c", "b"))
    q.fail("a")
    assert q.status == "failed"
    update(q, document(job("a"), job("b"), job("c", "a")))
    assert (q.states, q.status) == ("a:failed b:pending c:pending", "running")
    q.open()
    assert q.states == "a:failed b:running c:skipped"
    q.run()
    assert q.status == "failed"


def test_a_new_job_that_can_not_run_is_skipped_at_once() -> None:
    """It would be shown as pending until all it depends on has ended."""
    q = drive(job("a"), job("b"))
    q.fail("a")
    update(q, document(job("a"), job("b"), job("c", "a b"), job("d", "c")))
    q.session()
    q.void("b")
    q.told()
    assert q.states == "a:failed b:running c:skipped d:skipped"


@pytest.mark.parametrize(("why", "state"), [("cancel", "cancelled"), ("timeout", "skipped")])
def test_new_jobs_of_a_queue_that_is_being_ended_end_with_it(why: str, state: str) -> None:
    """The queue would wait for ever for jobs that nothing may start."""
    q = drive(job("a", timeout=500.0), global_timeout=100.0)
    q.started("a")
    if why == "cancel":
        q.cancel()
    else:
        q.tick(100.0)
    update(q, document(job("a", timeout=500.0), job("b"), global_timeout=100.0))
    q.session()
    q.started("a", adopted=True)
    q.told()
    assert q["b"].status.value == state
    q.ends("a", Exited(0))
    assert q.status == {"cancel": "cancelled", "timeout": "failed"}[why]


def test_a_cancelled_job_stays_cancelled() -> None:
    """An update would bring back what a person has taken out."""
    q = drive(job("a"), job("b"))
    q.cancel("b")
    update(q, document(job("b", timeout=1.0), job("a")))
    assert q.states == "b:cancelled a:running"


def test_new_jobs_make_an_ended_queue_run_again() -> None:
    """They would never start."""
    q = drive(job("a"))
    q.run()
    update(q, document(job("a"), job("b", "a")))
    queue = q.core.queue
    assert (queue.status.value, queue.completed_at, queue.reason) == ("running", None, None)
    q.open()
    assert q.starts == ["b"]


def test_nothing_new_leaves_an_ended_queue_ended() -> None:
    """A changed name would make a finished queue run again."""
    q = drive(job("a"))
    q.run()
    update(q, replace(q.document, queue_name="another"))
    assert q.status == "completed"


STOPPED: list[tuple[str, str, str]] = [
    # on_failure before and after the update, what becomes of a new job
    ("stop", "stop", "skipped"),
    ("stop", "continue", "running"),
    ("continue", "continue", "running"),
    ("continue", "stop", "skipped"),
]


@pytest.mark.parametrize(("old", "new", "expected"), STOPPED)
def test_a_failure_stops_new_jobs_if_the_new_document_says_so(
    old: str, new: str, expected: str
) -> None:
    """An update would start something new after a stop."""
    q = drive(job("a"), on_failure=old)
    q.fail("a")
    update(q, document(job("a"), job("b"), on_failure=new))
    q.open()
    assert q["b"].status.value == expected
    assert q["b"].reason == ("job 'a' failed" if expected == "skipped" else None)


def test_more_time_lets_a_queue_that_ran_out_of_it_go_on() -> None:
    """The only way on would be to run what had failed again."""
    more: dict[str, Any] = {"on_failure": "continue"}
    q = drive(job("a", timeout=500.0), job("b"), global_timeout=100.0, **more)
    q.started("a")
    q.tick(100.0)
    q.ends("a", Signalled("SIGKILL"))
    update(q, document(job("a", timeout=500.0), job("b"), global_timeout=200.0, **more))
    q.open()
    assert q.starts == ["b"]


def test_backoff_and_counts_are_carried_over() -> None:
    """An update would give a job its retries back."""
    q = drive(job("a", retry=2))
    q.fail("a")
    update(q, document(job("first"), job("a", retry=2)))
    q.open()
    assert q.starts == ["first"]
    q.ok("first")
    q.tick(5.0)
    q.fail("a")
    assert (q["a"].status.value, q["a"].counted) == ("failed", 2)
