"""What became of an attempt on AWS Batch, by its records and by what Batch tells."""

from __future__ import annotations

from typing import Any

import pytest

from runner.batch.attempt_records import AttemptFacts
from runner.batch.container.stage import SUPERSEDED
from runner.batch.job_detail import JobDetail, read_job
from runner.batch.records import BatchClaim, BatchEnd, BatchStored, CommandUsage, EndKind, Writer
from runner.core import events as ev
from runner.engine.batch.verdicts import (
    ClaimVerdict,
    EndVerdict,
    FollowVerdict,
    VoidVerdict,
    judge,
)

OURS, THEIRS = Writer.DRIVER, Writer.CONTAINER


def claimed(by: Writer = THEIRS, job: str = "job-1") -> BatchClaim:
    return BatchClaim(by, "t", 100.0, "n", job, 1)


def end(kind: EndKind = EndKind.EXIT, by: Writer = THEIRS, **more: Any) -> BatchEnd:
    return BatchEnd(by, "t", kind, 110.0, **more)


def stored(seen: BatchEnd) -> BatchStored:
    return BatchStored("t", seen, True)


def detail(status: str = "FAILED", said: str = "", **main: Any) -> JobDetail:
    """A job of three containers that has ended; ``main``: how its own container did."""
    containers = [{"name": "main", **main}, {"name": "agent", "exitCode": 0}]
    return read_job(
        {
            "jobId": "job-1",
            "jobName": "runner-x-1-a",
            "status": status,
            "statusReason": said,
            "startedAt": 100_000,
            "stoppedAt": 130_000,
            "ecsProperties": {"taskProperties": [{"containers": containers}]},
        }
    )


LOST_HOST = detail(said="Host EC2 (instance i-0123456789abcdef0) terminated.")


def judged(
    claim: BatchClaim | None,
    ended: BatchEnd | None = None,
    kept: BatchStored | None = None,
    seen: JobDetail | None = LOST_HOST,
) -> Any:
    return judge(AttemptFacts(claim, ended, kept), "job-1", seen)


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        ({"code": 0}, ev.Exited(0)),
        ({"code": 3}, ev.Exited(3)),
        ({"kind": EndKind.SIGNAL, "signal": "SIGSEGV"}, ev.Signalled("SIGSEGV")),
        (
            {"kind": EndKind.NOT_RUNNABLE, "message": "no such folder"},
            ev.NotRunnable("no such folder"),
        ),
    ],
)
def test_an_end_by_itself_is_what_is_on_record(told: dict[str, Any], outcome: ev.Outcome) -> None:
    """Batch's own status, which knows one container, would stand for the command's end."""
    seen = end(**told)
    verdict = judged(claimed(), seen, stored(seen), detail("SUCCEEDED"))
    assert (verdict.outcome, verdict.stands, verdict.ended_at) == (outcome, True, 110.0)


def test_an_exit_of_0_whose_files_went_with_the_host_is_no_success() -> None:
    """A job would be complete without its results."""
    verdict = judged(claimed(), end(code=0))
    assert isinstance(verdict.outcome, ev.Lost) and verdict.outcome.announced


def test_a_failure_stands_though_its_files_are_lost() -> None:
    """A job that had failed would run once more, for the sake of its logs."""
    assert judged(claimed(), end(code=3)).outcome == ev.Exited(3)


def test_a_timeout_that_was_kept_there_is_told_as_one() -> None:
    """It would be a failure by SIGTERM."""
    seen = end(EndKind.TIMED_OUT, signal="SIGTERM", duration=10.0)
    verdict = judged(claimed(), seen, stored(seen))
    assert (verdict.timed_out, verdict.outcome) == (True, ev.Signalled("SIGTERM"))


def test_an_end_of_ours_takes_what_the_command_did_as_information() -> None:
    """A trainer that was cancelled, saved and exited with 0 would stand as completed."""
    ours, seen = end(EndKind.REASON, OURS, reason="cancelled"), end(EndKind.STOPPED, code=0)
    verdict = judged(claimed(), ours, stored(seen))
    assert (verdict.outcome, verdict.stands) == (ev.Exited(0), False)


def test_an_end_of_ours_without_a_word_from_the_containers_is_one_too() -> None:
    """A cancelled job whose host went would be waited for, or be called interrupted."""
    verdict = judged(claimed(), end(EndKind.REASON, OURS, reason="cancelled"))
    assert verdict.outcome == ev.Signalled("SIGKILL") and not verdict.stands


def test_a_success_without_a_record_is_lost() -> None:
    """A job would count as done of which nothing tells what it did."""
    verdict = judged(claimed(), seen=detail("SUCCEEDED"))
    assert verdict.outcome == ev.Lost(machine=True, why=verdict.outcome.why)


