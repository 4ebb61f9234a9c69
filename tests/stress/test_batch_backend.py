"""Attempts as jobs of AWS Batch: what the driver makes of Batch's answers, and of their lack."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server import Fault
from on_batch import OnBatch, Reacting, account_with, job
from s3_endpoint import Endpoint

from runner.aws.batch import Batch
from runner.aws.errors import AwsError, ErrorKind
from runner.batch import poller, rate
from runner.batch.records import BatchClaim, Writer, to_bytes
from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.engine import backoff
from runner.engine.batch import backend, calls, survivors
from runner.errors import ConflictError, ExitCode
from runner.results.layout import Layout
from runner.results.s3.store import S3Store
from runner.service.attempt_place import check_place
from runner.service.session import Session
from runner.service.views import StoredViews


@pytest.fixture
def on_batch(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnBatch]:
    # Between TERM and KILL are 30 of Batch's seconds: time for an end to be stored.
    account = account_with(endpoint, second_s=0.1)
    for name, value in {**endpoint.env, **account.env}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(backend, "CLAIM_AGAIN", 0.05)
    monkeypatch.setattr(survivors, "SEARCH_AGAIN", 0.05)
    yield OnBatch(account, endpoint.bucket(), tmp_path)
    account.close()
    from on_batch import LOGS

    print({k: b"".join(v) for k, v in LOGS.lines.items()})


def test_results_retries_and_timeouts(on_batch: OnBatch) -> None:
    """A queue would go another way on AWS Batch than here."""
    ended = on_batch.run(
        job("a", "echo hello; echo 42 > out.txt", result_paths=["out.txt"]),
        job("again", "exit $((JOB_ATTEMPT == 1))", retry={"max_attempts": 2, "base_delay": "1ms"}),
        job("slow", "sleep 60", timeout="200ms"),
        job("after", depends_on=["slow"]),
        job("always", depends_on=["slow"], run_if="always"),
        on_failure="continue",
        max_parallel_jobs=5,
    )
    state = on_batch.state()
    assert ended.exit_code is ExitCode.QUEUE_FAILED
    assert (state["a"]["status"], state["a"]["results_uploaded"]) == ("completed", True)
    assert on_batch.log("a") == "hello\n"
    assert (state["again"]["status"], state["again"]["attempt"]) == ("completed", 2)
    slow = state["slow"]
    assert (slow["status"], slow["timed_out"], slow["signal"]) == ("failed", True, "SIGTERM")
    assert slow["error_message"] == "command timed out after 200ms"
    assert (state["after"]["status"], state["always"]["status"]) == ("skipped", "completed")


def test_an_array_is_one_submission(on_batch: OnBatch) -> None:
    """Ten thousand elements would take ten thousand calls of SubmitJob."""
    on_batch.run(
        job(
            "x",
            "exit $((RUNNER_ARRAY_INDEX == 2 && JOB_ATTEMPT == 1))",
            array=4,
            retry={"max_attempts": 2, "base_delay": "1ms"},
        ),
        max_parallel_jobs=9,
    )
    sizes = [len(each.children) for each in on_batch.account.server.jobs() if each.parent is None]
    assert on_batch.state()["x"]["status"] == "completed"
    assert sizes == [4, 0]


@pytest.mark.parametrize("late", [False, True])
def test_a_lost_answer_of_a_submission_runs_nothing_twice(on_batch: OnBatch, late: bool) -> None:
    """A job would be submitted twice, and run twice."""
    server = on_batch.account.server
    if late:
        server.set_visibility((0.5, 0.5))
    server.faults.add("SubmitJob", Fault.LOST_ANSWER)
    proof = on_batch.folder / "ran"
    ended = on_batch.run(job("a", f"echo $JOB_ATTEMPT >> {proof}"))
    assert ended.exit_code is ExitCode.DONE
    assert (proof.read_text(), on_batch.submitted) == ("1\n", 1)


def test_a_lost_request_costs_no_attempt(
    on_batch: OnBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job whose submission never arrived would be waited for, or have used up an attempt."""
    monkeypatch.setattr(survivors, "PATIENCE", 0.3)
    on_batch.account.server.faults.add("SubmitJob", Fault.LOST_REQUEST)
    on_batch.run(job("a", "exit $((JOB_ATTEMPT - 1))"))
    assert (on_batch.state()["a"]["status"], on_batch.state()["a"]["attempt"]) == ("completed", 1)


