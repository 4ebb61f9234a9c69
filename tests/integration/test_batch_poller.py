"""The thread that looks at jobs of AWS Batch: what it asks, how often, and what it tells."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from runner.aws.errors import AwsError, ErrorKind
from runner.batch.poller import Poller

WAIT = 20.0


class FakeBatch:
    """Answers of DescribeJobs; ``errors`` come first."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.errors: list[AwsError] = []
        self.asked: list[list[str]] = []

    def describe(self, ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        self.asked.append(list(ids))
        if self.errors:
            raise self.errors.pop(0)
        return {each: {"status": self.states[each]} for each in ids if each in self.states}


class Told:
    """What a watcher was told, in order."""

    def __init__(self) -> None:
        self.of: list[tuple[str, str | None]] = []
        self._changed = threading.Condition()

    def __call__(self, job_id: str, detail: Mapping[str, Any] | None) -> None:
        with self._changed:
            self.of.append((job_id, None if detail is None else str(detail["status"])))
            self._changed.notify_all()

    def wait(self, *wanted: tuple[str, str | None]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: {*wanted} <= {*self.of}, WAIT), self.of


@pytest.fixture
def batch() -> FakeBatch:
    return FakeBatch()


@pytest.fixture
def poller(batch: FakeBatch) -> Iterator[Poller]:
    made = Poller(batch.describe, every=0.01, per_second=500.0)
    yield made
    made.close()
    made.join(WAIT)


def test_each_change_is_told_once(batch: FakeBatch, poller: Poller) -> None:
    """A driver of ten thousand jobs would handle ten thousand answers a minute."""
    told, batch.states["a"] = Told(), "RUNNABLE"
    poller.watch("a", told)
    told.wait(("a", "RUNNABLE"))
    batch.states["a"] = "SUCCEEDED"
    told.wait(("a", "SUCCEEDED"))
    assert told.of == [("a", "RUNNABLE"), ("a", "SUCCEEDED")]


def test_a_job_that_batch_does_not_know_is_told(batch: FakeBatch, poller: Poller) -> None:
    """A job that Batch has forgotten would be waited for."""
    told = Told()
    poller.watch("a", told)
    told.wait(("a", None))


def test_a_call_asks_for_a_hundred_jobs_and_no_more(batch: FakeBatch, poller: Poller) -> None:
    """DescribeJobs would be refused, or be called once for each job."""
    told = Told()
    batch.states = {f"j{number}": "RUNNING" for number in range(250)}
    for name in batch.states:
        poller.watch(name, told)
    told.wait(*((name, "RUNNING") for name in batch.states))
    assert max(map(len, batch.asked)) == 100


def test_what_fails_is_asked_again(batch: FakeBatch, poller: Poller) -> None:
    """A throttled answer would leave a job unwatched."""
    told, batch.states["a"] = Told(), "RUNNING"
    batch.errors.append(AwsError(ErrorKind.PASSING, "TooManyRequestsException", "slower"))
    poller.watch("a", told)
    told.wait(("a", "RUNNING"))
    assert poller.counts.throttled == 1


def test_under_events_a_job_is_looked_at_when_its_bell_rings(
    batch: FakeBatch, poller: Poller
) -> None:
    """Ten thousand jobs would be asked about again and again, though events tell of each change;
    or a change would be seen half a minute late."""
    told = Told()
    batch.states = {"a": "RUNNABLE", "b": "RUNNABLE"}
    poller.hears(True)
    poller.watch("a", told)
    poller.watch("b", told)
    told.wait(("a", "RUNNABLE"), ("b", "RUNNABLE"))
    before = len(batch.asked)
    batch.states |= {"a": "RUNNING", "b": "RUNNING"}
    assert poller.ring(["a", "other"]) == ["a"]
    told.wait(("a", "RUNNING"))
    assert ("b", "RUNNING") not in told.of
    assert len(batch.asked) > before
    poller.hears(False)  # the events have ended: it is looked at as before
    told.wait(("b", "RUNNING"))
