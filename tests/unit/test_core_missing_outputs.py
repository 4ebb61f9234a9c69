"""§8.5: what completed jobs made is looked for whenever somebody is to use it."""

from __future__ import annotations

from core_driver import Driver, drive, job

from runner.core.actions import RestoreOutputs
from runner.core.events import Exited, PauseRequested, RetryRequested, SessionOpened
from runner.core.states import GONE, LOST
from runner.model.document import ResultSpec

OUT = (ResultSpec("out"),)


def stored(*jobs: str) -> Driver:
    """`a` and its results are done; `b`, and then `c`, need them. `b` has failed."""
    q = drive(job("a", result_paths=OUT), job("b", "a"), job("c", "a"), collects=True)
    q.ok("a")
    q.stored("a")
    q.fail("b")
    q.stored("b")
    assert q.states == "a:completed b:failed c:running"
    return q


def looks(q: Driver) -> list[tuple[str, bool]]:
    """What was looked at in the last step, and whether after a boot."""
    return [
        (q.document.jobs[a.job].job_id, a.rebooted) for a in q.did if isinstance(a, RestoreOutputs)
    ]


def rested(q: Driver, *events: object, boot: bool = False) -> None:
    """A request to a queue no process works on, in a step of its own; then all is read again."""
    q.crash(boot=boot)
    q.send(SessionOpened(q.now(), q.boot, False, resting=True))
    for index in sorted(q.core.live) if boot else ():
        q.lose(q.document.jobs[index].job_id, machine=True)
    for event in events:
        q.send(event)  # type: ignore[arg-type]
    q.crash()


def test_results_are_looked_for_at_every_start() -> None:
    """A cleaner would have removed them, and all that needs them fail."""
    q = drive(job("a", result_paths=OUT), job("b", "a"), collects=True)
    q.ok("a")
    q.stored("a")
    q.interrupt()
    q.ends("b", Exited(0))
    q.crash()
    q.open(collects=True)
    assert (looks(q), q.starts) == ([("a", False)], [])
    q.checked("a")
    assert q.starts == ["b"]


def test_what_is_gone_for_good_is_made_again() -> None:
    """The jobs that need it would fail for ever."""
    q = drive(job("a", result_paths=OUT), job("b", "a"), collects=True)
    q.ok("a")
    q.stored("a")
    q.interrupt()
    q.ends("b", Exited(0))
    q.crash()
    q.open(collects=True)
    q.checked("a", "no copy of it")
    assert (q.starts, q["a"].reason, q["a"].attempt) == (["a"], GONE, 2)


def halted_with(run_if: str) -> Driver:
    """`x` has failed and stopped the queue; `z` waits, in any case, for what `a` had made."""
    q = drive(
        job("a", "" if run_if == "success" else "x", run_if, result_paths=OUT),
        job("x"),
        job("z", "a x", "always"),
        collects=True,
        on_failure="stop",
    )
    for name in ("a", "x") if run_if == "success" else ("x", "a"):
        (q.fail if name == "x" else q.ok)(name)
        q.stored(name)
    q.interrupt()
    q.ends("z", Exited(0))
    q.crash()
    q.open(collects=True)
    q.checked("a", "no copy of it")
    return q


def test_a_stopped_queue_makes_again_what_still_may_run() -> None:
    """A job that cleans up would go without what another one of a failed queue had made."""
    q = halted_with("always")
    assert (q.starts, q["a"].reason) == (["a"], GONE)


def test_a_stopped_queue_makes_nothing_again_that_it_would_not_start() -> None:
    """A stopped queue would begin its work anew."""
    q = halted_with("success")
    assert (q.starts, q["a"].status) == (["z"], "completed")


def test_nothing_is_looked_for_beside_those_that_use_it() -> None:
    """A restore would write below a job that runs."""
    q = stored()
    q.crash()
    q.session(collects=True)
    q.started("c", adopted=True)
    q.told()
    assert looks(q) == []


def test_a_retry_looks_for_what_it_needs() -> None:
    """The job would fail again for the same file."""
    q = stored()
    q.ok("c")
    q.stored("c")
    q.crash()
    q.open(lambda now: RetryRequested(now), collects=True)
    assert (looks(q), q.starts) == ([("a", False)], [])
    q.checked("a")
    q.fail("b")
    q.stored("b")
    q.crash()
    q.open(lambda now: RetryRequested(now, (1,)), collects=True)
    assert looks(q) == [("a", False)]


def test_a_retry_of_a_running_queue_looks_for_what_it_needs() -> None:
    """Only a start of the service would mend it."""
    q = stored()
    q.retry("b")
    assert looks(q) == [("a", False)]
    q.checked("a", "gone")
    assert q.states == "a:pending b:pending c:running" and q["a"].reason == GONE


def test_a_request_to_a_resting_queue_does_not_hide_a_boot() -> None:
    """Its jobs would start without what the boot has taken, for the next session sees no boot."""
    for request in (PauseRequested, RetryRequested):
        q = stored()
        event = request(q.now(), True) if request is PauseRequested else request(q.now())
        rested(q, event, boot=True)
        q.session(collects=True)
        if request is PauseRequested:
            q.pause(False)
        q.told()
        assert (looks(q), q.starts) == ([("a", True)], [])
        q.checked("a", "gone with the boot")
        assert q["a"].reason == LOST


def test_a_retry_after_a_boot_looks_for_the_checkpoint_of_what_had_failed() -> None:
    """A training would begin at zero though its last state is stored."""
    q = drive(job("a", checkpoint_paths=("saved",)), collects=True)
    q.fail("a")
    q.stored("a")
    rested(q, RetryRequested(q.now()), boot=True)
    q.open(collects=True)
    assert (q.fetches, q.starts) == (["a"], [])


def test_nobody_looks_for_what_nobody_needs() -> None:
    """A job of days would run again for a file that is used up."""
    q = stored()
    q.ok("c")
    q.stored("c")
    q.crash(boot=True)
    q.open(collects=True)
    assert looks(q) == [] and q.status == "failed"


def test_what_was_incomplete_when_it_was_stored_is_not_made_again() -> None:
    """A job whose pattern matches nothing would run again at each start."""
    q = drive(job("a", result_paths=OUT), job("b", "a"), collects=True)
    q.ok("a")
    q.stored("a", ok=False)
    assert q["a"].results_uploaded is False
    q.interrupt()
    q.ends("b", Exited(0))
    q.crash()
    q.open(collects=True)
    assert looks(q) == []


def test_what_a_boot_took_before_it_was_stored_is_looked_for_when_it_is_needed_again() -> None:
    """A retried job would run without what the job before it had made: its upload looks itself,
    but after a boot it only finds too little."""
    q = drive(job("a", result_paths=OUT), job("x"), job("b", "a x"), collects=True, parallel=2)
    q.ok("a")
    q.fail("x")
    assert q.states == "a:completed x:failed b:skipped"
    q.crash(boot=True)
    q.open(collects=True)
    q.retry("x")
    assert ("a", True) in looks(q)
