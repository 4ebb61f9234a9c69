"""What a user means by a target: an instance id, a spot request's, or the id of a queue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from runner.aws.ec2 import Ec2
from runner.aws.errors import AwsError, ErrorKind
from runner.errors import NotFoundError, RunnerError
from runner.targets.ec2 import names
from runner.targets.ec2.account.regions import RegionAnswer, ask
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.end.termination import NotOursError
from runner.targets.ec2.index import Index
from runner.targets.ec2.launch.local_launches import Launches
from runner.targets.ec2.launch_record import LaunchRecord
from runner.targets.ec2.observe.locate import (
    QueuePlace,
    Trace,
    indexed,
    of_one_queue,
    recorded,
    trace_of,
)
from runner.targets.ec2.observe.machines import Owned, look
from runner.targets.ec2.observe.queue_machines import launched_for, machines_of
from runner.targets.ec2.queue_ref import QueueRef, store_of

_INSTANCE = re.compile(r"i-[0-9a-f]{8,32}")
_REQUEST = re.compile(r"sir-[0-9a-z]{8,32}")


@dataclass(frozen=True, slots=True)
class ResolvedWord:
    """``found``: everything that the targets stand for, once each, also what has ended.

    ``queues``: those that were named by their ids. ``notes``: what couldn't be looked at besides
    regions, for people.
    """

    found: list[tuple[Ec2, Owned]]
    asked: RegionAnswer[list[Owned]]
    queues: list[QueueRef] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find(
    regions: Sequence[Ec2], targets: Sequence[str], place: QueuePlace | None, launches: Launches
) -> ResolvedWord:
    """Look for all of them. Nothing has been touched where it raises.

    NotOursError for an instance or a request without our tag, AmbiguousError for a queue_id that
    means several queues, NotFoundError for a target that nobody knows, RunnerError where not all
    regions have answered, or EC2 need not show its machine yet; UsageError.
    """
    asked = ask(regions, lambda ec2: _in_region(ec2, targets))
    everything = [(ec2, owned) for ec2, here in asked.answers for owned in here]
    found: dict[str, tuple[Ec2, Owned]] = {}
    queues: list[QueueRef] = []
    notes: list[str] = []
    for target in targets:
        if is_id(target):
            meant = [one for one in everything if target in _ids(one[1])]
            queue = _queue_of(target, launches)
        else:
            queue, meant = _of_queue(target, everything, regions, place, launches, notes)
            queues.append(queue)
        if not meant:
            if asked.failed:
                raise RunnerError(_not_found(target, asked))
            if queue is not None and (why := _in_doubt(queue, regions)):
                raise RunnerError("\n".join([*why, "nothing was ended; try again then"]))
            raise NotFoundError(_not_found(target, asked))
        found |= {owned.id: (ec2, owned) for ec2, owned in meant}
    return ResolvedWord(list(found.values()), asked, queues, notes)


def _queue_of(instance_id: str, launches: Launches) -> QueueRef | None:
    """What this computer has launched it for, or put onto it last."""
    records = launches.records_of(instance_id)
    return records[-1].ref if records else None


def _in_doubt(queue: QueueRef, regions: Sequence[Ec2]) -> list[str]:
    """Why it may have a machine that isn't to be seen now."""
    if not queue.store:
        return []
    try:
        found = machines_of(queue, LaunchBucket(queue.bucket, regions[0].region), regions)
    except AwsError as error:
        if error.code == "NoSuchBucket":
            return []
        return [f"what s3://{queue.bucket} knows of '{queue.queue_id}' can't be read: {error}"]
    return [doubt.why for doubt in found.doubts]


def is_id(target: str) -> bool:
    """Whether it names a machine or a spot request, and not a queue."""
    return bool(_INSTANCE.fullmatch(target) or _REQUEST.fullmatch(target))


def _ids(owned: Owned) -> tuple[str | None, str | None]:
    return owned.id, owned.request.request_id if owned.request is not None else None


