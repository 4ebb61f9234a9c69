"""§5: stop, continue, the global timeout."""

from __future__ import annotations

import pytest
from core_driver import drive, job

from runner.core.events import Exited, Lost, Outcome, Signalled, Usage
from runner.model.document import InputSpec, RetrySpec


def test_continue_skips_what_depends_and_runs_the_rest() -> None:
    """One failure would stop all, or its dependents would run all the same."""
    q = drive(job("a"), job("b", "a"), job("c", "b"), job("d"))
    q.fail("a")
    assert q.states == "a:failed b:skipped c:skipped d:running"
    assert (q["b"].reason, q["c"].reason) == (
        "dependency 'a' failed",
        "dependency 'b' was skipped",
    )
    q.ok("d")
    assert (q.status, q.core.queue.reason) == ("failed", "job 'a' failed")


def test_a_queue_with_several_failures_names_the_first_and_counts() -> None:
    """The reason would name a job at random."""
    q = drive(job("a"), job("b"), job("c"))
    q.ok("a")
    q.fail("b")
    q.fail("c")
    assert q.core.queue.reason == "job 'b' failed (1 more failed)"


def test_stop_starts_nothing_new_but_lets_running_jobs_end() -> None:
    """A failure would kill what runs, or let everything go on."""
    q = drive(job("a"), job("b"), job("c"), job("d", "b"), on_failure="stop", parallel=2)
    q.fail("a")
    assert q.starts == []
    assert q.states == "a:failed b:running c:skipped d:skipped"
    assert q["c"].reason == "job 'a' failed"
    assert q.signals == []
    q.ok("b")
    assert q.states == "a:failed b:completed c:skipped d:skipped"
    assert q.status == "failed"


def test_stop_ends_backoff_and_later_failures_with_their_last_result() -> None:
    """After a stop something would still be tried again, or lose its exit code."""
    q = drive(
        job("waits", retry=3), job("bad"), job("runs", retry=3), on_failure="stop", parallel=3
    )
    q.fail("waits", 7)
    q.fail("bad")
    w = q["waits"]
    assert (w.status.value, w.exit_code, w.counted) == ("failed", 7, 1)
    assert w.error_message == "command execution failed: exit status 7"
    assert (w.reason, w.next_attempt_at) == ("no retry: job 'bad' failed", None)
    q.fail("runs", 8)
    r = q["runs"]
    assert (r.status.value, r.exit_code, r.reason) == ("failed", 8, "no retry: job 'bad' failed")
    assert q.status == "failed"


def test_stop_ends_what_was_about_to_be_retried() -> None:
    """A job whose wait is over, but that has no slot yet, would be retried after a stop."""
    q = drive(job("flaky", retry=3), job("bad"), on_failure="stop")
    q.fail("flaky", 7)
    q.tick(10.0)
    assert q["flaky"].retry_due is None
    q.fail("bad")
    assert (q["flaky"].status.value, q["flaky"].exit_code) == ("failed", 7)


def test_stop_lets_jobs_for_failures_run_when_it_is_their_turn() -> None:
    """A failure would stop the very jobs that are there for it."""
    q = drive(
        job("a"),
        job("slow"),
        job("alarm", "a", "failure"),
        job("report", "alarm"),
        job("clean", "a slow", "always"),
        job("mop", "clean", "always", retry=3),
        job("dry", "slow", "failure"),
        on_failure="stop",
        parallel=2,
    )
    q.fail("a")
    assert q.starts == ["alarm"]
    assert q.states == (
        "a:failed slow:running alarm:running report:skipped clean:pending mop:pending dry:pending"
    )
    q.ok("alarm")
    q.ok("slow")
    assert q.starts == ["clean"]
    assert q["dry"].status.value == "skipped"
    q.ok("clean")
    q.fail("mop", 3)
    assert (q["mop"].status.value, q["mop"].counted) == ("failed", 1), "no retry after a stop"
    assert q.status == "failed"


def test_a_stop_goes_with_the_failure_that_it_came_from() -> None:
    """A queue would end completed, and a job that the failure had stopped never run."""
    inputs = (InputSpec("s3://bucket/key", "in/"),)
    z = job("z", "a", "failure", input_paths=inputs)
    q = drive(job("a"), job("c"), z, on_failure="stop")
    q.fail("a")
    q.retry("a")
    q.fetched("z", error="no such key")
    assert q.states == "a:running c:skipped z:failed"
    q.lose("a", machine=True)
    assert q.states == "a:running c:pending z:pending", "z has yet to see how a ends"
    q.ok("a")
    assert (q.states, q.starts) == ("a:completed c:running z:skipped", ["c"])


def test_a_failure_job_behind_what_a_stop_skipped_is_skipped_too() -> None:
    """It would wait for ever for a job that never ends."""
    q = drive(
        job("a"),
        job("b"),
        job("c", "b"),
        job("d", "c", "failure"),
        job("e", "d c", "always"),
        on_failure="stop",
    )
    q.fail("a")
    assert q.states == "a:failed b:skipped c:skipped d:skipped e:running"
    assert q["d"].reason == "no dependency failed"
    q.ok("e")
    assert q.status == "failed"


def test_a_stopped_queue_takes_interrupted_jobs_up_again() -> None:
    """A crash after a stop would skip what would have run on to its end."""
    q = drive(job("a"), job("b"), on_failure="stop", parallel=2)
    q.fail("a")
    q.started("b")
    q.lose("b")
    assert q.starts == ["b"]
    q.crash(boot=True)
    q.session()
    q.lose("b", machine=True)
    q.told()
    assert q.starts == ["b"]
    q.ok("b")
    assert q.states == "a:failed b:completed"


