"""Jobs that a queue gets while it runs: by a job that expands to them, or asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_driver import Driver, document, drive, job

from runner.core import events as ev
from runner.core.explain import PlannedJob, Situation, of_job
from runner.core.readiness import Skip
from runner.core.states import QueueStatus
from runner.model.document import JobSpec, ResultSpec
from runner.model.placement import ArraySpec
from runner.model.queue import MAX_JOBS


def fan(name: str = "fan", after: str = "", **more: object) -> JobSpec:
    return job(name, after, expands="fan.json", **more)


def test_what_depends_on_a_job_waits_for_what_it_expanded_to() -> None:
    """The merge would begin with half of the parts."""
    q = drive(fan(), job("merge", "fan"), parallel=2)
    q.expands("fan", job("a"), job("b", "a"))
    assert q.states == "fan:completed merge:pending fan.a:running fan.b:pending"
    q.ok("fan.a")
    q.ok("fan.b")
    assert q.states == "fan:completed merge:running fan.a:completed fan.b:completed"
    q.ok("merge")
    assert q.status == "completed"
    assert [each.parent for each in q.added] == ["fan", "fan"]


def test_none_is_a_fan_out_too() -> None:
    """A day without new files would be a failed one."""
    q = drive(fan(), job("merge", "fan"))
    q.expands("fan")
    q.ok("merge")
    assert q.status == "completed"


def test_a_failed_part_counts_for_those_behind() -> None:
    """A report would be made of what is incomplete, and nobody told of the failure."""
    q = drive(fan(), job("merge", "fan"), job("mail", "fan", "failure"), parallel=4)
    q.expands("fan", job("a"), job("b"))
    q.fail("fan.a")
    assert q["merge"].status.value == "pending", "the family has not ended"
    q.ok("fan.b")
    assert q["merge"].reason == "dependency 'fan.a' failed"
    q.ok("mail")
    assert q.status == "failed"
    q.retry("fan.a")
    assert q["merge"].status.value == "pending"


def test_a_retried_part_makes_what_is_behind_the_family_run() -> None:
    """The merge would stay skipped though its parts are all there now."""
    q = drive(fan(), job("merge", "fan"))
    q.expands("fan", job("a"), job("b"))
    q.fail("fan.a")
    q.ok("fan.b")
    assert q.status == "failed"
    q = q if not q.core.finished else _again(q)
    q.retry("fan.a")
    q.told()
    q.ok("fan.a", "merge")
    assert q.status == "completed"
    assert q["fan"].attempt == 1


def _again(q: Driver) -> Driver:
    q.crash()
    q.session()
    return q


def test_a_tolerated_expansion_lets_those_behind_go_on() -> None:
    """allow_failure of the job that expands would mean nothing once it has."""
    q = drive(fan(allow_failure=True), job("merge", "fan"))
    q.expands("fan", job("a"))
    q.fail("fan.a")
    q.ok("merge")
    assert q["merge"].status.value == "completed"


def test_families_in_families() -> None:
    """What waits for the outermost would start before the innermost has ended."""
    q = drive(fan(), job("merge", "fan"), parallel=3)
    q.expands("fan", fan("inner"), job("after", "inner"))
    q.expands("fan.inner", job("x"), job("y"))
    q.ok("fan.inner.x")
    assert q["fan.after"].status.value == "pending"
    q.ok("fan.inner.y", "fan.after", "merge")
    assert q.status == "completed"


def test_what_is_skipped_for_a_family_in_a_family_names_what_failed() -> None:
    """The reason would send people to the log of a job that completed."""
    q = drive(fan(), job("merge", "fan"))
    q.expands("fan", fan("inner"))
    q.expands("fan.inner", job("x"))
    q.fail("fan.inner.x")
    assert q["merge"].reason == "dependency 'fan.inner.x' failed"
    q.crash()
    q.session()
    q.told()
    assert q.core.frontier.judge(q.at("merge")) == Skip("dependency 'fan.inner.x' failed")


def test_a_family_has_not_ended_while_results_of_it_are_stored() -> None:
    """A job behind would be judged before all that the family has made is there."""
    q = drive(fan(), job("merge", "fan"), parallel=2, collects=True)
    q.expands("fan", job("a", result_paths=(ResultSpec("out"),)), job("b"))
    q.ok("fan.a")
    q.fail("fan.b")
    assert q["merge"].status.value == "pending"
    q.stored("fan.a")
    assert q["merge"].reason == "dependency 'fan.b' failed"


@pytest.mark.parametrize("boot", [False, True])
def test_a_grown_queue_is_the_same_after_a_crash(boot: bool) -> None:
    """Jobs that were added would be forgotten, or run again."""
    q = drive(fan(), job("merge", "fan"), parallel=2)
    q.expands("fan", job("a"), job("b", retry=2))
    q.ok("fan.a")
    q.fail("fan.b")
    q.crash(boot=boot)
    q.session()
    q.told()
    assert q["fan.b"].status.value == "pending" and q["merge"].status.value == "pending"
    q.tick(10.0)
    q.ok("fan.b", "merge")
    assert q.status == "completed"


FAULTS = [
    ([job("x" * 3), job("there")], "fan.json: jobs[1].job_id: the queue has a job"),
    ([job(f"j{n}") for n in range(MAX_JOBS)], "fan.json: the queue would have 100,002 jobs"),
]


@pytest.mark.parametrize(("jobs", "told"), FAULTS, ids=["known", "many"])
def test_what_the_queue_cannot_take_fails_the_job(jobs: list[JobSpec], told: str) -> None:
    """Two jobs would have one name, or the queue more than it can bear."""
    q = drive(fan(), job("fan.there"))
    q.expands("fan", *jobs)
    assert (q["fan"].error_message or "").startswith(told)
    assert q["fan"].status.value == "failed" and not q.added


def test_a_bad_file_fails_the_job_for_good() -> None:
    """A file that never becomes better would be read three times, the work before it done too."""
    q = drive(fan(retry=3))
    q.expands("fan", fault="fan.json: jobs[0].timeout: is missing")
    assert q["fan"].error_message == "fan.json: jobs[0].timeout: is missing"
    assert q.status == "failed"


def test_an_expanding_job_that_runs_again_has_the_same_family() -> None:
    """Its parts would be there twice, or stay as they were of the run before."""
    q = drive(job("raw"), fan("fan", "raw"), job("merge", "fan"))
    q.ok("raw")
    q.expands("fan", job("a"))
    q.send(ev.RetryRequested(q.now(), (q.at("raw"),), completed=True, dependants=True))
    q.ok("fan.a", "raw")
    q.expands("fan", job("a"), job("b"))
    q.ok("fan.a", "fan.b", "merge")
    assert (q["fan.a"].attempt, q.status) == (2, "completed")


def test_an_expanding_job_that_runs_again_must_not_leave_another_family() -> None:
    """Half of the parts would be those of another split."""
    q = drive(job("raw"), fan("fan", "raw"), job("merge", "fan"))
    q.ok("raw")
    q.expands("fan", job("a"))
    q.send(ev.RetryRequested(q.now(), (q.at("raw"),), completed=True, dependants=True))
    q.ok("fan.a", "raw")
    q.expands("fan", job("other"))
    assert 'has no "fan.a" any more' in (q["fan"].error_message or "")
    assert q.status == "failed"


def test_an_end_before_a_cancel_stands_and_the_family_is_cancelled() -> None:
    """A cancelled queue would wait for jobs that nobody starts."""
    q = drive(fan())
    q.started("fan")
    q.over("fan")
    q.cancel()
    q.ends("fan", ev.Exited(0), fan_out=ev.FanOut((job("fan.a", "fan"),)))
    assert q.states == "fan:completed fan.a:cancelled"
    assert q.status == "cancelled"


def test_a_stopped_queue_skips_what_comes_late() -> None:
    """After a failure work would begin that nobody wants any more."""
    q = drive(fan(), job("bad"), parallel=2, on_failure="stop")
    q.fail("bad")
    q.expands("fan", job("a"))
    assert q.states == "fan:completed bad:failed fan.a:skipped"


def test_a_part_of_the_queue_has_what_it_expands_to() -> None:
    """`--only fan` would start the split and none of its parts."""
    q = Driver(document(fan(), job("merge", "fan"), job("other")))
    q.open(lambda now: ev.PartChosen(now, frozenset({0})))
    q.expands("fan", job("a"))
    assert q.starts == ["fan.a"]
    q.ok("fan.a")
    assert q.status == "interrupted"
    q.crash()
    q.open(lambda now: ev.PartChosen(now, frozenset({0})))
    assert q.core.frontier.chosen == {0, 3}


def test_arrays_among_what_is_there_and_what_is_added() -> None:
    """Numbers of arrays come behind those of all units: they would be others' in a grown queue."""
    q = drive(job("x", array=ArraySpec(2)), fan(after="x"), job("merge", "fan x"), parallel=9)
    q.ok("x[0]", "x[1]")
    q.expands("fan", job("y", array=ArraySpec(2)), job("z", "y"))
    q.ok("fan.y[0]", "fan.y[1]")
    q.crash()
    q.open()
    q.ok("fan.z", "merge")
    assert q.status == "completed"


