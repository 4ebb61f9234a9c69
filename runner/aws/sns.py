"""Messages to a topic of SNS.

Needs sns:Publish, and kms:GenerateDataKey and kms:Decrypt where the topic has a key of its own.
"""

from __future__ import annotations

from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import calling, part_of

MAX_MESSAGE = 262_144
"""Bytes (API reference, "Publish")."""


def publish(
    topic: str, subject: str, message: str, message_id: str, group: str, seconds: float
) -> str:
    """Publish to the topic of this ARN; the id that SNS gave. Raises AwsError.

    Of a topic with an order (FIFO) the messages of one ``group`` keep it, and a message that comes
    twice under its id within five minutes is delivered once.
    """
    region = topic.split(":")[3]
    fifo = {"MessageGroupId": group, "MessageDeduplicationId": message_id}
    with calling(lambda error: error):
        client = make_client(
            "sns", region, connect=seconds / 2, read=seconds / 2, attempts=1, own_session=True
        )
        answer: dict[str, Any] = client.publish(
            TopicArn=topic,
            Subject=subject,
            Message=message,
            MessageAttributes={"id": {"DataType": "String", "StringValue": message_id}},
            **(fifo if topic.endswith(".fifo") else {}),
        )
    return str(part_of(answer, "Publish", "MessageId"))
