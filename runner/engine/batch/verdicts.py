"""What became of an attempt, by the records in the store and by what Batch tells of its job. Pure.

Owns which of the two is believed: the records, where there are any; Batch's words say why there
are none. Success is an exit with 0 on record *and* files that are stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from runner.batch.attempt_records import AttemptFacts
from runner.batch.container.stage import SUPERSEDED
from runner.batch.definitions import MAIN, STAGE
from runner.batch.diagnosis import Diagnosis, diagnose
from runner.batch.failure_causes import FailureKind
from runner.batch.job_detail import JobDetail
from runner.batch.log_address import LogAddress, log_address
from runner.batch.records import BatchEnd, EndKind, Writer
from runner.core import events as ev

FORGOTTEN = "AWS Batch does not know its job any more, and nothing tells how it ended"
UNRECORDED = "its job in AWS Batch succeeded, but nothing tells how the command ended"
UNSTORED = "its host went away before its files were stored"
STOPPED = "its job in AWS Batch was stopped from outside"

VOID_DELAY = 10.0
"""Seconds until a start is tried again whose job went away before it had begun."""


@dataclass(frozen=True, slots=True)
class EndVerdict:
    """How an attempt ended. ``stands``: it ended before any reason of ours was on record. ``log``:
    where its output is, if not in the store."""

    outcome: ev.Outcome
    ended_at: float | None = None
    duration: float | None = None
    usage: ev.Usage | None = None
    timed_out: bool = False
    stands: bool = False
    log: LogAddress | None = None


@dataclass(frozen=True, slots=True)
class VoidVerdict:
    """The command never began, and never will: it costs no attempt. ``error``: no other one can."""

    reason: str | None = None
    delay: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class FollowVerdict:
    """Another job has the claim: that one is the attempt."""

    job_id: str


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """Nobody has claimed it, and its job has ended: take the claim, and judge again by ``then``."""

    then: VoidVerdict | EndVerdict


Verdict = EndVerdict | VoidVerdict | FollowVerdict | ClaimVerdict


def judge(facts: AttemptFacts, job_id: str | None, detail: JobDetail | None) -> Verdict:
    """What an attempt came to whose job ``job_id`` has ended; ``detail`` None: Batch has forgotten
    it."""
    claim = facts.claim
    if claim is None:
        return ClaimVerdict(_unclaimed(detail))
    if claim.by is Writer.DRIVER:
        return VoidVerdict(claim.reason)
    if claim.batch_job_id and job_id is not None and claim.batch_job_id != job_id:
        return FollowVerdict(claim.batch_job_id)
    if facts.end is None:
        return _without_end(detail)
    if facts.end.by is Writer.DRIVER:
        return _ended_by_us(facts, facts.end, detail)
    if facts.end.kind is EndKind.UNSTAGED:
        return VoidVerdict(error=facts.end.message or "an input can't be had")
    return _by_itself(facts, facts.end, detail)


def _unclaimed(detail: JobDetail | None) -> VoidVerdict | EndVerdict:
    """The job ended before its command began."""
    if detail is None:
        return VoidVerdict("AWS Batch does not know its job", VOID_DELAY)
    if any(each.name in (STAGE, MAIN) and each.exit_code == SUPERSEDED for each in detail.ends):
        # It began while its queue went from one driver to the next, and did nothing.
        return VoidVerdict()
    found = diagnose(detail)
    match found.kind:
        case FailureKind.SETUP | FailureKind.RESOURCES:
            return EndVerdict(ev.NotRunnable(_words(found)))
        case FailureKind.LOST:
            return VoidVerdict(found.cause, VOID_DELAY)
        case FailureKind.ENDED:
            return VoidVerdict(found.cause, VOID_DELAY)
        case _:
            # The containers that carry files have failed: five times in a row is enough.
            why = f"its files could not be staged: {found.cause}"
            return EndVerdict(ev.Lost(machine=False, why=why))


def judge_plain(detail: JobDetail | None, *, asked: bool) -> EndVerdict | VoidVerdict:
    """What an attempt came to that keeps no records; ``detail`` None: Batch has forgotten its job,
    which may have run. ``asked``: we have asked for its end."""
    if detail is None:
        return EndVerdict(ev.Lost(machine=True, why=FORGOTTEN))
    ended = EndVerdict(ev.Exited(0), detail.stopped, _ran(detail), log=log_of(detail))
    if detail.status == "SUCCEEDED":
        return replace(ended, stands=True)  # what was terminated has failed
    found = diagnose(detail)
    if detail.started is None:
        if found.kind in (FailureKind.SETUP, FailureKind.RESOURCES):
            return replace(ended, outcome=ev.NotRunnable(_words(found)))
        return VoidVerdict(found.cause, VOID_DELAY)
    code = next((each.exit_code for each in detail.ends if each.exit_code is not None), None)
    by_hand = detail.terminated and not asked
    if code is None or by_hand or found.code in _BATCHS or found.kind is FailureKind.LOST:
        told = _without_end(detail)
        return replace(ended, outcome=told.outcome, usage=told.usage, timed_out=told.timed_out)
    return replace(ended, outcome=ev.Exited(code), stands=not detail.terminated)


def log_of(job: JobDetail) -> LogAddress | None:
    """Where the output of a plain job goes, as far as that is known."""
    return next((at for each in job.containers if (at := log_address(job, each))), None)


_BATCHS = ("timeout", "out_of_memory")
"""Codes of ends that are Batch's own doing, whatever the exit code is."""


