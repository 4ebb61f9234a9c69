"""Results that a job declares and doesn't leave: told, and nothing is undone for it."""

from __future__ import annotations

from core_driver import EPOCH, Driver, drive, job

from runner.core.events import Exited, Lost
from runner.model.document import ResultSpec

OUT = (ResultSpec("out"),)


def _missing(q: Driver, name: str) -> None:
    q.stored(name, error="pattern 'out' matched nothing", missing=True)


def test_a_missing_result_is_told_and_the_job_stays_completed() -> None:
    """A mistyped glob would pass for a result that is safe; or hours of work be thrown away."""
    q = drive(job("a", result_paths=OUT), job("b", "a"), job("c"), collects=True)
    q.ok("a")
    _missing(q, "a")
    q.ok("c", "b")
    q.stored("b")
    q.stored("c")
    assert (q.status, q.core.queue.incomplete) == ("completed", True)
    assert (q["a"].results_uploaded, q["a"].logs_uploaded) == (False, True)
    assert q["a"].result_error == "pattern 'out' matched nothing"
    assert (q["b"].results_uploaded, q["b"].logs_uploaded) == (None, True)


def test_a_job_that_failed_owes_no_results() -> None:
    """A failure would be told twice: its results are not due."""
    q = drive(job("a", result_paths=OUT), collects=True)
    q.fail("a")
    q.stored("a", missing=True)
    assert (q["a"].results_uploaded, q["a"].logs_uploaded) == (None, True)
    assert q.core.queue.incomplete is False


def test_what_is_missing_is_looked_for_again_by_each_start() -> None:
    """A file that was moved to where it belongs would never be stored."""
    q = drive(job("a", result_paths=OUT), job("b"), collects=True)
    q.ok("a")
    _missing(q, "a")
    q.ok("b")
    q.stored("b")
    for _ in range(2):
        q.crash()
        q.open(collects=True)
        assert (q.collects, q.starts, q.finish) == (["a"], [], None)
        assert q["a"].status.value == "completed"
        _missing(q, "a")
        assert (q["a"].results_uploaded, q.core.queue.incomplete) == (False, True)
    q.crash()
    q.open(collects=True)
    q.stored("a")
    assert (q["a"].results_uploaded, q["a"].result_error) == (True, None)
    assert q.core.queue.incomplete is False
    q.crash()
    q.open(collects=True)
    assert q.collects == []


def test_the_first_start_is_kept_over_all_attempts() -> None:
    """What an earlier attempt made would be told as older than the job; or a stale file not be."""
    q = drive(job("a", retry=3), collects=True)
    assert q["a"].first_start == EPOCH
    q.fail("a")
    q.tick(5.0)
    q.started("a")
    q.ends("a", Lost(machine=True))
    q.started("a")
    q.ends("a", Exited(0))
    assert (q["a"].attempt, q["a"].first_start) == (3, EPOCH)
    assert q["a"].started_at == EPOCH + 5.0


def test_a_retry_is_the_same_job() -> None:
    """Its own earlier files would be told as another's."""
    q = drive(job("a"), collects=True)
    q.later(3.0)
    q.fail("a")
    q.stored("a")
    q.crash(down=100.0)
    q.open(collects=True)
    q.retry("a")
    assert (q["a"].started_at, q["a"].first_start) == (None, EPOCH)


def test_files_older_than_the_job_are_remembered() -> None:
    """Yesterday's model would be taken for today's."""
    q = drive(job("a", result_paths=OUT), collects=True)
    q.ok("a")
    q.stored("a", stale=("model.bin",))
    assert (q["a"].results_uploaded, q["a"].stale_results) == (True, ("model.bin",))
