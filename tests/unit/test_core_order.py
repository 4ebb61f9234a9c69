"""§2: what is ready when, and what goes first."""

from __future__ import annotations

import pytest
from core_driver import drive, job

from runner.core.actions import StartAttempt
from runner.core.events import Signalled


def test_a_chain_runs_in_order() -> None:
    """A job would start before what it depends on."""
    q = drive(job("a"), job("b", "a"), job("c", "b"))
    q.run()
    assert q.order == ["a", "b", "c"]
    assert q.status == "completed"


def test_document_order_decides_among_ready_jobs() -> None:
    """Ready jobs would start in an order that nobody can predict."""
    q = drive(job("z"), job("late", "z"), job("m"), job("a"))
    q.run()
    assert q.order == ["z", "late", "m", "a"]


def test_the_order_is_the_same_after_every_crash() -> None:
    """A restart would change the order of work."""
    jobs = [job("d", "b"), job("b"), job("c", "b"), job("a"), job("e", "a c")]
    whole = drive(*jobs)
    whole.run()
    q = drive(*jobs)
    for name in whole.order:
        assert q.starts == [name]
        q.started(name)
        q.crash(down=7.0)
        q.session()
        q.started(name, adopted=True)
        q.told()
        assert q.starts == []
        q.ok(name)
    assert q.order == whole.order
    assert q.status == "completed"


@pytest.mark.parametrize("parallel", [1, 2, 3, 5])
def test_no_more_than_max_parallel_jobs_run_at_once(parallel: int) -> None:
    """More processes would run than the document allows, or fewer."""
    q = drive(*(job(f"j{n}") for n in range(4)), parallel=parallel)
    assert len(q.core.live) == min(parallel, 4)
    q.run()
    assert q.order == ["j0", "j1", "j2", "j3"]


def test_a_fan_in_waits_for_all() -> None:
    """A job would start when only some of its dependencies have ended."""
    q = drive(job("a"), job("b"), job("c"), job("all", "a b c"), parallel=3)
    q.ok("b", "a")
    assert q["all"].status.value == "pending"
    q.ok("c")
    assert q.starts == ["all"]


def test_slots_are_distinct_and_used_again() -> None:
    """Two attempts would write one record, or records would pile up."""
    q = drive(*(job(f"j{n}") for n in range(5)), parallel=2)
    slots = []
    while not q.core.finished:
        slots += [a.slot for a in q.did if isinstance(a, StartAttempt)]
        q.ok(q.document.jobs[max(q.core.live)].job_id)
    assert slots == [0, 1, 1, 1, 1]


def test_jobs_in_backoff_let_others_go_ahead() -> None:
    """A job that waits for its retry would hold up the whole queue."""
    q = drive(job("flaky", retry=2), job("b"))
    q.fail("flaky")
    assert q.starts == ["b"]
    q.tick(5.0)
    assert q.starts == []
    q.ok("b")
    assert q.starts == ["flaky"]


RUN_IF = [
    # run_if, how the two dependencies end, what becomes of the job
    ("success", "ok ok", "running"),
    ("success", "ok fail", "skipped"),
    ("success", "fail ok", "skipped"),
    ("success", "ok cancel", "skipped"),
    ("success", "ok skip", "skipped"),
    ("failure", "ok ok", "skipped"),
    ("failure", "ok fail", "running"),
    ("failure", "fail fail", "running"),
    ("failure", "ok cancel", "skipped"),
    ("failure", "ok skip", "running"),
    ("failure", "skip skip", "running"),
    ("failure", "fail cancel", "running"),
    ("always", "ok ok", "running"),
    ("always", "fail ok", "running"),
    ("always", "cancel skip", "running"),
]


@pytest.mark.parametrize(("run_if", "ends", "expected"), RUN_IF)
def test_run_if(run_if: str, ends: str, expected: str) -> None:
    """A job would run, or not, against what its run_if says."""
    q = drive(
        job("bad"),
        job("x"),
        job("y"),
        job("skipped1", "bad"),
        job("skipped2", "bad"),
        *[job("it", _needs(ends), run_if)],
    )
    q.fail("bad")
    for name, how in zip("xy", ends.split(), strict=True):
        if how == "fail":
            q.fail(name)
        elif how == "cancel":
            q.cancel(name)
            q.ends(name, Signalled("SIGTERM"))
        else:
            q.ok(name)
    assert q["it"].status.value == expected


def _needs(ends: str) -> str:
    names = zip("xy", ("skipped1", "skipped2"), ends.split(), strict=True)
    return " ".join(skipped if how == "skip" else name for name, skipped, how in names)


@pytest.mark.parametrize("run_if", ["failure", "always"])
def test_jobs_for_failures_wait_until_all_dependencies_have_ended(run_if: str) -> None:
    """A clean-up would run beside what it cleans up after."""
    q = drive(job("a"), job("b"), job("clean", "a b", run_if), parallel=3)
    q.fail("a")
    assert q["clean"].status.value == "pending"
    q.ok("b")
    assert q.starts == ["clean"]


def test_one_failure_is_enough_to_skip_before_the_others_end() -> None:
    """What can't run any more would be shown as pending for hours."""
    q = drive(job("a"), job("slow"), job("both", "a slow"), parallel=2)
    q.fail("a")
    assert q["both"].status.value == "skipped"
    assert q["both"].reason == "dependency 'a' failed"


def test_a_job_for_failures_without_dependencies_is_skipped() -> None:
    """It would wait for ever, or run though nothing failed."""
    q = drive(job("orphan", run_if="failure"), job("a"))
    assert q.states == "orphan:skipped a:running"
    q.ok("a")
    assert q.status == "completed"


def test_many_events_give_the_same_story_twice() -> None:
    """Two runs of the same document and events would differ."""

    def once() -> object:
        q = drive(
            *(job(f"j{n}", "" if n < 3 else f"j{n - 3}", retry=2) for n in range(12)), parallel=3
        )
        for n in range(12):
            q.tick(0.0 if q.core.live else 5.0)
            (q.fail if n % 4 == 0 else q.ok)(q.document.jobs[min(q.core.live)].job_id)
        q.run()
        return q.all, q.story, q.core.jobs, q.core.queue

    assert once() == once()
