"""What tells of a machine that died before it could: a one-shot schedule of EventBridge Scheduler,
placed by the launch, and removed by the machine once its queue has ended. Pure.

It has to do without this program: so only SNS and EventBridge can be told, which the scheduler
calls itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.core.notice_forms import Message, body, encoded, subject, text
from runner.core.notices import notice_id
from runner.core.states import NoticeState
from runner.model.notify import EVENTBRIDGE, MAX_TARGETS, NotifySpec, is_topic
from runner.model.queue import QueueSpec

LOST = "lost"

GROUP = "default"
"""The group of these schedules: every account has it."""

ROLE = "runner-notices"
"""The role that the scheduler takes on to tell."""

MARGIN = 900.0
"""Seconds after the end of the machine's lifetime: its own notices come first."""

SOURCE = "queue-runner"


@dataclass(frozen=True, slots=True)
class LostCall:
    """A call that the scheduler is to make: the ARN of the operation, and its parameters."""

    target: str
    input: str


def schedule_name(results: str, number: int) -> str:
    """The schedule of a queue's n-th such target; ``results`` is the queue's result store."""
    return f"runner-notice-{hashlib.sha256(results.encode()).hexdigest()[:24]}-{number}"


def schedule_names(results: str) -> Iterator[str]:
    """All that there may be, in order: after the first that isn't there, there is none."""
    return (schedule_name(results, number) for number in range(MAX_TARGETS))


def told_if_lost(queue: QueueSpec) -> list[NotifySpec]:
    """The targets of a document that the scheduler can tell."""
    return [t for t in queue.notify if is_topic(t.to) or t.to.startswith(EVENTBRIDGE)]


def lost_calls(queue: QueueSpec, results: str, run: str, at: float) -> list[LostCall]:
    """A call for each target of the document that can be told so. ``run``: the launch; ``at``: when
    it is told."""
    assert queue.queue_id is not None
    calls = []
    for target in told_if_lost(queue):
        bus = target.to.removeprefix(EVENTBRIDGE)
        notice = NoticeState(
            notice_id(run, LOST, None, 0),
            LOST,
            target.label,
            at,
            reason="its machine has ended, or reached the end of its lifetime, before the queue",
        )
        message = Message(notice, queue.queue_id, queue.queue_name, "", results)
        told = encoded(body(message)).decode()
        if is_topic(target.to):
            partition = target.to.split(":")[1]
            given: dict[str, Any] = {
                "TopicArn": target.to,
                "Subject": subject(message),
                "Message": f"{text(message)}\n\n{told}",
            }
            if target.to.endswith(".fifo"):
                given |= {"MessageGroupId": queue.queue_id, "MessageDeduplicationId": notice.id}
            operation = "sns:publish"
        else:
            partition = bus.split(":")[1] if bus.startswith("arn:") else "aws"
            entry = {
                "Source": SOURCE,
                "DetailType": f"Queue {LOST}",
                "Detail": told,
                "EventBusName": bus,
            }
            given, operation = {"Entries": [entry]}, "eventbridge:putEvents"
        where = f"arn:{partition}:scheduler:::aws-sdk:{operation}"
        calls.append(LostCall(where, json.dumps(given, ensure_ascii=False)))
    return calls
