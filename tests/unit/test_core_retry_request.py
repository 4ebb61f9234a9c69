"""§8: ``--retry-failed`` and ``retry``."""

from __future__ import annotations

import pytest
from core_driver import drive, job

from runner.core.events import Exited, RetryRequested, Signalled


def test_retry_of_an_ended_queue_before_work_begins() -> None:
    """``--retry-failed`` would do nothing, or run completed jobs again."""
    q = drive(job("a"), job("b", retry=2), job("c", "b"), job("d", "a"), global_timeout=100.0)
    q.ok("a")
    q.fail("b")
    q.tick(5.0)
    q.ok("d")
    q.fail("b")
    assert (q.states, q.status) == ("a:completed b:failed c:skipped d:completed", "failed")
    assert q.core.queue.worked == pytest.approx(5.0)
    q.crash(boot=True)
    q.open(lambda now: RetryRequested(now))
    assert q.starts == ["b"]
    assert q.states == "a:completed b:running c:pending d:completed"
    queue, b = q.core.queue, q["b"]
    assert (queue.worked, queue.completed_at, queue.reason) == (0.0, None, None)
    assert (b.attempt, b.counted, b.exit_code) == (3, 0, None), "a fresh budget, numbers go on"
    q.fail("b")
    assert q["b"].status.value == "pending"
    q.run()
    assert (q.states, q.status) == ("a:completed b:completed c:completed d:completed", "completed")
    assert q["b"].attempt == 4


def test_retry_after_a_global_timeout_has_a_fresh_clock() -> None:
    """A queue that ran out of time could never be finished."""
    q = drive(job("a", timeout=500.0), job("b"), global_timeout=100.0)
    q.started("a")
    q.tick(100.0)
    q.ends("a", Signalled("SIGTERM"))
    assert q.states == "a:failed b:skipped"
    q.crash()
    q.open(lambda now: RetryRequested(now))
    q.run()
    assert (q.order, q.status) == (["a", "a", "b"], "completed")


def test_retry_after_a_cancel() -> None:
    """A cancelled queue could not be taken up again."""
    q = drive(job("a"), job("b", "a"))
    q.started("a")
    q.cancel()
    q.ends("a", Signalled("SIGTERM"))
    q.crash()
    q.open(lambda now: RetryRequested(now))
    assert q.starts == ["a"]
    q.run()
    assert q.status == "completed"


def test_retry_of_one_job_takes_along_what_was_skipped_for_want_of_it() -> None:
    """The dependents of a retried job would stay skipped, or other failures run again."""
    q = drive(
        job("a"),
        job("x"),
        job("b", "a"),
        job("c", "b"),
        job("d", "c x"),
        job("y", "x"),
        job("end"),
    )
    q.fail("a")
    q.fail("x")
    assert q.states == "a:failed x:failed b:skipped c:skipped d:skipped y:skipped end:running"
    q.retry("a")
    assert q.states == "a:pending x:failed b:pending c:pending d:skipped y:skipped end:running"
    q.run()
    assert q.states == (
        "a:completed x:failed b:completed c:completed d:skipped y:skipped end:completed"
    )
    assert q.status == "failed"


def test_what_is_skipped_again_at_once_tells_those_behind_it() -> None:
    """A job behind one that is skipped again would wait for ever."""
    q = drive(job("a"), job("m", "a", "always"), job("b"), job("d", "m b"), job("e", "d"))
    q.fail("a")
    q.ok("m")
    q.fail("b")
    assert q.states == "a:failed m:completed b:failed d:skipped e:skipped"
    q.crash()
    q.open(lambda now: RetryRequested(now, (q.at("a"),)))
    q.ok("a")
    assert q.states == "a:completed m:running b:failed d:skipped e:skipped"
    q.ok("m")
    assert q.states == "a:completed m:completed b:failed d:skipped e:skipped"
    assert q.finish is not None


def test_retry_of_a_skipped_job_whose_cause_stands() -> None:
    """The queue would wait for ever for a job that can't run."""
    q = drive(job("a"), job("b", "a"))
    q.fail("a")
    q.crash()
    q.open(lambda now: RetryRequested(now, (q.at("b"),)))
    assert (q.states, q.status, q.starts) == ("a:failed b:skipped", "failed", [])


