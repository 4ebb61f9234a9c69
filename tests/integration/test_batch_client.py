"""Our client of Batch, against the tests' own Batch server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from batch_account import BatchAccount, container
from batch_server import Delays, Fault, KeptLogs, Processes, Settings

from runner.aws.batch import Batch, _read_jobs, may_have_happened
from runner.aws.errors import AwsError, ErrorKind

INSTANT = Delays(submitted=(0, 1), runnable=(0, 1), starting=(0, 1), ended=(0, 1))


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchAccount]:
    made = BatchAccount(Processes(KeptLogs()), Settings(delays=INSTANT, rates={}))
    made.register()
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


@pytest.fixture
def batch(account: BatchAccount) -> Batch:
    return Batch()


def request(name: str = "job", **more: object) -> dict[str, object]:
    return {"jobName": name, "jobQueue": "queue", "jobDefinition": "definition", **more}


def test_lost_answer_of_a_submission_is_not_sent_again(account: BatchAccount, batch: Batch) -> None:
    """A job would be submitted twice, and run twice."""
    account.server.faults.add("SubmitJob", Fault.LOST_ANSWER)
    with pytest.raises(AwsError) as caught:
        batch.submit(request("run-1"))
    assert may_have_happened(caught.value)
    (found,) = batch.named("queue", "run-1")
    assert [job.id for job in account.server.jobs()] == [found["jobId"]]


def test_throttled_submission_did_not_happen(account: BatchAccount, batch: Batch) -> None:
    """A driver would search for a job that can't be there, or fail one that was only refused."""
    account.server.faults.add("SubmitJob", Fault.THROTTLED)
    with pytest.raises(AwsError) as caught:
        batch.submit(request())
    assert caught.value.kind is ErrorKind.PASSING
    assert not may_have_happened(caught.value)


def test_refused_submission_is_invalid(batch: Batch) -> None:
    """A request that can never succeed would be tried again."""
    with pytest.raises(AwsError) as caught:
        batch.submit(request("not valid"))
    assert caught.value.kind is ErrorKind.INVALID
    assert not may_have_happened(caught.value)


def test_looks_are_sent_again(account: BatchAccount, batch: Batch) -> None:
    """A lost or throttled answer to a look would end a driver."""
    job = batch.submit(request())
    account.server.faults.add("DescribeJobs", Fault.LOST_ANSWER)
    account.server.faults.add("DescribeJobs", Fault.THROTTLED)
    assert batch.describe([job])[job]["jobName"] == "job"


def test_more_than_100_jobs_are_described(account: BatchAccount, batch: Batch) -> None:
    """DescribeJobs would refuse a large queue's ids."""
    array = batch.submit(request(arrayProperties={"size": 150}))
    ids = [f"{array}:{index}" for index in range(150)]
    assert batch.describe([*ids, "unknown"]).keys() == set(ids)
    asked = [len(seen.request["jobs"]) for seen in account.server.seen if "jobs" in seen.request]
    assert asked == [100, 51]


def test_jobs_are_found_by_name_in_every_state(account: BatchAccount, batch: Batch) -> None:
    """A submission whose answer was lost would not be found again once it runs or has ended."""
    ended = batch.submit(request("run-a"))
    account.wait(ended)
    account.server.set_placing(account.environment, False)
    waiting = batch.submit(request("run-b"))
    others = [batch.submit(request(name)) for name in ("RUN-c", "other")]
    many = [batch.submit(request(f"run-{number}")) for number in range(105)]
    found = [job["jobId"] for job in batch.named("queue", "run-")]
    assert found == [*reversed(many), waiting, ended] and not {*others} & {*found}


def test_children_are_listed_by_state(account: BatchAccount, batch: Batch) -> None:
    """Failed elements of an array would not be found."""
    array = batch.submit(
        request(
            arrayProperties={"size": 3},
            containerOverrides={"command": ["sh", "-c", 'exit "$AWS_BATCH_JOB_ARRAY_INDEX"']},
        )
    )
    account.wait(array)
    failed = {job["arrayProperties"]["index"] for job in batch.children(array, ["FAILED"])}
    assert failed == {1, 2}


def test_jobs_are_ended(account: BatchAccount, batch: Batch) -> None:
    """A long reason would be refused, and the job run on."""
    sleeps = request(containerOverrides={"command": ["sleep", "60"]})
    running = batch.submit(sleeps)
    account.wait(running, "RUNNING")
    batch.cancel(running, "too late")
    batch.terminate(running, "x" * 2000)
    assert account.wait(running)["statusReason"] == "x" * 1024


def test_definitions_are_registered(batch: Batch) -> None:
    """A job could not be pinned to the revision that was registered."""
    definition = {
        "jobDefinitionName": "new",
        "type": "container",
        "containerProperties": container(),
    }
    assert [batch.register(definition) for _ in range(2)] == ["new:1", "new:2"]


def test_jobs_are_read_as_botocore_reads_them(account: BatchAccount, batch: Batch) -> None:
    """A quicker way through the answer would tell of other jobs, or take a broken one for none."""
    ids = [account.submit("exit 3"), account.submit("true", arrayProperties={"size": 2})]
    for each in ids:
        account.wait(each)
    asked = [*ids, f"{ids[1]}:0", "unknown"]
    theirs = {each["jobId"]: each for each in account.client.describe_jobs(jobs=asked)["jobs"]}
    assert batch.describe(asked) == theirs and len(theirs) == 3


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"jobs": 1}', b'{"jobs": [1]}'])
def test_what_is_no_answer_is_left_to_botocore(body: bytes) -> None:
    """A broken answer would end the poller instead of being asked for again."""
    told: dict[str, object] = {"status_code": 200, "body": body}
    own: dict[str, object] = {}
    _read_jobs(told, own)
    assert (told["body"], own) == (body, {})
    nulls = b'{"jobs": [{"jobId": "a", "statusReason": null}]}'
    told = {"status_code": 200, "body": nulls}
    _read_jobs(told, own)
    assert (told["body"], own) == (nulls, {})
