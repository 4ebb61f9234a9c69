"""An attempt that waits for its secrets: what people see of it, and that it costs nothing."""

from __future__ import annotations

import pytest
from core_driver import Driver, drive, job

from runner.core import events as ev
from runner.core.attempts import FETCHING_SECRETS

SECRET = {"TOKEN": "ssm:/token"}


def waits(**more: object) -> Driver:
    return drive(job("a", secret_env=SECRET, **more), job("b"))


def test_the_reason_stands_until_the_command_runs() -> None:
    """An attempt that waits for an answer would look like one that runs."""
    q = waits()
    assert (q["a"].status.value, q["a"].reason) == ("running", FETCHING_SECRETS)
    q.started("a")
    assert q["a"].reason is None
    q.ends("a", ev.Exited(0))
    assert q.starts == ["b"] and q["b"].reason is None


def test_a_queues_secrets_are_waited_for_by_each_job() -> None:
    """A job that names none of its own would wait without a reason."""
    q = drive(job("a"), secret_env=SECRET)
    assert q["a"].reason == FETCHING_SECRETS


def test_one_adopted_is_not_waiting_any_more() -> None:
    """After a restart a job that runs would be said to wait for its secrets."""
    q = waits()
    q.crash()
    q.session()
    q.started("a", adopted=True)
    q.told()
    assert q["a"].reason is None


def test_a_try_that_fails_makes_way_and_is_shown() -> None:
    """One job's outage would hold up the others, or use up its attempts."""
    q = waits()
    q.void("a", f"{FETCHING_SECRETS}: busy", delay=8.0)
    a = q["a"]
    assert (a.status.value, a.attempt, a.counted) == ("pending", 0, 0)
    assert a.reason == "fetching secrets: busy" and a.next_attempt_at == q.wall + 8.0
    assert q.starts == ["b"]
    q.ok("b")
    q.tick(8.0)
    assert q.starts == ["a"] and q["a"].attempt == 1


def test_no_timeout_runs_while_it_waits() -> None:
    """A slow answer would be counted as the job's own time."""
    q = waits(timeout=5.0)
    q.tick(60.0)
    assert q.signals == [] and q["a"].status.value == "running"


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (lambda q: q.cancel("a"), "cancelled"),
        (lambda q: q.cancel(), "cancelled"),
        (lambda q: q.interrupt(), "pending"),
        (lambda q: q.send(ev.SpotNotice(q.now(), "spot", q.wall + 120.0)), "pending"),
        (lambda q: q.tick(3600.0), "skipped"),
    ],
    ids=["cancel job", "cancel", "interrupt", "spot", "global timeout"],
)
def test_what_ends_it_meanwhile_costs_no_attempt(ask: object, status: str) -> None:
    """A job that never began would be recorded as one that was stopped."""
    q = waits()
    ask(q)  # type: ignore[operator]
    assert q.signals == [("a", False)]
    q.void("a")
    assert (q["a"].status.value, q["a"].attempt, q["a"].interruptions) == (status, 0, 0)


def test_only_what_may_start_is_handed_over() -> None:
    """What was asked for before a pause, or before a notice, would begin after it."""
    q = waits()
    assert q.core.may_start
    q.pause()
    assert not q.core.may_start
    q.void("a")
    assert q.starts == []
    q.pause(False)
    assert q.starts == ["a"] and q.core.may_start
    q.send(ev.SpotNotice(q.now(), "rebalance"))
    assert not q.core.may_start
