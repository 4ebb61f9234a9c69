"""Whether a failed execution is tried again, and after how long. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from runner.core.events import Exited, Outcome
from runner.model.document import RetrySpec


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """``delay`` in seconds until the next attempt, or None: it has failed for good."""

    delay: float | None


FAIL = RetryDecision(None)


def decide(
    retry: RetrySpec | None, counted: int, outcome: Outcome, timed_out: bool, draw: float
) -> RetryDecision:
    """Decide after the ``counted``-th execution that used up budget.

    ``retry_on_codes`` and ``dont_retry_on_codes`` concern exit codes only, ``retry_on`` the way in
    which it ended.
    """
    if retry is None or counted >= retry.max_attempts:
        return FAIL
    if _kind(outcome, timed_out) not in retry.retry_on:
        return FAIL
    if isinstance(outcome, Exited) and not timed_out:
        if outcome.code in retry.dont_retry_on_codes:
            return FAIL
        if retry.retry_on_codes is not None and outcome.code not in retry.retry_on_codes:
            return FAIL
    return RetryDecision(delay_after(retry, counted, draw))


def _kind(outcome: Outcome, timed_out: bool) -> str:
    """Of RETRY_ON."""
    if timed_out:
        return "timeout"
    return "exit" if isinstance(outcome, Exited) else "signal"


def delay_after(retry: RetrySpec, counted: int, draw: float) -> float:
    """Seconds to wait after the ``counted``-th execution (1, 2, …); ``draw`` is in [0, 1)."""
    base = retry.base_delay
    if retry.backoff == "fixed":
        return min(base, retry.max_delay)
    # 2.0 ** n overflows past 1023; max_attempts is at most 100.
    full = base * 2.0 ** (counted - 1)
    if retry.backoff == "exponential-jitter":
        full *= 0.5 + draw / 2
    return min(full, retry.max_delay)