def _words(found: Diagnosis) -> str:
    """The cause, with the first step to take."""
    return f"{found.cause}: {found.next_steps[0]}" if found.next_steps else found.cause


def _without_end(detail: JobDetail | None) -> EndVerdict:
    """It was running, and nobody has said how it ended."""
    if detail is None:
        return EndVerdict(ev.Lost(machine=True, why=FORGOTTEN))
    if detail.status == "SUCCEEDED":
        return EndVerdict(ev.Lost(machine=True, why=UNRECORDED))
    found = diagnose(detail)
    if found.code == "timeout":
        return EndVerdict(ev.Signalled("SIGKILL"), detail.stopped, _ran(detail), timed_out=True)
    if found.code == "out_of_memory":
        # Its own memory ran out, or that of the containers beside it: they are the task's.
        return EndVerdict(
            ev.Signalled("SIGKILL"), detail.stopped, _ran(detail), ev.Usage(0.0, 0, oom_kills=1)
        )
    if found.kind is FailureKind.SETUP:
        # Claimed, for its files were staged; then the command's own container could not be made.
        return EndVerdict(ev.NotRunnable(_words(found)))
    announced = found.kind is FailureKind.LOST
    return EndVerdict(ev.Lost(machine=True, announced=announced, why=found.cause))


def _ran(detail: JobDetail) -> float | None:
    if detail.started is None or detail.stopped is None:
        return None
    return max(0.0, detail.stopped - detail.started)


def _ended_by_us(facts: AttemptFacts, end: BatchEnd, detail: JobDetail | None) -> EndVerdict:
    """What the command did about it is information; the reason is ours."""
    seen = facts.stored.end if facts.stored is not None else None
    if seen is None:
        stopped = None if detail is None else detail.stopped
        return EndVerdict(ev.Signalled("SIGKILL"), stopped or end.ended_at)
    return EndVerdict(_outcome(seen), seen.ended_at, seen.duration, _usage(seen))


def _by_itself(facts: AttemptFacts, end: BatchEnd, detail: JobDetail | None) -> EndVerdict:
    if end.kind is EndKind.STOPPED:
        found = diagnose(detail) if detail is not None and detail.status == "FAILED" else None
        announced = found is not None and found.kind is FailureKind.LOST
        why = found.cause if found is not None else STOPPED
        outcome: ev.Outcome = ev.Lost(machine=True, announced=announced, why=why)
        return EndVerdict(outcome, end.ended_at, end.duration, _usage(end), stands=True)
    if facts.stored is None and end.kind is EndKind.EXIT and end.code == 0:
        return EndVerdict(ev.Lost(machine=True, announced=True, why=UNSTORED), stands=True)
    return EndVerdict(
        _outcome(end),
        end.ended_at,
        end.duration,
        _usage(end) or _killed_for_memory(end, detail),
        timed_out=end.kind is EndKind.TIMED_OUT,
        stands=True,
    )


def _killed_for_memory(end: BatchEnd, detail: JobDetail | None) -> ev.Usage | None:
    """Where the container went without a word only Batch knows why."""
    if end.kind is not EndKind.KILLED or detail is None:
        return None
    reasons = [each.reason or "" for each in detail.ends]
    if any("outofmemory" in reason.lower() for reason in reasons):
        return ev.Usage(0.0, 0, oom_kills=1)
    return None


def _outcome(end: BatchEnd) -> ev.Outcome:
    if end.kind is EndKind.NOT_RUNNABLE:
        return ev.NotRunnable(end.message or "the command could not be run")
    if end.signal is not None:
        return ev.Signalled(end.signal)
    if end.code is not None:
        return ev.Exited(end.code)
    return ev.Signalled("SIGKILL")


def _usage(end: BatchEnd) -> ev.Usage | None:
    used = end.usage
    return None if used is None else ev.Usage(used.cpu_seconds, used.max_rss, used.oom_kills)
