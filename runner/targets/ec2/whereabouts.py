"""What is known of a queue that was launched: where its results are, and what it was launched as.

Asked are this laptop's records, EC2's tags, and the index object in its bucket; the newest launch
counts, for another laptop may have resumed it since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runner.aws.ec2 import Ec2
from runner.aws.faults import AwsError
from runner.errors import NotFoundError
from runner.results.stores import parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import Bucket
from runner.targets.ec2.launches import Launches


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """``store``: ``s3://bucket/prefix``. ``launch``: the newest one's word; "" if nobody knows.

    ``regions``: where it has, or may have, a machine, that of the newest launch first.
    """

    store: str
    launch: str
    regions: tuple[str, ...]

    @property
    def bucket(self) -> str:
        return parse_s3(self.store)[0]


@dataclass(frozen=True, slots=True)
class _Trace:
    store: str
    launch: str
    region: str


def locate(
    queue_id: str, region: str | None, bucket: str | None, launches: Launches
) -> Whereabouts:
    """Everything that can be found. Blocks. Raises NotFoundError with what can be done, AwsError
    if nothing was found and EC2 or S3 could not answer."""
    traces = list(_of_laptop(queue_id, launches))
    looked = region or (traces[0].region if traces else None)
    trouble: AwsError | None = None
    try:
        traces += _of_tags(Ec2(looked), queue_id)
    except AwsError as error:
        trouble = error
    buckets = [*([bucket] if bucket else []), *(parse_s3(trace.store)[0] for trace in traces)]
    for name in dict.fromkeys(buckets):
        try:
            traces += _of_index(Bucket(name, looked), queue_id)
        except AwsError as error:
            trouble = trouble or error
    if not traces:
        if trouble is not None:
            raise trouble
        raise NotFoundError(_not_found(queue_id, bucket))
    newest = max(traces, key=lambda trace: trace.launch)
    regions = [newest.region, *(trace.region for trace in traces)]
    return Whereabouts(newest.store, newest.launch, tuple(dict.fromkeys(regions)))


def _of_laptop(queue_id: str, launches: Launches) -> Iterable[_Trace]:
    if (launch := launches.read(queue_id)) is not None:
        yield _Trace(launch.store, launch.launch, launch.region)


def _of_tags(ec2: Ec2, queue_id: str) -> list[_Trace]:
    return [
        _Trace(machine.tags[names.STORE], machine.tags.get(names.LAUNCH, ""), machine.region)
        for machine in ec2.machines({names.QUEUE: queue_id})
        if names.STORE in machine.tags
    ]


def _of_index(bucket: Bucket, queue_id: str) -> list[_Trace]:
    told, _ = bucket.get_json(names.index_key(queue_id))
    store, region, launch = told.get("store"), told.get("region"), told.get("launch")
    if not isinstance(store, str) or not isinstance(region, str):
        return []
    return [_Trace(store, str(launch or ""), region)]


def _not_found(queue_id: str, bucket: str | None) -> str:
    told = f"nothing is known of a launch of '{queue_id}': not here, not by a machine's tag"
    if bucket is not None:
        return f"{told}, and not in s3://{bucket}"
    return f"{told}\ngive --bucket BUCKET, where its results are, or --region, where it ran"
