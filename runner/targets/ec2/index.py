"""The index of a bucket: which launch, or which machine, has a queue. An object for each queue.

Who is about to launch a queue, or to give it to a machine, claims it there first, by a conditional
put: of two who do, one wins. It must not know EC2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.aws.errors import AwsError, ErrorKind
from runner.errors import ConflictError
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket, StoredText
from runner.targets.ec2.launch_record import LaunchRecord, parse
from runner.targets.ec2.queue_ref import QueueRef

TRIES = 3
"""Of a put that S3 refuses because of another one at the same time (its code is 409)."""


class ClaimedError(ConflictError):
    """Another claim came first. ``by``: what it has written."""

    def __init__(self, message: str, by: IndexEntry) -> None:
        super().__init__(message)
        self.by = by


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """What the index has of one queue; nothing in it where there is no such object.

    ``claim``: the random word of who wrote it. ``age``: seconds since then, by S3's own clock.
    ``outcome``: why nothing came of the claim; "" where something did, or may. ``unreadable``: no
    runner that we know has written it.
    """

    record: LaunchRecord | None = None
    etag: str | None = None
    age: float = 0.0
    claim: str = ""
    outcome: str = ""
    unreadable: bool = False
    plain: Mapping[str, Any] = field(default_factory=dict)


class Index:
    """The index of one bucket. Blocks; raises AwsError."""

    def __init__(self, bucket: LaunchBucket) -> None:
        self._bucket = bucket

    def read(self, queue: QueueRef) -> IndexEntry:
        """What is known of a queue."""
        return _entry(self._bucket.stored(queue.index_key), queue)

    def records(self, queue_id: str) -> list[LaunchRecord]:
        """Of all queues with this id in the bucket, whatever their prefix."""
        own = names.index_key(queue_id)
        keys = [own, *self._bucket.keys(names.index_folder(queue_id))]
        found = [parse(self._bucket.get_json(key)) for key in keys]
        return [each for each in found if each is not None and each.queue_id == queue_id]

    def claim(self, record: LaunchRecord, claim: str, seen: IndexEntry, **more: str) -> IndexEntry:
        """Write it in place of what was ``seen``, and of nothing else.

        An answer that was lost is no refusal: the object is read again, and ``claim`` tells who
        wrote it. Raises ClaimedError, AwsError.
        """
        told = {**record.plain, "claim": claim, **more}
        key = record.ref.index_key
        for left in reversed(range(TRIES)):
            try:
                etag = self._bucket.swap_json(key, told, seen.etag)
                return IndexEntry(record, etag, 0.0, claim, more.get("outcome", ""), plain=told)
            except AwsError as error:
                if error.kind not in (ErrorKind.CONFLICT, ErrorKind.PASSING):
                    raise
                now = self.read(record.ref)
                if now.plain == told:
                    return now
                if now.etag != seen.etag:
                    raise ClaimedError(f"{record.ref} is claimed by another", now) from error
                if error.kind is ErrorKind.PASSING or not left:
                    raise
        raise AssertionError

    def put_back(self, record: LaunchRecord, seen: IndexEntry, before: IndexEntry) -> None:
        """Undo a claim of which nothing came: what was there ``before`` stands again."""
        if before.plain:
            self._bucket.swap_json(record.ref.index_key, before.plain, seen.etag)
        else:
            self._bucket.delete(record.ref.index_key)


def _entry(found: StoredText | None, queue: QueueRef) -> IndexEntry:
    if found is None:
        return IndexEntry()
    told = found.json
    record = parse(told)
    if record is None or record.ref != queue:
        return IndexEntry(etag=found.etag, age=found.age, unreadable=record is None)
    claim = str(told.get("claim") or told.get("launch") or "")
    return IndexEntry(
        record, found.etag, found.age, claim, str(told.get("outcome") or ""), plain=told
    )
