"""§3, §5: what a job leaves behind, processes and results, and who waits for that."""

from __future__ import annotations

import pytest
from core_driver import drive, job

from runner.core.actions import EndBackground
from runner.core.events import BackgroundEnded, Exited, Lost, Signalled
from runner.model.document import ResultSpec


def test_a_background_lives_until_the_queue_ends() -> None:
    """A server that a set-up job starts would be gone when it is needed, or stay for ever."""
    q = drive(job("server", keep_background=True), job("a", "server"), job("b", "a"))
    q.ok("server", background=True)
    assert q.starts == ["a"]
    assert q["a"].live is not None and q["a"].live.slot == 1, "the server still has slot 0"
    q.ok("a")
    q.ok("b")
    assert (q.ended_backgrounds, q.finish) == (["server"], None)
    q.tick(1.0)
    assert q.ended_backgrounds == ["server"], "it is told once"
    assert q.names(EndBackground, q.all) == ["server"]
    q.background_ended("server")
    assert (q.status, q.finish is not None) == ("completed", True)
    assert (q["server"].slot, q["server"].token) == (None, None)


def test_a_background_holds_no_place_of_a_running_job() -> None:
    """A queue with a server in it would have one place less."""
    q = drive(job("server", keep_background=True), job("a"), job("b"), parallel=2)
    q.ok("server", background=True)
    assert q.states == "server:completed a:running b:running"


def test_a_background_that_ends_by_itself() -> None:
    """The queue would wait for a process that is gone."""
    q = drive(job("server", keep_background=True), job("a"))
    q.ok("server", background=True)
    q.background_ended("server")
    q.ok("a")
    assert (q.ended_backgrounds, q.status) == ([], "completed")


@pytest.mark.parametrize("how", ["interrupt", "cancel", "fail"])
def test_a_background_ends_however_the_queue_does(how: str) -> None:
    """An interrupted or cancelled queue would leave its servers running."""
    q = drive(job("server", keep_background=True), job("a"), on_failure="stop")
    q.ok("server", background=True)
    if how == "fail":
        q.fail("a")
    else:
        getattr(q, how)()
        q.ends("a", Signalled("SIGTERM"))
    assert q.ended_backgrounds == ["server"]
    q.background_ended("server")
    assert q.finish is not None
    assert q.status == {"interrupt": "interrupted", "cancel": "cancelled", "fail": "failed"}[how]


def test_a_background_survives_a_restart() -> None:
    """A restarted daemon would forget a server, and end the queue beside it."""
    q = drive(job("server", keep_background=True), job("a"))
    q.ok("server", background=True)
    q.crash()
    q.session()
    q.void("a")
    q.told()
    assert (q.starts, q.ended_backgrounds) == (["a"], [])
    q.ok("a")
    assert q.ended_backgrounds == ["server"]
    q.crash()
    q.open()
    assert q.ended_backgrounds == ["server"]
    q.background_ended("server")
    assert q.status == "completed"


def test_what_a_stopped_job_kept_in_the_background_ends_before_its_retry() -> None:
    """A retry would meet the servers of the attempt before."""
    q = drive(job("a", timeout=10.0, retry=3, keep_background=True))
    q.started("a")
    q.tick(10.0)
    q.ends("a", Exited(0), background=True)
    assert (q["a"].status.value, q.ended_backgrounds) == ("pending", ["a"])
    q.tick(20.0)
    assert q.starts == []
    q.background_ended("a")
    assert q.starts == ["a"]


def test_the_end_of_such_a_background_is_asked_for_again_after_a_crash() -> None:
    """The job would wait for ever for a tree that nobody ends."""
    q = drive(job("a", keep_background=True))
    q.started("a")
    q.over("a")
    q.ends("a", Lost(False), background=True)
    assert (q["a"].status.value, q.ended_backgrounds) == ("interrupted", ["a"])
    q.crash()
    q.open()
    assert (q.starts, q.ended_backgrounds) == ([], ["a"])
    q.background_ended("a")
    assert q.starts == ["a"]


def test_a_late_word_of_another_background_changes_nothing() -> None:
    """The end of an old tree would free the slot of a new one."""
    q = drive(job("a", keep_background=True), job("b"))
    q.ok("a", background=True)
    q.send(BackgroundEnded(q.now(), q.at("a"), "another"))
    assert q["a"].background


# -- results ---------------------------------------------------------------------------------


