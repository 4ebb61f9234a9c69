"""What a job needs from S3 is there before its first attempt, and holds nobody else up."""

from __future__ import annotations

from typing import Any

from core_driver import Driver, drive, job
from core_driver import document as queue_of

from runner.core.actions import CollectResults, FetchInputs, KeepFingerprint
from runner.core.events import Exited, InputsFetched, RetryRequested
from runner.core.explain import Situation, of_job
from runner.core.states import QueueStatus
from runner.model.document import InputSpec, JobSpec, ResultSpec

INPUTS = (InputSpec("s3://bucket/key", "in/"),)


def needy(name: str, after: str = "", **more: Any) -> JobSpec:
    """A job that needs something from S3."""
    return job(name, after, input_paths=INPUTS, **more)


def test_inputs_come_first_and_hold_no_slot() -> None:
    """A job would run without its data, or a slow network would leave the machine idle."""
    q = drive(needy("a"), job("b"), job("c"))
    assert (q.fetches, q.starts) == (["a"], ["b"])
    assert (q["a"].status.value, q["a"].reason) == ("pending", "fetching inputs")
    q.fetched("a")
    assert (q["a"].fetched, q["a"].fetching, q["a"].reason) == (True, False, None)
    q.ok("b")
    assert q.starts == ["a"], "in the document it is before c"
    q.run()
    assert q.finish is QueueStatus.COMPLETED


def test_a_job_whose_turn_it_is_not_fetches_nothing() -> None:
    """What the job before it writes would be fetched before it is there."""
    q = drive(job("a"), needy("b", "a"))
    assert q.fetches == []
    q.ok("a")
    assert (q.fetches, q.starts) == (["b"], [])


def test_the_disk_does_not_fill_with_the_inputs_of_a_whole_queue() -> None:
    """A thousand jobs of 10 GB each would be fetched while the first one runs."""
    q = drive(*(needy(f"j{n}") for n in range(9)), parallel=2)
    assert q.fetches == ["j0", "j1", "j2"]
    q.fetched("j1")
    assert (q.starts, q.fetches) == (["j1"], ["j3"])
    q.fetched("j0")
    q.fetched("j2")
    q.fetched("j3")
    assert q.names(FetchInputs, q.all) == [f"j{n}" for n in range(5)]
    q.fetched("j4")
    assert q.fetches == [], "three are there and can't run yet"
    q.ok("j1")
    assert (q.starts, q.fetches) == (["j2"], ["j5"])
    q.run()


def test_a_definite_error_fails_the_job_at_once() -> None:
    """A queue would wait for ever for a key that is misspelt, or try it three times."""
    q = drive(needy("a", retry=3), job("b", "a"), job("c"))
    q.fetched("a", error="input s3://bucket/key: there is no such key")
    assert q.states == "a:failed b:skipped c:running"
    assert q["a"].error_message == "input s3://bucket/key: there is no such key"
    assert (q["a"].attempt, q["a"].reason, q["a"].completed_at) == (0, None, q.wall)


def test_a_failed_fetch_stops_a_queue_that_stops_at_failures() -> None:
    """Jobs would go on although the document says stop."""
    q = drive(needy("a"), job("b"), job("c", "b"), on_failure="stop")
    q.fetched("a", error="denied")
    q.ok("b")
    assert q.states == "a:failed b:completed c:skipped"
    assert q.finish is QueueStatus.FAILED


def test_what_passes_is_told_and_waited_for() -> None:
    """A person would not know why nothing happens."""
    q = drive(needy("a"))
    q.hampered("a", "503 SlowDown")
    q.hampered("a", "503 SlowDown")
    assert q["a"].reason == "fetching inputs: 503 SlowDown"
    assert [line.event for line in q.story].count("inputs_delayed") == 1
    q.fetched("a")
    assert (q["a"].reason, q.starts) == (None, ["a"])


def test_a_retry_and_an_interruption_fetch_nothing_again() -> None:
    """Every attempt would cost the whole download."""
    q = drive(needy("a", retry=2))
    q.fetched("a")
    q.fail("a")
    q.tick(5.0)
    assert (q.fetches, q.starts) == ([], ["a"])
    q.started("a")
    q.crash()
    q.session()
    q.lose("a")
    q.told()
    assert (q.fetches, q.starts) == ([], ["a"])


