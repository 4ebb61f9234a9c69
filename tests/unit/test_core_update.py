"""§8: ``--update``, ``--retry-failed``: a changed document for a queue that has begun."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from core_driver import Driver, document, drive, job

from runner.core.events import Exited, Signalled
from runner.core.run_mode import RunMode
from runner.core.update import accepting, carry_over
from runner.errors import ConflictError
from runner.model.document import InputSpec, QueueSpec

UPDATE = RunMode(update=True)
RETRY = RunMode(retry_failed=True)
RERUN = RunMode(rerun_changed=True)


def update(q: Driver, new: QueueSpec, again: RunMode = UPDATE) -> None:
    """What a session for the new document begins with."""
    kept = {i: state for i, state in enumerate(q.core.jobs) if state != type(state)()}
    queue, jobs = carry_over(q.document, new, q.core.queue, kept, again)
    q.load(queue, jobs, new)
    q.all.clear()


def test_records_follow_their_jobs_to_other_places() -> None:
    """A completed job would run again, or another be taken for it."""
    q = drive(job("a"), job("b", "a"), job("c"))
    q.ok("a")
    q.started("b")
    token = q.token("b")
    update(q, document(job("new"), job("c"), job("a"), job("b", "a"), job("d", "b")))
    assert q.states == "new:pending c:pending a:completed b:running d:pending"
    q.session()
    assert q.token("b") == token
    q.started("b", adopted=True)
    q.told()
    q.run()
    assert q.order == ["new", "c", "d"]


def worked_on() -> Driver:
    """All that a job can be while its queue is worked on."""
    q = drive(
        job("done"), job("runs", "done"), job("backs", retry=3), job("hangs"), job("last", "runs"),
        parallel=3,
    )  # fmt: skip
    q.ok("done")
    q.started("runs")
    q.fail("backs")
    q.lose("hangs")
    q.interrupt()
    q.crash()
    assert q.states == "done:completed runs:running backs:pending hangs:running last:pending"
    return q


JOBS = {"done": "", "runs": "done", "backs": "", "hangs": "", "last": "runs"}


def changed(name: str, *, gone: bool = False) -> QueueSpec:
    """The document of ``worked_on`` with this job another, or gone."""
    kept = {n: deps for n, deps in JOBS.items() if not (gone and n == name)}
    return document(
        *(
            job(
                n,
                " ".join(d for d in deps.split() if d in kept),
                retry=3 if n == "backs" else None,
                **({"timeout": 5.0} if n == name else {}),
            )
            for n, deps in kept.items()
        ),
        parallel=3,
    )


REFUSED = [
    # the job that is another, whether it is gone, the flags, what is said of it
    ("runs", False, UPDATE, 'jobs[1] "runs" is running, so it can\'t change (timeout: '),
    ("runs", False, RERUN, "`runner cancel runs` ends it first"),
    ("runs", True, UPDATE, 'job "runs" is running, so it can\'t be removed'),
    ("backs", False, RETRY, 'jobs[2] "backs" waits for its next attempt, so it can\'t change'),
    ("done", False, UPDATE, 'jobs[0] "done" has completed and is another now (timeout: '),
    ("done", False, RETRY, "--rerun-changed runs it again"),
    ("last", False, RETRY, 'jobs[4] "last" is another now (timeout: '),
    ("last", True, RETRY, 'job "last" is gone: --update accepts that'),
]


@pytest.mark.parametrize(("name", "gone", "again", "message"), REFUSED)
def test_what_may_not_change_is_named_with_what_to_do(
    name: str, gone: bool, again: RunMode, message: str
) -> None:
    """A result would be shown for a command that never ran; or nobody knew what to do."""
    with pytest.raises(ConflictError, match=re.escape(message)):
        update(worked_on(), changed(name, gone=gone), again)


def test_a_new_job_needs_an_update() -> None:
    """``--retry-failed`` would take a document for another queue."""
    q = drive(job("a"))
    q.fail("a")
    with pytest.raises(ConflictError, match=r'jobs\[1\] "b" is new: --update'):
        update(q, document(job("a"), job("b")), RETRY)
    update(q, document(job("a"), job("b")), RunMode(retry_failed=True, update=True))
    assert q.states == "a:pending b:pending"


def test_all_conflicts_are_told_at_once() -> None:
    """The user would correct them one by one."""
    q = drive(job("a"), job("b"), parallel=2)
    with pytest.raises(ConflictError) as caught:
        update(q, document(job("a", timeout=1.0), job("c")))
    assert len(str(caught.value).splitlines()) == 2
    q = drive(*(job(f"j{n}") for n in range(50)), parallel=50)
    with pytest.raises(ConflictError) as caught:
        update(q, document(*(job(f"j{n}", timeout=1.0) for n in range(50)), parallel=50))
    assert len(str(caught.value).splitlines()) == 21 and "(30 more)" in str(caught.value)


@pytest.mark.parametrize(
    ("new", "flags"),
    [
        (document(job("a"), job("b", "a", timeout=9.0), job("c", "b")), "--retry-failed"),
        (document(job("a"), job("b", "a"), job("c", "b"), job("d")), "--update"),
        (document(job("a", timeout=9.0), job("b", "a"), job("c", "b")), "--rerun-changed"),
        (document(job("a"), job("b", "a"), job("c", "b"), parallel=4), "--retry-failed"),
    ],
)
def test_the_flags_that_accept_a_document_are_known(new: QueueSpec, flags: str) -> None:
    """The refusal would send the user through the flags one by one."""
    q = drive(job("a"), job("b", "a"), job("c", "b"))
    q.ok("a")
    q.fail("b")
    states = dict(enumerate(q.core.jobs))
    assert accepting(q.document, new, q.core.queue, states) == flags


@pytest.mark.parametrize("again", [RETRY, UPDATE, RunMode(retry_failed=True, update=True)])
def test_a_failed_job_is_corrected_and_what_is_done_stays(again: RunMode) -> None:
    """The way the guide shows would be to run everything again."""
    q = drive(job("a"), job("bad", "a"), job("after", "bad"), on_failure="stop")
    q.ok("a")
    q.fail("bad")
    assert (q.states, q.status) == ("a:completed bad:failed after:skipped", "failed")
    new = document(job("a"), job("bad", "a", timeout=7.0), job("after", "bad"), on_failure="stop")
    update(q, new, again)
    assert (q.states, q.core.queue.halted) == ("a:completed bad:pending after:pending", None)
    q.open()
    q.run()
    assert (q.order, q.status) == (["bad", "after"], "completed")
    assert q["bad"].attempt == 2 and q["bad"].counted == 0


def test_inputs_are_corrected_before_the_first_attempt() -> None:
    """The queue would be green without the job, which a former failure of its own skips."""
    needs = InputSpec("s3://b/mistyped", "in")
    q = drive(job("bad", input_paths=(needs,)), job("b"), on_failure="stop", parallel=2)
    q.fetched("bad", error="there is no such key")
    q.ok("b")
    assert (q.states, q.status) == ("bad:failed b:completed", "failed")
    right = job("bad", input_paths=(InputSpec("s3://b/right", "in"),))
    update(q, document(right, job("b"), on_failure="stop", parallel=2))
    q.open()
    assert q.fetches == ["bad"]
    q.run()
    assert (q.states, q.status) == ("bad:completed b:completed", "completed")


def test_a_failure_that_is_gone_stops_nothing() -> None:
    """What it had skipped would stay so, with a reason that names a job nobody knows."""
    q = drive(job("bad"), job("b"), job("c"), on_failure="stop", parallel=2)
    q.fail("bad")
    q.ok("b")
    assert q.states == "bad:failed b:completed c:skipped"
    update(q, document(job("b"), job("c"), on_failure="stop", parallel=2))
    q.open()
    q.run()
    assert (q.states, q.status) == ("b:completed c:completed", "completed")
    assert q["c"].reason is None and q.core.queue.halted is None


def test_a_queue_whose_only_failure_is_gone_is_done() -> None:
    """It would stay failed for a job that isn't there."""
    q = drive(job("a"), job("bad"))
    q.ok("a")
    q.fail("bad")
    update(q, document(job("a")))
    q.open()
    assert (q.states, q.status, q.core.queue.reason) == ("a:completed", "completed", None)


