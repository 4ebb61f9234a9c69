"""The Executor on AWS Batch: faults of the services, arrays, what it costs to watch, what stays.

What it does as all targets do is in test_executor_on_targets.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from batch_account import BatchAccount
from batch_server import Fault, MotoServices, Settings
from batch_server.executors import Container, ContainerEnd
from executor_on_batch import environment_of, options_of
from executor_targets import until
from on_batch import account_with, instant
from s3_endpoint import Endpoint
from s3_faults import FaultProxy

from runner import Executor, JobError, PayloadError
from runner.batch.records import BatchClaim, Writer, parse_submission, to_bytes
from runner.errors import ConflictError, UsageError
from runner.results.layout import Layout, element

PATIENCE = 240.0
pytestmark = pytest.mark.share


class Served:
    """An account with a bucket, and Executors on it."""

    def __init__(self, account: BatchAccount, endpoint: Endpoint) -> None:
        self.account, self.endpoint = account, endpoint
        self.bucket = endpoint.bucket()

    def make(self, **more: Any) -> Executor:
        return Executor(**options_of(self.bucket, **{"staging": "in-image", **more}))

    def stored(self) -> list[str]:
        listed = self.endpoint.client().list_objects_v2(Bucket=self.bucket)
        return [each["Key"] for each in listed.get("Contents", [])]


@pytest.fixture
def served(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    account = account_with(endpoint, second_s=1.0)
    for name, value in environment_of(endpoint, account).items():
        monkeypatch.setenv(name, value)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield Served(account, endpoint)
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    account.close()


def note(path: Path, word: str) -> str:
    """Leave a line, so that it is known how often this ran."""
    with open(path, "a") as file:
        file.write(f"{word}\n")
    return word


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.THROTTLED])
def test_what_the_service_does_to_a_submission_runs_a_call_once(
    served: Served, tmp_path: Path, fault: Fault
) -> None:
    """A call would run twice, or never: SubmitJob has no client token."""
    proof = tmp_path / "ran"
    served.account.server.faults.add("SubmitJob", fault, 2)
    served.account.server.faults.add("DescribeJobs", Fault.BROKEN, 2)
    with served.make() as ex:
        calls = [ex.submit(note, proof, str(each)) for each in range(2)]
        assert [each.result(PATIENCE) for each in calls] == ["0", "1"]
    assert sorted(proof.read_text().split()) == ["0", "1"]
    assert len(served.account.server.jobs()) == 2


def test_map_is_one_array_and_its_children_are_tried_again_alone(
    served: Served, tmp_path: Path
) -> None:
    """A thousand calls would be a thousand submissions; or one that fails would have all run."""
    proof = tmp_path / "ran"

    def twice(number: int) -> int:
        note(proof, str(number))
        if number == 2 and os.environ["JOB_ATTEMPT"] == "1":
            raise ValueError(number)
        return number * number

    retry = {"max_attempts": 2, "backoff": "fixed", "base_delay": "10ms"}
    with served.make() as ex:
        assert list(ex.options(retry=retry).map(twice, range(4))) == [0, 1, 4, 9]
        with pytest.raises(ZeroDivisionError):
            list(ex.map(divmod, [1, 2], [1, 0]))
    assert sorted(proof.read_text().split()) == ["0", "1", "2", "2", "3"]
    seen = [each.request for each in served.account.server.seen if each.operation == "SubmitJob"]
    sizes = [each.get("arrayProperties", {}).get("size") for each in seen]
    assert sizes == [4, None, 2]


def test_a_store_that_is_away_delays_and_fails_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A hole in the network would cost calls, or `cancel` would hang in it."""
    proxy = FaultProxy(served.endpoint.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    try:
        with served.make() as ex:
            first = ex.submit(pow, 2, 3)
            until(lambda: first.running() or first.done(), PATIENCE)
            with proxy.closed_door():
                waiting, unwanted = ex.submit(pow, 2, 4), ex.submit(note, tmp_path / "ran", "x")
                assert unwanted.cancel() and unwanted.cancelled()
                assert waiting.status() == "pending" and not waiting.done()
            assert (first.result(PATIENCE), waiting.result(PATIENCE)) == (8, 16)
    finally:
        proxy.close()
    assert not (tmp_path / "ran").exists()


def test_what_waits_in_batch_is_pending_and_can_be_cancelled(
    served: Served, tmp_path: Path
) -> None:
    """A job that waits there for hours would be told as running, and could not be taken back."""
    server, environment = served.account.server, served.account.environment
    server.set_placing(environment, places=False)
    with served.make(state_dir=tmp_path / "state") as ex:
        calls = [ex.submit(note, tmp_path / "ran", str(each)) for each in range(3)]
        until(lambda: len(server.jobs()) == 3, PATIENCE)
        assert [each.status() for each in calls] == ["pending"] * 3
        assert not any(each.running() for each in calls)
        assert calls[0].cancel() and calls[0].cancelled()
        late = ex.submit(note, tmp_path / "ran", "late")
        until(lambda: len(server.jobs()) == 4, PATIENCE)
        target: Any = ex._session.targets[0]
        assert target.cancel(late.job_id), "by another way than its Future"
        until(late.cancelled, PATIENCE)
        server.set_placing(environment, places=True)
        assert calls[1].result(PATIENCE) == "1" and calls[2].result(PATIENCE) == "2"
        until(lambda: ex.attach(calls[0].job_id).cancelled(), PATIENCE)
    assert sorted((tmp_path / "ran").read_text().split()) == ["1", "2"]


def test_nothing_stays_but_what_was_to_be_kept(served: Served, tmp_path: Path) -> None:
    """A bucket would fill with calls that are over, or lose the results of a durable queue."""
    with served.make() as ex:
        assert ex.submit(pow, 2, 3).result(PATIENCE) == 8
        assert served.stored()
    assert served.stored() == []
    with served.make(state_dir=tmp_path) as ex:
        call = ex.submit(pow, 2, 3)
        assert call.result(PATIENCE) == 8
    kept = served.stored()
    assert any(f"/jobs/{call.job_id}/" in each for each in kept)
    assert not any(each.endswith(".call") for each in kept)


def test_another_python_is_told_before_anything_is_unpickled(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container would crash, with a segmentation fault as its only word."""
    monkeypatch.setattr("runner.api.payload._tag", lambda: "cpython-399")
    with served.make() as ex:
        with pytest.raises(PayloadError) as caught:
            ex.submit(pow, 2, 3).result(PATIENCE)
        assert "(cpython-399)" in str(caught.value)
        assert f"({sys.implementation.cache_tag})" in str(caught.value)


def test_an_image_that_is_not_there_fails_its_call_only(served: Served) -> None:
    """A misspelt image would be waited for without an end, or be told as the function's fault."""
    served.account.server._executor.missing.add("no/such")  # type: ignore[attr-defined]
    with served.make() as ex:
        with pytest.raises(JobError, match="no/such"):
            ex.options(image="no/such").submit(pow, 2, 3).result(PATIENCE)
        assert ex.submit(pow, 2, 3).result(PATIENCE) == 8


def test_what_can_not_run_there_is_refused_at_once(served: Served, tmp_path: Path) -> None:
    """A call would fail minutes later, far away."""
    with pytest.raises(UsageError, match="there is no job queue nowhere"):
        served.make(job_queue="nowhere")
    with served.make(image=None, state_dir=tmp_path) as ex:
        for wanted, told in (
            ({}, '"image": is missing'),
            ({"image": "i", "region": "eu-west-1"}, "is in us-east-1, not eu-west-1"),
            ({"image": "i", "job_definition": "d:1"}, "there is no d:1 in us-east-1"),
            ({"image": "i", "memory": 1}, '"memory": 1MiB: AWS Batch needs at least 4MiB'),
            ({"image": "i", "env": {"AWS_BATCH_X": "1"}}, "AWS Batch itself sets"),
        ):
            with pytest.raises(ValueError, match=told):
                ex.submit_command("true", wanted)
        assert ex.options(image="local/deb", region="us-east-1").submit(int).region == "us-east-1"
    served.account.server.add_queue("other", served.account.environment)
    with pytest.raises(ConflictError, match="job queue queue"):
        served.make(job_queue="other", state_dir=tmp_path)


def test_a_call_goes_where_it_fits(served: Served, tmp_path: Path) -> None:
    """Of two targets the one would take all, or the two take each other's queue for theirs."""
    options = options_of(served.bucket)
    del options["target"]
    with Executor(
        targets={"local": {"max_workers": 1}, "batch": options}, state_dir=tmp_path
    ) as ex:
        here = ex.submit(os.getppid)
        there = ex.submit_command("echo $AWS_BATCH_JOB_ID", {"queue": "queue"})
        also = ex.options(target="batch").submit_command("echo $AWS_BATCH_JOB_ID")
        assert here.region is None and here.result(PATIENCE)
        assert there.region == "us-east-1" and there.result(PATIENCE).stdout.strip()
        assert also.result(PATIENCE).stdout.strip()
    assert len(served.account.server.jobs()) == 2


def test_a_job_definition_is_what_its_jobs_have(served: Served) -> None:
    """A command that names one would run in another image, or not at all."""
    variables = [{"name": "FROM", "value": "definition"}]
    name = served.account.register("mine", "local/other", environment=variables)
    with served.make(image=None) as ex:
        view = ex.options(job_definition=name)
        said = view.submit_command("echo $FROM", {"job_definition": "mine", "vcpus": 2})
        assert list(view.map(pow, [2, 3], [2, 2])) == [4, 9]
        assert said.result(PATIENCE).stdout == "definition\n"
    images = {
        each["image"]
        for job in served.account.server.jobs()
        for task in job.definition.request["ecsProperties"]["taskProperties"]
        for each in task["containers"]
    }
    assert images == {"local/other"}


def test_the_same_program_runs_there(served: Served, tmp_path: Path) -> None:
    """The guide's word that only `target` changes would be none."""
    program = Path(__file__).parents[2] / "examples/executor/anywhere.py"
    options = {**options_of(served.bucket), "staging": "in-image"}
    del options["every"]
    words = [f"{name}={value}" for name, value in options.items()]
    ended = subprocess.run(
        [sys.executable, str(program), *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert (ended.stdout, ended.stderr) == ("3 hello 285\n", "")


# -- what it costs -----------------------------------------------------------------------------


class Claimed:
    """A container that has claimed its attempt and runs until it is ended; there is no process."""

    def __init__(self, s3: Any, container: Container) -> None:
        self._ended = threading.Event()
        told = container.environment
        bucket, _, key = told["RUNNER_SUBMISSION"].removeprefix("s3://").partition("/")
        prefix = key.partition("submissions/")[0]
        submission = parse_submission(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        entry = submission.entry(int(told.get("AWS_BATCH_JOB_ARRAY_INDEX", "0")))
        name = element(submission.job_id, entry.index)
        claim = BatchClaim(
            Writer.CONTAINER, entry.token, time.time(), "n", told["AWS_BATCH_JOB_ID"], 1
        )
        place = prefix + Layout().claim_key(name, entry.attempt, entry.token)
        s3.put_object(Bucket=bucket, Key=place, Body=to_bytes(claim))

    def terminate(self) -> None:
        self._ended.set()

    def kill(self) -> None:
        self._ended.set()

    def wait(self) -> ContainerEnd:
        self._ended.wait()
        return ContainerEnd(143)


class Claims:
    """Starts such containers."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3
        self._all: list[Claimed] = []

    def start(self, container: Container) -> Claimed:
        made = Claimed(self._s3, container)
        self._all.append(made)
        return made

    def close(self) -> None:
        for each in self._all:
            each.kill()


WATCHING = """
import json, sys, time
from runner import Executor

options, jobs, seconds = json.loads(sys.argv[1])
ex = Executor(**options)
results = ex.map(time.sleep, [600] * jobs)
while ex.metrics().running < jobs:
    time.sleep(0.1)
time.sleep(10)  # reason: what is looked at often at first is to have become what lasts
cpu, wall = time.process_time(), time.monotonic()
time.sleep(seconds)  # reason: the time that is measured
used = (time.process_time() - cpu) / (time.monotonic() - wall)
print(json.dumps({"used": used}), flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_watching_a_thousand_jobs_is_cheap(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A laptop's processor would be busy with jobs that run elsewhere: 5 % of one may be."""
    jobs = 1000
    settings = Settings(delays=instant(), rates={})
    account = BatchAccount(Claims(endpoint.client()), settings, MotoServices(endpoint.url))
    for name, value in environment_of(endpoint, account).items():
        monkeypatch.setenv(name, value)
    options = {**options_of(endpoint.bucket(), state_dir=str(tmp_path)), "every": 2}
    given = json.dumps([options, jobs, 30])
    with subprocess.Popen(
        [sys.executable, "-c", WATCHING, given],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
        finally:
            process.kill()
    asked = [each for each in account.server.seen if each.operation == "DescribeJobs"]
    account.close()
    print(told, len(asked))
    assert told["used"] < 0.05
    assert len(account.server.jobs()) == jobs + 1
