"""A document that goes to a running machine by way of S3: it doesn't fit into a command.

Both ends: the laptop puts it beside what the machine's launch has shipped, the machine fetches it
with its own role, and takes nothing whose hash isn't the one it was told.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from runner.errors import NotFoundError, RunnerError, UsageError
from runner.results.stores import open_store, parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import Bucket
from runner.targets.ec2.finding import Found
from runner.targets.ec2.launches import Launches
from runner.targets.ec2.records import Record, indexed, publish

MAX_BYTES = 64 * 1024 * 1024
"""As the daemon's socket takes."""


def ship(found: Found, bucket: str | None, text: str) -> tuple[str, str]:
    """Put it into the machine's bucket, else into ``bucket``; its ``s3://…``, and its sha256.

    Raises StoreError, UsageError where there is no bucket.
    """
    place = _bucket_of(found.store) or bucket
    if not place:
        raise UsageError("the document goes by way of S3: give it a result_s3_bucket")
    data = text.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    launch = found.launch or str(found.instance_id)
    key = names.launch_key(launch, f"submit-{sha256[:32]}.json")
    store = open_store(f"s3://{place}")
    try:
        store.put_bytes(key, data)
    finally:
        store.close()
    return f"s3://{place}/{key}", sha256


def _bucket_of(store: str | None) -> str | None:
    return store.removeprefix("s3://").partition("/")[0] if store else None


def note(found: Found, document: Mapping[str, Any], queue_id: str) -> None:
    """So that the queue is found by its id: the machine's tags speak of its first one.

    Raises StateError, AwsError.
    """
    bucket = document.get("result_s3_bucket")
    prefix = document.get("result_s3_prefix") or f"queues/{queue_id}"
    record = Record(
        queue_id=queue_id,
        store=f"s3://{bucket}/{prefix}" if bucket else "",
        region=found.region,
        instance_id=found.instance_id,
        launch=found.launch,
        launched_at=found.launched,
        recipe=_recipe(found),
    )
    Launches.of_user(os.environ).remember(record)
    if bucket:
        publish(Bucket(bucket, found.region), record)


def _recipe(found: Found) -> str | None:
    """The sha256 of how the machine was launched, as the record of its first queue has it.

    Raises AwsError.
    """
    own = Launches.of_user(os.environ).record_of(str(found.instance_id))
    if own is not None and own.recipe:
        return own.recipe
    tags = found.machine.tags if found.machine is not None else {}
    bucket = _bucket_of(tags.get(names.STORE))
    if not bucket or names.QUEUE not in tags:
        return None
    first = indexed(Bucket(bucket, found.region), tags[names.QUEUE])
    return first.recipe if first is not None and first.launch == found.launch else None


def fetch(url: str, sha256: str) -> str:
    """The document. Raises NotFoundError, StoreError, UsageError for another one."""
    bucket, key = parse_s3(url)
    folder, _, name = key.rpartition("/")
    store = open_store(f"s3://{bucket}/{folder}" if folder else f"s3://{bucket}")
    try:
        data = store.get_bytes(name)
    finally:
        store.close()
    if data is None:
        raise NotFoundError(f"there is no {url}")
    if len(data) > MAX_BYTES:
        raise UsageError(f"{url} has {len(data) >> 20} MiB: at most 64 MiB for a document")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise RunnerError(f"{url} is not what was sent: its sha256 is another")
    return data.decode("utf-8", "replace")
