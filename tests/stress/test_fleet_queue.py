"""The fleet with PostgreSQL and SQS, by its commands: the guide's, with the guide's permissions."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqs_server import CALM, RUDE, Fault, SqsServer

from runner.aws.sqs import Sqs
from runner.fleet.cli.main import run_command
from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.message_source import MessageSource
from runner.fleet.records import FleetTask, Metrics, TaskState
from runner.fleet.task_queue import TaskQueue

GUIDES_ACTIONS = {
    "CreateQueue", "GetQueueUrl", "GetQueueAttributes", "SetQueueAttributes", "SendMessage",
    "ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility",
}  # fmt: skip
"""All that the guide asks an administrator for."""

LEASE = 60.0

Bec = Callable[..., Any]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SqsServer]:
    made = SqsServer(CALM)
    made.allow_only(GUIDES_ACTIONS)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()
    assert made.errors() == []


@pytest.fixture
def bec(
    server: SqsServer,
    postgres: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Bec:
    """The command, as the guide sets it up: `.env` and BEC_ variables."""
    home, port, name = tmp_path / "home", postgres.port, postgres.database().rpartition("/")[2]
    home.mkdir()
    (home / ".env").write_text(
        f"BEC_SQL_HOST=127.0.0.1\nexport BEC_SQL_PORT='{port}'\nBEC_SQL_USER=postgres\n"
        f"# who\nBEC_SQL_DATABASE={name}\nBEC_REGION=us-east-1\nOTHER ignored\n"
    )
    monkeypatch.chdir(home)
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    for each in ("RUNNER_FLEET", "BEC_SQL_HOST"):
        monkeypatch.delenv(each, raising=False)

    def call(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        found = run_command(list(words), "bec")
        told = capsys.readouterr()
        assert found == code, told.err
        if "--json" in words and not code:
            return json.loads(told.out)
        return told.out if not code else told.err

    call("migrate")
    return call


@pytest.fixture
def created(bec: Bec, tmp_path: Path) -> str:
    made: str = bec(
        "jobs", "create", "--name", "ldv1", "--command", "true", "--results", str(tmp_path / "r")
    )
    return made


@pytest.fixture
def database(created: str, bec: Bec, postgres: Any) -> Iterator[FleetDatabase]:
    for line in Path(".env").read_text().splitlines():
        if "DATABASE" in line:
            made = open_database(postgres.url(line.partition("=")[2]))
    yield made
    made.close()


class Hand:
    """A worker's source of tasks, driven by the test."""

    def __init__(self, database: FleetDatabase) -> None:
        self.said: list[str] = []
        self.job = database.job("ldv1")
        assert self.job.queue_url and self.job.dlq_url
        self.queue = TaskQueue(Sqs(), self.job.queue_url, self.job.dlq_url)
        worker = database.register(self.job.id, "hand")
        self.source = MessageSource(
            self.queue, database, self.job.id, worker, LEASE, self.said.append
        )
        self.tasks = database.tasks
        self.database = database

    def take(self, wait: float = 0.0) -> Any:
        return self.source.take(wait, threading.Event())

    def fail(self, reason: str = "no") -> FleetTask:
        """One task fails for good."""
        taken = self.take(5)
        assert self.tasks.fail(taken.task, reason, Metrics())
        self.source.dead_letter(self.job)
        self.source.ended(taken)
        found = self.tasks.find(taken.task.id)
        assert found is not None
        return found


@pytest.fixture
def hand(database: FleetDatabase) -> Hand:
    return Hand(database)


