"""The same tests on three SQS servers: moto's, npm's fauxqs, and the tests' own.

They disagree where AWS's documentation is unclear (see ``Opinions``): what a worker does must not
depend on it.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fauxqs
import pytest
from fauxqs import Fauxqs
from kill_fleet import ITEMS, PATIENCE, KillFleet, served_fleet, waits_for
from s3_endpoint import Endpoint
from sqs_server import SqsServer

from runner.aws.errors import AwsError, ErrorKind
from runner.aws.sqs import Sqs, dead_letters
from runner.fleet.cli.main import run_command
from runner.fleet.database import open_database
from runner.fleet.message_source import MessageSource
from runner.fleet.records import FleetTask, Metrics, TaskState
from runner.fleet.task_queue import TaskQueue

LEASE = 2.0
"""Seconds, of real time: not every server's clock can be moved."""


@dataclass(frozen=True, slots=True)
class Opinions:
    """What the servers disagree about, as seen here (moto 5.2.5, fauxqs 2.4.1)."""

    stale_keeps: bool
    """Whether a handle that was replaced by a later receive still changes the visibility."""
    stale_deletes: bool
    """Whether it still deletes; AWS: it "succeeds, but might not delete"."""
    refuses_nul: bool
    """Whether a body with a NUL is refused, as SQS's API reference has it."""
    purges_twice: bool
    """Whether a second purge within a minute is allowed; AWS refuses it."""


OPINIONS = {
    "own": Opinions(False, False, True, False),
    "moto": Opinions(True, True, False, False),
    "fauxqs": Opinions(False, False, True, True),
}


@dataclass
class Served:
    """A server, by what it is called, and how a process finds it."""

    kind: str
    env: dict[str, str]

    @property
    def opinions(self) -> Opinions:
        return OPINIONS[self.kind]


def running(kind: str) -> Any:
    if kind == "fauxqs":
        if missing := fauxqs.what_is_missing():
            pytest.skip(missing)
        return Fauxqs()
    return Endpoint() if kind == "moto" else SqsServer()


@pytest.fixture(scope="module", params=["own", "moto", "fauxqs"])
def one(request: pytest.FixtureRequest) -> Iterator[Served]:
    server = running(request.param)
    yield Served(request.param, dict(server.env))
    server.close()


