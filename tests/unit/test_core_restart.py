"""§8: what a new session makes of what the last one left."""

from __future__ import annotations

from collections.abc import Callable

from core_driver import EPOCH, Driver, document, drive, job

from runner.core import events as ev
from runner.core.events import Exited, Lost, Signalled


def test_completed_jobs_never_run_again() -> None:
    """Hours of work would be done twice."""
    q = drive(job("a"), job("b"), job("c", "a"))
    q.ok("a")
    q.crash(boot=True)
    q.session()
    q.lose("b", machine=True)
    q.told()
    assert q.starts == ["b"]
    q.run()
    assert q.order == ["a", "b", "b", "c"]


def test_an_adopted_attempt_goes_on() -> None:
    """A restart of the daemon would end, or double, what runs."""
    q = drive(job("a"), job("b", "a"))
    q.started("a")
    token, since = q.token("a"), q.mono
    q.crash(down=20.0)
    q.session()
    q.started("a", adopted=True, since=since)
    q.told()
    assert (q.did, q.token("a"), q["a"].attempt) == ([], token, 1)
    assert q.core.next_deadline() == since + 30.0 or q.core.next_deadline() == since + 50.0
    q.ends("a", Exited(0))
    assert q.starts == ["b"]


def test_what_ended_while_nobody_watched_keeps_its_true_result() -> None:
    """An exit code would be lost with the daemon, or a late end called a timeout."""
    q = drive(job("a", timeout=10.0), job("b"), parallel=2)
    q.started("a")
    q.started("b")
    q.crash(down=3600.0)
    q.session()
    q.ends("a", Exited(0), duration=50.0)
    q.ends("b", Signalled("SIGSEGV"), duration=1.0)
    q.told()
    assert q.states == "a:completed b:failed"
    assert (q["a"].timed_out, q["b"].signal) == (False, "SIGSEGV")


def test_an_adopted_attempt_past_its_timeout_is_stopped() -> None:
    """A restart would give a job a new timeout."""
    q = drive(job("a", timeout=10.0))
    q.started("a")
    since = q.mono
    q.crash(down=15.0)
    q.session()
    q.started("a", adopted=True, since=since)
    q.told()
    q.tick(0.0)
    assert q.signals == [("a", False)]


def test_what_died_with_the_machine_is_interrupted_and_runs_again() -> None:
    """A reboot would count as a failure, or use up a retry."""
    q = drive(job("a", retry=2), job("b", "a"))
    q.started("a")
    q.crash(boot=True)
    q.session()
    q.lose("a", machine=True)
    assert (q["a"].status.value, q["a"].reason) == ("interrupted", "the machine went away")
    q.told()
    assert q.starts == ["a"]
    assert (q["a"].attempt, q["a"].counted, q["a"].interruptions) == (2, 0, 1)


def test_an_intent_without_a_claim_costs_nothing() -> None:
    """A crash between intent and claim would cost an attempt number."""
    q = drive(job("a"))
    q.crash()
    q.session()
    q.void("a")
    assert q["a"].status.value == "pending"
    q.told()
    assert q.starts == ["a"]
    assert q["a"].attempt == 1
    assert q.token("a") != q.all[0].token, "the late shim must not find its token valid"  # type: ignore[union-attr]


def test_nothing_is_wanted_before_the_survivors_are_known() -> None:
    """A job would be started beside its own attempt that is still alive."""
    q = drive(job("a"), job("b"), job("c"), parallel=2, collects=True)
    q.started("a")
    q.crash()
    q.session(collects=True)
    q.ends("a", Exited(1))
    q.void("b")
    q.cancel("c")
    q.send(ev.TimerFired(q.now()))
    assert (q.core.next_deadline(), q.did) == (None, [])
    q.told()
    assert q.starts == ["b"]
    assert q.collects == ["a"]


def test_attempts_and_records_of_a_queue_never_killed_are_the_same() -> None:
    """A crash would show in how a queue ends."""
    jobs = [job("a", retry=2), job("b", "a"), job("c", run_if="failure", after="b"), job("d")]
    whole = drive(*jobs)
    for step in _steps():
        step(whole)
    crashed = drive(*jobs)
    for step in _steps():
        step(crashed)
        crashed.crash(down=1.0)
        crashed.session()
        for name in [j.job_id for j in jobs if crashed[j.job_id].live]:
            crashed.void(name)
        crashed.told()
    assert [_result(whole, j.job_id) for j in jobs] == [_result(crashed, j.job_id) for j in jobs]
    assert whole.status == crashed.status == "failed"


def _steps() -> list[Callable[[Driver], None]]:
    return [
        lambda q: q.fail("a", 3),
        lambda q: q.ok("d"),
        lambda q: q.tick(5.0),
        lambda q: q.ok("a"),
        lambda q: q.fail("b", 4),
        lambda q: q.ok("c"),
    ]


def _result(q: Driver, name: str) -> tuple[object, ...]:
    state = q[name]
    return state.status, state.exit_code, state.signal, state.counted, state.attempt


def test_a_stop_of_the_last_session_is_signalled_again() -> None:
    """A crash between the commit and the signal would leave a job running past its timeout."""
    q = drive(job("a", timeout=10.0, term_grace=4.0))
    q.started("a")
    q.tick(10.0)
    q.crash()
    q.session()
    q.started("a", adopted=True)
    q.told()
    assert q.signals == [("a", False)]
    q.ends("a", Exited(0))
    assert q["a"].timed_out


def test_a_lost_attempt_that_we_had_stopped_takes_that_reason() -> None:
    """A power cut during the grace would undo a timeout."""
    q = drive(job("a", timeout=10.0))
    q.started("a")
    q.tick(10.0)
    q.crash(boot=True)
    q.session()
    q.ends("a", Lost(True))
    assert (q["a"].status.value, q["a"].timed_out, q["a"].interruptions) == ("failed", True, 0)


def test_started_at_is_the_queues_first_session() -> None:
    """A resumed queue would look as if it had just begun."""
    q = drive(job("a"))
    q.started("a")
    q.crash(down=100.0, boot=True)
    q.session()
    q.lose("a")
    q.told()
    assert q.core.queue.started_at == EPOCH


def test_tokens_are_never_used_twice() -> None:
    """A late shim of a crashed session would run beside the new one."""
    q = Driver(document(job("a")))
    q.open()
    tokens = {q.token("a")}
    for _ in range(3):
        q.crash()
        q.session()
        q.void("a")
        q.told()
        tokens.add(q.token("a"))
    assert len(tokens) == 4
