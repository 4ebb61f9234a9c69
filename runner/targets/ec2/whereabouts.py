"""What is known of a queue that was launched: where its results are, and what it was launched as.

Asked are this laptop's records, EC2's tags, and the index object in its bucket; the newest launch
counts, for another laptop may have resumed it since.
"""

from __future__ import annotations

from dataclasses import dataclass

from runner.aws.ec2 import Ec2
from runner.aws.faults import AwsError
from runner.errors import NotFoundError
from runner.results.stores import parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import Bucket
from runner.targets.ec2.launches import Launches
from runner.targets.ec2.records import Record, indexed


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """``store``: ``s3://bucket/prefix``. ``launch``: the newest one's word; "" if nobody knows.

    ``regions``: where it has, or may have, a machine, that of the newest launch first. ``recipe``:
    the sha256 of how the newest launch was asked for, as a record of it says that no job can write.
    """

    store: str
    launch: str
    regions: tuple[str, ...]
    recipe: str | None = None

    @property
    def bucket(self) -> str:
        return parse_s3(self.store)[0]


def locate(
    queue_id: str, region: str | None, bucket: str | None, launches: Launches
) -> Whereabouts:
    """Everything that can be found. Blocks. Raises NotFoundError with what can be done, AwsError
    if nothing was found and EC2 or S3 could not answer."""
    own = launches.record(queue_id)
    traces = [own] if own is not None and own.store else []
    looked = region or (traces[0].region if traces else None)
    trouble: AwsError | None = None
    try:
        traces += _tagged(Ec2(looked), queue_id)
    except AwsError as error:
        trouble = error
    buckets = [*([bucket] if bucket else []), *(parse_s3(trace.store)[0] for trace in traces)]
    for name in dict.fromkeys(buckets):
        try:
            found = indexed(Bucket(name, looked), queue_id)
        except AwsError as error:
            trouble = trouble or error
            continue
        if found is not None and found.store:
            traces.append(found)
    if not traces:
        if trouble is not None:
            raise trouble
        raise NotFoundError(_not_found(queue_id, bucket))
    newest = max(traces, key=lambda trace: trace.launch or "")
    regions = [newest.region, *(trace.region for trace in traces)]
    recipes = [trace.recipe for trace in traces if trace.launch == newest.launch and trace.recipe]
    return Whereabouts(
        newest.store, newest.launch or "", tuple(dict.fromkeys(regions)), next(iter(recipes), None)
    )


def _tagged(ec2: Ec2, queue_id: str) -> list[Record]:
    """What its machines' tags tell."""
    return [
        Record(
            queue_id,
            machine.tags[names.STORE],
            machine.region,
            machine.instance_id,
            machine.tags.get(names.LAUNCH),
        )
        for machine in ec2.machines({names.QUEUE: queue_id})
        if names.STORE in machine.tags
    ]


def _not_found(queue_id: str, bucket: str | None) -> str:
    told = f"nothing is known of a launch of '{queue_id}': not here, not by a machine's tag"
    if bucket is not None:
        return f"{told}, and not in s3://{bucket}"
    return f"{told}\ngive --bucket BUCKET, where its results are, or --region, where it ran"
