"""§5, §7: pause, and starts that a full disk blocks."""

from __future__ import annotations

import pytest
from core_driver import drive, job

from runner.core.events import Signalled

TERM = Signalled("SIGTERM")


def test_pause_starts_nothing_new_and_unpause_goes_on() -> None:
    """A pause would kill what runs, or stop nothing."""
    q = drive(job("a"), job("b"), job("c", retry=2))
    q.pause()
    assert q.signals == []
    q.ok("a")
    assert (q.starts, q.status) == ([], "running")
    q.crash()
    q.open()
    assert q.starts == [], "a pause outlives the session"
    q.pause(False)
    assert q.starts == ["b"]


def test_time_paused_with_nothing_running_is_not_worked() -> None:
    """A pause over the weekend would use up the queue's time."""
    q = drive(job("a", timeout=1000.0), job("b"), global_timeout=1000.0)
    q.started("a")
    q.pause()
    q.tick(100.0)
    q.ok("a")
    assert q.core.next_deadline() is None, "an idle queue wakes nobody"
    q.later(50_000.0)
    q.pause(False)
    assert q.core.queue.worked == pytest.approx(100.0)
    assert q.starts == ["b"]


def test_the_global_timeout_passes_while_paused_with_a_job_running() -> None:
    """A paused queue would run past its time."""
    q = drive(job("a", timeout=1000.0), job("b"), global_timeout=100.0)
    q.started("a")
    q.pause()
    q.tick(100.0)
    assert q.signals == [("a", False)]
    q.ends("a", TERM)
    assert (q.states, q.status) == ("a:failed b:skipped", "failed")


def test_the_global_timeout_passes_while_starts_are_blocked() -> None:
    """A full disk would keep a queue open for ever."""
    q = drive(job("a"), job("b"), global_timeout=100.0)
    q.block()
    q.ok("a")
    assert q.starts == []
    q.tick(100.0)
    assert (q.states, q.status) == ("a:completed b:skipped", "failed")


def test_a_queue_out_of_time_starts_nothing_when_it_is_unpaused() -> None:
    """A job would be started only to be stopped a moment later."""
    q = drive(job("a", timeout=1000.0), job("b"), global_timeout=100.0)
    q.started("a")
    q.pause()
    q.later(150.0)
    q.ok("a")
    q.pause(False)
    assert q.starts == []
    q.tick(0.0)
    assert q.states == "a:completed b:skipped"


def test_a_queue_that_ends_is_paused_no_more() -> None:
    """A retry of it would start nothing, and nobody would know why."""
    q = drive(job("a"))
    q.pause()
    q.fail("a")
    assert (q.status, q.core.queue.paused) == ("failed", False)
    q.pause()
    assert not q.core.queue.paused, "what has ended can't be paused"


def test_blocked_starts_go_on_when_there_is_room() -> None:
    """A full disk would stop the queue for good, or end what runs."""
    q = drive(job("a"), job("b"))
    q.block()
    assert q.signals == []
    q.ok("a")
    assert q.starts == []
    q.block(None)
    assert q.starts == ["b"]
