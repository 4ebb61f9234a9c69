"""§3: what an attempt's end is, and whose reason it takes."""

from __future__ import annotations

import pytest
from core_driver import drive, job

from runner.core import events as ev
from runner.core.events import Exited, Lost, NotRunnable, Outcome, Signalled
from runner.core.states import JobStatus, QueueStatus, StopReason
from runner.model.document import RetrySpec

ENDS = [
    # outcome, status, exit_code, signal, error_message
    (Exited(0), "completed", 0, None, None),
    (Exited(1), "failed", 1, None, "command execution failed: exit status 1"),
    (Exited(137), "failed", 137, None, "command execution failed: exit status 137"),
    (Exited(255), "failed", 255, None, "command execution failed: exit status 255"),
    (Signalled("SIGKILL"), "failed", None, "SIGKILL", "command killed by signal SIGKILL"),
    (NotRunnable("no folder"), "failed", None, None, "no folder"),
]


@pytest.mark.parametrize(("outcome", "status", "code", "signal", "message"), ENDS)
def test_how_an_attempt_ends_by_itself(
    outcome: Outcome, status: str, code: int | None, signal: str | None, message: str | None
) -> None:
    """An end would be recorded as another, ``exit 137`` as a SIGKILL, say."""
    q = drive(job("a"))
    q.started("a")
    q.ends("a", outcome, ended_at=123.0, duration=1.5)
    a = q["a"]
    assert (a.status.value, a.exit_code, a.signal, a.error_message) == (
        status,
        code,
        signal,
        message,
    )
    assert (a.completed_at, a.duration, a.pid, a.timed_out) == (123.0, 1.5, None, False)


def test_a_lost_attempt_counts_as_interrupted_and_runs_again() -> None:
    """An end that nobody saw would be called a failure."""
    q = drive(job("a"))
    q.started("a")
    q.lose("a")
    assert q.starts == ["a"]
    assert (q["a"].attempt, q["a"].counted, q["a"].interruptions) == (2, 0, 1)


def test_a_command_that_can_not_be_run_is_not_retried() -> None:
    """A missing working directory would be tried again and again."""
    q = drive(job("a", retry=3))
    q.started("a")
    q.ends("a", NotRunnable("working directory /x does not exist"))
    assert q["a"].status.value == "failed"


def test_timeout_is_term_then_grace_then_kill_until_it_is_gone() -> None:
    """A job that ignores SIGTERM would run for ever, or be killed without its grace."""
    q = drive(job("a", timeout=10.0, term_grace=4.0))
    q.later(3.0)
    q.started("a")
    assert q.core.next_deadline() == q.mono + 10.0
    q.tick(9.9)
    assert q.did == []
    q.tick(0.1)
    assert q.signals == [("a", False)]
    q.tick(3.9)
    assert q.signals == [("a", False)]
    q.tick(0.1)
    assert q.signals == [("a", True)]
    q.tick(2.0)
    assert q.signals == [("a", True)], "what slipped away is killed again"
    q.ends("a", Signalled("SIGKILL"))
    a = q["a"]
    assert (a.status.value, a.timed_out, a.signal) == ("failed", True, "SIGKILL")
    assert a.error_message == "command timed out after 10s"


def test_the_timeout_counts_from_the_claim_not_from_the_intent() -> None:
    """A slow start would eat the job's time."""
    q = drive(job("a", timeout=10.0), global_timeout=1e6)
    q.tick(100.0)
    assert q["a"].live is not None and q["a"].live.stop is None
    q.started("a")
    assert q.core.next_deadline() == q.mono + 10.0


def test_the_queues_grace_is_every_jobs() -> None:
    """A job without a term_grace would get none."""
    q = drive(job("a", timeout=10.0), term_grace=7.0)
    q.started("a")
    q.tick(10.0)
    assert q["a"].live is not None and q["a"].live.kill_at == q.mono + 7.0


STOPS = [
    ("timeout", "failed", "command timed out after 1m0s"),
    ("cancel", "cancelled", None),
    ("interrupt", "interrupted", None),
    ("global", "failed", "global timeout 2m0s exceeded"),
]


@pytest.mark.parametrize("outcome", [Exited(0), Exited(3), Signalled("SIGTERM"), Lost(False)])
@pytest.mark.parametrize(("stop", "status", "message"), STOPS)
def test_an_end_after_our_signal_takes_its_reason_whatever_the_exit_code(
    stop: str, status: str, message: str | None, outcome: Outcome
) -> None:
    """A trainer that catches SIGTERM, saves and exits 0 would count as completed."""
    q = drive(job("a", timeout=500.0 if stop == "global" else 60.0), global_timeout=120.0)
    q.started("a")
    if stop in ("timeout", "global"):
        q.tick(60.0 if stop == "timeout" else 120.0)
    else:
        getattr(q, stop)()
    assert q.signals == [("a", False)]
    live = q["a"].live
    assert live is not None and live.stop is not None, "the reason is in the step of the signal"
    q.ends("a", outcome)
    a = q["a"]
    assert (a.status.value, a.error_message) == (status, message)
    assert a.exit_code == (outcome.code if isinstance(outcome, Exited) else None)
    assert a.timed_out is (stop in ("timeout", "global"))


