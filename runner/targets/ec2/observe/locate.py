"""Which queue a queue_id means, by all that is known of it, and where it has been.

Traces are this computer's records, EC2's tags and the index of a bucket. Where they speak of
several result stores the id means several queues, and none of them is chosen: see QueueRef.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.aws.ec2 import Ec2, Machine
from runner.aws.errors import AwsError
from runner.errors import NotFoundError
from runner.results.stores import is_s3, parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.index import Index
from runner.targets.ec2.launch.local_launches import Launches
from runner.targets.ec2.launch_record import LaunchRecord
from runner.targets.ec2.observe.of_schedule import of_schedule
from runner.targets.ec2.queue_ref import QueueRef, store_of
from runner.targets.port import AmbiguousError


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """``--bucket``: a bucket, or ``s3://bucket/prefix`` where one bucket has several. Raises
    UsageError for an address that is none."""

    given: str

    @property
    def bucket(self) -> str:
        return parse_s3(self.given)[0] if is_s3(self.given) else self.given

    def has(self, store: str) -> bool:
        """Whether this store is meant."""
        if not store:
            return False
        bucket, prefix = parse_s3(self.given) if is_s3(self.given) else (self.given, "")
        found = parse_s3(store)
        return found[0] == bucket and prefix in ("", found[1])


def place_of(bucket: str | None) -> QueuePlace | None:
    """What ``--bucket`` says."""
    return QueuePlace(bucket) if bucket is not None else None


@dataclass(frozen=True, slots=True)
class Trace:
    """One thing that is known of a queue; ``source``: who says so, for people."""

    record: LaunchRecord
    source: str
    machine: Machine | None = None


def recorded(queue_id: str, launches: Launches) -> list[Trace]:
    """By this computer's records."""
    return [Trace(each, "launched from here") for each in launches.records(queue_id)]


def tagged(ec2: Ec2, queue_id: str) -> list[Trace]:
    """By the tags of a region's machines, also of those that have ended. Raises AwsError."""
    kinds = names.tags_of(queue_id)
    return [trace_of(machine) for tags in kinds for machine in ec2.machines(tags)]


def trace_of(machine: Machine) -> Trace:
    """What a machine's tags tell of the queue that it was launched for."""
    tags = names.machine_tags(machine.tags)
    record = LaunchRecord(
        tags.get(names.QUEUE, ""),
        store_of(tags.get(names.STORE)),
        machine.region,
        machine.instance_id,
        tags.get(names.LAUNCH),
        options_sha256=tags.get(names.OPTIONS),
    )
    source = f"{machine.instance_id} in {machine.region}, {machine.state}"
    return Trace(record, source, machine)


def indexed(bucket: LaunchBucket, queue_id: str) -> list[Trace]:
    """By a bucket's index. Raises AwsError."""
    found = Index(bucket).records(queue_id)
    return [Trace(each, f"in the index of s3://{bucket.name}") for each in found]


def of_one_queue(
    queue_id: str, traces: Iterable[Trace], place: QueuePlace | None
) -> tuple[Trace, ...]:
    """Those that ``place`` doesn't rule out: all of one queue, or none. Raises AmbiguousError.

    A trace that names no store speaks of no other queue: it belongs to the one that others name.
    """
    meant = [one for one in traces if place is None or place.has(one.record.store)]
    stores: dict[str, list[str]] = {}
    for one in meant:
        if one.record.store:
            stores.setdefault(one.record.store, []).append(one.source)
    if len(stores) > 1:
        told = [f"  {store} ({'; '.join(dict.fromkeys(s))})" for store, s in stores.items()]
        raise AmbiguousError(
            "\n".join([
                f"'{queue_id}' means queues of {len(stores)} result stores:",
                *told,
                "say which one: --bucket BUCKET or s3://BUCKET/PREFIX, or a machine's id",
            ])
        )  # fmt: skip
    return tuple(meant)


@dataclass(frozen=True, slots=True)
class QueueLocations:
    """One queue. ``launch``: the newest one's word; "" if nobody knows.

    ``regions``: where it has, or may have, a machine, that of the newest launch first.
    ``options_sha256``: of how the newest launch was asked for, as a record of it says that no job
    can write; ``document``: that of the document that was submitted to its machine, so too.
    """

    queue: QueueRef
    launch: str
    regions: tuple[str, ...]
    options_sha256: str | None = None
    document: str | None = None

    @property
    def store(self) -> str:
        return self.queue.store

    @property
    def bucket(self) -> str:
        return self.queue.bucket


def locate(
    queue_id: str, region: str | None, bucket: str | None, launches: Launches
) -> QueueLocations:
    """Everything that can be found. The launch that counts is the newest, for another computer may
    have resumed the queue since: the one that the index names, and without an index the newest by
    its word, which a wrong clock may have written. Blocks.

    Raises AmbiguousError, NotFoundError with what can be done, AwsError if nothing was found and
    EC2 or S3 could not answer.
    """
    place = place_of(bucket)
    traces = list(of_one_queue(queue_id, recorded(queue_id, launches), place))
    looked = region or next((one.record.region for one in traces), None)
    trouble: AwsError | None = None
    try:
        traces += tagged(Ec2(looked), queue_id)
    except AwsError as error:
        trouble = error
    if not traces and (record := of_schedule(queue_id, looked)) is not None:
        traces.append(Trace(record, "a firing of a schedule"))
    found = [one for one in of_one_queue(queue_id, traces, place) if one.record.store]
    index: list[Trace] = []
    for name in _buckets(place, found):
        try:
            index += indexed(LaunchBucket(name, looked), queue_id)
        except AwsError as error:
            trouble = trouble or error
    found = [one for one in of_one_queue(queue_id, [*found, *index], place) if one.record.store]
    if not found:
        if trouble is not None:
            raise trouble
        raise NotFoundError(_not_found(queue_id, place))
    named = [one for one in index if one.record.launch and one.record.ref == found[0].record.ref]
    newest = max(named or found, key=lambda one: one.record.launch or "").record
    regions = [newest.region, *(one.record.region for one in found)]
    same = [one.record for one in found if one.record.launch == newest.launch]
    options_sha256 = next((each.options_sha256 for each in same if each.options_sha256), None)
    document = next((each.document for each in same if each.document), None)
    where = tuple(dict.fromkeys(regions))
    return QueueLocations(newest.ref, newest.launch or "", where, options_sha256, document)


def _buckets(place: QueuePlace | None, found: Sequence[Trace]) -> list[str]:
    given = [place.bucket] if place is not None else []
    return list(dict.fromkeys([*given, *(one.record.ref.bucket for one in found)]))


def _not_found(queue_id: str, place: QueuePlace | None) -> str:
    told = f"nothing is known of a launch of '{queue_id}': not here, not by a machine's tag"
    if place is not None:
        return f"{told}, and not in s3://{place.bucket}"
    return f"{told}\ngive --bucket BUCKET, where its results are, or --region, where it ran"
