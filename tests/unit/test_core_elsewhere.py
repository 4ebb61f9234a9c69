"""Attempts whose place keeps their time and decides which end came first, as AWS Batch's jobs."""

from __future__ import annotations

import pytest
from core_driver import Driver, drive, job

from runner.core import events as ev
from runner.core.events import Exited, Lost, Signalled
from runner.core.states import JobStatus


def running(**more: object) -> Driver:
    q = drive(job("a", timeout=10.0, **more))
    q.send(ev.AttemptStarted(q.now(), q.at("a"), q.token("a"), None, q.mono, keeps_time=True))
    return q


def test_who_keeps_its_own_time_is_given_no_deadline() -> None:
    """An attempt that had ended by itself in time would be called timed out when told late."""
    q = running()
    q.tick(60.0)
    assert q.signals == []
    q.ends("a", Exited(0))
    assert q["a"].status is JobStatus.COMPLETED


@pytest.mark.parametrize("retry", [1, 2])
def test_a_timeout_that_its_place_has_kept_is_one(retry: int) -> None:
    """A job that ran out of time would be shown as killed by somebody."""
    q = running(retry=retry)
    q.ends("a", Signalled("SIGTERM"), timed_out=True)
    a = q["a"]
    assert (a.timed_out, a.signal, a.counted) == (True, "SIGTERM", 1)
    assert a.error_message == "command timed out after 10s"
    assert a.status is (JobStatus.FAILED if retry == 1 else JobStatus.PENDING)


def test_an_end_on_record_stands_though_a_cancel_was_decided() -> None:
    """Work that was done would be called cancelled, because its end was told a moment later."""
    q = running()
    q.cancel("a")
    q.ends("a", Exited(0), stands=True)
    assert q["a"].status is JobStatus.COMPLETED


def test_no_attempt_follows_an_end_that_stands_over_a_cancel() -> None:
    """A job that a person has cancelled would run once more."""
    q = running(retry=3)
    q.cancel("a")
    q.ends("a", Exited(1), stands=True)
    assert q["a"].status is JobStatus.CANCELLED
    assert q["a"].exit_code == 1


def test_an_end_on_record_stands_over_an_interruption() -> None:
    """A completed job would run again after Ctrl-C."""
    q = running()
    q.interrupt()
    q.ends("a", Exited(0), stands=True)
    assert q["a"].status is JobStatus.COMPLETED


def test_an_end_that_came_after_the_stop_takes_its_reason() -> None:
    """A trainer that catches SIGTERM and exits 0 would have completed."""
    q = running()
    q.cancel("a")
    q.ends("a", Exited(0))
    assert q["a"].status is JobStatus.CANCELLED


def test_announced_losses_are_not_held_against_the_job() -> None:
    """Five Spot reclaims would fail a job."""
    q = running()
    for _ in range(7):
        q.ends("a", Lost(machine=True, announced=True, why="Host EC2 (instance i-1) terminated."))
        assert q.starts == ["a"]
        q.started("a")
    assert (q["a"].interruptions, q["a"].unannounced, q["a"].attempt) == (7, 0, 8)


def test_a_loss_is_told_in_the_words_of_its_place() -> None:
    """The reason would blame a supervising process that there isn't on AWS Batch."""
    q = running()
    q.interrupt()
    q.ends(
        "a", Lost(machine=True, announced=True, why="Your Spot Task was interrupted."), stands=True
    )
    assert q["a"].reason == "Your Spot Task was interrupted."
