"""Results that earlier sessions did not store, or stored elsewhere, are stored by the next."""

from __future__ import annotations

from core_driver import Driver, drive, job

from runner.core import events as ev
from runner.core.actions import CollectResults
from runner.core.states import JobState, JobStatus, QueueState, QueueStatus
from runner.model.document import ResultSpec


def test_a_store_that_comes_later_gets_what_has_ended() -> None:
    """``--results`` given only at the second start would leave the first jobs' files behind."""
    q = drive(job("a"), job("b", "a"))
    q.ok("a")
    q.crash()
    q.session(collects=True)
    q.void("b")
    q.told()
    assert (q.collects, q.starts) == (["a"], ["b"])


def test_another_store_gets_everything_again() -> None:
    """Results would be split over two folders, and neither be complete."""
    q = drive(job("a"), collects=True)
    q.ok("a")
    q.stored("a")
    q.crash()
    q.send(ev.SessionOpened(q.now(), q.boot, True, new_store=True))
    q.told()
    assert (q.collects, q["a"].logs_uploaded) == (["a"], False)
    q.stored("a")
    q.crash()
    q.open(collects=True)
    assert q.collects == []


# -- uploads that take long ----------------------------------------------------------------------


def test_a_copy_on_this_machine_is_as_good_for_those_who_wait() -> None:
    """A slow network would hold up the whole chain."""
    q = drive(job("a", result_paths=(ResultSpec("out"),)), job("b", "a"), collects=True)
    q.ok("a")
    q.delayed("a", "503 SlowDown")
    assert (q.starts, q["a"].result_error) == ([], "503 SlowDown")
    q.delayed("a", None, spooled=True)
    assert (q.starts, q["a"].collecting) == (["b"], True)
    q.ok("b")
    assert q.finish is None, "the upload itself is still to be waited for"
    q.stored("b")
    q.stored("a")
    assert q.finish is not None
    assert (q["a"].spooled, q["a"].results_uploaded, q["a"].result_error) == (False, True, None)


def test_after_a_crash_nobody_waits_for_what_has_been_copied() -> None:
    """The next session would stop what has long been running on."""
    q = drive(
        job("a", result_paths=(ResultSpec("out"),)), job("b", "a"), job("c", "b"), collects=True
    )
    q.ok("a")
    q.delayed("a", None, spooled=True)
    q.crash()
    q.session(collects=True)
    q.void("b")
    q.told()
    assert (q.collects, q.starts) == (["a"], ["b"])


def test_what_was_given_up_is_stored_by_the_next_start_from_its_copy() -> None:
    """The copies would be forgotten, and the originals may have been changed since."""
    q = drive(job("a", result_paths=(ResultSpec("out"),)), job("b", "a"), collects=True)
    q.ok("a")
    q.delayed("a", None, spooled=True)
    q.stored("a", ok=False, error="no network")
    assert (q["a"].spooled, q["a"].results_uploaded) == (True, False)


# -- after a boot --------------------------------------------------------------------------------


def _rebooted() -> Driver:
    q = drive(
        job("a", result_paths=(ResultSpec("x"),)),
        job("b", "a", result_paths=(ResultSpec("y"),)),
        job("c", "b"),
        collects=True,
    )
    q.ok("a")
    q.stored("a")
    q.ok("b")
    q.stored("b")
    q.crash(boot=True)
    q.session(collects=True)
    q.lose("c", machine=True)
    q.told()
    return q


def test_after_a_boot_outputs_are_looked_at_before_anybody_uses_them() -> None:
    """On a tmpfs they are gone, and the next job would fail for want of its input."""
    q = _rebooted()
    assert (q.restores, q.starts) == (["b"], []), "nobody needs what 'a' made"
    q.checked("b", restored=2)
    assert q.starts == ["c"]


def test_what_can_not_be_brought_back_is_made_again() -> None:
    """The queue would fail, or go on without its data."""
    q = _rebooted()
    q.checked("b", lost="'/tmp/y' is gone")
    assert (q["b"].status.value, q["b"].reason) == ("pending", "outputs lost at reboot")
    assert q.restores == ["a"], "what it needs itself may be gone too"
    q.checked("a", lost="'/tmp/x' is gone")
    assert q.starts == ["a"]
    q.ok("a")
    q.stored("a")
    assert q.starts == ["b"]
    assert q["b"].attempt == 2, "numbers go on"


def test_a_start_on_the_same_boot_looks_at_nothing() -> None:
    """Every restart of the service would read all results again."""
    q = drive(job("a", result_paths=(ResultSpec("x"),)), job("b", "a"), collects=True)
    q.ok("a")
    q.stored("a")
    q.crash()
    q.session(collects=True)
    q.void("b")
    q.told()
    assert (q.restores, q.starts) == ([], ["b"])


def test_an_upload_that_a_reboot_cut_off_is_done_after_the_look() -> None:
    """An empty folder would be stored as the results of a job that made some."""
    q = drive(job("a", result_paths=(ResultSpec("x"),)), job("b", "a"), collects=True)
    q.ok("a")
    q.crash(boot=True)
    q.open(collects=True)
    assert (q.collects, q.restores) == ([], ["a"])
    q.checked("a")
    assert (q.collects, q.starts) == (["a"], [])
    q.stored("a")
    assert q.starts == ["b"]


def test_a_doubted_upload_is_let_go_by_a_session_without_a_store() -> None:
    """A queue whose results were doubted and unstored would never end where nothing is stored."""
    q = drive(job("a", result_paths=(ResultSpec("x"),)), job("b", "a"), collects=True)
    q.ok("a")
    q.crash(boot=True)
    q.session(collects=True)
    q.crash()
    q.open(collects=False)
    q.run()
    assert q.status == "completed"


def test_the_claims_number_is_remembered() -> None:
    """A machine that comes back late could not know that it was succeeded."""
    q = drive(job("a"), collects=True)
    q.send(ev.StoreClaimed(q.now(), 4))
    q.crash()
    assert q.core.queue.epoch == 4


def test_what_is_skipped_as_a_session_begins_is_stored_once() -> None:
    """Two uploads of one job would write its files and its manifest at once."""
    q = drive(job("a"), job("b", "a"))
    failed = JobState(JobStatus.FAILED, attempt=1, results_uploaded=False)
    ran_before = JobState(attempt=1)
    q.load(QueueState("run", QueueStatus.RUNNING), {0: failed, 1: ran_before}, q.document)
    q.all.clear()
    q.open(collects=True)
    assert q["b"].status is JobStatus.SKIPPED
    assert [each.job for each in q.all if isinstance(each, CollectResults)] == [0, 1]