def test_an_open_queue_takes_jobs_until_it_is_closed() -> None:
    """An executor's queue would end between two calls, or never."""
    q = drive(job("a"))
    q.send(ev.IntakeChanged(q.now(), True))
    q.ok("a")
    assert not q.core.finished and q.core.next_deadline() is None, "it would be woken for nothing"
    q.tick(10_000.0)
    q.add(job("b", "a"), job("c", "b"))
    q.add(job("b", "a"))  # told twice, it is one
    q.ok("b")
    q.crash()
    q.open()
    q.ok("c")
    assert not q.core.finished and q.core.queue.worked < 100
    q.send(ev.IntakeChanged(q.now(), False))
    assert q.status == "completed" and q.core.finished


def test_an_open_queue_without_jobs_is_interrupted_not_completed() -> None:
    """What a stopped service had open would be closed to all who come later."""
    q = drive(job("a"))
    q.send(ev.IntakeChanged(q.now(), True))
    q.ok("a")
    q.interrupt()
    assert q.finish is QueueStatus.INTERRUPTED
    q.crash()
    q.open()
    assert not q.core.finished
    q.cancel()
    assert q.core.finished


def test_a_job_that_is_added_is_judged_by_what_has_ended() -> None:
    """What depends on a failure would wait for ever."""
    q = drive(job("a"), job("b"), parallel=2)
    q.fail("a")
    q.add(job("c", "a"), job("d", "a", "failure"))
    assert q.states == "a:failed b:running c:skipped d:running"
    q.ok("b", "d")
    q.add(job("e"))
    assert "e" not in q.core.graph.index, "an ended queue takes none"


