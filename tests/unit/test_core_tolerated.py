"""Failures that are allowed, and those that are one too many."""

from __future__ import annotations

from core_driver import drive, job

from runner.model.queue import ArraySpec


def test_a_tolerated_failure_is_a_success_for_those_behind_it() -> None:
    """One bad sample would keep the summary of all others from being made."""
    q = drive(
        job("a", allow_failure=True), job("b"), job("sum", "a b"), job("alarm", "a", "failure")
    )
    q.fail("a")
    q.ok("b")
    q.ok("sum")
    assert q.states == "a:failed b:completed sum:completed alarm:skipped"
    assert q["alarm"].reason == "no dependency failed"
    assert (q.status, q.core.queue.reason) == ("completed", "1 job failed, which is tolerated")


def test_a_tolerated_failure_stops_nothing() -> None:
    """A queue would end for a job that may fail."""
    q = drive(job("a", allow_failure=True), job("b"), on_failure="stop")
    q.fail("a")
    q.fail("b")
    assert (q.status, q.core.queue.reason) == ("failed", "job 'b' failed")


def test_elements_may_fail() -> None:
    """An array's aggregate would never run for one element of a thousand."""
    q = drive(job("x", allow_failure=True, array=ArraySpec(2)), job("sum", "x"), on_failure="stop")
    q.fail("x[0]")
    q.ok("x[1]")
    q.ok("sum")
    assert (q.status, q.core.queue.reason) == ("completed", "1 job failed, which is tolerated")


def test_so_many_failures_end_the_starts() -> None:
    """A sweep whose every point fails would go on for a day."""
    jobs = [job(f"j{n}") for n in range(5)]
    q = drive(*jobs, job("tidy", "j0", "always"), max_failures=2, parallel=2)
    q.fail("j0")
    assert q.states.startswith("j0:failed j1:running j2:running")
    q.fail("j1")
    assert q["j3"].reason == "job 'j1' failed"
    q.ok("j2")
    q.ok("tidy")
    assert q.states == ("j0:failed j1:failed j2:completed j3:skipped j4:skipped tidy:completed")
    assert q.status == "failed"


def test_elements_count_as_they_fail() -> None:
    """A large array would run to its end though each of its elements fails."""
    q = drive(job("x", array=ArraySpec(4)), max_failures=2)
    q.fail("x[0]")
    q.fail("x[1]")
    assert q.states == "x[0]:failed x[1]:failed x[2]:skipped x[3]:skipped"


def test_tolerated_failures_are_not_counted() -> None:
    """A queue would stop for failures that it was told to expect."""
    jobs = [job(f"j{n}", allow_failure=True) for n in range(3)]
    q = drive(*jobs, job("last"), max_failures=1)
    for n in range(3):
        q.fail(f"j{n}")
    q.ok("last")
    assert (q.status, q.core.queue.reason) == ("completed", "3 jobs failed, which is tolerated")


def test_a_retry_lifts_the_stop_though_something_tolerated_has_failed() -> None:
    """What a stop has skipped could never run, for a failure that stops nothing."""
    q = drive(job("a", allow_failure=True), job("b"), job("c"), on_failure="stop")
    q.fail("a")
    q.fail("b")
    q.retry("b")
    assert q.states == "a:failed b:pending c:pending"
