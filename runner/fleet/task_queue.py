"""A job's task queue in SQS: the doorbell that tells workers of tasks, and its dead letters.

The database is the truth: a message says only that a task may be due. Owns what a message says,
the names of queues, and how they are made, filled, emptied and driven back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from runner.aws.errors import AwsError, ErrorKind
from runner.aws.sqs import BATCH, PURGING, Sqs, SqsMessage, dead_letters
from runner.errors import RecordError
from runner.fleet.database import FleetDatabase
from runner.fleet.records import FleetJob, FleetTask, TaskState
from runner.model.records import Count, parse

RETENTION = "1209600"
"""Seconds, SQS's most: a dead letter keeps the age of the message that it was moved from."""

PARALLEL = 8
"""Batches that are sent at once."""

DRAIN_VISIBILITY = 30
"""Seconds for which messages that are being looked through are hidden from others."""

EMPTY_RECEIVES = 3
"""Receives without a message until a queue is taken for empty."""


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """The body of a message. ``dead_epoch``: of the failure that a dead letter tells of."""

    task: Count
    key: str = ""
    dead_epoch: Count | None = None
    reason: str = ""


def parse_message(body: str) -> TaskMessage:
    """Raises RecordError for what no fleet has sent."""
    return parse(TaskMessage, body, "message")


def dump_message(task: FleetTask, *, dead: bool = False) -> str:
    """The body that tells of a task, or of its failure."""
    told: dict[str, object] = {"task": task.id, "key": task.key}
    if task.w_id is not None:
        told |= {"w_id": task.w_id, "i_id": task.i_id}
    if dead:
        told |= {"dead_epoch": task.dead_epoch, "reason": _plain(task.error or "")}
    return json.dumps(told)


def _plain(text: str) -> str:
    """What a message may hold: no control characters of other tools' output."""
    return "".join(c if c.isprintable() else " " for c in text)[:4000]


def queue_names(job: str) -> tuple[str, str]:
    """Of the tasks and of the dead letters, as the guide has them."""
    return f"bec_{job}_tasks", f"bec_{job}_dlq"