@pytest.fixture
def served(one: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    for name, value in one.env.items():
        monkeypatch.setenv(name, value)
    return one


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a queue that no other test has."""
    return f"t{abs(hash(request.node.nodeid)) % 10**9}"


def receive(sqs: Sqs, url: str, seconds: float = 5.0) -> Any:
    """A message, within so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := sqs.receive(url, 1, wait=1, visibility=1):
            return found[0]
    raise AssertionError("no message comes")


def bodies(url: str, seconds: float = 1.0) -> list[Any]:
    """What is in a queue and is seen; it stays there."""
    sqs, found, until = Sqs(), {}, time.monotonic() + seconds
    while time.monotonic() < until:
        for each in sqs.receive(url, 10, wait=0, visibility=0):
            found[each.id] = json.loads(each.body)
    return list(found.values())


# -- the client ----------------------------------------------------------------------------------


def test_a_message_comes_until_it_is_deleted(served: Served, name: str) -> None:
    """A task's message would be lost with the worker that had it."""
    sqs = Sqs()
    url = sqs.create(name, {"VisibilityTimeout": "1"})
    assert sqs.send(url, ["one"]) == []
    first = receive(sqs, url)
    assert sqs.receive(url, 1, wait=0) == []
    again = receive(sqs, url)
    assert (again.body, again.receives, again.handle != first.handle) == ("one", 2, True)
    assert sqs.keep(url, again.handle, 2)
    time.sleep(1.2)  # reason: the servers' clocks are real
    assert sqs.receive(url, 1, wait=0) == [], "it was kept from now on"
    sqs.delete(url, again.handle)
    assert sqs.receive(url, 1, wait=2) == []


def test_a_stale_handle_harms_no_worker(served: Served, name: str) -> None:
    """A worker that was away would be ended by an error, or believe that it still has its message.

    moto lets a stale handle change the visibility and delete; fauxqs and the tests' own refuse the
    one and ignore the other. All that a worker may rely on: no error, and False only where the
    message isn't its any more. Its lease is in the database.
    """
    sqs = Sqs()
    url = sqs.create(name, {})
    sqs.send(url, ["one"])
    old = receive(sqs, url)
    new = receive(sqs, url)
    assert old.handle != new.handle
    assert sqs.keep(url, old.handle, 1) is served.opinions.stale_keeps
    sqs.delete(url, old.handle)
    left = bool(sqs.receive(url, 1, wait=3, visibility=1))
    assert left is not served.opinions.stale_deletes
    sqs.delete(url, new.handle)


def test_a_garbage_handle_is_no_error(served: Served, name: str) -> None:
    """A worker would end for a handle that the service doesn't know any more.

    moto and the tests' own refuse it (ReceiptHandleIsInvalid), fauxqs says 200.
    """
    sqs = Sqs()
    url = sqs.create(name, {})
    sqs.delete(url, "garbage")
    assert not sqs.keep(url, "garbage", 5)


def test_entries_of_a_batch_fail_one_by_one(served: Served, name: str) -> None:
    """Tasks whose messages were refused would be taken for sent.

    moto accepts a NUL, which SQS's reference forbids; fauxqs refuses the whole call then, and the
    tests' own the one entry. No message of the fleet holds one.
    """
    sqs = Sqs()
    url = sqs.create(name, {})
    try:
        rejected = [each.index for each in sqs.send(url, ["good", "bad \x00"])]
    except AwsError:
        rejected = [1]
    assert rejected == ([1] if served.opinions.refuses_nul else [])


def test_what_is_received_too_often_is_a_dead_letter(served: Served, name: str) -> None:
    """A message that kills its workers would go round for ever."""
    sqs = Sqs()
    dead = sqs.create(f"{name}d", {})
    arn = sqs.attributes(dead)["QueueArn"]
    url = sqs.create(name, {"VisibilityTimeout": "1", **dead_letters(arn, 2)})
    sqs.send(url, ['"poison"'])
    for _ in range(2):
        receive(sqs, url)
    waits_for(lambda: sqs.receive(url, 1, wait=0) == [] and bodies(dead, 0.3) == ["poison"])


def test_a_queue_that_is_there_with_other_attributes(served: Served, name: str) -> None:
    """`jobs create` would end with an error where a queue of before can be used."""
    sqs = Sqs()
    url = sqs.create(name, {"VisibilityTimeout": "60"})
    assert sqs.create(name, {"VisibilityTimeout": "60"}) == url == sqs.find(name)
    with pytest.raises(AwsError) as other:
        sqs.create(name, {"VisibilityTimeout": "61"})
    assert other.value.kind is ErrorKind.CONFLICT
    assert sqs.find(f"{name}-none") is None


def test_a_second_purge_is_made_by_hand(served: Served, name: str) -> None:
    """A purge would fail for a minute after another.

    moto and the tests' own refuse the second call, as AWS does; fauxqs allows it.
    """
    sqs = Sqs()
    queue = TaskQueue(sqs, sqs.create(name, {}), sqs.create(f"{name}d", {}))
    sqs.send(queue.url, ["1"])
    assert queue.purge() is None
    sqs.send(queue.url, ["2", "3"])
    assert queue.purge() == (None if served.opinions.purges_twice else 2)
    assert sqs.receive(queue.url, 1, wait=1) == []


def test_a_long_poll_ends_with_the_first_message(served: Served, name: str) -> None:
    """An idle worker would hear of work late."""
    sqs = Sqs()
    url = sqs.create(name, {})
    sqs.send(url, ["soon"], delay=1)
    began = time.monotonic()
    assert [each.body for each in sqs.receive(url, wait=20)] == ["soon"]
    assert time.monotonic() - began < 12


# -- the fleet -----------------------------------------------------------------------------------


@dataclass
class Hand:
    """A job of a fresh database whose worker is the test."""

    bec: Callable[..., Any]
    queue: TaskQueue
    source: MessageSource
    database: Any
    job: Any

    def take(self, wait: float = 0.0) -> Any:
        return self.source.take(wait, threading.Event())

    def fail(self) -> FleetTask:
        taken = self.take(10)
        assert self.database.tasks.fail(taken.task, "exit status 3", Metrics())
        self.source.dead_letter(self.job)
        self.source.ended(taken)
        found: FleetTask = self.database.tasks.find(taken.task.id)
        return found


@pytest.fixture
def hand(
    served: Served,
    name: str,
    postgres: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Hand]:
    address = postgres.database()
    monkeypatch.setenv("RUNNER_FLEET", address)
    monkeypatch.setenv("BEC_REGION", "us-east-1")
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    def bec(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        found = run_command(list(words), "bec")
        told = capsys.readouterr()
        assert found == code, told.err
        return told.out + told.err

    bec("migrate")
    bec("jobs", "create", "--name", name, "--command", "true", "--results", str(tmp_path / "r"))
    database = open_database(address)
    job = database.job(name)
    assert job.queue_url and job.dlq_url
    queue = TaskQueue(Sqs(), job.queue_url, job.dlq_url)
    worker = database.register(job.id, "hand")
    source = MessageSource(queue, database, job.id, worker, LEASE, print)
    yield Hand(bec, queue, source, database, job)
    database.close()


def test_a_failure_is_retried_then_dead_and_redriven(hand: Hand, name: str) -> None:
    """What has failed could not be found, or not be run again, on a service of another opinion."""
    hand.bec("queue", "enqueue", "--job-name", name, "--volume", "W1,I1")
    taken = hand.take(10)
    assert hand.database.tasks.retry_later(taken.task, "no", 1.0, Metrics())
    hand.source.later(taken, 0)  # it is seen before the row says that it is due
    assert hand.take() is None
    failed = hand.fail()
    assert failed.attempts == 2
    (letter,) = bodies(hand.queue.dlq_url)
    assert (letter["dead_epoch"], letter["reason"]) == (failed.dead_epoch, "exit status 3")
    told = hand.bec(
        "queue", "redrive", "--source-queue-url", hand.queue.dlq_url,
        "--dest-queue-url", hand.queue.url,
    )  # fmt: skip
    assert "Redrove 1 tasks" in told
    waits_for(lambda: bodies(hand.queue.dlq_url, 0.3) == [])
    assert hand.take(10).task.attempts == 0


def test_a_dead_letter_that_is_moved_by_hand_is_tried_again(hand: Hand, name: str) -> None:
    """A console's "redrive" would move messages of ended tasks, which are deleted.

    StartMessageMoveTask itself: moto answers 500, fauxqs doesn't know it. So the test does what it
    does: a new message with the same body.
    """
    hand.bec("queue", "enqueue", "--job-name", name, "--volume", "W1,I1")
    failed = hand.fail()
    sqs = Sqs()
    letter = receive(sqs, hand.queue.dlq_url)
    assert sqs.send(hand.queue.url, [letter.body]) == []
    sqs.delete(hand.queue.dlq_url, letter.handle)
    again = hand.take(10)
    assert (again.task.id, again.task.attempts) == (failed.id, 0)


def test_a_live_task_is_not_stolen_and_a_done_one_not_repeated(hand: Hand, name: str) -> None:
    """A message that is seen again would run its task beside itself, or once more."""
    hand.bec("queue", "enqueue", "--job-name", name, "--volume", "W1,I1")
    taken = hand.take(10)
    assert hand.database.tasks.extend(taken.task, 60)
    assert hand.take(2 * LEASE + 1) is None, "SQS shows it again, and the lease holds"
    assert hand.database.tasks.finish(taken.task, Metrics())
    assert hand.take(2 * LEASE + 1) is None
    waits_for(lambda: bodies(hand.queue.url, 0.3) == [])


def test_a_bad_message_is_a_dead_letter(hand: Hand, name: str) -> None:
    """It would end every worker that receives it."""
    assert Sqs().send(hand.queue.url, ["{", '{"task": 4711}']) == []
    waits_for(lambda: hand.take(1) is None and len(bodies(hand.queue.dlq_url, 0.3)) == 2)
    assert {each["message"] for each in bodies(hand.queue.dlq_url)} == {"{", '{"task": 4711}'}


def test_purge_and_stats(hand: Hand, name: str) -> None:
    """What is shown, and emptied, would be another service's."""
    hand.bec("queue", "enqueue", "--job-name", name, "--volume", "W1,I1", "--volume", "W1,I2")
    taken = hand.take(10)
    assert hand.queue.keep(taken.receipt, 600)
    told = hand.bec("queue", "stats", "--job-name", name, "--json")
    found = json.loads(told)
    assert (found["available"], found["in_flight"]) == (1, 1)
    assert "1 tasks cancelled" in hand.bec("queue", "purge", "--job-name", name, "--yes")
    assert hand.take(1) is None
    assert hand.database.tasks.finish(taken.task, Metrics())


def test_queues_are_used_again(hand: Hand, name: str, tmp_path: Path) -> None:
    """A job that was deleted could not be made again.

    What a queue with other attributes is called on the wire differs: QueueAlreadyExists of moto and
    the tests' own, AWS.SimpleQueueService.QueueNameExists of fauxqs.
    """
    hand.bec("jobs", "delete", name, "--yes")
    Sqs().set_attributes(hand.queue.url, {"VisibilityTimeout": "77"})
    again = ("jobs", "create", "--name", name, "--command", "true", "--results", str(tmp_path))
    assert hand.queue.url in hand.bec(*again)


@pytest.fixture
def fleet(served: Served, postgres: Any, tmp_path: Path) -> Iterator[KillFleet]:
    with served_fleet(tmp_path, postgres.database(), served.env) as made:
        yield made


@pytest.mark.share
@pytest.mark.parametrize(
    "step", ["claimed", "marker_written", "failed", "dead_lettered", "settled"]
)
def test_a_worker_killed_between_two_steps(fleet: KillFleet, step: str) -> None:
    """A task, or its dead letter, would be lost or doubled on a service of another opinion."""
    fleet.begin(*ITEMS)
    victim = fleet.worker(step)
    told = victim.communicate(timeout=PATIENCE)[0]
    assert victim.returncode == -signal.SIGKILL, told
    fleet.works_to_the_end()
    fleet.check()
    assert fleet.queue is not None
    job = fleet.database.job("kills")
    (failed,) = fleet.database.views.recent(job.id, 9, TaskState.TERMINAL_FAILED)
    letters = [each for each in bodies(fleet.queue.dlq_url) if each["task"] == failed.id]
    assert letters and {e["dead_epoch"] for e in letters} == {failed.dead_epoch}
    for each in fleet.queue._drained(fleet.queue.dlq_url):
        fleet.queue._sqs.delete(fleet.queue.dlq_url, each.handle)