def test_another_failure_takes_the_place_of_one_that_is_gone() -> None:
    """A removed failure would let go what another one has stopped, or be named for ever."""
    q = drive(job("x", retry=2), job("bad"), job("y"), job("z", "y"), on_failure="stop", parallel=3)
    q.fail("x")
    q.fail("bad")
    q.fail("y")
    assert q.states == "x:failed bad:failed y:failed z:skipped"
    assert q["x"].reason == "no retry: job 'bad' failed"
    rest = (job("x", retry=2), job("y"), job("z", "y"))
    update(q, document(*rest, on_failure="stop", parallel=3))
    assert q.core.queue.halted == "job 'x' failed" and q["x"].reason is None
    q.open()
    assert q.states == "x:failed y:failed z:skipped"
    assert q.core.queue.reason == "job 'x' failed (1 more failed)"


def test_a_completed_job_that_changed_runs_again_with_all_behind_it() -> None:
    """A result of the former command would be taken for the new one's."""
    q = drive(job("a"), job("b", "a"), job("c", "b"), job("other"), parallel=2)
    q.run()
    new = document(job("a", timeout=5.0), job("b", "a"), job("c", "b"), job("other"), parallel=2)
    update(q, new, RERUN)
    assert q.states == "a:pending b:pending c:pending other:completed"
    q.open()
    q.run()
    assert (q.order, q.status) == (["a", "b", "c"], "completed")