def test_a_job_that_is_added_waits_for_a_family_that_is_under_way() -> None:
    """It would begin with half of the parts, or never."""
    q = drive(fan(), parallel=3)
    q.expands("fan", job("a"), job("b"))
    q.ok("fan.a")
    q.add(job("late", "fan"))
    assert q["late"].status.value == "pending"
    q.ok("fan.b", "late")
    assert q.status == "completed"


def test_a_job_that_was_there_before_goes_on_with_its_numbers() -> None:
    """Its logs and stored files would be taken for those of the former one."""
    q = Driver(document(fan()))
    queue = replace(q.core.queue, former={"fan.a": 3, "gone": 2})
    q.load(queue, {}, q.document)
    q.open()
    q.expands("fan", job("a"))
    assert q["fan.a"].attempt == 4
    assert q.core.queue.former == {"gone": 2}


def test_why_a_job_waits_names_what_was_expanded_to() -> None:
    """`explain` would say that a job waits for nothing, or for one that has completed."""
    plan = {
        "fan": PlannedJob("fan"),
        "fan.a": PlannedJob("fan.a", ("fan",), parent="fan"),
        "merge": PlannedJob("merge", ("fan",)),
    }
    rows = [
        {"job_id": "fan", "status": "completed"},
        {"job_id": "fan.a", "status": "running"},
        {"job_id": "merge", "status": "pending"},
    ]
    queue = {"status": "running", "worker": "w"}
    (why,) = of_job(Situation(queue, rows, plan, 4), rows[2])
    assert (why.code, why.text) == ("dependency", "waits for 'fan.a' (running)")
    rows[1:] = [
        {"job_id": "fan.a", "status": "failed"},
        {"job_id": "merge", "status": "skipped", "reason": "dependency 'fan.a' failed"},
    ]
    (why,) = of_job(Situation(queue, rows, plan, 4), rows[2])
    assert why.holders == ("fan.a",)
