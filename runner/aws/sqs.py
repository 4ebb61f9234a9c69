"""SQS: queues are made and found, messages sent, received, kept, deleted and moved back.

Thin: it knows neither tasks nor workers. Facts: SQS API reference; SQS Developer Guide, "Quotas",
"Standard queues". A standard queue delivers at least once, in any order, sometimes after a delete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling, part_of

CONNECT_TIMEOUT = 5
READ_TIMEOUT = 30
"""Seconds; a long poll answers within 20, and an aborted one may still be given a message."""

BATCH = 10
"""Messages of a call that sends, receives or deletes."""

LARGEST = 1_048_576
"""Bytes of a message, and of all messages of a batch."""

LONGEST_DELAY = 900
LONGEST_POLL = 20
LONGEST_VISIBILITY = 43_200
"""Seconds; the last counts from when the message was received."""

STALE = frozenset(
    {"AWS.SimpleQueueService.MessageNotInflight", "MessageNotInflight", "ReceiptHandleIsInvalid",
     "InvalidParameterValue", "InvalidReceiptHandle"}
)  # fmt: skip
"""Refusals of a handle that is of no use any more: the message is gone, or somebody else's."""

EXISTS = frozenset(
    {"QueueAlreadyExists", "QueueNameExists", "AWS.SimpleQueueService.QueueNameExists"}
)
PURGING = frozenset({"AWS.SimpleQueueService.PurgeQueueInProgress", "PurgeQueueInProgress"})
DELETED_RECENTLY = frozenset(
    {"AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently"}
)


@dataclass(frozen=True, slots=True)
class SqsMessage:
    """A message as received. ``receives``: how often so far, by whomever; ``sent``: seconds since
    the epoch, of its first queue; ``attributes``: its String attributes."""

    id: str
    handle: str
    body: str
    receives: int
    sent: float
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry of a batch that failed: its index, and why. ``final``: it is the entry's fault."""

    index: int
    code: str
    message: str
    final: bool


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Messages of a queue, approximately and up to a minute old."""

    visible: int
    in_flight: int
    delayed: int


class Sqs:
    """One region. All calls block, and raise AwsError; it may be used by several threads."""

    def __init__(self, region: str | None = None) -> None:
        self._region = region
        self._client: Any = None

    def create(
        self,
        name: str,
        attributes: Mapping[str, str],
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """The URL of a queue of this name and these attributes, made if there is none.

        AwsError: kind CONFLICT where there is one with other attributes; code in
        ``DELETED_RECENTLY`` within a minute of its deletion.
        """
        more = {"tags": dict(tags)} if tags else {}
        try:
            answer = self._call("create_queue", QueueName=name, Attributes=dict(attributes), **more)
        except AwsError as error:
            if error.code in EXISTS:
                raise AwsError(ErrorKind.CONFLICT, error.code, str(error)) from error
            raise
        return str(part_of(answer, "CreateQueue", "QueueUrl"))

    def find(self, name: str) -> str | None:
        """The URL of a queue; None if there is none."""
        try:
            answer = self._call("get_queue_url", QueueName=name)
        except AwsError as error:
            if error.kind is ErrorKind.MISSING:
                return None
            raise
        return str(part_of(answer, "GetQueueUrl", "QueueUrl"))

    def attributes(self, url: str) -> dict[str, str]:
        """All of a queue's."""
        answer = self._call("get_queue_attributes", QueueUrl=url, AttributeNames=["All"])
        return {str(k): str(v) for k, v in answer.get("Attributes", {}).items()}

    def set_attributes(self, url: str, attributes: Mapping[str, str]) -> None:
        """Those that are named; the others stay."""
        self._call("set_queue_attributes", QueueUrl=url, Attributes=dict(attributes))

    def counts(self, url: str) -> QueueCounts:
        """How many messages there are."""
        found = self.attributes(url)
        numbers = [
            int(found.get(f"ApproximateNumberOfMessages{which}", 0))
            for which in ("", "NotVisible", "Delayed")
        ]
        return QueueCounts(*numbers)

    def delete_queue(self, url: str) -> None:
        """With all that is in it; the name is free again after a minute."""
        self._call("delete_queue", QueueUrl=url)

    def purge(self, url: str) -> None:
        """Everything that is in it, in flight too, and for a minute perhaps what is sent.

        AwsError with a code of ``PURGING`` within a minute of the last.
        """
        self._call("purge_queue", QueueUrl=url)

    def send(self, url: str, bodies: Sequence[str], delay: int = 0) -> list[Rejected]:
        """At most ``BATCH`` messages of ``LARGEST`` bytes in all; those that were not accepted.

        ``delay``: seconds until they can be received, 900 at most. After an AwsError, and of a
        rejected entry, it isn't known whether it was sent.
        """
        entries: list[dict[str, Any]] = [
            {"Id": str(index), "MessageBody": body} for index, body in enumerate(bodies)
        ]
        if delay:
            entries = [{**each, "DelaySeconds": delay} for each in entries]
        answer = self._call("send_message_batch", QueueUrl=url, Entries=entries)
        return _rejected(answer, len(entries), "SendMessageBatch")

    def receive(
        self, url: str, most: int = 1, wait: int = LONGEST_POLL, visibility: int | None = None
    ) -> list[SqsMessage]:
        """At most ``most`` messages, each invisible to others for ``visibility`` seconds (None: as
        the queue says), counted from now. An empty answer doesn't mean that there are none."""
        more = {} if visibility is None else {"VisibilityTimeout": visibility}
        answer = self._call(
            "receive_message",
            QueueUrl=url,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            MessageAttributeNames=["All"],
            **more,
        )
        return [_message(each) for each in answer.get("Messages", [])]

    def keep(self, url: str, handle: str, seconds: int) -> bool:
        """Keep a message invisible for so long from now on; 0 gives it back.

        False: the handle is of no use any more, or 12 h are over.
        """
        try:
            self._call(
                "change_message_visibility",
                QueueUrl=url,
                ReceiptHandle=handle,
                VisibilityTimeout=seconds,
            )
        except AwsError as error:
            if error.code in STALE:
                return False
            raise
        return True

    def delete(self, url: str, handle: str) -> None:
        """It may be delivered once more all the same. A stale handle deletes nothing, silently."""
        try:
            self._call("delete_message", QueueUrl=url, ReceiptHandle=handle)
        except AwsError as error:
            if error.code not in STALE:
                raise

    def move_back(self, dead: str, target: str | None = None) -> str:
        """Begin to move all messages of a dead-letter queue (ARNs) to ``target``, or where they
        came from; the task's handle."""
        more = {} if target is None else {"DestinationArn": target}
        answer = self._call("start_message_move_task", SourceArn=dead, **more)
        return str(part_of(answer, "StartMessageMoveTask", "TaskHandle"))

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """Any operation of boto3's client, as it is: its answer."""
        return self._call(operation, **request)

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        if self._client is None:
            self._client = make_client(
                "sqs",
                self._region,
                connect=CONNECT_TIMEOUT,
                read=READ_TIMEOUT,
                own_session=True,
            )
        client = self._client
        try:
            with calling(lambda error: error):
                answer: dict[str, Any] = getattr(client, operation)(**request)
        except AwsError as error:
            if error.kind is ErrorKind.EXPIRED:
                self._client = None  # a new client reads keys and settings again
            raise
        return answer


