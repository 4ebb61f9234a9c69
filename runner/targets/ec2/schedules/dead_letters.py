"""The firings that came to nothing: what EventBridge Scheduler could not deliver, and why.

Owns the queue of them. They are read and left there, for who asks next; SQS drops them after its
time. Blocks; raises AwsError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.aws.scheduler import DEAD_LETTERS

_MOST = 1_000
"""Messages that are looked at."""

_HIDDEN = 20
"""Seconds for which a message that was read isn't given out again: one look sees each once."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """``when``: the firing's time, as the Scheduler writes it; ``why``: AWS's code and words."""

    schedule_arn: str
    when: str
    why: str
    receipt: str


class DeadLetters:
    """The queue of one region."""

    def __init__(self, region: str) -> None:
        self._client = make_client("sqs", region, own_session=True)

    def read(self, schedule_arn: str) -> list[DeadLetter]:
        """Those of one schedule. Empty where there is no queue."""
        url = self._url()
        if url is None:
            return []
        found: dict[str, DeadLetter] = {}
        receipts: list[str] = []
        while len(receipts) < _MOST:
            with calling(lambda error: error):
                answer = self._client.receive_message(
                    QueueUrl=url,
                    MaxNumberOfMessages=10,
                    MessageAttributeNames=["All"],
                    VisibilityTimeout=_HIDDEN,
                    WaitTimeSeconds=0,
                )
            messages = answer.get("Messages", ())
            if not messages:
                break
            for message in messages:
                receipts.append(str(message["ReceiptHandle"]))
                letter = letter_of(message)
                found[str(message.get("MessageId"))] = letter
        mine = [each for each in found.values() if each.schedule_arn == schedule_arn]
        for receipt in receipts:
            self._show_again(url, receipt)
        return mine

    def remove(self, letters: list[DeadLetter]) -> None:
        """What was read of a schedule that is no more."""
        url = self._url()
        for letter in letters if url is not None else ():
            with calling(lambda error: error):
                self._client.delete_message(QueueUrl=url, ReceiptHandle=letter.receipt)

    def exists(self) -> bool:
        """Whether there is such a queue."""
        return self._url() is not None

    def _show_again(self, url: str, receipt: str) -> None:
        try:
            with calling(lambda error: error):
                self._client.change_message_visibility(
                    QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=0
                )
        except AwsError:
            pass  # it comes back by itself

    def _url(self) -> str | None:
        try:
            with calling(lambda error: error):
                return str(self._client.get_queue_url(QueueName=DEAD_LETTERS)["QueueUrl"])
        except AwsError as error:
            if error.kind is ErrorKind.MISSING or "NonExistentQueue" in error.code:
                return None
            raise


def letter_of(message: Mapping[str, Any]) -> DeadLetter:
    """One message of SQS (Scheduler User Guide, "Retrieve the dead-letter event")."""
    told = message.get("MessageAttributes") or {}

    def attribute(name: str) -> str:
        return str((told.get(name) or {}).get("StringValue", ""))

    code, words = attribute("ERROR_CODE"), " ".join(attribute("ERROR_MESSAGE").split())
    return DeadLetter(
        attribute("SCHEDULE_ARN"),
        attribute("SCHEDULED_TIME"),
        ": ".join(filter(None, (code, words))) or "AWS does not say why",
        str(message.get("ReceiptHandle", "")),
    )
