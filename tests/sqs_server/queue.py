"""One queue: what becomes of its messages. It knows no HTTP; times are seconds since the epoch.

Facts: SQS API reference; SQS Developer Guide, "Visibility timeout", "Dead-letter queues",
"Standard queues: at-least-once delivery".
"""

from __future__ import annotations

import json
import random
import uuid
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from .refusals import Refused, invalid
from .rudeness import Rudeness

LONGEST_VISIBILITY = 43_200
PURGE_S = 60.0
"""Seconds after a purge in which the next is refused, and in which what is sent may be purged."""

DEFAULTS = {
    "VisibilityTimeout": "30",
    "MessageRetentionPeriod": "345600",
    "DelaySeconds": "0",
    "ReceiveMessageWaitTimeSeconds": "0",
    "MaximumMessageSize": "1048576",
}


@dataclass(slots=True)
class Message:
    """``sent`` stays what it was in the first queue; ``source``: the queue it was dead in."""

    id: str
    body: str
    attributes: dict[str, Any]
    sent: float
    visible_at: float
    group: str | None = None
    source: str | None = None
    receives: int = 0
    first_received: float | None = None
    handle: str | None = None
    received: float = 0.0
    deleted_once: bool = False


@dataclass(slots=True)
class Queue:
    """``tags`` and ``attributes`` as were given, over the service's defaults."""

    name: str
    url: str
    arn: str
    attributes: dict[str, str]
    tags: dict[str, str]
    created: float
    messages: dict[str, Message] = field(default_factory=dict)
    purged: float | None = None
    handles: dict[str, str] = field(default_factory=dict)
    """Every handle there ever was → the id of its message."""
    oldest: float = float("inf")
    most_receives: int = 0
    """No message was sent before, or received more often: most looks need not pass over all."""

    def attribute(self, name: str) -> str:
        return {**DEFAULTS, **self.attributes}[name]

    @property
    def redrive(self) -> tuple[str, int] | None:
        """The ARN of its dead-letter queue, and how often a message is received before."""
        if not (policy := self.attributes.get("RedrivePolicy")):
            return None
        read = json.loads(policy)
        return read["deadLetterTargetArn"], int(read.get("maxReceiveCount", 10))

    def send(self, message: Message, now: float, rude: Rudeness, rng: random.Random) -> None:
        """A purge that goes on may take it as well."""
        purging = self.purged is not None and now - self.purged < PURGE_S
        if not (purging and rng.random() < rude.purged):
            self.add(message)

    def add(self, message: Message) -> None:
        """Put it in, whatever it was before."""
        self.messages[message.id] = message
        self.oldest = min(self.oldest, message.sent)
        self.most_receives = max(self.most_receives, message.receives)

    def expire(self, now: float) -> None:
        """What is older than the retention period is gone, whoever has it."""
        kept = float(self.attribute("MessageRetentionPeriod"))
        if now - self.oldest < kept:
            return
        for each in [m for m in self.messages.values() if now - m.sent >= kept]:
            del self.messages[each.id]

    def visible(self, now: float, most: int | None = None) -> list[Message]:
        found = (each for each in self.messages.values() if each.visible_at <= now)
        return list(islice(found, most))

    def in_flight(self, now: float) -> int:
        return sum(m.visible_at > now and m.handle is not None for m in self.messages.values())

    def delayed(self, now: float) -> int:
        return sum(m.visible_at > now and m.handle is None for m in self.messages.values())

    def dead(self, now: float) -> list[Message]:
        """Those that were received too often: they leave instead of being received again."""
        if (redrive := self.redrive) is None or self.most_receives < redrive[1]:
            return []
        return [each for each in self.visible(now) if each.receives >= redrive[1]]

    def receive(
        self, most: int, visibility: float, now: float, rude: Rudeness, rng: random.Random
    ) -> list[Message]:
        """Each with a new handle; the old one is stale."""
        found = self.visible(now, None if rude.shuffled else most)
        if rude.shuffled:
            rng.shuffle(found)
        taken = found[:most]
        if len(taken) > 1 and rng.random() < rude.short:
            taken = taken[: rng.randrange(1, len(taken))]
        for each in taken:
            each.receives += 1
            self.most_receives = max(self.most_receives, each.receives)
            each.first_received = each.first_received or now
            each.handle = uuid.UUID(int=rng.getrandbits(128)).hex
            each.received = now
            self.handles[each.handle] = each.id
            each.visible_at = now + (0 if rng.random() < rude.doubled else visibility)
        return taken

    def delete(self, handle: str, now: float, rude: Rudeness, rng: random.Random) -> None:
        message = self._of(handle)
        if message is None:
            return  # it "succeeds" for one that is gone
        if message.handle != handle and rng.random() < rude.stale:
            return
        if not message.deleted_once and rng.random() < rude.undead:
            message.deleted_once = True
            message.visible_at = now + rng.uniform(0, 1)
            return
        del self.messages[message.id]

    def change_visibility(
        self, handle: str, seconds: int, now: float, rude: Rudeness, rng: random.Random
    ) -> None:
        """Raises ``Refused`` where it is not in flight, or where 12 h are over."""
        message = self._of(handle)
        if message is None:
            raise invalid(
                f"Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does not "
                "exist or is not available for visibility timeout change."
            )
        stale = message.handle != handle or message.visible_at <= now
        if stale and rng.random() < rude.stale:
            raise Refused("MessageNotInflight", "The specified message isn't in flight.")
        if now + seconds - message.received > LONGEST_VISIBILITY:
            raise invalid(
                f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Total "
                "VisibilityTimeout for the message is beyond the limit [43200 seconds]"
            )
        message.visible_at = now + seconds

    def purge(self, now: float) -> None:
        """Raises ``Refused`` within a minute of the last."""
        if self.purged is not None and now - self.purged < PURGE_S:
            raise Refused(
                "PurgeQueueInProgress",
                f"Only one PurgeQueue operation on {self.name} is allowed every 60 seconds.",
                403,
            )
        self.purged = now
        self.messages.clear()

    def _of(self, handle: str) -> Message | None:
        if handle not in self.handles:
            raise Refused("ReceiptHandleIsInvalid", "The input receipt handle is invalid.", 404)
        return self.messages.get(self.handles[handle])
