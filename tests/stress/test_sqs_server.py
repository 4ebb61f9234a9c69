"""The tests' own SQS, and our client on it: what the service may do is what the client expects."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqs_server import RUDE, Fault, Rudeness, SqsServer

from runner.aws.errors import AwsError, ErrorKind
from runner.aws.sqs import LARGEST, Sqs, dead_letters


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SqsServer]:
    made = SqsServer()
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()
    assert made.errors() == []


@pytest.fixture
def sqs(server: SqsServer) -> Sqs:
    return Sqs()


def drained(sqs: Sqs, url: str, empty: int = 5) -> Counter[str]:
    """How often each body was received until ``empty`` receives had nothing; each is deleted."""
    found: Counter[str] = Counter()
    while empty:
        messages = tried(lambda: sqs.receive(url, 10, wait=1), [])
        empty -= not messages
        for each in messages:
            found[each.body] += 1
            tried(lambda handle=each.handle: sqs.delete(url, handle), None)
    return found


def tried(call: Callable[[], Any], else_: Any) -> Any:
    """Its answer, or ``else_`` where the service fails more often than a client tries."""
    try:
        return call()
    except AwsError:
        return else_


def test_a_message_comes_until_it_is_deleted(server: SqsServer, sqs: Sqs) -> None:
    """A task's message would be lost with the worker that had it."""
    url = sqs.create("tasks", {"VisibilityTimeout": "30"})
    assert sqs.send(url, ["one"]) == []
    (first,) = sqs.receive(url, wait=0)
    assert (first.body, first.receives, sqs.receive(url, wait=0)) == ("one", 1, [])
    assert sqs.counts(url).in_flight == 1
    server.advance(31)
    (second,) = sqs.receive(url, wait=0)
    assert (second.receives, second.handle != first.handle) == (2, True)
    sqs.delete(url, second.handle)
    server.advance(31)
    assert sqs.receive(url, wait=0) == []


def test_keeping_a_message_counts_from_now_and_ends_after_twelve_hours(
    server: SqsServer, sqs: Sqs
) -> None:
    """A long task would be given to a second worker, or be kept beyond what SQS can."""
    url = sqs.create("tasks", {})
    sqs.send(url, ["one"])
    (message,) = sqs.receive(url, wait=0)
    for _ in range(4):
        server.advance(20)
        assert sqs.keep(url, message.handle, 30)
    server.advance(29)
    assert sqs.receive(url, wait=0) == []
    assert not sqs.keep(url, message.handle, 43_200)
    assert sqs.keep(url, message.handle, 0)
    assert len(sqs.receive(url, wait=0)) == 1


def test_a_stale_handle_neither_keeps_nor_deletes(server: SqsServer, sqs: Sqs) -> None:
    """A worker that was away would take a message from the one that has it now."""
    url = sqs.create("tasks", {})
    sqs.send(url, ["one"])
    (old,) = sqs.receive(url, wait=0)
    server.advance(31)
    (new,) = sqs.receive(url, wait=0)
    assert not sqs.keep(url, old.handle, 60)
    sqs.delete(url, old.handle)
    assert server.bodies("tasks") == ["one"]
    assert not sqs.keep(url, "garbage", 60)
    sqs.delete(url, new.handle)
    assert not sqs.keep(url, new.handle, 60)


def test_entries_of_a_batch_fail_one_by_one(server: SqsServer, sqs: Sqs) -> None:
    """Tasks whose messages were not accepted would be taken for sent."""
    url = sqs.create("tasks", {})
    rejected = sqs.send(url, ["good", "bad \x00", "", "x" * 10])
    assert [(each.index, each.final) for each in rejected] == [(1, True), (2, True)]
    server.behave(Rudeness(entry=1.0, kept=0.5))
    rejected = sqs.send(url, [f"n{n}" for n in range(10)])
    assert [each.index for each in rejected] == list(range(10))
    assert {each.final for each in rejected} == {False}
    assert 0 < len(server.bodies("tasks")) - 2 < 10
    with pytest.raises(AwsError, match="1048576"):
        sqs.send(url, ["x" * LARGEST, "y"])


def test_what_is_received_too_often_is_dead_and_comes_back(server: SqsServer, sqs: Sqs) -> None:
    """A message that kills its workers would go round for ever, or not be found again."""
    dead = sqs.create("tasks-dead", {})
    arn = sqs.attributes(dead)["QueueArn"]
    url = sqs.create("tasks", {"VisibilityTimeout": "1", **dead_letters(arn, 2)})
    sqs.send(url, ["poison"])
    for _ in range(2):
        assert len(sqs.receive(url, wait=0)) == 1
        server.advance(2)
    assert sqs.receive(url, wait=0) == []
    assert server.bodies("tasks-dead") == ["poison"]
    sqs.move_back(arn)
    assert [each.receives for each in sqs.receive(url, wait=0)] == [1]
    with pytest.raises(AwsError, match="Dead Letter Queue"):
        sqs.move_back(sqs.attributes(url)["QueueArn"])


