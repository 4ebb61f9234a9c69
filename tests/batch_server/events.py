"""What EventBridge is told of jobs, and a rule that puts it into a queue of SQS.

A change of state is an event, the submission is none; ``detail`` is much as a JobDetail (Batch User
Guide, "Batch job state change events").
"""

from __future__ import annotations

import json
import queue
import threading
import uuid
from datetime import UTC, datetime
from typing import Any, Protocol

import boto3

from . import answers
from .jobs import Document, Job
from .settings import Settings


class Events(Protocol):
    def moved(self, job: Job, state: str, settings: Settings) -> None:
        """A job is in another state. Called with the world's lock held."""


def of_job(job: Job, state: str, settings: Settings) -> Document:
    """The event of a job that has come into a state."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Batch Job State Change",
        "source": "aws.batch",
        "account": settings.account,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": settings.region,
        "resources": [job.arn],
        "detail": {**answers.detail(job, settings), "status": state},
    }


class KeptEvents:
    """Events in memory, in their order."""

    def __init__(self) -> None:
        self.events: list[Document] = []

    def moved(self, job: Job, state: str, settings: Settings) -> None:
        self.events.append(of_job(job, state, settings))


class SqsEvents:
    """Each event is a message of a queue of SQS, as a rule of EventBridge would have it."""

    def __init__(self, endpoint: str, region: str, queue_url: str) -> None:
        self._url = queue_url
        self._client: Any = boto3.client(
            "sqs",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self._events: queue.SimpleQueue[Document | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._carry, name="batch-events", daemon=True)
        self._thread.start()

    def moved(self, job: Job, state: str, settings: Settings) -> None:
        self._events.put(of_job(job, state, settings))

    def close(self) -> None:
        """All that was told is there when this returns."""
        self._events.put(None)
        self._thread.join()
        self._client.close()

    def _carry(self) -> None:
        while (event := self._events.get()) is not None:
            self._client.send_message(QueueUrl=self._url, MessageBody=json.dumps(event))