def test_retry_while_the_queue_runs_and_is_halted() -> None:
    """A retry would be undone by the stop that it is to lift."""
    q = drive(job("bad", retry=2), job("slow"), job("c"), on_failure="stop", parallel=2)
    q.fail("bad", 1)
    q.tick(5.0)
    assert q.states == "bad:pending slow:running c:running"
    q.ok("c")
    q.fail("bad", 2)
    assert q.states == "bad:failed slow:running c:completed"
    q.retry("bad")
    assert q.starts == ["bad"]
    q.fail("bad", 3)
    assert (q["bad"].status.value, q["bad"].counted) == ("pending", 1), "a fresh budget"
    q.crash()
    q.session()
    q.started("slow", adopted=True)
    q.told()
    assert q["bad"].status.value == "pending", "the stop stays lifted"
    q.tick(5.0)
    q.ok("bad", "slow")
    assert q.status == "completed"


def test_a_retry_of_the_only_failure_lets_go_what_the_stop_skipped() -> None:
    """The queue would end completed, with jobs that a failure had skipped."""
    q = drive(job("bad"), job("other"), job("last", "other"), on_failure="stop")
    q.fail("bad")
    assert q.states == "bad:failed other:skipped last:skipped"
    q.crash()
    q.open(lambda now: RetryRequested(now, (q.at("bad"),)))
    q.run()
    assert (q.order, q.status) == (["bad", "bad", "other", "last"], "completed")


def test_a_retry_of_one_failure_of_two_leaves_the_stop_to_the_rest() -> None:
    """What the other failure has stopped would start."""
    q = drive(job("x"), job("y"), job("z"), job("after", "y"), on_failure="stop", parallel=2)
    q.fail("x")
    q.fail("y")
    q.crash()
    q.open(lambda now: RetryRequested(now, (q.at("y"),)))
    assert q.states == "x:failed y:running z:skipped after:pending"
    q.run()
    assert (q.states, q.status) == ("x:failed y:completed z:skipped after:completed", "failed")


def test_a_new_failure_after_a_retry_stops_the_queue_again() -> None:
    """``on_failure: stop`` would hold once."""
    q = drive(job("a"), job("b", "a"), job("c", "b"), on_failure="stop")
    q.fail("a")
    q.crash()
    q.open(lambda now: RetryRequested(now))
    q.fail("a")
    assert (q.states, q.status) == ("a:failed b:skipped c:skipped", "failed")


def test_retry_in_a_queue_that_is_being_cancelled() -> None:
    """Jobs asked for again would wait in a queue that starts nothing."""
    q = drive(job("a"), job("b"))
    q.started("a")
    q.cancel()
    assert q.states == "a:running b:cancelled"
    q.retry("b")
    q.ends("a", Signalled("SIGTERM"))
    assert q.starts == ["b"]
    q.run()
    assert (q.states, q.status) == ("a:cancelled b:completed", "cancelled")


def test_a_job_asked_for_again_waits_for_those_it_depends_on() -> None:
    """A place in the row from before would let it start first."""
    q = drive(job("hold"), job("b", "a", "always"), job("a"))
    q.cancel("a")
    assert q["b"].status.value == "pending"
    q.cancel("b")
    q.retry()
    assert q.states == "hold:running b:pending a:pending"
    q.ok("hold")
    assert q.starts == ["a"]


def test_what_has_begun_waits_too_when_its_dependency_runs_again() -> None:
    """A clean-up would run beside the job it cleans up after."""
    q = drive(job("a"), job("clean", "a", "always", retry=3), job("end"))
    q.fail("a")
    q.lose("clean")
    q.fail("clean")
    q.ok("end")
    q.retry("a")
    assert q.starts == ["a"]
    q.tick(6.0)
    assert q.starts == []
    q.ok("a")
    assert q.starts == ["clean"]


def test_a_failure_job_that_waits_is_judged_anew() -> None:
    """It would be retried for a failure that is no more."""
    q = drive(job("a"), job("alarm", "a", "failure", retry=3), job("after", "alarm"))
    q.fail("a")
    q.fail("alarm")
    q.retry("a")
    q.ok("a")
    q.tick(5.0)
    assert q.states == "a:completed alarm:skipped after:skipped"
    assert q.status == "completed"


def test_a_retried_job_waits_for_its_own_upload() -> None:
    """Its logs would be moved away under the uploader, or two uploads mixed up."""
    q = drive(job("a"), job("b"), collects=True)
    q.fail("a")
    q.cancel("b")
    q.ends("b", Signalled("SIGTERM"))
    q.retry("a")
    assert (q["a"].status.value, q.starts) == ("pending", [])
    q.stored("a")
    assert q.starts == ["a"]
    assert q["a"].logs_uploaded is None
    q.ends("a", Exited(0))
    assert q.collects == ["a"]