def _of_queue(
    queue_id: str,
    everything: Sequence[tuple[Ec2, Owned]],
    regions: Sequence[Ec2],
    place: QueuePlace | None,
    launches: Launches,
    notes: list[str],
) -> tuple[QueueRef, list[tuple[Ec2, Owned]]]:
    """Which queue is meant; what was launched for it, and the machine that it was put onto."""
    tagged = [(ec2, owned) for ec2, owned in everything if owned.queue == queue_id]
    traces = [*recorded(queue_id, launches), *(_trace(owned) for _, owned in tagged)]
    if place is not None:
        traces += indexed(LaunchBucket(place.bucket, regions[0].region), queue_id)
    one = of_one_queue(queue_id, traces, place)
    record = next((each.record for each in one if each.record.store), None)
    if record is None:
        return QueueRef(queue_id, ""), [] if place is not None else tagged
    queue = record.ref
    meant = [(ec2, owned) for ec2, owned in tagged if launched_for(owned, queue)]
    return queue, meant + _put_onto(queue, [each.record for each in one], regions, meant, notes)


def _trace(owned: Owned) -> Trace:
    if owned.machine is not None:
        return trace_of(owned.machine)
    store = store_of(owned.tags.get(names.STORE))
    return Trace(LaunchRecord(str(owned.queue), store, owned.region), f"{owned.id}, {owned.state}")


def _put_onto(
    queue: QueueRef,
    known: Sequence[LaunchRecord],
    regions: Sequence[Ec2],
    meant: Sequence[tuple[Ec2, Owned]],
    notes: list[str],
) -> list[tuple[Ec2, Owned]]:
    """The machine that has the queue now by the index, if it was launched for another.

    Where the index can't be read, by this computer's record.
    """
    holder: LaunchRecord | None
    try:
        holder = Index(LaunchBucket(queue.bucket, regions[0].region)).read(queue).record
    except AwsError as error:
        notes.append(f"the index of s3://{queue.bucket} can't be read: {error}")
        holder = next((each for each in known if each.instance_id), None)
    if holder is None or holder.instance_id is None:
        return []
    if any(owned.id == holder.instance_id for _, owned in meant):
        return []
    ec2 = next((each for each in regions if each.region == holder.region), None)
    ec2 = ec2 or Ec2(holder.region)
    return [(ec2, owned) for owned in _instance(ec2, holder.instance_id)]


def _not_found(target: str, asked: RegionAnswer[list[Owned]]) -> str:
    where = ", ".join(ec2.region for ec2, _ in asked.answers) or "no region"
    told = f"nothing of '{target}' is known in {where}; --region all looks everywhere"
    return "\n".join(
        [told, *(f"{region} was not looked at: {why}" for region, why in asked.failed)]
    )


def _in_region(ec2: Ec2, targets: Sequence[str]) -> list[Owned]:
    found: list[Owned] = []
    for target in targets:
        if _INSTANCE.fullmatch(target):
            found += _instance(ec2, target)
        elif _REQUEST.fullmatch(target):
            found += _request(ec2, target)
        else:
            found += look(ec2, ended=True, queue=target)
    return found


def _instance(ec2: Ec2, instance_id: str) -> list[Owned]:
    machine = ec2.machine(instance_id)
    if machine is None:
        return []
    requests = ec2.spot_requests(Filters=[{"Name": "instance-id", "Values": [instance_id]}])
    owned = Owned(ec2.region, machine, requests[0] if requests else None)
    return [_ours(owned)]


def _request(ec2: Ec2, request_id: str) -> list[Owned]:
    try:
        requests = ec2.spot_requests(SpotInstanceRequestIds=[request_id])
    except AwsError as error:
        if error.kind is ErrorKind.MISSING:
            return []
        raise
    for request in requests:
        machine = ec2.machine(request.instance_id) if request.instance_id else None
        return [_ours(Owned(ec2.region, machine, request))]
    return []


def _ours(owned: Owned) -> Owned:
    if owned.queue is None:
        raise NotOursError(f"{owned.id} was not launched by runner: it has no tag {names.QUEUE}")
    return owned
