"""A session that starts some of the jobs: it ends when they have, and leaves the rest as it was."""

from __future__ import annotations

from typing import Any

from core_driver import Driver, document, job

from runner.core import events as ev
from runner.core.queue_outcome import ONLY_PART
from runner.model.document import JobSpec


def part(numbers: set[int], *jobs: JobSpec, **more: Any) -> Driver:
    driver = Driver(document(*jobs, **more))
    return driver.open(lambda now: ev.PartChosen(now, frozenset(numbers)))


def test_only_these_start_and_the_rest_waits() -> None:
    """Somebody who wants one figure would have to wait for all of them."""
    q = part({0, 2}, job("a"), job("b"), job("c", "a"), job("d", "c"))
    assert q.states == "a:running b:pending c:pending d:pending"
    q.ok("a")
    q.ok("c")
    assert q.states == "a:completed b:pending c:completed d:pending"
    assert (q.status, q.core.queue.reason, q.core.finished) == ("interrupted", ONLY_PART, True)
    q.crash()
    q.open()
    assert q.states == "a:completed b:running c:completed d:pending"


def test_what_waits_for_others_ends_the_session() -> None:
    """It would wait for ever for a job that is not to start."""
    q = part({1}, job("a"), job("b", "a"))
    assert (q.status, q.core.finished) == ("interrupted", True)
    assert q.states == "a:pending b:pending"


def test_retries_and_releases_are_waited_for() -> None:
    """A job of the part would be left in the middle."""
    q = part({0, 1}, job("a", retry=2), job("b", "a", hold=True), job("c"))
    q.fail("a")
    assert not q.core.finished
    q.tick(10.0)
    q.ok("a")
    assert not q.core.finished
    q.send(ev.ReleaseRequested(q.now(), (1,)))
    q.ok("b")
    assert q.core.finished and q.status == "interrupted"


def test_a_part_that_is_all_that_is_left_completes_the_queue() -> None:
    """A queue with nothing left to do would be called interrupted."""
    q = part({0, 1}, job("a"), job("b", "a"))
    q.ok("a")
    q.ok("b")
    assert q.status == "completed"
