"""§5: cancel, of the queue or of jobs."""

from __future__ import annotations

import pytest
from core_driver import Driver, document, drive, job

from runner.core.events import CancelRequested, Exited, Signalled

TERM = Signalled("SIGTERM")


def test_cancel_the_queue() -> None:
    """Something would go on, or be called other than cancelled."""
    q = drive(
        job("done"),
        job("runs", term_grace=4.0),
        job("waits", retry=3),
        job("never"),
        job("clean", "never", "always"),
        parallel=2,
    )
    q.ok("done")
    q.fail("waits", 7)
    q.cancel()
    assert sorted(q.signals) == [("never", False), ("runs", False)]
    q.void("never")
    q.tick(4.0)
    assert q.signals == [("runs", True)]
    q.ends("runs", Exited(0))
    assert q.states == (
        "done:completed runs:cancelled waits:cancelled never:cancelled clean:cancelled"
    )
    assert (q["runs"].exit_code, q["waits"].exit_code) == (0, 7)
    assert (q.status, q.core.queue.reason) == ("cancelled", "cancelled")
    assert q["never"].attempt == 0


def test_cancel_one_running_job() -> None:
    """What doesn't need a cancelled job would be ended with it."""
    q = drive(job("a"), job("b", "a"), job("c"), job("clean", "a", "always"))
    q.cancel("a")
    assert q.signals == [("a", False)]
    q.ends("a", TERM)
    assert q.states == "a:cancelled b:skipped c:running clean:pending"
    assert (q["a"].reason, q["b"].reason) == ("cancelled", "dependency 'a' was cancelled")
    q.run()
    assert (q.status, q.core.queue.reason) == ("cancelled", "a job was cancelled")


def test_a_failure_weighs_more_than_a_cancelled_job() -> None:
    """A queue with a failed job would not end failed."""
    q = drive(job("a"), job("b"))
    q.cancel("b")
    q.fail("a")
    assert (q.states, q.status) == ("a:failed b:cancelled", "failed")


def test_a_cancelled_job_does_not_stop_a_queue() -> None:
    """A cancel would count as a failure."""
    q = drive(job("a"), job("b"), on_failure="stop")
    q.cancel("a")
    q.ends("a", TERM)
    assert q.starts == ["b"]


WAITING = [("pending", 0), ("backoff", 1), ("interrupted", 1)]


@pytest.mark.parametrize(("how", "attempt"), WAITING)
def test_cancel_one_waiting_job(how: str, attempt: int) -> None:
    """A job that isn't running couldn't be cancelled."""
    q = drive(job("a", retry=3), job("b"))
    if how == "backoff":
        q.fail("a", 7)
    elif how == "interrupted":
        q.pause()
        q.lose("a")
    else:
        q.void("a", "no memory", 50.0)
    q.cancel("a")
    a = q["a"]
    assert (a.status.value, a.attempt, a.next_attempt_at) == ("cancelled", attempt, None)
    assert a.exit_code == (7 if how == "backoff" else None)


def test_cancel_a_job_and_its_dependent_together() -> None:
    """What was asked to be cancelled would be called skipped."""
    q = drive(job("a"), job("b"), job("c", "b"), job("d", "c"))
    q.cancel("c", "b")
    assert q.states == "a:running b:cancelled c:cancelled d:skipped"


@pytest.mark.parametrize("collects", [True, False])
def test_there_is_nothing_to_cancel_where_all_has_ended(collects: bool) -> None:
    """A queue whose jobs have all completed would end cancelled for its uploads."""
    q = drive(job("a"), collects=collects)
    q.ok("a")
    q.cancel()
    q.cancel("a")
    assert not q.core.queue.cancelling
    if collects:
        q.stored("a")
    assert q.status == "completed"


def test_a_cancel_that_came_too_late_for_all_cancels_nothing() -> None:
    """A queue would be called cancelled with no cancelled job in it."""
    q = drive(job("a"))
    q.started("a")
    q.over("a")
    q.cancel()
    q.ends("a", Exited(0))
    assert q.status == "completed"


def test_cancel_before_anything_started() -> None:
    """A queue that waits for its turn couldn't be cancelled, or would start first."""
    q = Driver(document(job("a"), job("b", "a")))
    q.open(lambda now: CancelRequested(now))
    assert (q.states, q.status) == ("a:cancelled b:cancelled", "cancelled")
    assert q.order == []
    assert q.core.queue.started_at is None


def test_a_cancel_survives_a_crash() -> None:
    """A crash during the grace would undo the cancel."""
    q = drive(job("a", term_grace=4.0), job("b"))
    q.started("a")
    q.cancel()
    q.crash(down=2.0)
    q.session()
    q.started("a", adopted=True)
    assert q.did == []
    q.told()
    assert q.signals == [("a", False)], "the last session may not have sent it"
    q.tick(3.9)
    assert q.signals == [("a", False)], "it may not have been told before: the grace begins anew"
    q.tick(0.1)
    assert q.signals == [("a", True)]
    q.crash()
    q.session()
    q.told()
    assert q.signals == [("a", True)]
    q.ends("a", TERM)
    assert (q.states, q.status) == ("a:cancelled b:cancelled", "cancelled")
