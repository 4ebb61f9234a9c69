"""§12.6: a full disk starts nothing, but for what may free space when nothing else can."""

from __future__ import annotations

from core_driver import Driver, document, drive, job

from runner.core import events as ev
from runner.core.disk_space import FIRST_DELAY, IN_RESERVE, LAST_DELAY

FULL = "disk full: 10 KiB free, 64 KiB are kept in reserve"


def fill(q: Driver, reason: str | None = FULL) -> None:
    q.send(ev.StartsBlocked(q.now(), reason, space=reason is not None))


def fails(q: Driver, name: str, *, short: bool = True) -> None:
    q.started(name)
    q.ends(name, ev.Exited(1), short_of_space=short)


def test_the_job_that_cleans_up_starts_in_the_reserve() -> None:
    """One job fills the disk, the next cleans it: the queue would wait for a person for ever."""
    q = drive(job("fill"), job("other"), job("clean", "fill", "always"))
    q.started("fill")
    fill(q)
    assert (q.core.queue.reason, q.starts) == (FULL, [])
    q.ends("fill", ev.Exited(1), short_of_space=True)
    assert (q.starts, q["clean"].reason) == (["clean"], IN_RESERVE)
    [told] = [e for e in q.story if e.event == "started_in_reserve"]
    assert told.detail == {"attempt": 1, "why": FULL}
    q.started("clean")
    fill(q, None)
    assert (q.core.queue.reason, q.starts) == (None, [])
    q.ends("clean", ev.Exited(0))
    assert q.starts == ["other"]


def test_without_one_the_next_ready_job_does_one_at_a_time() -> None:
    """A full disk with nothing running would be waited for, or filled by many at once."""
    q = Driver(document(job("a"), job("b"), job("c"), parallel=3))
    q.session()
    fill(q)
    q.told()
    assert q.starts == ["a"]
    q.ok("a")
    assert q.starts == ["b"]


def test_nothing_starts_in_the_reserve_while_something_runs() -> None:
    """What runs may free space yet; another beside it would take what little there is."""
    q = drive(job("a"), job("b"), job("c", "a", "always"), parallel=2)
    q.started("a")
    q.started("b")
    fill(q)
    q.ends("a", ev.Exited(0))
    assert q.starts == []
    q.ends("b", ev.Exited(0))
    assert q.starts == ["c"]


def test_a_failure_for_want_of_space_does_not_count() -> None:
    """Retries are used up, or the queue ends failed, because a neighbour filled the disk."""
    q = Driver(document(job("a", retry=2), on_failure="stop"))
    q.session()
    fill(q)
    q.told()
    delays = []
    for _ in range(9):
        fails(q, "a")
        due = q["a"].retry_due
        assert due is not None
        delays.append(due - q.mono)
        assert (q["a"].counted, q.status) == (0, "running")
        q.tick(delays[-1])
    assert delays[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert delays[-1] == LAST_DELAY
    fails(q, "a", short=False)
    assert q["a"].counted == 1


def test_only_what_was_started_in_the_reserve_is_forgiven() -> None:
    """The job that fills the disk, and fails for it, would be run again for ever."""
    q = drive(job("a"))
    q.started("a")
    fill(q)
    q.ends("a", ev.Exited(1), short_of_space=True)
    assert (q.states, q.status) == ("a:failed", "failed")


def test_a_stop_or_timeout_in_the_reserve_stays_what_it_is() -> None:
    """A job that hangs on a full disk would never time out for good; a cancel would be undone."""
    q = Driver(document(job("a", timeout=5.0)))
    q.session()
    fill(q)
    q.told()
    q.started("a")
    q.tick(6.0)
    q.ends("a", ev.Signalled("SIGTERM"), short_of_space=True)
    assert (q["a"].timed_out, q.status) == (True, "failed")


def test_what_waits_for_space_goes_on_as_soon_as_there_is() -> None:
    """After a person has made room a job would wait on for minutes."""
    q = Driver(document(job("a")))
    q.session()
    fill(q)
    q.told()
    for _ in range(6):
        fails(q, "a")
        q.tick((q["a"].retry_due or 0.0) - q.mono)
    fails(q, "a")
    assert q.starts == []
    fill(q, None)
    assert (q.starts, q["a"].reason) == (["a"], None)
    q.run()
    assert q.status == "completed"


def test_what_failed_for_want_of_space_is_failed_when_nothing_goes_on() -> None:
    """A job that ran, and failed, would be called skipped."""
    q = Driver(document(job("a"), job("b"), on_failure="stop"))
    q.session()
    fill(q)
    q.told()
    fails(q, "a")
    fails(q, "b", short=False)
    assert q.states == "a:failed b:failed"
    assert q["a"].exit_code == 1


def test_other_blocks_and_a_pause_let_nothing_through() -> None:
    """A job would be started before it is known whether another machine works on the queue."""
    q = Driver(document(job("a")))
    q.session()
    q.block("asks the result store first")
    q.told()
    assert q.starts == []
    q.pause()
    fill(q)
    assert q.starts == []
    q.pause(False)
    assert q.starts == ["a"]


def test_a_new_session_looks_anew() -> None:
    """A queue would be called held up by a disk that has long had room."""
    q = drive(job("a"), job("b"))
    q.started("a")
    fill(q)
    q.save()
    q.crash()
    q.session()
    q.started("a", adopted=True)
    q.told()
    assert q.core.queue.reason is None
