"""Jobs that wait for a person: no slot, no clock, and nothing before the word."""

from __future__ import annotations

from core_driver import drive, job

from runner.core import events as ev
from runner.core.consequences import HELD


def test_a_held_job_waits_for_its_release() -> None:
    """Something would be published that nobody has looked at."""
    q = drive(job("a"), job("publish", "a", hold=True), job("after", "publish"), job("other"))
    q.ok("a")
    assert q.states == "a:completed publish:pending after:pending other:running"
    assert q["publish"].reason == HELD
    q.ok("other")
    assert not q.core.finished
    q.send(ev.ReleaseRequested(q.now(), (1,)))
    assert q.states == "a:completed publish:running after:pending other:completed"
    assert q["publish"].reason is None
    q.ok("publish")
    q.ok("after")
    assert q.status == "completed"


def test_the_clock_stands_while_all_waits_for_a_person() -> None:
    """A queue would run out of time over a weekend, for want of a word."""
    q = drive(job("a"), job("b", "a", hold=True), global_timeout=100.0)
    q.tick(10.0)
    q.ok("a")
    q.tick(10_000.0)
    assert q.core.next_deadline() is None
    assert q["b"].status.value == "pending"
    q.send(ev.ReleaseRequested(q.now(), (1,)))
    assert q.core.queue.worked < 100
    q.ok("b")
    assert q.status == "completed"


def test_a_release_holds_for_retries_and_reruns() -> None:
    """An approved job would have to be approved for each of its attempts."""
    q = drive(job("b", hold=True, retry=2))
    q.send(ev.ReleaseRequested(q.now(), (0,)))
    q.fail("b")
    q.tick(10.0)
    assert q["b"].status.value == "running" and q["b"].released


def test_a_held_job_can_be_cancelled_or_skipped() -> None:
    """A queue could not be ended without an approval."""
    q = drive(job("a", hold=True), job("b"), job("c", "b", hold=True))
    q.fail("b")
    assert q["c"].status.value == "skipped"
    q.cancel("a")
    assert (q["a"].status.value, q.status) == ("cancelled", "failed")
