"""§4: what is tried again, when, and how often."""

from __future__ import annotations

import pytest
from core_driver import drive, job

from runner.core.events import Exited, Outcome, Signalled
from runner.core.retry import decide, delay_after
from runner.model.document import RetrySpec

DELAYS = [
    # backoff, base, max, draw, the delays after the 1st, 2nd, … counted attempt
    ("exponential", 1.0, 300.0, 0.7, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]),
    ("exponential", 10.0, 15.0, 0.0, [10, 15, 15]),
    ("fixed", 5.0, 300.0, 0.7, [5, 5, 5]),
    ("fixed", 400.0, 300.0, 0.0, [300, 300]),
    ("exponential-jitter", 1.0, 300.0, 0.0, [0.5, 1, 2, 4]),
    ("exponential-jitter", 1.0, 300.0, 0.5, [0.75, 1.5, 3, 6]),
    ("exponential-jitter", 8.0, 10.0, 0.999999, [8, 10, 10]),
]


@pytest.mark.parametrize(("backoff", "base", "most", "draw", "expected"), DELAYS)
def test_delays(backoff: str, base: float, most: float, draw: float, expected: list[float]) -> None:
    """Retries would come too early, or after hours."""
    retry = RetrySpec(100, backoff, base_delay=base, max_delay=most)
    delays = [delay_after(retry, n, draw) for n in range(1, len(expected) + 1)]
    assert delays == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("backoff", ["exponential", "fixed", "exponential-jitter"])
def test_the_hundredth_delay_is_still_capped(backoff: str) -> None:
    """Backoff would overflow into a hot loop."""
    assert 5.0 <= delay_after(RetrySpec(100, backoff), 100, 0.9) <= 300.0


CODES = [
    # retry_on_codes, dont_retry_on_codes, outcome, retried
    (None, (), Exited(1), True),
    ((1, 2), (), Exited(2), True),
    ((1, 2), (), Exited(3), False),
    (None, (3,), Exited(3), False),
    ((3,), (3,), Exited(3), False),
    ((1,), (), Signalled("SIGSEGV"), True),
    (None, (137,), Signalled("SIGKILL"), True),
    ((), (), Exited(1), False),
]


@pytest.mark.parametrize(("only", "never", "outcome", "expected"), CODES)
def test_codes(
    only: tuple[int, ...] | None, never: tuple[int, ...], outcome: Outcome, expected: bool
) -> None:
    """A code that must not be retried would be, or the other way round."""
    retry = RetrySpec(2, retry_on_codes=only, dont_retry_on_codes=never)
    assert (decide(retry, 1, outcome, False, 0.0).delay is not None) is expected


@pytest.mark.parametrize(
    ("outcome", "timed_out", "kind"),
    [
        (Exited(1), False, "exit"),
        (Exited(0), True, "timeout"),
        (Signalled("SIGKILL"), True, "timeout"),
        (Signalled("SIGSEGV"), False, "signal"),
    ],
)
def test_only_what_retry_on_names_is_tried_again(
    outcome: Outcome, timed_out: bool, kind: str
) -> None:
    """A job that hangs would hang three times, though that was not wanted."""
    for words in (("exit",), ("timeout",), ("signal",), ("exit", "signal")):
        retry = RetrySpec(2, retry_on=words)
        assert (decide(retry, 1, outcome, timed_out, 0.0).delay is not None) is (kind in words)


def test_a_timeout_is_retried_whatever_the_exit_code() -> None:
    """The exit code of a job that we ended would decide about its retry."""
    retry = RetrySpec(2, dont_retry_on_codes=(0, 1), retry_on_codes=(7,))
    assert decide(retry, 1, Exited(1), True, 0.0).delay is not None


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_max_attempts_is_the_total_of_executions(budget: int) -> None:
    """max_attempts would mean retries, or nothing."""
    q = drive(job("a", retry=budget), job("b", "a"))
    for attempt in range(1, budget + 1):
        assert q.starts == ["a"]
        assert q["a"].attempt == attempt
        q.fail("a")
        q.tick(5.0)
    assert (q["a"].status.value, q["a"].counted) == ("failed", budget)
    assert q["b"].status.value == "skipped"