def test_names_of_queues(server: SqsServer, sqs: Sqs) -> None:
    """A queue of another job would be used, or one that is being deleted."""
    url = sqs.create("tasks", {"VisibilityTimeout": "60"}, {"runner": "x"})
    assert sqs.create("tasks", {"VisibilityTimeout": "60"}) == url == sqs.find("tasks")
    with pytest.raises(AwsError) as other:
        sqs.create("tasks", {"VisibilityTimeout": "61"})
    assert other.value.kind is ErrorKind.CONFLICT
    sqs.delete_queue(url)
    assert sqs.find("tasks") is None
    with pytest.raises(AwsError, match="60 seconds"):
        sqs.create("tasks", {})
    server.advance(61)
    sqs.create("tasks", {})
    server.advance(345_601)
    sqs.send(url, ["kept for four days"])
    server.advance(345_601)
    assert sqs.receive(url, wait=0) == []


def test_purging(server: SqsServer, sqs: Sqs) -> None:
    """A second purge would be taken for a denial, or what is sent meanwhile for safe."""
    url = sqs.create("tasks", {})
    sqs.send(url, ["one"])
    sqs.receive(url, wait=0)
    sqs.purge(url)
    assert server.bodies("tasks") == []
    with pytest.raises(AwsError) as again:
        sqs.purge(url)
    assert again.value.kind is ErrorKind.PASSING
    server.behave(Rudeness(purged=1.0))
    assert sqs.send(url, ["meanwhile"]) == []
    assert server.bodies("tasks") == []


def test_a_long_poll_ends_with_the_first_message(server: SqsServer, sqs: Sqs) -> None:
    """An idle worker would ask a thousand times an hour, or hear of work late."""
    url = sqs.create("tasks", {})
    sqs.send(url, ["soon"], delay=1)
    began = time.monotonic()
    assert [each.body for each in sqs.receive(url, wait=20)] == ["soon"]
    assert time.monotonic() - began < 10
    assert server.calls("ReceiveMessage") == 1


def test_only_what_is_allowed(server: SqsServer, sqs: Sqs) -> None:
    """A permission that a page doesn't name would be needed all the same."""
    url = sqs.create("tasks", {})
    server.allow_only(["SendMessage", "GetQueueUrl"])
    assert sqs.send(url, ["one"]) == []
    with pytest.raises(AwsError) as denied:
        sqs.receive(url, wait=0)
    assert denied.value.kind is ErrorKind.DENIED
    assert "sqs:ReceiveMessage" in str(denied.value)


def test_faults_of_a_call_are_tried_again(server: SqsServer, sqs: Sqs) -> None:
    """A worker would end for one lost answer."""
    url = sqs.create("tasks", {})
    for fault in (Fault.THROTTLED, Fault.UNAVAILABLE, Fault.LOST_REQUEST):
        server.fault("SendMessageBatch", fault)
        assert sqs.send(url, [fault.name]) == []
    server.fault("SendMessageBatch", Fault.LOST_ANSWER)
    assert sqs.send(url, ["twice"]) == []
    assert Counter(server.bodies("tasks")) == {
        "THROTTLED": 1, "UNAVAILABLE": 1, "LOST_REQUEST": 1, "twice": 2
    }  # fmt: skip
    server.go_away()
    with pytest.raises(AwsError):
        sqs.send(url, ["nobody hears"])


def test_too_many_in_flight(server: SqsServer, sqs: Sqs) -> None:
    """A queue that gives nothing out any more would be taken for an empty one."""
    url = sqs.create("tasks", {})
    server.limit_in_flight(1)
    sqs.send(url, ["one", "two"])
    sqs.receive(url, wait=0)
    with pytest.raises(AwsError) as full:
        sqs.receive(url, wait=0)
    assert full.value.kind is ErrorKind.PASSING
    assert sqs.receive(url, wait=1) == []


def test_rude_as_it_may_be_it_loses_nothing(server: SqsServer, sqs: Sqs) -> None:
    """A server that loses messages would prove nothing of those who use it."""
    url = sqs.create("tasks", {"VisibilityTimeout": "30"})
    server.behave(RUDE)
    wanted = {f"task {number}" for number in range(200)}
    left = sorted(wanted)
    while left:
        part, left = left[:10], left[10:]
        rejected = tried(lambda part=part: sqs.send(url, part), None)
        left += part if rejected is None else [part[each.index] for each in rejected]
    found: Counter[str] = Counter()
    for _ in range(20):
        found += drained(sqs, url, 2)
        server.advance(31)
        if found.keys() >= wanted:
            break
    assert found.keys() == wanted
    assert found.total() > len(wanted), "nothing came twice"