def test_what_a_job_gets_from_its_queue_counts_as_its_own() -> None:
    """A job would be shown as done with variables that it never had."""
    q = drive(job("a"), job("b", env={"X": "1"}))
    q.run()
    with pytest.raises(ConflictError, match=r'"a" .*env\.X was added'):
        update(q, document(job("a"), job("b", env={"X": "1"}), env={"X": "1"}))
    update(q, document(job("a", env={}), job("b", env={"X": "1"}), env={}))
    assert q.states == "a:completed b:completed"


def test_what_runs_behind_a_corrected_job_runs_again_afterwards() -> None:
    """A clean-up that had begun would be shown as that of the corrected job."""
    q = drive(job("a"), job("b", "a"), job("clean", "b", "always"))
    q.fail("a")
    assert q.states == "a:failed b:skipped clean:running"
    update(q, document(job("a", timeout=9.0), job("b", "a"), job("clean", "b", "always")), RETRY)
    assert q.states == "a:pending b:pending clean:running"
    q.session()
    q.started("clean", adopted=True)
    q.told()
    q.ok("clean")
    assert q.starts == ["a"]
    q.run()
    assert (q.order, q.status) == (["a", "b", "clean"], "completed")


def test_what_never_started_is_judged_anew() -> None:
    """A job skipped for a dependency that it no longer has would stay skipped."""
    q = drive(job("a"), job("b", "a"), job("c", "b"))
    q.fail("a")
    assert q.status == "failed"
    update(q, document(job("a"), job("b"), job("c", "a")))
    assert (q.states, q.status) == ("a:failed b:pending c:pending", "running")
    q.open()
    assert q.states == "a:failed b:running c:skipped"
    q.run()
    assert q.status == "failed"


def test_a_new_job_that_can_not_run_is_skipped_at_once() -> None:
    """It would be shown as pending until all it depends on has ended."""
    q = drive(job("a"), job("b"))
    q.fail("a")
    update(q, document(job("a"), job("b"), job("c", "a b"), job("d", "c")))
    q.session()
    q.void("b")
    q.told()
    assert q.states == "a:failed b:running c:skipped d:skipped"


