"""EventBridge's events, by way of SQS, as the doorbell of who looks at jobs on AWS Batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from batch_account import BatchAccount
from batch_server import KeptLogs, MotoServices, Processes, Settings, SqsEvents
from on_batch import OnBatch, Reacting, instant, job
from s3_endpoint import Endpoint

from runner.batch import poller
from runner.engine.batch import backend
from runner.errors import ExitCode


class Events:
    """A queue of SQS that the account's events come into."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self.client: Any = boto3.client(
            "sqs",
            endpoint_url=endpoint.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.url = self.client.create_queue(QueueName=name)["QueueUrl"]

    def left(self) -> int:
        told = self.client.get_queue_attributes(
            QueueUrl=self.url,
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
            ],
        )
        return sum(map(int, told["Attributes"].values()))


@pytest.fixture
def events(endpoint: Endpoint, request: pytest.FixtureRequest) -> Iterator[Events]:
    made = Events(endpoint, f"runner-batch-events-{request.node.name[:40]}")
    yield made
    made.client.delete_queue(QueueUrl=made.url)
    made.client.close()


@pytest.fixture
def on_batch(
    endpoint: Endpoint, events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnBatch]:
    carried = SqsEvents(endpoint.url, "us-east-1", events.url)
    settings = Settings(second_s=0.1, delays=instant(0.1), rates={})
    services = MotoServices(endpoint.url)
    account = BatchAccount(Processes(KeptLogs()), settings, services, carried)
    for name, value in {**endpoint.env, **account.env}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(backend, "CLAIM_AGAIN", 0.05)
    made = OnBatch(account, endpoint.bucket(), tmp_path)
    batch = replace(made.settings.batch, events=events.url)
    made.settings = replace(made.settings, batch=batch)
    yield made
    account.close()
    carried.close()


def test_a_queue_goes_by_its_events(
    on_batch: OnBatch, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without looks of its own a driver would not hear of the end of its jobs."""
    # It would take an hour for each change, were it not for the events.
    monkeypatch.setattr(poller, "UNDER_EVENTS", 3600.0)
    monkeypatch.setattr(poller, "AFTER_RING", 0.0)
    for number, body in enumerate(("no JSON", "[]", json.dumps({"detail": {"jobId": 7}}))):
        events.client.send_message(QueueUrl=events.url, MessageBody=body)
        assert number < 3
    ended = on_batch.run(
        job("a", "sleep 1"),
        job("b", "exit $((JOB_ATTEMPT == 1))", depends_on=["a"], retry={"max_attempts": 2}),
        job("x", array=3, depends_on=["b"]),
        max_parallel_jobs=5,
    )
    assert ended.exit_code is ExitCode.DONE
    assert {each["status"] for each in on_batch.state().values()} == {"completed"}


def test_without_a_queue_for_events_it_looks_itself(on_batch: OnBatch) -> None:
    """A queue of SQS that is gone, or denied, would keep all queues from ending."""
    gone = replace(on_batch.settings.batch, events=on_batch.settings.batch.events + "-gone")
    on_batch.settings = replace(on_batch.settings, batch=gone)
    watcher = Reacting()
    assert on_batch.run(job("a", "sleep 3"), watcher=watcher).exit_code is ExitCode.DONE
    assert [text for text in watcher.said if "looked at as without them" in text]