def test_throttling_fails_nothing(on_batch: OnBatch) -> None:
    """A busy account's jobs would fail."""
    for operation in ("SubmitJob", "DescribeJobs", "ListJobs", "DescribeJobDefinitions"):
        on_batch.account.server.faults.add(operation, Fault.THROTTLED, 2)
    ended = on_batch.run(job("a"), job("b"), max_parallel_jobs=2)
    assert ended.exit_code is ExitCode.DONE


def test_ten_minutes_of_throttling_fail_nothing(
    on_batch: OnBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storm of 429 in a busy account would fail jobs, or have them run twice; and a driver that
    asks ever more often would keep it up."""
    scale = 0.01  # of a second: ten minutes are 6 s
    monkeypatch.setattr(poller, "FIRST_RETRY", poller.FIRST_RETRY * scale)
    monkeypatch.setattr(poller, "LONGEST_RETRY", poller.LONGEST_RETRY * scale)
    monkeypatch.setattr(rate, "SLOWEST", rate.SLOWEST / scale)
    monkeypatch.setattr(backoff, "FIRST_RETRY", backoff.FIRST_RETRY * scale)
    server = on_batch.account.server
    operations = (
        "SubmitJob", "DescribeJobs", "ListJobs", "DescribeJobDefinitions", "TerminateJob",
        "RegisterJobDefinition",
    )  # fmt: skip
    for operation in operations:
        server.faults.limit(operation, 0.0)

    def calm() -> None:
        for operation in operations:
            server.faults.limit(operation, 1e9)

    proof = on_batch.folder / "ran"
    timer = threading.Timer(600 * scale, calm)
    timer.start()
    try:
        ended = on_batch.run(
            job("a", f"echo a >> {proof}"),
            job("x", f"echo x$RUNNER_ARRAY_INDEX >> {proof}", array=3),
            job("b", f"echo b >> {proof}", depends_on=["a"]),
            max_parallel_jobs=9,
        )
    finally:
        timer.cancel()
    assert ended.exit_code is ExitCode.DONE
    assert sorted(proof.read_text().split()) == ["a", "b", "x0", "x1", "x2"]
    assert {each["attempt"] for each in on_batch.state().values()} == {1}
    throttled = sum(each.error == "TooManyRequestsException" for each in server.seen)
    assert throttled > 10


def test_an_image_that_is_missing_fails_at_once_with_words(on_batch: OnBatch) -> None:
    """A mistyped image would be submitted again and again, or fail without a reason."""
    on_batch.account.server._executor.missing.add("nowhere/none:1")
    on_batch.run(job("a", image="nowhere/none:1", retry={"max_attempts": 3}))
    a = on_batch.state()["a"]
    assert (a["status"], a["attempt"], a["logs_uploaded"]) == ("failed", 1, True)
    assert "nowhere/none:1" in a["error_message"]


def test_a_lost_host_interrupts_and_does_not_count(on_batch: OnBatch) -> None:
    """A Spot reclaim would use up a job's only attempt."""

    def lose(_: Session) -> None:
        (running,) = on_batch.account.server.jobs()
        on_batch.account.server.lose_host_of(running.id)

    on_batch.run(
        job("a", "[ $JOB_ATTEMPT = 2 ] || sleep 60"), watcher=Reacting("attempt_started", lose)
    )
    a = on_batch.state()["a"]
    assert (a["status"], a["attempt"], a["interruptions"]) == ("completed", 2, 1)
    assert "unannounced" not in a


def test_a_cancel_ends_the_job_and_keeps_its_reason(on_batch: OnBatch) -> None:
    """A cancelled job would go on in AWS Batch, and cost."""
    ready = on_batch.folder / "ready"

    def cancel(session: Session) -> None:
        # The claim, which is the start, comes before the command: its trap isn't set yet.
        if ready.exists():
            session.tell(ev.CancelRequested)
        else:
            session.loop.call_later(0.05, cancel, session)

    ended = on_batch.run(
        job("a", f"trap 'exit 0' TERM; touch {ready}; sleep 60 & wait"),
        job("b"),
        watcher=Reacting("attempt_started", cancel),
    )
    a, b = (on_batch.state()[name] for name in "ab")
    assert ended.exit_code is ExitCode.CANCELLED
    assert (a["status"], a["exit_code"], b["status"]) == ("cancelled", 0, "cancelled")
    assert on_batch.submitted == 1


def test_a_forged_claim_leads_to_no_other_job(on_batch: OnBatch) -> None:
    """A command could have its driver follow, or end, any job of the account."""
    on_batch.account.register(name="theirs")
    theirs = on_batch.account.start(
        "theirs", containerOverrides={"command": ["sh", "-c", "sleep 1000"]}
    )
    store = S3Store(on_batch.bucket, "queues/q")

    def forge(session: Session) -> None:
        live = session.scheduler.jobs[0].live
        assert live is not None
        claim = BatchClaim(Writer.CONTAINER, live.token, time.time(), "n", theirs, 1)
        store.put_bytes(Layout().claim_key("a", 1, live.token), to_bytes(claim))

    on_batch.run(job("a", "exit $((JOB_ATTEMPT - 2))"), watcher=Reacting("attempt_intended", forge))
    store.close()
    a = on_batch.state()["a"]
    assert (a["status"], a["attempt"], a["interruptions"]) == ("completed", 2, 1)
    assert on_batch.account.job(theirs)["status"] == "RUNNING"
    on_batch.account.client.terminate_job(jobId=theirs, reason="over")


def test_a_start_that_still_waits_is_voided(on_batch: OnBatch) -> None:
    """A job that was cancelled in a full queue would begin hours later."""
    server = on_batch.account.server
    server.set_placing(on_batch.account.environment, False)

    def cancel(session: Session) -> None:
        session.tell(ev.CancelRequested)

    on_batch.run(job("a"), watcher=Reacting("attempt_intended", cancel))
    (submitted,) = server.jobs() or [None]
    assert on_batch.state()["a"]["status"] == "cancelled"
    assert submitted is None or on_batch.account.wait(submitted.id)["status"] == "FAILED"


@pytest.mark.parametrize("lost", [False, True])
def test_a_start_that_is_cancelled_while_it_is_submitted_leaves_no_job(
    on_batch: OnBatch, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """The driver would end before the answer came, and its job wait in AWS Batch for ever."""
    server, submit = on_batch.account.server, Batch.submit
    server.set_placing(on_batch.account.environment, False)
    watcher = Reacting("queue_running", lambda session: sessions.append(session))
    sessions: list[Session] = []

    def slow(self: Batch, request: Any) -> str:
        found = submit(self, request)
        sessions[0].tell(ev.CancelRequested)
        deadline = time.monotonic() + 30
        while not any(key.endswith(".claim.json") for key in on_batch.records()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if lost:
            raise AwsError(ErrorKind.PASSING, "ConnectionClosedError", "the answer was lost")
        return found

    monkeypatch.setattr(Batch, "submit", slow)
    on_batch.run(job("a"), watcher=watcher)
    (submitted,) = server.jobs()
    assert on_batch.state()["a"]["status"] == "cancelled"
    assert on_batch.account.wait(submitted.id)["status"] == "FAILED"


def test_a_detached_run_is_gone_on_with(on_batch: OnBatch) -> None:
    """What runs in AWS Batch would be lost, or run again beside itself."""
    proof, go = on_batch.folder / "ran", on_batch.folder / "go"
    document = job("a", f"echo ran >> {proof}; until [ -e {go} ]; do sleep 0.05; done; echo out")
    first = on_batch.run(document, watcher=Reacting("attempt_started", Session.detach))
    assert first.exit_code is ExitCode.NOT_FINISHED
    go.touch()
    watcher = Reacting()
    assert on_batch.run(document, watcher=watcher).exit_code is ExitCode.DONE
    assert (proof.read_text(), on_batch.state()["a"]["attempt"]) == ("ran\n", 1)
    assert "attempt_adopted" in watcher.told or "attempt_completed" in watcher.told
    assert on_batch.log("a") == "out\n"


def test_what_ended_meanwhile_is_told_once(on_batch: OnBatch) -> None:
    """A job that ended while its driver was away would be run again."""
    proof = on_batch.folder / "ran"
    document = job("a", f"echo ran >> {proof}; exit 3")
    on_batch.run(document, watcher=Reacting("attempt_intended", Session.detach))
    for each in on_batch.account.server.jobs():
        on_batch.account.wait(each.id)
    on_batch.run(document)
    assert (proof.read_text(), on_batch.state()["a"]["exit_code"]) == ("ran\n", 3)


def test_fresh_ends_what_runs_in_batch(on_batch: OnBatch) -> None:
    """The jobs of the run before would go on beside those of the new one."""
    document = job("a", "sleep 60", timeout="2m")
    on_batch.run(document, watcher=Reacting("attempt_started", Session.detach))
    (old,) = on_batch.account.server.jobs()
    on_batch.run(
        document,
        again=RunMode(fresh=True),
        watcher=Reacting("attempt_started", lambda session: session.tell(ev.CancelRequested)),
    )
    assert on_batch.account.job(old.id)["status"] == "FAILED"
    assert on_batch.submitted == 2


def test_a_job_that_is_followed_again_is_told_where_it_is(on_batch: OnBatch) -> None:
    """`status` would say of a job in AWS Batch that it has ended, for it has no process here."""
    on_batch.run(job("a", "sleep 60"), watcher=Reacting("attempt_started", Session.detach))
    snapshot = StoredViews(on_batch.repository.paths).snapshot("q")
    (a,) = (snapshot.job(each) for each in snapshot.find(["a"]))
    assert "AWS Batch" in a["reason"]


def test_a_queue_stays_where_it_has_begun(on_batch: OnBatch) -> None:
    """Its jobs would run here beside those in AWS Batch."""
    on_batch.run(job("a", "sleep 60"), watcher=Reacting("attempt_started", Session.detach))
    entry = on_batch.repository.find("q")
    with pytest.raises(ConflictError, match="--target batch"):
        check_place(entry, on_batch=False)


def test_calls_that_are_denied_are_told(on_batch: OnBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue whose driver lacks a right would wait for ever, without a word."""
    denied = AwsError(ErrorKind.DENIED, "AccessDeniedException", "no batch:ListJobs")
    tries: list[str] = []

    def named(self: Batch, queue: str, prefix: str) -> list[Any]:
        tries.append(prefix)
        if len(tries) < 3:
            raise denied
        return []

    monkeypatch.setattr(Batch, "named", named)
    monkeypatch.setattr(calls, "backoff", lambda tries: 0.01)
    watcher = Reacting()
    assert on_batch.run(job("a"), watcher=watcher).exit_code is ExitCode.DONE
    assert [text for text in watcher.said if "batch:ListJobs" in text] == [
        "no batch:ListJobs; it is tried again"
    ]


def test_another_machine_takes_over_what_still_waits(
    on_batch: OnBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that a lost laptop had submitted would begin, and do nothing for it is succeeded."""
    monkeypatch.setattr(survivors, "RENEW_AFTER", (0.0, 0.5, 1.0, 2.0, 4.0))
    server, environment = on_batch.account.server, on_batch.account.environment
    server.set_placing(environment, False)

    def leave(session: Session) -> None:
        session.loop.call_later(1.0, session.detach)

    on_batch.run(job("a", "echo ran"), watcher=Reacting("attempt_intended", leave))
    elsewhere = OnBatch(on_batch.account, on_batch.bucket, tmp_path / "elsewhere")

    def place(session: Session) -> None:
        session.loop.call_later(5.0, server.set_placing, environment, True)

    assert elsewhere.run(job("a", "echo ran"), watcher=Reacting("queue_resumed", place))
    assert (elsewhere.state()["a"]["status"], on_batch.submitted) == ("completed", 1)
    (key,) = [key for key in on_batch.records() if key.startswith("submissions/")]
    assert json.loads(on_batch.records()[key])["epoch"] > 1
