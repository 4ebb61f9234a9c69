"""What the service answers instead of a result: codes are those of botocore's model."""

from __future__ import annotations

_BEFORE = {
    **{
        code: f"AWS.SimpleQueueService.{code}"
        for code in (
            "BatchEntryIdsNotDistinct", "BatchRequestTooLong", "EmptyBatchRequest",
            "InvalidBatchEntryId", "MessageNotInflight", "PurgeQueueInProgress",
            "QueueDeletedRecently", "TooManyEntriesInBatchRequest", "UnsupportedOperation",
        )
    },
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
}  # fmt: skip
"""Codes of the protocol before, which clients still see (SQS API reference, "Errors" of each)."""


class Refused(Exception):
    """A request is answered with an error; nothing was changed."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    @property
    def query_code(self) -> str:
        """Its code in the protocol before: the header x-amzn-query-error."""
        return _BEFORE.get(self.code, self.code)


def no_queue() -> Refused:
    return Refused("QueueDoesNotExist", "The specified queue does not exist.")


def invalid(text: str) -> Refused:
    return Refused("InvalidParameterValue", text)


def denied(action: str) -> Refused:
    text = f"User is not authorized to perform: sqs:{action} on this resource"
    return Refused("AccessDenied", text, 403)


def throttled() -> Refused:
    return Refused("RequestThrottled", "The request was denied due to request throttling.")


def unavailable() -> Refused:
    return Refused("ServiceUnavailable", "The request has failed due to a temporary failure.", 503)
