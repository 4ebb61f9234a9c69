"""§8: an ended queue taken up again, and results that are not stored yet."""

from __future__ import annotations

import pytest
from core_driver import drive, job

from runner.model.document import ResultSpec


def test_an_ended_queue_starts_nothing() -> None:
    """The same command again would run jobs again."""
    q = drive(job("a"), job("b", "a"))
    q.fail("a")
    ended = q.core.queue
    q.crash(down=100.0, boot=True)
    q.open()
    assert [type(action).__name__ for action in q.did] == ["FinishQueue"]
    assert (q.finish, q.core.next_deadline()) == (ended.status, None)
    assert (q.core.queue.reason, q.core.queue.completed_at) == (ended.reason, ended.completed_at)
    assert q.core.queue.worked == ended.worked


def test_an_ended_queue_has_its_unfinished_uploads_done_again() -> None:
    """Results that a full store refused would never come to it."""
    q = drive(job("a"), job("b"), collects=True)
    q.ok("a", "b")
    q.stored("a", ok=False, error="no room")
    q.stored("b")
    assert (q.status, q["a"].logs_uploaded) == ("completed", False)
    q.crash(down=100.0)
    q.open(collects=True)
    assert (q.collects, q.starts, q.finish) == (["a"], [], None)
    worked = q.core.queue.worked
    assert q.core.next_deadline() is None
    q.later(10_000.0)
    q.save()
    assert (q.status, q.core.queue.worked) == ("completed", worked), "its clock stands still"
    q.stored("a")
    assert (q.finish, q["a"].logs_uploaded) == (q.core.queue.status, True)
    assert q["a"].result_error is None


def test_an_ended_queue_is_interrupted_in_its_uploads() -> None:
    """Ctrl-C would have to wait for a store that doesn't answer, or change how the queue ended."""
    q = drive(job("a"), collects=True)
    q.fail("a")
    q.stored("a", ok=False)
    q.crash()
    q.open(collects=True)
    q.interrupt()
    assert (q.status, q.finish) == ("failed", q.core.queue.status)


def test_a_session_that_stores_nothing_holds_nobody_up() -> None:
    """Without ``--results`` dependents would wait for an upload that nobody does."""
    q = drive(job("a", result_paths=(ResultSpec("out"),)), job("b", "a"), collects=True)
    q.ok("a")
    assert q.starts == []
    q.crash()
    q.open(collects=False)
    assert q.starts == ["b"]


def test_results_stored_again_hold_dependents_up_again() -> None:
    """Dependents would change files that are being stored, or wait for ever."""
    q = drive(job("a", result_paths=(ResultSpec("out"),)), job("b"), job("c", "a b"), collects=True)
    q.ok("a")
    q.stored("a", ok=False, error="no room")
    q.crash()
    q.session(collects=True)
    q.void("b")
    q.told()
    assert (q.collects, q.starts) == (["a"], ["b"])
    q.ok("b")
    assert q.starts == []
    q.stored("a")
    assert q.starts == ["c"]


@pytest.mark.parametrize("at_rest", [True, False])
def test_a_queue_that_is_retried_says_so(at_rest: bool) -> None:
    """`Resumed: the service was started again` would be told of a retry."""
    q = drive(job("a"), job("b", "a"))
    q.fail("a")
    q.crash()
    q.session()
    q.retry()
    if at_rest:
        assert q.core.queue.resumed == "a retry was asked for"
        q.crash()
        q.session()
    q.told()
    assert q.core.queue.resumed == "a retry was asked for (2 pending)"
    assert q["a"].status.value == "running"
    q.crash()
    q.session()
    q.void("a")
    q.told()
    assert q.core.queue.resumed and q.core.queue.resumed.startswith("the service was started again")


def test_a_job_whose_results_were_being_looked_at_runs_again() -> None:
    """It would wait until the queue's time is over for an upload that nobody had begun."""
    q = drive(
        job("a"),
        job("b", "a", run_if="always", result_paths=(ResultSpec("out"),)),
        job("c", "b"),
        collects=True,
    )
    q.fail("a")
    q.stored("a")
    q.ok("b")
    q.crash()
    q.open(collects=True)
    assert q["b"].restoring and q["b"].collecting
    q.retry("a")
    q.ok("a")
    assert q.starts == ["b"]