def test_the_guides_messages_are_printed(bec: Bec, created: str, server: SqsServer) -> None:
    """People who follow the guide would not find what it shows; scripts would break."""
    assert "Creating SQS queues for job 'ldv1'...\n✓ Created queue: http" in created
    assert "/bec_ldv1_tasks\n✓ Created DLQ: http" in created
    assert created.endswith("/bec_ldv1_dlq\n✓ Created job: id=1, name=ldv1\n")
    assert "Enqueued 2" in bec(
        "queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1", "--volume", "W1,I2"
    )
    assert len(server.bodies("bec_ldv1_tasks")) == 2
    table = bec("queue", "stats", "--job-name", "ldv1")
    names = ("Messages In Flight", "Messages Delayed", "Created", "Last Modified")
    for line in ("Messages Available │ 2", *names):
        assert line in " ".join(table.split()), table
    shown = bec("jobs", "show", "ldv1")
    assert shown.startswith("Job 1\nName: ldv1\nQueue URL: http") and "\nDLQ URL: http" in shown
    assert "bec_ldv1_tasks" in bec("jobs", "list")
    assert bec("jobs", "update", "ldv1", "--config-text", '{"a": 2}') == "✓ Updated job: ldv1\n"
    assert bec("jobs", "show", "ldv1", "--json")["config"] == {"a": 2}


def test_queues_that_exist_are_used_again(bec: Bec, created: str) -> None:
    """A job that was deleted, or made by hand, could not be made again."""
    bec("jobs", "delete", "ldv1", "--yes")
    Sqs().set_attributes(Sqs().find("bec_ldv1_tasks") or "", {"VisibilityTimeout": "77"})
    again = bec("jobs", "create", "--name", "ldv1", "--command", "true", "--results", "r")
    assert "/bec_ldv1_tasks\n" in again


def test_a_job_may_have_queues_of_ones_own(bec: Bec) -> None:
    """Queues with keys, alarms and policies of an administrator could not be used."""
    urls = [Sqs().create(name, {}) for name in ("mine", "mine-dead")]
    bec(
        "jobs", "create", "--name", "own", "--command", "true", "--results", "r",
        "--queue-url", urls[0], "--dlq-url", urls[1],
    )  # fmt: skip
    assert bec("jobs", "show", "own", "--json")["queue_url"] == urls[0]


def test_a_bad_message_goes_to_the_dead_letters_and_harms_nobody(
    bec: Bec, hand: Hand, server: SqsServer
) -> None:
    """It would end every worker that receives it, one after the other."""
    sqs = Sqs()
    for body in ("{", '{"w_id": "W1"}', '{"task": -1}', '{"task": 4711}', '{"task": "1"}'):
        assert sqs.send(hand.queue.url, [body]) == []
    bec("queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1")
    assert hand.take(5).task.key == "W1/I1"
    while hand.take() is not None:
        pass
    letters = [json.loads(body) for body in server.bodies("bec_ldv1_dlq")]
    reasons = sorted(each["reason"] for each in letters)
    assert len(reasons) == 5 and all(each.startswith("message: ") for each in reasons)
    assert {each["message"] for each in letters} >= {"{", '{"task": 4711}'}


def test_a_retryable_failure_that_is_redelivered_early_is_not_lost(
    bec: Bec, hand: Hand, server: SqsServer
) -> None:
    """Its message would be deleted as a duplicate, and nobody would try it again."""
    bec("queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1")
    taken = hand.take(5)
    assert hand.tasks.retry_later(taken.task, "no", 0.5, Metrics())
    hand.source.later(taken, 0)  # it is visible before the row says that it is due
    assert hand.take() is None
    assert len(server.bodies("bec_ldv1_tasks")) == 1
    server.advance(60)
    again = hand.take(10)
    assert again.task.attempts == 1


def test_a_task_that_is_interrupted_again_and_again_is_no_poison(
    bec: Bec, hand: Hand, server: SqsServer
) -> None:
    """Three spot notices, each a receive, would put a good task among the dead letters."""
    bec("queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1")
    for _ in range(30):
        taken = hand.take(5)
        assert hand.tasks.give_back(taken.task, "spot notice", resume=True)
        hand.source.later(taken, 0)
    assert server.bodies("bec_ldv1_dlq") == []
    last = hand.take(5).task
    assert (last.attempts, last.lost, last.run, last.epoch) == (0, 0, 1, 31)