@pytest.mark.parametrize(("why", "state"), [("cancel", "cancelled"), ("timeout", "skipped")])
def test_new_jobs_of_a_queue_that_is_being_ended_end_with_it(why: str, state: str) -> None:
    """The queue would wait for ever for jobs that nothing may start."""
    q = drive(job("a", timeout=500.0), global_timeout=100.0)
    q.started("a")
    if why == "cancel":
        q.cancel()
    else:
        q.tick(100.0)
    update(q, document(job("a", timeout=500.0), job("b"), global_timeout=100.0))
    q.session()
    q.started("a", adopted=True)
    q.told()
    assert q["b"].status.value == state
    q.ends("a", Exited(0))
    assert q.status == {"cancel": "cancelled", "timeout": "failed"}[why]


def test_a_cancelled_job_stays_cancelled() -> None:
    """An update would bring back what a person has taken out."""
    q = drive(job("a"), job("b"))
    q.cancel("b")
    update(q, document(job("b", timeout=1.0), job("a")))
    assert q.states == "b:cancelled a:running"


def test_a_checkpoint_that_is_not_declared_any_more_is_looked_for_by_nobody() -> None:
    """A job that a person cancelled, and has run again later, would wait for what it never had."""
    q = drive(job("a"), job("b", checkpoint_paths=("saved",)))
    q.cancel("b")
    ended = replace(q.core.jobs[1], needs_check=True)  # a boot came between
    _, jobs = carry_over(q.document, document(job("a"), job("b")), q.core.queue, {1: ended}, UPDATE)
    assert jobs[1].status.value == "cancelled" and not jobs[1].needs_check


def test_new_jobs_make_an_ended_queue_run_again() -> None:
    """They would never start."""
    q = drive(job("a"))
    q.run()
    update(q, document(job("a"), job("b", "a")))
    queue = q.core.queue
    assert (queue.status.value, queue.completed_at, queue.reason) == ("running", None, None)
    q.open()
    assert q.starts == ["b"]


def test_nothing_new_leaves_an_ended_queue_ended() -> None:
    """A changed name would make a finished queue run again."""
    q = drive(job("a"))
    q.run()
    update(q, replace(q.document, queue_name="another"))
    assert q.status == "completed"


STOPPED: list[tuple[str, str, str]] = [
    # on_failure before and after the update, what becomes of a new job
    ("stop", "stop", "skipped"),
    ("stop", "continue", "running"),
    ("continue", "continue", "running"),
    ("continue", "stop", "skipped"),
]


@pytest.mark.parametrize(("old", "new", "expected"), STOPPED)
def test_a_failure_stops_new_jobs_if_the_new_document_says_so(
    old: str, new: str, expected: str
) -> None:
    """An update would start something new after a stop."""
    q = drive(job("a"), on_failure=old)
    q.fail("a")
    update(q, document(job("a"), job("b"), on_failure=new))
    q.open()
    assert q["b"].status.value == expected
    assert q["b"].reason == ("job 'a' failed" if expected == "skipped" else None)


def test_more_time_lets_a_queue_that_ran_out_of_it_go_on() -> None:
    """The only way on would be to run what had failed again."""
    more: dict[str, Any] = {"on_failure": "continue"}
    q = drive(job("a", timeout=500.0), job("b"), global_timeout=100.0, **more)
    q.started("a")
    q.tick(100.0)
    q.ends("a", Signalled("SIGKILL"))
    update(q, document(job("a", timeout=500.0), job("b"), global_timeout=200.0, **more))
    q.open()
    assert q.starts == ["b"]


def test_backoff_and_counts_are_carried_over() -> None:
    """An update would give a job its retries back."""
    q = drive(job("a", retry=2))
    q.fail("a")
    update(q, document(job("first"), job("a", retry=2)))
    q.open()
    assert q.starts == ["first"]
    q.ok("first")
    q.tick(5.0)
    q.fail("a")
    assert (q["a"].status.value, q["a"].counted) == ("failed", 2)


def test_a_job_that_comes_back_goes_on_with_its_numbers() -> None:
    """Its first attempt would write over the logs of the former one, and be taken for stored."""
    q = drive(job("a"), job("b"))
    q.fail("a")
    update(q, document(job("b")))
    update(q, document(job("b"), job("a")))
    q.open()
    q.ok("b")
    q.started("a")
    assert q["a"].attempt == 2
    assert q.core.queue.former is None, "what is in the document is not kept twice"
