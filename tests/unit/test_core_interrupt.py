"""§8: the machine or the service is about to stop; and what comes after a session has ended."""

from __future__ import annotations

import pytest
from core_driver import drive, job

from runner.core.events import Exited, InterruptRequested, Signalled

TERM = Signalled("SIGTERM")


def test_interrupt_ends_what_runs_and_leaves_the_rest() -> None:
    """An orderly stop would lose work, or let the queue look finished."""
    q = drive(job("a", term_grace=100.0), job("b", retry=2), job("c"), parallel=2)
    q.fail("b", 7)
    q.started("a")
    q.interrupt(grace=60.0)
    assert sorted(q.signals) == [("a", False), ("c", False)]
    assert q["a"].live is not None and q["a"].live.kill_at == q.mono + 60.0
    q.void("c")
    assert q.starts == []
    q.ends("a", TERM)
    assert q.states == "a:interrupted b:pending c:pending"
    assert q.finish is not None and q.finish.value == "interrupted"
    assert q.core.queue.reason == "machine stops"
    assert q.core.next_deadline() is None
    q.crash(down=1000.0, boot=True)
    q.open()
    assert q.starts == ["a", "c"]
    assert (q["a"].attempt, q["a"].counted, q["a"].interruptions) == (2, 0, 1)
    assert q["b"].exit_code == 7
    q.run()
    assert q.status == "completed"


def test_what_ends_by_itself_during_an_interruption_has_ended() -> None:
    """A job that completes in the grace would run again."""
    q = drive(job("a"), job("b", "a"), parallel=2)
    q.started("a")
    q.over("a")
    q.interrupt()
    q.ends("a", Exited(0))
    assert (q.states, q.status) == ("a:completed b:pending", "interrupted")


def test_an_interruption_that_finds_all_ended_finishes_the_queue() -> None:
    """A queue that is done would be called interrupted."""
    q = drive(job("a"))
    q.started("a")
    q.over("a")
    q.interrupt()
    q.ends("a", Exited(0))
    assert q.status == "completed"


def test_an_interruption_does_not_wait_for_uploads() -> None:
    """A machine that goes down would wait for a store that doesn't answer."""
    q = drive(job("a"), collects=True)
    q.ok("a")
    assert q.collects == ["a"]
    q.interrupt(grace=60.0)
    assert (q.states, q.status) == ("a:completed", "interrupted")
    q.crash(boot=True)
    q.open(collects=True)
    assert (q.collects, q.order) == (["a"], ["a"])
    q.stored("a")
    assert q.status == "completed"


def test_a_second_interruption_only_shortens_the_grace() -> None:
    """A machine about to go would wait for a grace of ten minutes."""
    q = drive(job("a", term_grace=600.0, timeout=10.0), job("b", term_grace=600.0), parallel=2)
    q.started("a")
    q.tick(10.0)
    q.interrupt()
    q.interrupt(grace=60.0)
    for name in "ab":
        live = q[name].live
        assert live is not None and live.kill_at == q.mono + 60.0
    q.interrupt(grace=900.0)
    assert q["b"].live is not None and q["b"].live.kill_at == q.mono + 60.0
    q.ends("a", TERM)
    assert q["a"].timed_out, "the first reason stands"


def test_an_interruption_before_work_begins() -> None:
    """``--fresh`` would start jobs only to end them."""
    q = drive(job("a"), job("b"))
    q.started("a")
    q.crash()
    q.session()
    q.started("a", adopted=True)
    q.send(InterruptRequested(q.now(), "--fresh"))
    assert q.did == []
    q.told()
    assert q.signals == [("a", False)]
    q.ends("a", TERM)
    assert (q.states, q.status) == ("a:interrupted b:pending", "interrupted")


def test_a_cancelled_queue_that_is_interrupted_ends_cancelled() -> None:
    """A job stopped by an earlier interruption would keep a cancelled queue open for ever."""
    q = drive(job("a"), job("b"))
    q.started("a")
    q.interrupt()
    q.crash()
    q.session()
    q.started("a", adopted=True)
    q.told()
    q.cancel()
    q.ends("a", TERM)
    assert (q.states, q.status) == ("a:cancelled b:cancelled", "cancelled")
    assert q.finish is not None


LATE = ["cancel", "retry", "pause", "interrupt", "kill"]


@pytest.mark.parametrize("request_", LATE)
@pytest.mark.parametrize("end", ["failed", "interrupted"])
def test_a_session_that_has_finished_does_nothing_more(request_: str, end: str) -> None:
    """A job would be started by a process that is about to leave."""
    q = drive(job("a"), job("b", "a"))
    if end == "failed":
        q.fail("a")
    else:
        q.interrupt()
        q.ends("a", TERM)
    assert q.status == end
    getattr(q, request_)()
    assert q.did == []
    assert q.core.finished and q.core.next_deadline() is None


def test_a_retry_after_the_end_is_for_the_next_session() -> None:
    """A retry in the last moment would be lost."""
    q = drive(job("a"))
    q.fail("a")
    q.retry()
    assert (q.states, q.status) == ("a:pending", "running")
    q.crash()
    q.open()
    assert q.starts == ["a"]
