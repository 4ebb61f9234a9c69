"""Which document `resume` goes on with: one that a person gave, whatever jobs have written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from s3_endpoint import Endpoint

from runner.errors import ConflictError, NotFoundError
from runner.model.document import QueueSpec, dump_document, parse_document
from runner.model.json_reader import MAX_BYTES
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.launch.replacement_document import document_of
from runner.targets.ec2.launch.submitted_document import submitted_key

LAUNCH = "20260101-000000-0a1b2c3d"


class Account:
    """What a bucket has of one queue."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._s3 = endpoint.client()
        self.bucket = endpoint.bucket()

    def put(self, key: str, data: bytes) -> None:
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=data)

    def launched(self, queue: QueueSpec) -> None:
        """What a launch has shipped."""
        self.put(f"runner/launches/{LAUNCH}/queue.json", dump_document(queue).encode())

    def stored(self, data: QueueSpec | bytes) -> None:
        """What the machine has stored, or a job."""
        raw = data if isinstance(data, bytes) else dump_document(data).encode()
        self.put("queues/q/queue.json", raw)

    def submitted(self, queue: QueueSpec) -> None:
        """What a laptop has sent to the machine."""
        data = dump_document(queue).encode()
        self.put(submitted_key(LAUNCH, hashlib.sha256(data).hexdigest()), data)

    def document(self, submitted: str | None = None) -> QueueSpec:
        store = f"s3://{self.bucket}/queues/q"
        return document_of(LaunchBucket(self.bucket, "us-east-1"), store, LAUNCH, "q", submitted)


@pytest.fixture
def account(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Account:
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    return Account(endpoint)


def queue(**more: Any) -> QueueSpec:
    job = {"job_id": "a", "command": "true", "timeout": "1m", "result_paths": ["out/*"]}
    told = {"queue_id": "q", "queue_name": "q", "global_timeout": "8h", "on_failure": "stop"}
    return parse_document(json.dumps({**told, "jobs": [job], **more}).encode())


def test_it_is_as_the_machine_had_it_last(account: Account) -> None:
    """A queue that has run for days could not go on, or not with its mended document."""
    account.launched(queue())
    assert account.document() == queue()
    account.stored(queue())
    assert account.document() == queue()
    mended = queue(global_timeout="9h")
    account.submitted(mended)
    account.stored(mended)
    assert account.document() == mended
    unnamed = replace(queue(on_failure="continue"), queue_id=None)
    account.submitted(unnamed)
    account.stored(unnamed.with_id("q"))
    assert account.document() == unnamed.with_id("q")


def test_a_queue_that_was_put_onto_the_machine_of_another(account: Account) -> None:
    """It would be refused for the launch's document, which is another queue's."""
    account.launched(replace(queue(), queue_id="first"))
    with pytest.raises(NotFoundError, match="has no document of 'q'"):
        account.document()
    account.stored(queue())
    with pytest.raises(ConflictError, match="nothing tells of a launch for it"):
        account.document()
    account.submitted(queue())
    assert account.document() == queue()


def test_what_was_submitted_counts_where_the_machine_stored_nothing(account: Account) -> None:
    """A machine that ended at once would take the queue with it."""
    account.launched(replace(queue(), queue_id="first"))
    account.submitted(queue())
    account.submitted(queue(global_timeout="9h"))
    sha256 = hashlib.sha256(dump_document(queue()).encode()).hexdigest()
    assert account.document(sha256) == queue()
    with pytest.raises(NotFoundError, match="has no document of 'q'"):
        account.document("0" * 64)


def test_what_a_job_wrote_there_is_refused_by_name(account: Account) -> None:
    """A person would launch a machine, for as long and for what a job says."""
    account.launched(queue())
    account.submitted(queue(global_timeout="9h"))
    account.stored(queue(global_timeout="900h"))
    told = r"queues/q/queue.json is not what was launched, .*global_timeout: 8h0m0s is now 900h0m0s"
    with pytest.raises(ConflictError, match=rf"(?s){told}.*--batch-queue FILE --update"):
        account.document()


FOREIGN = {
    "no JSON": b"\xff",
    "deep": b"[" * 50_000,
    "another form": b'{"queue_id": "q", "jobs": 7}',
    "large": b" " * (MAX_BYTES + 1),
}


@pytest.mark.parametrize("raw", FOREIGN.values(), ids=list(FOREIGN))
def test_what_is_no_document_is_refused_by_its_place(account: Account, raw: bytes) -> None:
    """An error would name a field of nobody knows what, or the memory be full."""
    account.launched(queue())
    account.stored(raw)
    with pytest.raises(ConflictError, match=rf"^s3://{account.bucket}/queues/q/queue.json"):
        account.document()