def test_declared_results_hold_dependents_up_until_they_are_stored() -> None:
    """A dependent would change the very files that are being stored."""
    q = drive(
        job("a", result_paths=(ResultSpec("out"),)),
        job("b", "a"),
        job("free"),
        collects=True,
        parallel=2,
    )
    q.ok("a")
    assert (q.collects, q.starts) == (["a"], [])
    assert q["a"].status.value == "completed", "it holds no slot: running ends with the process"
    q.ok("free")
    q.stored("a")
    assert q.starts == ["b"]
    assert q["a"].results_uploaded is True


def test_results_that_can_not_be_stored_let_dependents_go_all_the_same() -> None:
    """A store out of reach would stop the work."""
    q = drive(job("a", result_paths=(ResultSpec("out"),)), job("b", "a"), collects=True)
    q.ok("a")
    q.stored("a", ok=False, error="no room")
    assert q.starts == ["b"]
    assert (q["a"].results_uploaded, q["a"].result_error) == (False, "no room")


HOLDS = [
    # result_paths, whether the session stores, how the job ends, whether dependents wait
    (("out",), True, "ok", True),
    (("out",), False, "ok", False),
    ((), True, "ok", False),
    (("out",), True, "fail", False),
]


@pytest.mark.parametrize(("paths", "collects", "how", "waits"), HOLDS)
def test_who_holds_dependents_up(
    paths: tuple[str, ...], collects: bool, how: str, waits: bool
) -> None:
    """Logs alone would hold up the work, or nobody stores and all wait."""
    q = drive(
        job("a", result_paths=tuple(map(ResultSpec, paths))),
        job("b", "a", "always"),
        collects=collects,
    )
    getattr(q, how)("a")
    assert (q.starts == []) is waits
    assert q.collects == (["a"] if collects else [])


def test_the_queue_ends_when_the_last_upload_has() -> None:
    """The process would leave with results half stored."""
    q = drive(job("a"), job("b"), collects=True)
    q.ok("a", "b")
    assert (q.status, q.finish) == ("running", None)
    q.stored("b")
    assert q.finish is None
    q.stored("a")
    assert (q.status, q.finish is not None) == ("completed", True)


ENDS = ["completed", "failed", "cancelled", "skipped never ran", "cancelled in backoff"]


@pytest.mark.parametrize("how", ENDS)
def test_logs_are_stored_however_a_job_ends(how: str) -> None:
    """The log of a failure, the one that is needed, would be gone with the machine."""
    q = drive(job("a", retry=None if how == "failed" else 3), job("b", "a"), collects=True)
    if how == "completed":
        q.ok("a")
    elif how == "failed":
        q.fail("a")
    elif how == "cancelled":
        q.cancel("a")
        q.ends("a", Signalled("SIGTERM"))
    elif how == "skipped never ran":
        q.cancel("b")
        assert q.collects == []
        return
    else:
        q.fail("a")
        assert q.collects == [], "a retry follows: it is not the end"
        q.cancel("a")
    assert q.collects == ["a"]
    assert (q["a"].logs_uploaded, q["a"].collecting) == (False, True)


def test_an_upload_that_nobody_waits_for_changes_nothing() -> None:
    """A late answer would mark results as stored that are not."""
    q = drive(job("a"), job("b"))
    q.ok("a")
    before = q["a"]
    q.stored("a", ok=True)
    assert q["a"] == before


def test_what_was_interrupted_may_have_its_logs_stored_at_the_end() -> None:
    """A resumed queue would take the logs of the interrupted attempt for its results."""
    q = drive(job("a"), collects=True)
    q.started("a")
    q.interrupt()
    q.ends("a", Signalled("SIGTERM"))
    assert (q.finish is not None, q.collects) == (True, [])
    q.stored("a")
    assert q["a"].logs_uploaded is True
    q.crash()
    q.open(collects=True)
    assert q.starts == ["a"]
    assert q["a"].logs_uploaded is None


def test_an_upload_under_way_is_not_begun_twice() -> None:
    """Two uploads of one job would overwrite each other."""
    q = drive(job("a"), job("b", timeout=500.0), collects=True, global_timeout=100.0)
    q.fail("a")
    q.retry("a")
    q.started("b")
    q.tick(100.0)
    assert (q["a"].status.value, q.collects) == ("skipped", [])
    assert q["a"].collecting
    q.stored("a")
    assert q["a"].logs_uploaded is True
