"""A document that goes to a running machine by way of S3: it doesn't fit into a command.

Both ends: the laptop puts it beside what the machine's launch has shipped, the machine fetches it
with its own role, and takes nothing whose hash isn't the one it was told.
"""

from __future__ import annotations

import hashlib

from runner.errors import NotFoundError, RunnerError, UsageError
from runner.results.stores import open_store, parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.observe.machine_lookup import ResolvedTarget

MAX_BYTES = 64 * 1024 * 1024
"""As the daemon's socket takes."""


def ship(found: ResolvedTarget, bucket: str | None, text: str) -> tuple[str, str]:
    """Put it into the machine's bucket, and into ``bucket``, the queue's own, where `resume` looks
    for it; its ``s3://…`` for the machine, and its sha256.

    Raises StoreError, UsageError where there is no bucket.
    """
    place = bucket_of(found.store) or bucket
    if not place:
        raise UsageError("the document goes by way of S3: give it a result_s3_bucket")
    data = text.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    launch = found.launch or str(found.instance_id)
    key = submitted_key(launch, sha256)
    for name in dict.fromkeys([bucket or place, place]):
        store = open_store(f"s3://{name}")
        try:
            store.put_bytes(key, data)
        finally:
            store.close()
    return f"s3://{place}/{key}", sha256


def bucket_of(store: str | None) -> str | None:
    return store.removeprefix("s3://").partition("/")[0] if store else None


def submitted_key(launch: str, sha256: str) -> str:
    """Where a document with this sha256 was put for the machine of a launch."""
    return names.launch_key(launch, f"submit-{sha256[:32]}.json")


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
