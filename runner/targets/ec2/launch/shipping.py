"""What a machine is given, put where it can fetch it: document, bundle, work folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from runner.errors import UsageError
from runner.model.document import QueueSpec, dump_document
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket, sha256_of
from runner.targets.ec2.launch.user_data import Shipped

Progress = Callable[[], AbstractContextManager[Callable[[int, int], None]]]
"""Shows a bar for as long as the block lasts: told bytes more to come, and bytes done."""


def ship_document(bucket: LaunchBucket, launch: str, queue: QueueSpec) -> Shipped:
    """The document as the machine submits it."""
    data = dump_document(queue).encode()
    key = names.launch_key(launch, "queue.json")
    bucket.put(key, data)
    return Shipped(key, hashlib.sha256(data).hexdigest())


def ship_bundles(
    bucket: LaunchBucket,
    arches: Iterable[str],
    build: Callable[[str], Path],
    say: Callable[[str], None],
    progress: Progress,
) -> dict[str, Shipped]:
    """A bundle for each architecture; one that is there by its content isn't sent again."""
    shipped = {}
    for arch in sorted(set(arches)):
        path = build(arch)
        digest = sha256_of(path)
        key = names.bundle_key(digest, arch)
        if not bucket.has(key):
            say(f"sending the bundle for {arch}: {path.stat().st_size:,} bytes, once")
            with progress() as advance:
                bucket.put_file(key, path, advance)
        shipped[arch] = Shipped(key, digest)
    return shipped


def ship_workdir(
    bucket: LaunchBucket, launch: str, packed: Path | Shipped | None, progress: Progress
) -> Shipped | None:
    """The packed work folder, if there is one; of an earlier launch, where it is still there."""
    if packed is None:
        return None
    if isinstance(packed, Shipped):
        if not bucket.has(packed.key):
            told = f"the launch's work folder, s3://{bucket.name}/{packed.key}, is gone"
            raise UsageError(f"{told}: give --workdir DIR")
        return packed
    key = names.launch_key(launch, "workdir.tar.gz")
    with progress() as advance:
        bucket.put_file(key, packed, advance)
    return Shipped(key, sha256_of(packed))