VOID_AFTER_STOP = [
    # run_if, attempts counted before, what becomes of a start that turns out to be void
    ("success", 0, "skipped"),
    ("success", 1, "failed"),
    ("always", 0, "pending"),
]


@pytest.mark.parametrize(("run_if", "counted", "expected"), VOID_AFTER_STOP)
def test_a_void_start_in_a_stopped_queue(run_if: str, counted: int, expected: str) -> None:
    """A start that never was would be done anew after the stop: something new."""
    q = drive(job("a"), job("b", run_if=run_if, retry=3), on_failure="stop", parallel=2)
    for _ in range(counted):
        q.fail("b", 7)
        q.tick(5.0)
    q.fail("a")
    q.void("b", "no memory", 5.0)
    assert q["b"].status.value == expected
    assert q["b"].exit_code == (7 if counted else None)


def test_the_global_timeout_ends_everything() -> None:
    """A queue would run past its time, or end without saying what became of each job."""
    q = drive(
        job("done"),
        job("runs", timeout=500.0, term_grace=3.0),
        job("waits", retry=RetrySpec(3, "fixed", base_delay=300.0)),
        job("ready"),
        job("later", "runs"),
        job("clean", "runs", "always"),
        job("alarm", "runs", "failure"),
        global_timeout=120.0,
        parallel=2,
        on_failure="continue",
    )
    q.ok("done")
    q.fail("waits", 9)
    q.started("runs")
    q.void("ready", "no memory", 200.0)
    q.tick(119.0)
    assert q.signals == []
    q.tick(1.0)
    assert q.signals == [("runs", False)]
    assert q.states == (
        "done:completed runs:running waits:failed ready:skipped later:skipped clean:skipped "
        "alarm:skipped"
    )
    message = "global timeout 2m0s exceeded"
    assert (q["waits"].exit_code, q["waits"].reason) == (9, f"no retry: {message}")
    assert (q["ready"].attempt, q["ready"].reason) == (0, message)
    q.tick(3.0)
    assert q.signals == [("runs", True)]
    q.ends("runs", Exited(0))
    r = q["runs"]
    assert (r.status.value, r.timed_out, r.error_message) == ("failed", True, message)
    assert (q.status, q.core.queue.reason) == ("failed", message)


def test_the_global_timeout_does_not_retry() -> None:
    """A job ended by it would be tried again in a queue that has no time."""
    q = drive(job("a", timeout=500.0, retry=5), global_timeout=120.0)
    q.started("a")
    q.tick(120.0)
    q.ends("a", Signalled("SIGTERM"))
    assert q["a"].status.value == "failed"
    assert q.finish is not None


def test_an_interrupted_job_fails_at_the_global_timeout() -> None:
    """What had begun would be called skipped."""
    q = drive(job("a"), job("b", timeout=500.0), global_timeout=120.0)
    q.lose("a")
    q.void("a", "no memory", 500.0)
    q.started("b")
    q.tick(120.0)
    a = q["a"]
    assert (a.status.value, a.error_message) == ("failed", "global timeout 2m0s exceeded")


def test_a_void_start_at_the_global_timeout_is_what_it_was_before() -> None:
    """A job that never started would be called failed."""
    q = drive(job("a"), global_timeout=120.0)
    q.tick(120.0)
    assert q.signals == [("a", False)]
    q.void("a")
    assert (q["a"].status.value, q["a"].attempt) == ("skipped", 0)
    assert q.status == "failed"


def test_a_lost_attempt_of_a_queue_out_of_time_does_not_wait_for_ever() -> None:
    """The queue would stay running, with a job that nothing may start."""
    q = drive(job("a", timeout=500.0), global_timeout=120.0)
    q.started("a")
    q.over("a")
    q.tick(120.0)
    q.ends("a", Lost(False))
    assert q.states == "a:failed"
    assert q.status == "failed"


def test_uploads_are_part_of_the_time() -> None:
    """A queue would hang in its uploads without its reason saying so."""
    q = drive(job("a"), collects=True, global_timeout=120.0)
    q.ok("a")
    q.tick(120.0)
    assert q.core.queue.timed_out
    q.stored("a")
    assert (q.states, q.status) == ("a:completed", "failed")
    assert q.core.queue.reason == "global timeout 2m0s exceeded"


def test_a_failure_at_the_global_timeout_does_not_name_another_reason() -> None:
    """The skipped would say that a job failed, when the time was over."""
    q = drive(job("a", timeout=500.0), job("b", "a"), on_failure="stop", global_timeout=120.0)
    q.started("a")
    q.tick(120.0)
    q.ends("a", Signalled("SIGKILL"))
    assert q["b"].reason == "global timeout 2m0s exceeded"


@pytest.mark.parametrize(
    ("outcome", "more"), [(Signalled("SIGKILL"), ""), (Exited(137), " (exit status 137)")]
)
def test_a_want_of_memory_is_called_so(outcome: Outcome, more: str) -> None:
    """People would look for who killed their job, or for a fault in it."""
    q = drive(job("a", retry=RetrySpec(2)))
    usage = Usage(cpu_seconds=3.25, max_rss=int(15.2 * 2**30), oom_kills=2)
    q.started("a")
    q.ends("a", outcome, usage=usage)
    assert q.states == "a:pending", "it is retried as any failure is"
    message = f"out of memory: the kernel killed it at 15.2 GiB{more}"
    assert (q["a"].error_message, q["a"].oom_killed) == (message, True)
    q.tick(60.0)
    q.started("a")
    q.ends("a", Exited(0), usage=usage)
    assert q.states == "a:completed", "who was killed was not missed"
    assert (q["a"].cpu_seconds, q["a"].max_rss_bytes) == (3.25, int(15.2 * 2**30))
    assert (q["a"].oom_killed, q["a"].error_message) == (True, None)