def test_a_waiting_job_says_when_and_why() -> None:
    """A job in backoff would look as if it were forgotten."""
    q = drive(job("a", retry=3))
    q.fail("a", 7)
    a = q["a"]
    assert (a.status.value, a.exit_code) == ("pending", 7)
    assert a.next_attempt_at == q.wall + 5.0
    assert a.reason == "retry 1 of 2 in 5s"
    assert q.core.next_deadline() == q.mono + 5.0
    q.tick(4.99)
    assert q.starts == []
    q.tick(0.01)
    assert q.starts == ["a"]
    assert (q["a"].exit_code, q["a"].reason, q["a"].next_attempt_at) == (None, None, None)


def test_the_draw_arrives_with_the_event() -> None:
    """Jitter would be no jitter, or the core not deterministic."""
    q = drive(job("a", retry=RetrySpec(2, "exponential-jitter", base_delay=8.0)))
    q.fail("a", draw=0.25)
    assert q["a"].retry_due == q.mono + 8.0 * (0.5 + 0.125)


def test_interruptions_never_count() -> None:
    """Crashes would use up a job's retries."""
    q = drive(job("a", retry=2))
    for _ in range(3):
        q.started("a")
        q.lose("a", machine=True)
    q.fail("a")
    assert (q["a"].status.value, q["a"].attempt, q["a"].counted) == ("pending", 4, 1)
    q.tick(5.0)
    q.fail("a")
    assert (q["a"].status.value, q["a"].attempt, q["a"].counted) == ("failed", 5, 2)
    assert q["a"].interruptions == 3


def test_five_unannounced_interruptions_in_a_row_fail_the_job() -> None:
    """A job that takes the machine down would do so for ever."""
    q = drive(job("a"))
    for _ in range(4):
        q.lose("a", machine=True)
        assert q.starts == ["a"]
    q.lose("a", machine=True)
    a = q["a"]
    assert (a.status.value, a.interruptions, a.counted) == ("failed", 5, 0)
    assert a.error_message == ("interrupted 5 times in a row without notice: the machine went away")
    assert q.status == "failed"


@pytest.mark.parametrize("between", ["announced", "counted"])
def test_only_in_a_row(between: str) -> None:
    """Four crashes this week and one in a month would fail the job."""
    q = drive(job("a", retry=5))
    for _ in range(4):
        q.lose("a")
    if between == "announced":
        q.interrupt()
        q.ends("a", Signalled("SIGTERM"))
        assert q.status == "interrupted"
        q.crash()
        q.open()
    else:
        q.fail("a")
        q.tick(5.0)
    for _ in range(4):
        q.lose("a")
    assert q["a"].status.value == "running"


def test_a_void_start_costs_nothing() -> None:
    """A start that never came about would cost an attempt number, or the last result."""
    q = drive(job("a", retry=3))
    q.fail("a", 7)
    q.tick(5.0)
    q.void("a")
    a = q["a"]
    assert q.starts == ["a"]
    assert (a.attempt, a.counted) == (2, 1)
    assert a.live is not None and a.live.before.exit_code == 7


def test_a_start_that_the_system_refused_is_tried_again_later() -> None:
    """Without memory for a fork the scheduler would spin."""
    q = drive(job("a"), job("b"))
    q.void("a", "no memory", 5.0)
    assert q.starts == ["b"]
    a = q["a"]
    assert (a.status.value, a.attempt, a.reason) == ("pending", 0, "no memory")
    assert a.next_attempt_at == q.wall + 5.0
    q.ok("b")
    q.tick(5.0)
    assert q.starts == ["a"]
    assert (q["a"].attempt, q["a"].reason) == (1, None)


def test_an_interrupted_job_stays_interrupted_through_a_void_start() -> None:
    """A halt or the global timeout would then skip a job that had begun."""
    q = drive(job("a"))
    q.lose("a")
    q.void("a", "no memory", 5.0)
    a = q["a"]
    assert (a.status.value, a.attempt) == ("interrupted", 1)
    assert a.next_attempt_at == q.wall + 5.0
    q.tick(5.0)
    assert q.starts == ["a"]


def test_a_stale_wait_does_not_shorten_a_later_one() -> None:
    """A job cancelled in backoff and retried would later be tried again too early."""
    q = drive(job("a", retry=RetrySpec(3, "fixed", base_delay=100.0)), job("b", timeout=1000.0))
    q.fail("a")
    q.cancel("a")
    q.retry("a")
    q.ok("b")
    assert q.starts == ["a"]
    q.tick(50.0)
    q.fail("a")
    q.tick(60.0)
    assert q.starts == [] and q["a"].status.value == "pending"
    q.tick(40.0)
    assert q.starts == ["a"]
