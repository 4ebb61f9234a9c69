"""§1, §8: the clocks, of waits and of the queue, over restarts and boots."""

from __future__ import annotations

import pytest
from core_driver import drive, job

from runner.core import events as ev
from runner.core.events import Exited
from runner.model.document import RetrySpec


@pytest.mark.parametrize("boot", [False, True])
def test_backoff_goes_on_from_where_it_was(boot: bool) -> None:
    """A restart would skip a wait, or begin it anew."""
    q = drive(job("a", retry=RetrySpec(2, "fixed", base_delay=100.0)))
    q.fail("a")
    q.tick(40.0)
    q.save()
    q.crash(down=1000.0 if boot else 20.0, boot=boot)
    q.open()
    assert q.starts == []
    left = 60.0 if boot else 40.0
    assert q["a"].next_attempt_at == pytest.approx(q.wall + left)
    q.tick(left - 0.1)
    assert q.starts == []
    q.tick(0.2)
    assert q.starts == ["a"]


def test_a_crash_of_the_new_session_does_not_stretch_the_wait() -> None:
    """Crash after crash, a job in backoff would never come to its turn."""
    q = drive(job("a", retry=RetrySpec(2, "fixed", base_delay=100.0)))
    q.fail("a")
    for _ in range(3):
        q.crash(boot=True)
        q.open()
        q.tick(30.0)
        q.save()
    q.tick(10.0)
    assert q.starts == ["a"]


def test_the_clock_set_back_by_a_day_changes_nothing() -> None:
    """Waits and timeouts would follow the wall clock."""
    q = drive(job("a", retry=RetrySpec(2, "fixed", base_delay=100.0)))
    q.fail("a")
    q.wall -= 86_400.0
    q.tick(100.0)
    assert q.starts == ["a"]
    assert q.core.queue.worked == pytest.approx(100.0)


CLOCK = [
    # what the session left, how long it was down, a new boot, what of that counts as worked
    ("backoff", 500.0, False, 0.0),
    ("backoff", 500.0, True, 0.0),
    ("adopted", 500.0, False, 500.0),
    ("ended", 500.0, False, 30.0),
    ("ended unclaimed", 500.0, False, 70.0),
    ("lost", 500.0, True, 0.0),
    ("void", 500.0, False, 0.0),
]


@pytest.mark.parametrize(("left", "down", "boot", "counted"), CLOCK)
def test_the_global_clock_over_a_restart(
    left: str, down: float, boot: bool, counted: float
) -> None:
    """Time that nobody worked would count, or a restart would make the queue's time longer."""
    q = drive(job("a", retry=2, timeout=5000.0))
    if left == "backoff":
        q.fail("a")
    elif left in ("adopted", "ended", "lost"):
        q.started("a")
    q.tick(4.0 if left == "backoff" else 40.0)
    q.save()
    before = q.core.queue.worked
    assert before == (4.0 if left == "backoff" else 40.0)
    q.crash(down=down, boot=boot)
    q.session()
    if left == "adopted":
        q.started("a", adopted=True, since=q.mono - 540.0)
    elif left.startswith("ended"):
        q.ends("a", Exited(0), duration=70.0)
    elif left == "lost":
        q.lose("a", machine=True)
    elif left == "void":
        q.void("a")
    q.told()
    assert q.core.queue.worked == pytest.approx(before + counted)


def test_what_ran_side_by_side_unwatched_counts_once() -> None:
    """Two jobs in one hour would use up two hours of the queue's time."""
    q = drive(job("a"), job("b"), parallel=2)
    q.started("a")
    q.started("b")
    q.crash(down=100.0)
    q.session()
    q.ends("a", Exited(0), duration=30.0)
    q.ends("b", Exited(0), duration=20.0)
    q.told()
    assert q.core.queue.worked == pytest.approx(30.0)


def test_a_session_that_only_takes_a_request_leaves_the_clock_alone() -> None:
    """What ran unwatched before and after it would not count."""
    q = drive(job("a", timeout=5000.0), job("b"))
    q.started("a")
    since = q.mono
    q.crash(down=100.0)
    q.session()
    q.cancel("b")
    q.crash(down=50.0)
    q.session()
    q.started("a", adopted=True, since=since)
    q.told()
    assert q.core.queue.worked == pytest.approx(150.0)


def test_a_retry_before_the_survivors_are_told_gives_a_fresh_clock() -> None:
    """``--retry-failed`` would begin with the time that the queue has just been down."""
    q = drive(job("a"), job("b", timeout=5000.0), parallel=2)
    q.fail("a")
    q.started("b")
    since = q.mono
    q.crash(down=100.0)
    q.session()
    q.retry()
    q.started("b", adopted=True, since=since)
    q.told()
    assert q.core.queue.worked == 0.0


def test_the_time_worked_is_saved_every_thirty_seconds() -> None:
    """A power cut in a long job would give the queue its time back."""
    q = drive(job("a", timeout=5000.0), global_timeout=50_000.0)
    q.started("a")
    assert q.core.next_deadline() == q.mono + 30.0
    q.later(30.0)
    q.core.handle(ev.TimerFired(q.now()))
    assert q.core.take_changes().urgent
    assert q.core.queue.worked == pytest.approx(30.0)


def test_a_queue_that_ended_after_its_time_does_not_run_out_of_it_later() -> None:
    """A completed queue would turn into a failed one, or the timer fire without end."""
    q = drive(job("a", timeout=500.0), global_timeout=100.0, collects=True)
    q.started("a")
    q.later(101.0)
    q.ends("a", Exited(0))
    q.stored("a", ok=False)
    assert q.status == "completed", "nobody had decided otherwise before"
    q.crash()
    q.open(collects=True)
    assert q.core.next_deadline() is None
    q.save()
    assert (q.status, q.core.queue.timed_out) == ("completed", False)