def dead_letters(arn: str, receives: int = 1000) -> dict[str, str]:
    """The attribute that sends what was received so often to the queue of this ARN."""
    policy = {"deadLetterTargetArn": arn, "maxReceiveCount": str(receives)}
    return {"RedrivePolicy": json.dumps(policy)}


def _rejected(answer: Mapping[str, Any], count: int, operation: str) -> list[Rejected]:
    """What of a batch wasn't accepted; an entry that is in neither list wasn't either."""
    accepted = {str(each.get("Id")) for each in answer.get("Successful", [])}
    failed = {str(each.get("Id")): each for each in answer.get("Failed", [])}
    found = []
    for index in range(count):
        if str(index) in accepted:
            continue
        each = failed.get(str(index), {})
        code = str(each.get("Code", "Unanswered"))
        text = str(each.get("Message", f"{operation} said nothing of it"))
        found.append(Rejected(index, code, text, bool(each.get("SenderFault"))))
    return found


def _message(given: Mapping[str, Any]) -> SqsMessage:
    told = given.get("Attributes", {})
    attributes = {
        str(name): str(each.get("StringValue", ""))
        for name, each in given.get("MessageAttributes", {}).items()
    }
    return SqsMessage(
        str(part_of(given, "ReceiveMessage", "MessageId")),
        str(part_of(given, "ReceiveMessage", "ReceiptHandle")),
        str(part_of(given, "ReceiveMessage", "Body")),
        int(told.get("ApproximateReceiveCount", 1)),
        int(told.get("SentTimestamp", 0)) / 1000,
        attributes,
    )