@pytest.mark.parametrize(
    "reason",
    [
        "Host EC2 (instance i-0123456789abcdef0) terminated.",
        "Your Spot Task was interrupted.",
    ],
)
def test_hosts_that_go_are_announced(reason: str) -> None:
    """Five Spot reclaims would fail a job."""
    verdict = judged(claimed(), seen=detail(said=reason))
    assert isinstance(verdict.outcome, ev.Lost) and verdict.outcome.announced


def test_a_reclaim_that_stops_the_command_is_announced() -> None:
    """A command that caught SIGTERM and exited with 0 would have completed."""
    seen = end(EndKind.STOPPED, code=0)
    verdict = judged(claimed(), seen, stored(seen), detail(said="Your Spot Task was interrupted."))
    assert isinstance(verdict.outcome, ev.Lost) and verdict.outcome.announced


def test_batchs_own_timeout_is_a_timeout() -> None:
    """Containers that hang would make a job run again and again."""
    verdict = judged(claimed(), seen=detail(said="Job attempt duration exceeded timeout"))
    assert verdict.timed_out and verdict.duration == 30.0


def test_a_container_killed_for_memory_says_so() -> None:
    """Nobody would know that it needs more memory."""
    seen = end(EndKind.KILLED)
    reason = "OutOfMemoryError: Container killed due to memory usage"
    verdict = judged(claimed(), seen, stored(seen), detail(exitCode=137, reason=reason))
    assert verdict.outcome == ev.Signalled("SIGKILL")
    assert verdict.usage == ev.Usage(0.0, 0, oom_kills=1)


def test_usage_is_told() -> None:
    """`status` would show no memory of a job."""
    seen = end(code=0, usage=CommandUsage(1.5, 4096))
    assert judged(claimed(), seen, stored(seen)).usage == ev.Usage(1.5, 4096)


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (None, VoidVerdict),
        (LOST_HOST, VoidVerdict),
    ],
)
def test_what_never_began_costs_no_attempt(seen: JobDetail | None, kind: type) -> None:
    """A job would use up its retries though its command never ran."""
    verdict = judged(None, seen=seen)
    assert isinstance(verdict, ClaimVerdict) and isinstance(verdict.then, kind)
    assert verdict.then.delay > 0


def test_an_image_that_can_not_be_pulled_fails_at_once() -> None:
    """A job with a mistyped image would be submitted for ever."""
    reason = "CannotPullContainerError: manifest for x/y:z not found: manifest unknown"
    found = judged(None, seen=_pull(reason))
    assert isinstance(found, ClaimVerdict) and isinstance(found.then, EndVerdict)
    assert isinstance(found.then.outcome, ev.NotRunnable)
    assert "x/y:z" in found.then.outcome.message


def test_an_image_that_is_missed_once_files_are_staged_fails_at_once() -> None:
    """A job with a mistyped image would be staged and lost five times."""
    found = judged(claimed(), seen=_pull("CannotPullContainerError: manifest unknown"))
    assert isinstance(found.outcome, ev.NotRunnable)


def test_a_start_of_a_driver_before_costs_nothing() -> None:
    """A queue that goes from one driver to the next would use up its jobs' attempts."""
    containers = [{"name": "stage", "exitCode": SUPERSEDED}, {"name": "agent"}]
    told = {"jobId": "job-1", "jobName": "n", "status": "FAILED", "statusReason": "x"}
    several = {"ecsProperties": {"taskProperties": [{"containers": containers}]}}
    assert judged(None, seen=read_job({**told, **several})) == ClaimVerdict(VoidVerdict())


def _pull(reason: str) -> JobDetail:
    containers = [{"name": "main", "image": "x/y:z", "reason": reason}]
    return read_job(
        {
            "jobId": "job-1",
            "jobName": "n",
            "status": "FAILED",
            "statusReason": "Task failed to start",
            "ecsProperties": {"taskProperties": [{"containers": containers}]},
        }
    )


def test_containers_that_can_not_stage_are_given_up_some_time() -> None:
    """A bucket that they may not read would have a job submitted for ever."""
    found = judged(None, seen=detail(said="Essential container in task exited", exitCode=1))
    assert isinstance(found, ClaimVerdict) and isinstance(found.then, EndVerdict)
    assert found.then.outcome.machine is False and not found.then.outcome.announced


def test_the_job_that_has_the_claim_is_the_attempt() -> None:
    """A job that was submitted twice would be judged by the one that did nothing."""
    assert judged(claimed(job="job-2")) == FollowVerdict("job-2")


def test_a_start_of_which_we_have_the_claim_is_void() -> None:
    """A start that was forbidden would count as an attempt."""
    assert isinstance(judged(claimed(OURS)), VoidVerdict)
