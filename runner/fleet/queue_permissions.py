"""What these credentials may do with a job's task queues, tried out without any effect.

Each call is one that SQS refuses for what it asks, once it has looked whether it may be asked at
all: a receive of no messages, a message that is delayed for too long, a receipt of nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from runner.aws.errors import AwsError, ErrorKind
from runner.aws.sqs import LONGEST_DELAY, Sqs

NEEDED = (
    "CreateQueue", "GetQueueUrl", "GetQueueAttributes", "SetQueueAttributes", "SendMessage",
    "ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility",
)  # fmt: skip
"""All that the commands of the BEC CLI's guide need, and all that workers do."""

BEYOND = {
    "PurgeQueue": "makes `queue purge` one call; without it messages are received and deleted",
    "StartMessageMoveTask": "is for redriving by hand; `queue redrive` does without",
    "ListQueues": "is for looking by hand; no command lists queues",
    "DeleteQueue": "is for deleting queues by hand; `jobs delete` leaves them",
}
"""What goes beyond, and what it is for."""


class PermissionState(Enum):
    """``UNKNOWN``: no answer that tells."""

    ALLOWED = "allowed"
    DENIED = "denied"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Permission:
    """``says``: why it isn't known."""

    action: str
    state: PermissionState
    says: str = ""


def try_permissions(sqs: Sqs, url: str) -> list[Permission]:
    """Of the queue of this URL, NEEDED and BEYOND in their order. Blocks; raises nothing."""
    return [_tried(sqs, action, request) for action, request in _requests(sqs, url).items()]


def _requests(sqs: Sqs, url: str) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    name, nowhere = url.rpartition("/")[2], f"{url}-doctor"
    visibility, arn = "300", f"arn:aws:sqs:us-east-1:000000000000:{name}-doctor"
    try:
        found = sqs.attributes(url)
        visibility = found.get("VisibilityTimeout", visibility)
        arn = found.get("QueueArn", name) + "-doctor"
    except AwsError:
        pass  # told by its own line
    receipt = {"QueueUrl": url, "ReceiptHandle": "doctor"}
    return {
        "CreateQueue": ("create_queue", {"QueueName": name}),
        "GetQueueUrl": ("get_queue_url", {"QueueName": name}),
        "GetQueueAttributes": ("get_queue_attributes", {"QueueUrl": url}),
        "SetQueueAttributes": (
            "set_queue_attributes",
            {"QueueUrl": url, "Attributes": {"VisibilityTimeout": visibility}},
        ),
        "SendMessage": (
            "send_message",
            {"QueueUrl": url, "MessageBody": "doctor", "DelaySeconds": LONGEST_DELAY + 1},
        ),
        "ReceiveMessage": ("receive_message", {"QueueUrl": url, "MaxNumberOfMessages": 0}),
        "DeleteMessage": ("delete_message", receipt),
        "ChangeMessageVisibility": (
            "change_message_visibility",
            {**receipt, "VisibilityTimeout": 0},
        ),
        "PurgeQueue": ("purge_queue", {"QueueUrl": nowhere}),
        "StartMessageMoveTask": ("start_message_move_task", {"SourceArn": arn}),
        "ListQueues": ("list_queues", {"QueueNamePrefix": name, "MaxResults": 1}),
        "DeleteQueue": ("delete_queue", {"QueueUrl": nowhere}),
    }


def _tried(sqs: Sqs, action: str, call: tuple[str, Mapping[str, Any]]) -> Permission:
    operation, request = call
    try:
        sqs.call(operation, **request)
    except AwsError as error:
        if error.kind is ErrorKind.DENIED:
            return Permission(action, PermissionState.DENIED)
        if error.kind in (ErrorKind.INVALID, ErrorKind.MISSING, ErrorKind.CONFLICT):
            return Permission(action, PermissionState.ALLOWED)
        return Permission(action, PermissionState.UNKNOWN, str(error))
    return Permission(action, PermissionState.ALLOWED)
