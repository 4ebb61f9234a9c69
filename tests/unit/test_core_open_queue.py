"""An open queue between two sessions, and a cancel that spares what runs."""

from __future__ import annotations

from core_driver import drive, job

from runner.core import events as ev


def test_a_queue_that_has_ended_is_opened_again() -> None:
    """An executor could not go on with the queue of yesterday's session."""
    q = drive(job("a"))
    q.fail("a")
    assert q.status == "failed" and q.core.finished
    q.tick(10_000.0)
    q.crash()
    q.open(lambda now: ev.IntakeChanged(now, True))
    assert q.status == "running" and not q.core.finished
    assert q.core.queue.completed_at is None and q.core.queue.worked == 0
    q.add(job("b"))
    q.ok("b")
    q.send(ev.IntakeChanged(q.now(), False))
    assert q.status == "failed" and q.states == "a:failed b:completed"


def test_what_has_started_is_left_alone_where_only_the_waiting_is_cancelled() -> None:
    """Future.cancel() would end a call that runs."""
    q = drive(job("a"), job("b"))
    q.started("a")
    q.send(ev.CancelRequested(q.now(), (0, 1), waiting_only=True))
    assert q.states == "a:running b:cancelled"
    q.ends("a", ev.Exited(0))
    assert q.states == "a:completed b:cancelled"