@pytest.mark.parametrize("stop", ["tick", "cancel", "interrupt"])
@pytest.mark.parametrize(("code", "status"), [(0, "completed"), (2, "failed")])
def test_an_end_before_the_stop_stands(stop: str, code: int, status: str) -> None:
    """Leftovers that take their time would turn a completed job into a cancelled one."""
    q = drive(job("a", timeout=10.0))
    q.started("a")
    q.over("a")
    assert q.did == []
    if stop == "tick":
        q.tick(20.0)
    else:
        getattr(q, stop)()
    assert q.signals == []
    q.ends("a", Exited(code))
    assert (q["a"].status.value, q["a"].timed_out) == (status, False)


def test_an_end_told_after_the_stop_does_not_undo_it() -> None:
    """A job that exits in its grace would count as one that ended by itself."""
    q = drive(job("a", timeout=10.0))
    q.started("a")
    q.tick(10.0)
    q.over("a")
    assert q["a"].live is not None and not q["a"].live.over
    q.ends("a", Exited(0))
    assert (q["a"].status.value, q["a"].timed_out) == ("failed", True)


def test_the_first_reason_stands() -> None:
    """A cancel during the grace of a timeout would rewrite why the job was ended."""
    q = drive(job("a", timeout=10.0))
    q.started("a")
    q.tick(10.0)
    q.cancel("a")
    assert q.signals == []
    q.ends("a", Signalled("SIGTERM"))
    assert (q["a"].status.value, q["a"].timed_out) == ("failed", True)


CAUGHT = [
    # how the end was decided before the cancel, the job's own end, what it comes to
    ("timeout", Signalled("SIGTERM"), "cancelled"),
    ("interrupt", Signalled("SIGTERM"), "cancelled"),
    ("over", Exited(1), "cancelled"),
    ("over", Exited(0), "completed"),
    ("over", Lost(False), "cancelled"),
]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("first", "outcome", "status"), CAUGHT)
def test_a_cancel_after_the_end_was_decided_allows_no_further_attempt(
    first: str, outcome: Outcome, status: str, whole: bool
) -> None:
    """A cancelled job would be retried, as its end came a moment before the cancel."""
    q = drive(job("a", timeout=10.0, retry=5))
    q.started("a")
    if first == "timeout":
        q.tick(10.0)
    elif first == "over":
        q.over("a")
    else:
        q.interrupt()
    q.cancel(*([] if whole else ["a"]))
    q.ends("a", outcome)
    assert q["a"].status.value == status
    assert q["a"].exit_code == (outcome.code if isinstance(outcome, Exited) else None)
    assert q.status == status


def test_a_stop_of_what_has_not_been_claimed_yet() -> None:
    """A cancel between intent and claim would leave the job running, or count as a run."""
    q = drive(job("a"))
    q.cancel("a")
    assert q.signals == [("a", False)]
    q.void("a")
    assert (q["a"].status.value, q["a"].attempt, q["a"].counted) == ("cancelled", 0, 0)
    assert q.finish is not None


def test_a_start_that_can_never_be_is_no_attempt_and_fails_its_job() -> None:
    """An input that is missing would count an attempt where inputs are fetched elsewhere."""
    q = drive(job("a", retry=RetrySpec(3)), job("b", "a", run_if="failure"), on_failure="continue")
    q.send(ev.AttemptVoided(q.now(), q.at("a"), q.token("a"), error="there is no such key"))
    a = q["a"]
    assert (a.status, a.attempt, a.counted) == (JobStatus.FAILED, 0, 0)
    assert a.error_message == "there is no such key"
    q.ok("b")
    assert q.core.queue.status is QueueStatus.FAILED


def test_events_of_an_attempt_that_is_history_change_nothing() -> None:
    """A late message of the last attempt would end the one that runs now."""
    q = drive(job("a"))
    q.started("a")
    old = q.token("a")
    q.lose("a")
    before = q["a"]
    at, now = q.at("a"), q.now()
    q.send(ev.AttemptStarted(now, at, old, 1, 1.0))
    q.send(ev.CommandEnded(now, at, old))
    q.send(ev.AttemptEnded(now, at, old, Exited(0)))
    q.send(ev.AttemptVoided(now, at, old))
    q.send(ev.BackgroundEnded(now, at, old))
    assert q["a"] == before


def test_kill_at_once() -> None:
    """A second Ctrl-C would wait for the grace all the same."""
    q = drive(job("a"), job("b"), parallel=2)
    q.kill()
    assert q.signals == [], "nothing is being ended yet"
    q.interrupt()
    q.kill()
    assert q.signals == [("a", True), ("b", True)]
    live = q["a"].live
    assert live is not None and live.stop is StopReason.INTERRUPTED


def test_an_attempt_says_where_the_newest_logs_are() -> None:
    """The logs of an attempt would be overwritten by the next one's."""
    q = drive(job("a", retry=3))
    q.fail("a")
    q.tick(5.0)
    (action,) = q.did
    assert (action.attempt, action.previous) == (2, 1)  # type: ignore[union-attr]
