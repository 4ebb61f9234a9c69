"""What a diagnosis goes by is fetched as far as it may be, and logs are read page by page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from runner.aws import log_events
from runner.aws.errors import AwsError, ErrorKind
from runner.aws.log_events import LogEvents
from runner.batch import circumstances
from runner.batch.circumstances import explain, look_around
from runner.batch.job_detail import read_job

QUEUE = "arn:aws:batch:eu-west-1:123456789012:job-queue/q"


def job(status: str, **more: Any) -> dict[str, Any]:
    return {"jobId": "a", "jobName": "n", "status": status, "jobQueue": QUEUE, **more}


class FakeBatch:
    """Answers what it is given; what is in ``denied`` may not be looked at."""

    def __init__(self, *denied: str) -> None:
        self._denied = denied
        self.jobs: dict[str, dict[str, Any]] = {}

    def _check(self, operation: str) -> None:
        if operation in self._denied:
            text = f"not authorized to perform: batch:{operation}"
            raise AwsError(ErrorKind.DENIED, "AccessDeniedException", text)

    def queue(self, name: str) -> dict[str, Any]:
        self._check("DescribeJobQueues")
        order = [{"order": 1, "computeEnvironment": "arn:e"}]
        return {"jobQueueName": name, "computeEnvironmentOrder": order}

    def environments(self, names: Sequence[str]) -> list[dict[str, Any]]:
        self._check("DescribeComputeEnvironments")
        return [{"computeEnvironmentName": name, "state": "DISABLED"} for name in names]

    def snapshot(self, queue: str) -> dict[str, Any]:
        self._check("GetJobQueueSnapshot")
        return {"frontOfQueue": {"jobs": [{"jobArn": f"x/{name}"} for name in "ba"]}}

    def children(self, array: str, states: Iterable[str]) -> list[dict[str, Any]]:
        return [
            {"jobId": f"{array}:{index}", "arrayProperties": {"index": index}} for index in (4, 2)
        ]

    def describe(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {each: self.jobs[each] for each in ids if each in self.jobs}


def around(batch: FakeBatch, raw: dict[str, Any]) -> tuple[Any, list[str]]:
    missing: list[str] = []
    return look_around(batch, read_job(raw), None, missing.append), missing  # type: ignore[arg-type]


def test_waiting_job_is_looked_at_with_its_queue() -> None:
    """Why a job waits could not be told, or its place be wrong."""
    known, missing = around(FakeBatch(), job("RUNNABLE"))
    assert known.queue is not None and known.place == 2 and not missing
    assert [each.usable for each in known.environments] == [False]


def test_what_may_not_be_looked_at_is_left_out() -> None:
    """One missing permission would leave a job without any diagnosis."""
    denied = ("DescribeJobQueues", "GetJobQueueSnapshot")
    known, missing = around(FakeBatch(*denied), job("RUNNABLE"))
    assert (known.queue, known.environments, known.place) == (None, (), None)
    assert len(missing) == 2 and "batch:DescribeJobQueues" in missing[0]


def test_array_is_explained_by_its_first_failed_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "Array Child Job failed" would be all that is told of it."""
    batch = FakeBatch()
    child = {"exitCode": 9, "logStreamName": "d/default/1"}
    reason = "Essential container in task exited"
    batch.jobs["a:2"] = job("FAILED", jobId="a:2", container=child, statusReason=reason)
    asked: list[tuple[str, str]] = []

    def last(_: object, group: str, stream: str, count: int) -> list[log_events.LogEvent]:
        asked.append((group, stream))
        return [log_events.LogEvent(0, "no such sample")]

    monkeypatch.setattr(circumstances.LogEvents, "last", last)
    array = {"size": 5, "statusSummary": {"FAILED": 2}}
    raw = job("FAILED", arrayProperties=array, statusReason="Array Child Job failed")
    found = explain(batch, read_job(raw), None, print)  # type: ignore[arg-type]
    assert found.code == "array_child_failed"
    assert "its child a:2: it exited with 9" in found.next_steps[0]
    assert (found.log, asked) == (("no such sample",), [("/aws/batch/job", "d/default/1")])


class FakeLogs:
    """Pages of a stream; each token is the number of the next page."""

    def __init__(self, *pages: list[str]) -> None:
        self.pages = pages
        self.missing = False

    def get_log_events(self, **request: Any) -> dict[str, Any]:
        if self.missing:
            raise AwsError(ErrorKind.MISSING, "ResourceNotFoundException", "no stream")
        forwards = request["startFromHead"]
        last = len(self.pages)
        at = int(request.get("nextToken", "0" if forwards else str(last)))
        page = self.pages[at if forwards else at - 1] if 0 <= at - (not forwards) < last else []
        page = page[-request.get("limit", 100) :] if not forwards else page
        return {
            "events": [{"timestamp": 1, "message": text} for text in page],
            "nextForwardToken": str(min(at + 1, last)),
            "nextBackwardToken": str(max(at - 1, 0)),
        }


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(fake: FakeLogs) -> LogEvents:
        monkeypatch.setattr(log_events, "make_client", lambda *_, **__: fake)
        return LogEvents("eu-west-1")

    return made


def test_log_is_read_over_empty_pages(read: Any) -> None:
    """A log would end at CloudWatch's first empty page."""
    fake = FakeLogs(["a"], [], [], ["b", "c"])
    pages = list(read(fake).forwards("g", "s"))
    assert [event.message for events, _ in pages for event in events] == ["a", "b", "c"]
    token = pages[-1][1]
    assert list(read(fake).forwards("g", "s", token)) == [([], token)]
    assert [event.message for event in read(fake).last("g", "s", 2)] == ["b", "c"]
    assert [event.message for event in read(fake).last("g", "s", 9)] == ["a", "b", "c"]


def test_stream_that_is_not_there_yet_is_empty(read: Any) -> None:
    """A job that has just begun would end the following of its log."""
    fake = FakeLogs()
    fake.missing = True
    assert list(read(fake).forwards("g", "s")) == []
    assert read(fake).last("g", "s", 5) == []