def test_after_a_boot_inputs_are_fetched_again() -> None:
    """On a tmpfs they are gone, and the job would fail for want of them."""
    q = drive(needy("a"), needy("b"), needy("c", "a"))
    q.fetched("a")
    q.fetched("b")
    q.started("a")
    q.crash(boot=True)
    q.session()
    q.lose("a", machine=True)
    q.told()
    assert (q.fetches, q.starts) == (["a", "b"], [])
    assert q["a"].status.value == "interrupted"
    q.fetched("a")
    assert q.starts == ["a"]


def test_a_void_start_does_not_bring_back_what_a_boot_has_taken() -> None:
    """A start that never was would let the job run on an empty disk."""
    q = drive(needy("a"))
    q.fetched("a")
    q.crash(boot=True)
    q.session()
    q.void("a")
    q.told()
    assert (q.fetches, q.starts) == (["a"], [])


def test_after_a_crash_the_next_session_fetches() -> None:
    """The job would wait for ever for a process that is gone."""
    q = drive(needy("a"))
    q.crash()
    q.open()
    assert (q.fetches, q["a"].reason) == (["a"], "fetching inputs")


def test_pause_begins_no_fetch_and_one_under_way_goes_on() -> None:
    """A pause would not keep the network free, or throw away what has nearly come."""
    q = drive(needy("a"), needy("b", "a"))
    q.pause()
    q.fetched("a")
    assert (q.starts, q["a"].fetched) == ([], True)
    q.pause(False)
    assert q.starts == ["a"]
    q.pause()
    q.ok("a")
    assert q.fetches == []
    q.pause(False)
    assert q.fetches == ["b"]


def test_a_cancelled_job_hears_no_more_of_its_inputs() -> None:
    """A late end would start a job that somebody has cancelled."""
    q = drive(needy("a"), needy("b"))
    q.cancel("a")
    assert (q["a"].status.value, q["a"].fetching) == ("cancelled", False)
    q.fetched("a")
    q.hampered("a")
    q.fetched("a", error="denied")
    assert (q["a"].status.value, q["a"].reason, q.starts) == ("cancelled", "cancelled", [])


def test_a_global_timeout_ends_a_fetch() -> None:
    """An endless download would outlive its queue."""
    q = drive(needy("a"), global_timeout=30.0)
    q.tick(30.0)
    assert (q["a"].status.value, q["a"].fetching, q.status) == ("skipped", False, "failed")


def test_an_interrupted_queue_leaves_its_fetch_to_the_next_start() -> None:
    """Ctrl-C would wait for a download, or a late end change what was stored as the end."""
    q = drive(needy("a"))
    q.interrupt()
    assert (q.finish, q["a"].status.value) == (QueueStatus.INTERRUPTED, "pending")
    assert (q["a"].fetching, q["a"].reason) == (False, None), "nobody fetches it now"
    q.fetched("a", error="denied")
    assert q["a"].status.value == "pending"
    q.crash()
    q.open()
    assert q.fetches == ["a"]


def test_a_retry_request_fetches_anew() -> None:
    """What was put right in the bucket would not be seen."""
    q = drive(needy("a"))
    q.fetched("a")
    q.fail("a")
    q.crash()
    q.open(RetryRequested)
    assert (q.fetches, q.starts) == (["a"], [])


def test_a_fetched_job_that_must_wait_again_is_no_bar_to_others() -> None:
    """Jobs that wait for one that needs inputs would keep it from ever getting them."""
    last = [job(f"z{n}", "a", run_if="always", input_paths=INPUTS) for n in range(2)]
    q = drive(needy("a"), *last)
    q.fetched("a")
    q.fail("a")
    assert q.fetches == ["z0", "z1"]
    q.pause()
    q.fetched("z0")
    q.fetched("z1")
    q.retry("a")
    q.pause(False)
    assert (q.fetches, q.starts) == (["a"], [])
    q.run()


# -- the timeout ---------------------------------------------------------------------------------


def test_inputs_are_not_in_the_timeout() -> None:
    """A slow network would time out a job that has not begun."""
    q = drive(needy("a", timeout=10.0))
    q.fetched("a", 100.0)
    q.started("a")
    assert q.core.next_deadline() == q.mono + 10.0


