"""The machine is to be taken away: nothing new starts, what runs ends in time, nothing is lost."""

from __future__ import annotations

import pytest
from core_driver import Driver, drive, job

from runner.core.attempt_outcome import MAX_UNANNOUNCED
from runner.core.events import Exited, Lost, Signalled, SpotNotice
from runner.core.spot_interruption import grace_within

TERM = Signalled("SIGTERM")
WHY = "spot interruption at 2026-01-22T14:05:30Z"


def notice(q: Driver, left: float | None = 120.0, lead: float | None = None) -> None:
    """The machine goes in ``left`` seconds; None: it is only likely to."""
    deadline = None if left is None else q.wall + left
    q.send(SpotNotice(q.now(), WHY if left is not None else "rebalance", deadline, lead))


def kill_in(q: Driver, name: str) -> float | None:
    live = q[name].live
    assert live is not None
    return None if live.kill_at is None else live.kill_at - q.mono


@pytest.mark.parametrize(
    ("term_grace", "left", "grace"),
    [
        (10.0, 120.0, 10.0),
        (600.0, 120.0, 60.0),
        (600.0, 75.0, 45.0),
        (600.0, 40.0, 20.0),
        (600.0, 0.0, 0.0),
        (600.0, -30.0, 0.0),
    ],
)
def test_the_grace_ends_before_the_machine_does(
    term_grace: float, left: float, grace: float
) -> None:
    """A job would be cut off in the middle of its last words, or its logs not be uploaded."""
    q = drive(job("a", timeout=9000.0, term_grace=term_grace), job("b"))
    q.started("a")
    notice(q, left)
    assert q.signals == [("a", False)] and kill_in(q, "a") == grace
    q.tick(grace)
    assert q.signals == [("a", True)]
    q.ends("a", Signalled("SIGKILL"))
    assert (q.states, q.status) == ("a:interrupted b:pending", "interrupted")
    assert q.core.queue.reason == WHY and q.core.finished


@pytest.mark.parametrize("left", [240.0, 120.0, 61.0, 60.0, 30.0, 1.0, 0.0, -5.0])
def test_uploads_have_their_part_of_what_is_left(left: float) -> None:
    """A long grace would leave no second for the logs."""
    grace = grace_within(left)
    assert 0 <= grace <= 60 and (left <= 0 or left - grace >= min(30, left / 2))


def test_with_a_lead_jobs_work_on_until_then() -> None:
    """Two minutes of a job that needs two seconds for its end would be thrown away."""
    q = drive(job("a", timeout=9000.0), job("b", timeout=9000.0), job("c"), parallel=2)
    q.started("a")
    q.started("b")
    notice(q, 120.0, lead=45.0)
    assert q.did == []
    q.later(10.0)
    q.ends("a", Exited(0))
    assert q.starts == [], "nothing new starts"
    q.tick(64.5)
    assert q["b"].live is not None and q["b"].live.stop is None
    q.tick(0.5)
    assert q.signals == [("b", False)] and kill_in(q, "b") == 22.5
    q.ends("b", TERM)
    assert (q.states, q.status) == ("a:completed b:interrupted c:pending", "interrupted")


def test_nothing_running_is_nothing_to_wait_for() -> None:
    """The session would last until the lead for no job at all."""
    q = drive(job("a", retry=2))
    q.fail("a")
    notice(q, 120.0, lead=10.0)
    assert q.finish is not None and (q.status, q.core.queue.reason) == ("interrupted", WHY)


def test_a_timeout_and_the_global_one_stand_until_the_lead() -> None:
    """A job would use the notice to run longer than it may."""
    q = drive(job("a", timeout=20.0), global_timeout=60.0)
    q.started("a")
    notice(q, 120.0, lead=5.0)
    q.tick(20.0)
    assert q.signals == [("a", False)]
    q.ends("a", TERM)
    assert q["a"].timed_out
    q = drive(job("a", timeout=900.0), job("b"), global_timeout=60.0)
    q.started("a")
    notice(q, None)
    q.tick(60.0)
    q.ends("a", TERM)
    assert (q.states, q.status) == ("a:failed b:skipped", "failed")