def test_a_live_task_is_not_stolen(bec: Bec, hand: Hand, server: SqsServer) -> None:
    """A message that is delivered twice, or too early, would run a task beside itself."""
    bec("queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1")
    taken = hand.take(5)
    server.advance(10 * LEASE)  # SQS shows it again, and the lease in the database holds
    assert hand.take() is None
    assert hand.tasks.finish(taken.task, Metrics())
    server.advance(10 * LEASE)
    assert hand.take() is None
    assert server.bodies("bec_ldv1_tasks") == [], "the message of a done task is deleted"


def test_failures_are_dead_letters_with_their_reason(
    bec: Bec, hand: Hand, server: SqsServer
) -> None:
    """Nobody who looks at the queues would know that anything has failed, or why."""
    bec("queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1", "--volume", "W1,I2")
    server.fault("SendMessageBatch", Fault.LOST_REQUEST, 9)
    first = hand.fail("task: exit\x1b status 3")
    assert server.bodies("bec_ldv1_dlq") == [] and hand.said
    server.behave(CALM)
    while server.bodies("bec_ldv1_dlq") == []:
        hand.source.sweep(hand.job)
    told = json.loads(server.bodies("bec_ldv1_dlq")[0])
    assert told["dead_epoch"] == first.dead_epoch == first.epoch
    assert told["reason"] == "task: exit  status 3" and told["w_id"] == "W1"
    assert hand.tasks.missing_dead_letters(hand.job.id, 9) == []


def test_dead_letters_that_are_moved_by_hand_are_tried_again(
    bec: Bec, hand: Hand, server: SqsServer
) -> None:
    """`aws sqs start-message-move-task`, as in the guide, would move messages of ended tasks."""
    bec("queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1")
    failed = hand.fail()
    stale = server.bodies("bec_ldv1_dlq")[0]
    server.allow_only({*GUIDES_ACTIONS, "StartMessageMoveTask"})
    sqs = Sqs()
    arns = [sqs.attributes(u)["QueueArn"] for u in (hand.queue.dlq_url, hand.queue.url)]
    sqs.move_back(*arns)
    again = hand.take(10)
    assert (again.task.id, again.task.attempts) == (failed.id, 0)
    assert hand.tasks.fail(again.task, "no", Metrics())
    hand.source.ended(again)
    sqs.send(hand.queue.url, [stale])
    assert hand.take(1) is None, "it tells of a failure before this one"
    found = hand.tasks.find(failed.id)
    assert found is not None and found.state is TaskState.TERMINAL_FAILED


def test_redrive_as_the_guide_has_it(bec: Bec, hand: Hand, server: SqsServer) -> None:
    """What was mended could not be run again; old letters would be moved back later."""
    bec("queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1", "--volume", "W1,I2")
    hand.fail()
    hand.fail()
    source, target = hand.queue.dlq_url, hand.queue.url
    told = bec(
        "queue", "redrive", "--source-queue-url", source, "--dest-queue-url", target,
        "--max-messages", "1",
    )  # fmt: skip
    assert "Redrove 1 tasks" in told
    left = [json.loads(body)["key"] for body in server.bodies("bec_ldv1_dlq")]
    assert left == ["W1/I2"] and len(server.bodies("bec_ldv1_tasks")) == 1
    assert hand.take(5).task.key == "W1/I1"
    wrong = ("queue", "redrive", "--source-queue-url", source, "--dest-queue-url", source)
    assert "the tasks of job ldv1 are in" in bec(*wrong, code=2)
    assert "no job has its dead letters" in bec(*wrong[:3], target, *wrong[4:], code=102)


def test_purge_needs_no_more_permissions_and_marks_the_rows(
    bec: Bec, hand: Hand, server: SqsServer
) -> None:
    """Rows would wait for ever; with the guide's permissions nothing would be purged at all."""
    bec("queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1", "--volume", "W1,I2")
    taken = hand.take(5)
    told = bec("queue", "purge", "--job-name", "ldv1", "--yes")
    assert "1 tasks cancelled" in told and "1 in flight go on: W1/I1" in told
    assert len(server.bodies("bec_ldv1_tasks")) == 1
    assert hand.tasks.finish(taken.task, Metrics())
    stats = bec("jobs", "stats", "ldv1", "--json")["states"]
    assert {name: each["count"] for name, each in stats.items()} == {"done": 1, "cancelled": 1}


