"""Which queue on AWS Batch a word means: the address of its store, or its id."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from runner.errors import NotFoundError, UsageError
from runner.model.messages import quoted
from runner.results.layout import Layout
from runner.results.stores import is_s3, parse_s3
from runner.targets.batch.launch_record import (
    BatchLaunch,
    indexed_launches,
    parse_launch,
    remembered,
)
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.queue_ref import is_queue_id
from runner.targets.port import AmbiguousError


@dataclass(frozen=True, slots=True)
class BatchWord:
    """What is looked for, and where. Raises UsageError for what is no address and no id."""

    word: str
    region: str | None = None
    bucket: str | None = None

    def __post_init__(self) -> None:
        if is_s3(self.word):
            parse_s3(self.word)
        elif not is_queue_id(self.word):
            raise UsageError(f"{quoted(self.word)} is no s3://BUCKET/PREFIX, and no queue's id")


@dataclass(frozen=True, slots=True)
class FoundLaunch:
    """``stored``: when its record was stored, in our monotonic seconds, by S3's own clock."""

    launch: BatchLaunch
    stored: float


def resolve(named: BatchWord) -> FoundLaunch:
    """The launch that is meant, as it is stored beside the queue's state. Blocks.

    Raises NotFoundError, AmbiguousError, RecordError, StoreError, AwsError.
    """
    where = _address(named)
    bucket, prefix = parse_s3(where)
    key = f"{prefix}/{Layout.coordinator_key}" if prefix else Layout.coordinator_key
    found = LaunchBucket(bucket, named.region).stored(key)
    if found is None:
        raise NotFoundError(f"{where} has no queue that was launched on AWS Batch")
    launch = replace(parse_launch(found.data, f"{Layout.coordinator_key} in {where}"), store=where)
    if named.region is not None:
        launch = replace(launch, region=named.region)
    return FoundLaunch(launch, time.monotonic() - found.age)


def _address(named: BatchWord) -> str:
    """Where the queue is stored."""
    if is_s3(named.word):
        return named.word.removesuffix("/")
    found = {each.store: "launched from here" for each in remembered(named.word)}
    if named.bucket is not None:
        bucket = parse_s3(named.bucket)[0] if is_s3(named.bucket) else named.bucket
        for each in indexed_launches(bucket, named.word):
            found.setdefault(each.store, f"in the index of s3://{bucket}")
        found = {where: by for where, by in found.items() if _has(named.bucket, where)}
    if not found:
        more = "" if named.bucket else "; give --bucket BUCKET, or s3://BUCKET/PREFIX for it"
        raise NotFoundError(f"nothing is known of a launch of '{named.word}' there{more}")
    if len(found) > 1:
        lines = [f"  {where} ({by})" for where, by in found.items()]
        told = f"'{named.word}' means queues of {len(found)} result stores:"
        raise AmbiguousError("\n".join([told, *lines, "say which one: s3://BUCKET/PREFIX"]))
    return next(iter(found))


def _has(place: str, where: str) -> bool:
    """Whether ``--bucket``, a bucket or an address, means this store."""
    if not is_s3(place):
        return parse_s3(where)[0] == place
    bucket, prefix = parse_s3(place)
    return parse_s3(where)[0] == bucket and prefix in ("", parse_s3(where)[1])