def test_inputs_are_in_the_timeout_where_the_document_says_so() -> None:
    """A job could take its timeout and a download on top, against what was asked for."""
    q = drive(needy("a", timeout=10.0, inputs_in_timeout=True, retry=2))
    q.fetched("a", 4.0)
    q.crash()
    q.session()
    q.void("a")
    q.told()
    q.started("a")
    q.tick(5.9)
    assert q.signals == []
    q.tick(0.1)
    assert q.signals == [("a", False)]
    q.ends("a", Exited(0))
    assert q["a"].error_message == "command timed out after 10s, 4s of it for inputs"
    q.tick(5.0)
    q.started("a")
    assert q.core.next_deadline() == q.mono + 10.0, "the second attempt fetched nothing"


def test_a_fetch_longer_than_the_timeout_is_the_end() -> None:
    """The job would start with no time left, and be killed without a word on why."""
    q = Driver(queue_of(needy("a", timeout=10.0, inputs_in_timeout=True, retry=2), job("b"))).open()
    q.fetched("a", 10.0)
    assert (q["a"].status.value, q["a"].timed_out, q["a"].attempt) == ("failed", True, 0)
    assert q["a"].error_message == "timed out after 10s, still fetching inputs"


def looked(q: Driver, name: str, **more: Any) -> None:
    """What it reads was looked at."""
    q.send(InputsFetched(q.now(), q.at(name), 0.0, **more))


def test_an_unchanged_job_completes_without_a_start() -> None:
    """It would run for hours again; or its dependants wait for it for ever."""
    q = drive(job("a", inputs=("in",)), job("b", "a"))
    assert (q.fetches, q.starts, q["a"].reason) == (["a"], [], "looking for changes")
    looked(q, "a", unchanged=("run/1", "first/1"))
    state = q["a"]
    assert (state.status.value, state.reason, state.attempt) == ("completed", "unchanged", 0)
    assert (state.taken_from, state.origin, state.exit_code) == ("run/1", "first/1", None)
    assert q.names(KeepFingerprint, q.all) == ["a"]
    assert q.starts == ["b"]
    q.ok("b")
    assert q.finish is QueueStatus.COMPLETED


def test_a_changed_job_says_why_as_long_as_it_runs() -> None:
    """Nobody would know why the job runs again."""
    q = drive(job("a", inputs=("in",), retry=2))
    looked(q, "a", why='"in" changed')
    assert (q.starts, q["a"].reason) == (["a"], 'changed: "in" changed')
    q.fail("a")
    q.tick(10)
    assert q.fetches == [] and q.starts == ["a"], "a retry goes on with what it began with"
    q.ok("a")
    assert q.names(KeepFingerprint, q.all) == ["a"]


def test_explain_names_what_has_changed() -> None:
    """`runner explain JOB` would say nothing of a job that ran for hours for a changed file."""
    rows = [
        {"job_id": "a", "status": "completed", "reason": 'changed: "in" changed'},
        {"job_id": "b", "status": "completed", "reason": "unchanged"},
        {"job_id": "c", "status": "running", "reason": "changed: command differs"},
    ]
    now = Situation({"status": "running"}, rows, {})
    told = [[(reason.code, reason.text) for reason in of_job(now, row)] for row in rows]
    assert told[0] == [("changed", 'it was run again, for this has changed: "in" changed')]
    assert told[1][0][0] == "unchanged" and told[2][0][0] == "changed"


def test_what_a_person_wants_to_run_is_run() -> None:
    """`retry --completed` would be answered, and nothing be done."""
    q = drive(job("a", inputs=("in",)), job("b", "a", inputs=("in",)))
    for name in ("a", "b"):
        looked(q, name)
        q.ok(name)
    q.crash()
    q.open(lambda now: RetryRequested(now, (0,), completed=True, dependants=True))
    assert (q["a"].forced, q["b"].forced) == (True, False)
    looked(q, "a")
    assert q.starts == ["a"] and not q["a"].forced


def test_what_was_taken_over_is_stored_for_this_run() -> None:
    """The results of an unchanged job would be in no store of the new run."""
    q = Driver(queue_of(job("a", inputs=("in",), result_paths=(ResultSpec("r"),))))
    q.open(collects=True)
    looked(q, "a", unchanged=("run/1", "first/1"))
    assert q.names(CollectResults, q.did) == ["a"] and q["a"].results_uploaded is False
    q.stored("a")
    assert q["a"].results_uploaded is True and q.finish is QueueStatus.COMPLETED