def test_a_recommendation_lets_what_runs_end_by_itself() -> None:
    """Draining would cost the work under way; or a notice would find it deaf."""
    q = drive(job("a", timeout=9000.0), job("b"))
    q.started("a")
    notice(q, None)
    q.tick(600.0)
    assert q["a"].live is not None and q["a"].live.stop is None
    q.ends("a", Exited(0))
    assert (q.states, q.status) == ("a:completed b:pending", "interrupted")
    assert q.core.queue.reason == "rebalance"
    q = drive(job("a", timeout=9000.0), job("b"))
    q.started("a")
    notice(q, None)
    notice(q)
    assert q.signals == [("a", False)]
    q.ends("a", TERM)
    assert q.core.queue.reason == WHY
    q = drive(job("a", timeout=9000.0, term_grace=600.0))
    q.started("a")
    notice(q, None)
    q.interrupt()
    assert kill_in(q, "a") == 600.0, "there is no end to be in time for"


def test_a_later_word_only_shortens_what_is_left() -> None:
    """A recommendation after the notice, or a notice told again, would give jobs too much time."""
    q = drive(job("a", timeout=9000.0, term_grace=600.0))
    q.started("a")
    notice(q, 120.0, lead=60.0)
    notice(q, None)
    notice(q, 300.0, lead=60.0)
    assert q.core.next_deadline() is not None
    q.tick(60.0)
    assert q["a"].live is not None and q["a"].live.stop is not None
    assert kill_in(q, "a") == 30.0
    notice(q, 20.0, lead=5.0)
    assert kill_in(q, "a") == 10.0
    notice(q)
    assert kill_in(q, "a") == 10.0


def test_an_interruption_by_hand_does_not_wait_for_the_lead() -> None:
    """`runner stop` would take as long as the machine has left."""
    q = drive(job("a", timeout=9000.0, term_grace=600.0))
    q.started("a")
    notice(q, 120.0, lead=10.0)
    q.interrupt()
    assert q.signals == [("a", False)] and kill_in(q, "a") == 60.0
    q.tick(0.0)
    assert q.core.departure is None
    q.ends("a", TERM)
    assert q.core.queue.reason == "machine stops"
    q = drive(job("a", timeout=9000.0, term_grace=600.0))
    q.started("a")
    q.interrupt()
    notice(q, 120.0, lead=10.0)
    assert kill_in(q, "a") == 60.0, "and a stop under way must not outlive the machine"


def test_a_notice_before_work_begins() -> None:
    """An adopted job would get the grace of any other day, and be cut off with the machine."""
    q = drive(job("a", timeout=9000.0, term_grace=600.0), job("b"))
    q.started("a")
    q.crash()
    q.session()
    notice(q)
    q.started("a", adopted=True)
    q.told()
    assert q.starts == []
    q.tick(0.0)
    assert q.signals == [("a", False)] and kill_in(q, "a") == 60.0


def test_notices_never_use_up_a_jobs_lives() -> None:
    """A long job on spot machines would fail after five of them."""
    q = drive(job("a", retry=1))
    for boot in range(MAX_UNANNOUNCED + 3):
        q.started("a")
        notice(q)
        if boot % 2:
            q.ends("a", TERM)
        q.crash(boot=True)
        q.session()
        if not boot % 2:
            q.ends("a", Lost(machine=True))
        q.told()
    state = q["a"]
    assert (state.attempt, state.counted, state.unannounced) == (MAX_UNANNOUNCED + 4, 0, 0)
    assert state.interruptions == MAX_UNANNOUNCED + 3
    q.ok("a")
    assert q.status == "completed"


def test_a_notice_after_the_end_changes_nothing() -> None:
    """A session that is over would be told to end what isn't there."""
    q = drive(job("a"))
    q.ok("a")
    notice(q)
    assert q.did == [] and q.status == "completed" and q.core.next_deadline() is None