def test_a_retried_job_waits_for_what_it_left_in_the_background() -> None:
    """Its new attempt would meet the server of the one before, in the same slot."""
    q = drive(job("a", timeout=10.0, keep_background=True), job("b", timeout=500.0), parallel=2)
    q.started("a")
    q.tick(10.0)
    q.ends("a", Exited(0), background=True)
    assert (q["a"].status.value, q.ended_backgrounds) == ("failed", ["a"])
    q.retry("a")
    assert q.starts == []
    q.background_ended("a")
    assert q.starts == ["a"]


def test_a_rerun_takes_along_what_waits_for_an_end_of_any_kind() -> None:
    """A report of the end before, or an alarm of it, would stand beside the new one."""
    q = drive(
        job("a"), job("alarm", "a", "failure"), job("b", "a"), job("report", "b alarm", "always"),
        job("sent", "report"), job("other"),
    )  # fmt: skip
    q.fail("a")
    q.run()
    assert q.states == (
        "a:failed alarm:completed b:skipped report:completed sent:completed other:completed"
    )
    q.crash()
    q.open(lambda now: RetryRequested(now))
    assert q.states == (
        "a:running alarm:pending b:pending report:pending sent:pending other:completed"
    )
    q.run()
    assert q.states == (
        "a:completed alarm:skipped b:completed report:completed sent:completed other:completed"
    )
    assert q.status == "completed"


def test_a_completed_job_runs_again_if_it_is_asked_for() -> None:
    """One bad result would take a whole run with it; or all be made again for one."""
    jobs = (job("a"), job("b", "a"), job("c", "b"), job("report", "c", "always"))
    for dependants, states, order in (
        (False, "a:running b:completed c:completed report:pending", ["a", "report"]),
        (True, "a:running b:pending c:pending report:pending", ["a", "b", "c", "report"]),
    ):
        q = drive(*jobs)
        q.run()
        q.crash()
        q.all.clear()
        q.open(lambda now, d=dependants: RetryRequested(now, (0,), True, d))  # type: ignore[misc]
        assert q.states == states
        q.run()
        assert (q.order, q.status) == (order, "completed")


def test_what_a_completed_job_left_running_ends_before_it_runs_again() -> None:
    """Its new attempt would wait for ever, or meet the server of the one before."""
    q = drive(job("a", keep_background=True), job("b", timeout=500.0), parallel=2)
    q.ends("a", Exited(0), background=True)
    q.send(RetryRequested(q.now(), (0,), completed=True))
    assert (q.ended_backgrounds, q.starts) == (["a"], [])
    q.background_ended("a")
    assert q.starts == ["a"]


def test_a_clean_up_that_runs_already_runs_again_after_the_retry() -> None:
    """It would be over before the job that it cleans up after."""
    q = drive(job("a"), job("clean", "a", "always"), job("slow"), parallel=2)
    q.fail("a")
    assert q.states == "a:failed clean:running slow:running"
    q.retry("a")
    q.ok("clean")
    assert q.states == "a:running clean:pending slow:running"
    q.ok("a")
    q.ok("clean")
    q.ok("slow")
    assert (q.states, q.status) == ("a:completed clean:completed slow:completed", "completed")
    assert q["clean"].attempt == 2


def test_a_retry_of_nothing_changes_nothing() -> None:
    """A completed queue would run again."""
    q = drive(job("a"))
    q.run()
    queue = q.core.queue
    q.crash()
    q.session()
    q.retry()
    q.retry("a")
    q.told()
    assert (q.core.queue.status, q.finish) == (queue.status, queue.status)
    assert q.core.queue.worked == queue.worked


def test_retries_one_by_one_lift_a_stop_as_one_does() -> None:
    """What the stop had skipped would never run, and the queue would be green without it."""
    q = drive(job("a"), job("b"), job("c"), on_failure="stop")
    q.fail("a")
    assert q.states == "a:failed b:skipped c:skipped"
    q.crash()
    q.open(lambda now: RetryRequested(now, (1,)), lambda now: RetryRequested(now, (0,)))
    q.run()
    assert (q.states, q.status) == ("a:completed b:completed c:completed", "completed")


def test_a_job_that_was_to_run_again_is_skipped_where_the_queue_has_stopped_meanwhile() -> None:
    """It would wait in a queue that starts nothing more, which would never end."""
    q = drive(job("a"), job("b", "a"), job("c"), on_failure="stop", parallel=3)
    q.ok("a")
    assert q.starts == ["b"]
    q.send(RetryRequested(q.now(), (q.at("a"),), completed=True, dependants=True))
    q.fail("c")
    q.ok("b")
    assert (q["b"].status.value, q["b"].reason) == ("skipped", "job 'c' failed")
    q.ok("a")
    assert q.status == "failed"