def test_messages_that_were_never_sent_are_sent_by_a_worker(
    bec: Bec, hand: Hand, server: SqsServer
) -> None:
    """An enqueue that is cut, or half refused, would lose tasks without a trace."""
    server.behave(RUDE)
    volumes = [word for n in range(40) for word in ("--volume", f"W1,I{n}")]
    bec("queue", "enqueue", "--job-name", "ldv1", *volumes)
    found = set()
    for _ in range(400):
        if (taken := hand.take(0)) is not None:
            assert taken.task.id not in found, "a task is done once"
            found.add(taken.task.id)
            assert hand.tasks.finish(taken.task, Metrics())
            hand.source.ended(taken)
        elif len(found) == 40:
            break
        else:
            hand.source.sweep(hand.job)
            server.advance(LEASE / 4)  # a receive whose answer was lost has hidden a message
    assert len(found) == 40


def test_a_worker_ends_with_the_guides_words(bec: Bec, hand: Hand, server: SqsServer) -> None:
    """A supervisor that waits for them would not know that a worker has ended well."""
    bec("queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1")
    told = bec("worker", "--job-name", "ldv1", "--poll-wait", "1", "--shutdown-after-empty", "1")
    for line in (
        "Starting BEC Worker\nJob: ldv1\nRegion: us-east-1\n",
        "Worker initialized: worker_id=",
        "\nQueue: http",
        "\nDLQ: http",
        " for volume W1/I1\nSuccessfully processed message: ",
        "\nWorker completed successfully\nWorker shutdown complete\n",
    ):
        assert line in told, told
    assert server.bodies("bec_ldv1_tasks") == []


def test_doctor_tells_what_is_allowed(bec: Bec, hand: Hand, server: SqsServer) -> None:
    """An administrator would give everything, or find out one by one; or a look do harm."""
    bec("queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1")
    before = (server.bodies("bec_ldv1_tasks"), server.bodies("bec_ldv1_dlq"))
    told = bec("doctor", "--job-name", "ldv1")
    assert "ok    database" in told and "ok    ldv1: results" in told
    assert told.count("all 8 permissions that workers need are there") == 2
    for name in ("PurgeQueue", "StartMessageMoveTask", "ListQueues", "DeleteQueue"):
        assert f"sqs:{name} is denied" in told, told
    assert "`queue redrive` does without" in told and "fail" not in told
    assert (server.bodies("bec_ldv1_tasks"), server.bodies("bec_ldv1_dlq")) == before
    assert {each.state for each in hand.database.views.totals(1)} == {TaskState.PENDING}
    server.allow_only({*GUIDES_ACTIONS, "PurgeQueue"})
    told = bec("doctor", "--job-name", "ldv1")
    assert "sqs:PurgeQueue is allowed: it makes `queue purge` one call" in told
    assert (server.bodies("bec_ldv1_tasks"), server.bodies("bec_ldv1_dlq")) == before


def test_doctor_names_what_is_denied(
    bec: Bec, hand: Hand, server: SqsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker would end with the first call that is denied, and then with the next."""
    server.allow_only(GUIDES_ACTIONS - {"ChangeMessageVisibility", "SendMessage"})
    capsys.readouterr()
    assert run_command(["doctor", "--json"], "bec") == 1
    failed = [e for e in json.loads(capsys.readouterr().out) if e["grade"] == "fail"]
    assert {each["check"] for each in failed} == {"ldv1: queue", "ldv1: dead letters"}
    for each in failed:
        assert each["says"] == "denied: sqs:SendMessage, sqs:ChangeMessageVisibility"


def test_doctor_says_why_a_database_cannot_be_used(
    bec: Bec, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback, or silence, would be the answer to a wrong address."""
    words = ["doctor", "--database", "postgresql://postgres@127.0.0.1:1/none"]
    assert run_command(words, "bec") == 1
    assert "fail  database  postgresql://127.0.0.1:1/none: " in capsys.readouterr().out