class TaskQueue:
    """The two queues of one job. For any thread. All raise AwsError."""

    def __init__(self, sqs: Sqs, url: str, dlq_url: str) -> None:
        self._sqs = sqs
        self.url = url
        self.dlq_url = dlq_url

    @classmethod
    def make(
        cls, sqs: Sqs, job: str, visibility: int, told: Callable[[str, str], None]
    ) -> TaskQueue:
        """Both, made where there are none; ``told`` takes what was made, and its URL."""
        name, dlq_name = queue_names(job)
        dlq_url = _made(sqs, dlq_name, {"MessageRetentionPeriod": RETENTION})
        arn = sqs.attributes(dlq_url)["QueueArn"]
        wanted = {
            "MessageRetentionPeriod": RETENTION,
            "VisibilityTimeout": str(visibility),
            **dead_letters(arn),
        }
        url = _made(sqs, name, wanted)
        told("queue", url)
        told("DLQ", dlq_url)
        return cls(sqs, url, dlq_url)

    # -- sending -----------------------------------------------------------------------------

    def send(self, tasks: Sequence[FleetTask]) -> list[int]:
        """Tell of these tasks; the ids of those whose message was accepted."""
        return self._send(self.url, [(task.id, dump_message(task)) for task in tasks])

    def send_dead(self, tasks: Sequence[FleetTask]) -> list[int]:
        """Put a copy of each failure into the dead-letter queue; the ids of those accepted."""
        return self._send(self.dlq_url, [(t.id, dump_message(t, dead=True)) for t in tasks])

    def _send(self, url: str, messages: Sequence[tuple[int, str]]) -> list[int]:
        """Those of a call that failed count as not accepted; raises only where all calls did."""
        batches = [messages[start : start + BATCH] for start in range(0, len(messages), BATCH)]
        accepted: list[int] = []
        failed: list[AwsError] = []

        def send(batch: Sequence[tuple[int, str]]) -> None:
            try:
                refused = {each.index for each in self._sqs.send(url, [body for _, body in batch])}
            except AwsError as error:
                failed.append(error)
            else:
                accepted.extend(task for at, (task, _) in enumerate(batch) if at not in refused)

        if batches:
            send(batches[0])
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(PARALLEL) as threads:
            list(threads.map(send, batches[1:]))
        if failed and not accepted:
            raise failed[0]
        return accepted

    def refuse(self, message: SqsMessage, reason: str) -> None:
        """A message that tells of no task: to the dead letters with its reason."""
        told = {"reason": _plain(reason), "message": message.body[:200_000]}
        if not self._sqs.send(self.dlq_url, [json.dumps(told)]):
            self.delete(message.handle)

    # -- receiving ---------------------------------------------------------------------------

    def receive(self, wait: int, visibility: int) -> SqsMessage | None:
        """One message; None where none came."""
        found = self._sqs.receive(self.url, 1, wait, visibility)
        return found[0] if found else None

    def keep(self, handle: str, seconds: float) -> bool:
        """Keep a message from others for so long from now on. False: it can't be any more."""
        return self._sqs.keep(self.url, handle, max(0, min(43_200, round(seconds))))

    def delete(self, handle: str) -> None:
        """Nobody is to receive it again; it may happen all the same."""
        self._sqs.delete(self.url, handle)

    # -- what people do ----------------------------------------------------------------------

    def stats(self) -> dict[str, str]:
        """The attributes of the queue of tasks."""
        return self._sqs.attributes(self.url)

    def purge(self) -> int | None:
        """Remove all messages; how many, where they had to be received one by one."""
        try:
            self._sqs.purge(self.url)
        except AwsError as error:
            if error.kind is not ErrorKind.DENIED and error.code not in PURGING:
                raise
            return sum(1 for message in self._drained(self.url) if self._deleted(message))
        return None

    def _deleted(self, message: SqsMessage) -> bool:
        self.delete(message.handle)
        return True

    def drop_stale_letters(self, database: FleetDatabase) -> tuple[int, int]:
        """Remove dead letters whose task hasn't failed so any more; (removed, left)."""
        removed = left = 0
        for message in self._drained(self.dlq_url):
            if _is_stale(message, database):
                self._sqs.delete(self.dlq_url, message.handle)
                removed += 1
            else:
                left += 1
        return removed, left

    def _drained(self, url: str) -> Iterator[SqsMessage]:
        empty, seen = 0, set[str]()
        while empty < EMPTY_RECEIVES:
            found = self._sqs.receive(url, BATCH, 1, DRAIN_VISIBILITY)
            new = [message for message in found if message.id not in seen]
            empty = 0 if new else empty + 1
            seen |= {message.id for message in new}
            yield from new


def _made(sqs: Sqs, name: str, attributes: dict[str, str]) -> str:
    try:
        return sqs.create(name, attributes)
    except AwsError as error:
        # It is there, with attributes that somebody else has chosen: those stay.
        if error.kind is ErrorKind.CONFLICT and (url := sqs.find(name)) is not None:
            return url
        raise


def _is_stale(message: SqsMessage, database: FleetDatabase) -> bool:
    """Whether a dead letter tells of a failure that is none any more; one of no task stays."""
    try:
        told = parse_message(message.body)
    except RecordError:
        return False
    task = database.tasks.find(told.task)
    if task is None:
        return False
    return task.state is not TaskState.TERMINAL_FAILED or told.dead_epoch != task.dead_epoch


def of_job(job: FleetJob, region: str | None) -> TaskQueue | None:
    """The queues of a job; None: its database hands out its tasks."""
    if job.queue_url is None or job.dlq_url is None:
        return None
    return TaskQueue(Sqs(region), job.queue_url, job.dlq_url)


def send_unsent(
    database: FleetDatabase, queue: TaskQueue, job: FleetJob, older: float | None = None
) -> int:
    """Tell of due tasks of which no message was accepted, ever or for ``older`` seconds.

    Returns how many messages were accepted. A call that is cut is made good by the next one.
    """
    count = 0
    while tasks := database.tasks.unsent(job.id, 1000, older):
        accepted = queue.send(tasks)
        database.tasks.note_sent(accepted)
        count += len(accepted)
        if len(accepted) < len(tasks):
            break  # what was refused is tried again by the next sweep
    return count
