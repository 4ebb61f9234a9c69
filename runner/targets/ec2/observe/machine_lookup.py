"""Which machine a word means, which queue it works on, and where its results are.

The word is an instance's id, or a queue's. Asked are, in this order: EC2's tags, this computer's
record of its launches, and the index in a bucket, if one is named.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from runner.aws.ec2 import Ec2, Machine
from runner.aws.errors import AwsError, ErrorKind
from runner.aws.timeouts import PATIENCE, within
from runner.errors import NotFoundError, UsageError
from runner.model.messages import quoted
from runner.results.stores import parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.launch.local_launches import Launches
from runner.targets.ec2.launch_record import LaunchRecord
from runner.targets.ec2.names import is_instance
from runner.targets.ec2.observe.locate import (
    Trace,
    indexed,
    of_one_queue,
    place_of,
    recorded,
    tagged,
)
from runner.targets.ec2.observe.of_schedule import of_schedule
from runner.targets.ec2.observe.queue_machines import RECENT
from runner.targets.ec2.queue_ref import is_queue_id


@dataclass(frozen=True, slots=True)
class Target:
    """What is looked for, and where: the flags of a verb. Raises UsageError for no such word."""

    word: str
    region: str | None = None
    bucket: str | None = None

    def __post_init__(self) -> None:
        if self.word.startswith("i-") and not is_instance(self.word):
            raise UsageError(f"{quoted(self.word)}: an instance's id is i- and 17 hex digits")
        if not is_queue_id(self.word):
            raise UsageError(f"{quoted(self.word)} is no instance's id, and no queue's")

    @property
    def queue_id(self) -> str | None:
        """The queue, if it is one that was named."""
        return None if is_instance(self.word) else self.word


@dataclass(frozen=True, slots=True)
class ResolvedTarget:
    """What is known. ``machine``: None if EC2 doesn't know one, or couldn't be asked (``trouble``).

    ``store``: ``s3://bucket/prefix`` of the queue; ``launched``: of its first start, seconds since
    the epoch, if that is known.
    """

    target: Target
    region: str
    machine: Machine | None = None
    instance_id: str | None = None
    queue_id: str | None = None
    store: str | None = None
    launch: str | None = None
    launched: float | None = None
    trouble: AwsError | None = None

    def unseen(self, now: float) -> bool:
        """Whether it was launched so lately that EC2 need not show it yet."""
        asked = self.machine is None and self.trouble is None and self.launched is not None
        return asked and now - (self.launched or 0.0) < RECENT

    @property
    def may_run(self) -> bool:
        """Whether it is worth asking, though who asks may not ask EC2: only SSM."""
        denied = self.trouble is not None and self.trouble.kind is ErrorKind.DENIED
        return denied and self.machine is None and self.instance_id is not None


def remembered(target: Target) -> LaunchRecord | None:
    """This computer's own record; costs no call. None also where it has several queues of the id:
    ``find`` tells."""
    launches = Launches.of_user(os.environ)
    if target.queue_id is None:
        return next(reversed(launches.records_of(target.word)), None)
    place = place_of(target.bucket)
    found = [
        one.record
        for one in recorded(target.queue_id, launches)
        if place is None or place.has(one.record.store)
    ]
    return found[0] if len(found) == 1 else None


def find(target: Target, record: LaunchRecord | None) -> ResolvedTarget:
    """What EC2, the record and the index say. Raises NotFoundError with what can be done,
    AmbiguousError, UsageError without a region, AwsError if EC2 can't be asked and nothing else is
    known."""
    ec2 = Ec2(target.region or (record.region if record else None))
    if target.queue_id is not None:
        of_one_queue(target.queue_id, _recorded(target.queue_id), place_of(target.bucket))
    trouble: AwsError | None = None
    machine: Machine | None = None
    try:
        _ = ec2.client  # what boto3 loads for it is none of EC2's silence
        machine = within(PATIENCE, lambda: _machine(ec2, target, record))
    except AwsError as error:
        if error.code == "NoRegionError":
            raise UsageError("in which region? --region R, or AWS_REGION") from None
        trouble = error
    if machine is None and record is None and (record := _indexed(target, ec2.region)) is not None:
        ec2 = Ec2(record.region)
        machine = _by_id(ec2, record)
    if machine is None and record is None and target.queue_id is not None:
        record = of_schedule(target.queue_id, target.region)
    if machine is None and record is None:
        if trouble is not None:
            raise trouble
        raise NotFoundError(_not_found(ec2.region, target))
    return _joined(ec2, target, record, machine, trouble)


def _recorded(queue_id: str) -> list[Trace]:
    return recorded(queue_id, Launches.of_user(os.environ))


def _machine(ec2: Ec2, target: Target, record: LaunchRecord | None) -> Machine | None:
    if target.queue_id is None:
        return ec2.machine(target.word)
    traces = [*_recorded(target.queue_id), *tagged(ec2, target.queue_id)]
    meant = of_one_queue(target.queue_id, traces, place_of(target.bucket))
    newest = chosen([one.machine for one in meant if one.machine is not None])
    if record is None or record.instance_id is None:
        return newest
    if newest is not None and (newest.instance_id == record.instance_id or not newest.gone):
        return newest
    # Submitted to a machine that was launched for another queue: its tags don't tell.
    return ec2.machine(record.instance_id) or newest


def _by_id(ec2: Ec2, record: LaunchRecord) -> Machine | None:
    """The machine that the index names, as far as EC2 tells."""
    if record.instance_id is None:
        return None
    with suppress(AwsError):
        return ec2.machine(record.instance_id)
    return None


def chosen(machines: Sequence[Machine]) -> Machine | None:
    """Of all that a queue has had: the newest that is alive, else the newest."""
    alive = [machine for machine in machines if not machine.gone]
    return max(alive or machines, key=lambda machine: machine.launched, default=None)


def successor(found: ResolvedTarget) -> ResolvedTarget | None:
    """The machine that has the queue now that this one has ended: by EC2's tags in its region, by
    this computer's record and by the index in the queue's bucket; None as long as there is none.

    Blocks; raises AwsError.
    """
    if found.queue_id is None or found.machine is None or not found.machine.gone:
        return None
    traces = [*tagged(Ec2(found.region), found.queue_id), *_recorded(found.queue_id)]
    if found.store:
        traces += indexed(LaunchBucket(parse_s3(found.store)[0], found.region), found.queue_id)
    alive: list[tuple[Machine, LaunchRecord]] = []
    for trace in traces:
        if trace.record.store == (found.store or ""):
            machine = trace.machine or _by_id(Ec2(trace.record.region), trace.record)
            if machine is not None and not machine.gone:
                alive.append((machine, trace.record))
    if not alive:
        return None
    machine, record = max(alive, key=lambda one: one[0].launched)
    target = Target(found.queue_id, region=machine.region)
    return _joined(Ec2(machine.region), target, record, machine, None)


def _indexed(target: Target, region: str) -> LaunchRecord | None:
    """What launch left in the bucket: only by the queue's id. Raises AmbiguousError."""
    place = place_of(target.bucket)
    if place is None or target.queue_id is None:
        return None
    found = of_one_queue(
        target.queue_id, indexed(LaunchBucket(place.bucket, region), target.queue_id), place
    )
    return found[0].record if found else None


def _joined(
    ec2: Ec2,
    target: Target,
    record: LaunchRecord | None,
    machine: Machine | None,
    trouble: AwsError | None,
) -> ResolvedTarget:
    tags = names.machine_tags(machine.tags) if machine is not None else {}
    # The tag is about the machine's first queue; a record may be about a later one.
    queue_id = target.queue_id or (record.queue_id if record else None) or tags.get(names.QUEUE)
    store = tags.get(names.STORE) if tags.get(names.QUEUE) == queue_id else None
    if store is None and record is not None and record.queue_id == queue_id:
        store = record.store
    same = record is not None and (machine is None or record.instance_id == machine.instance_id)
    return ResolvedTarget(
        target=target,
        region=ec2.region,
        machine=machine,
        instance_id=machine.instance_id if machine else (record.instance_id if record else None),
        queue_id=queue_id,
        store=store,
        launch=tags.get(names.LAUNCH) or (record.launch if record else None),
        launched=record.launched_at if record is not None and same else None,
        trouble=trouble,
    )


def _not_found(region: str, target: Target) -> str:
    word = target.word
    if target.queue_id is None:
        return (
            f"EC2 in {region} knows no instance {word}: is it in another region (--region R) or "
            "account (AWS_PROFILE)?\n"
            "an instance is forgotten about an hour after its end: ask by the queue's id then"
        )
    looked = [f"no instance in {region} has the tag {names.QUEUE}={word}",
              f"{Launches.of_user(os.environ).folder} has no record of it"]  # fmt: skip
    if target.bucket is not None:
        looked.append(f"the index of {target.bucket} has nothing of it")
    more = "" if target.bucket else " or --bucket B, where its results are"
    return (
        f"nothing is known of a queue '{word}': {'; '.join(looked)}\n"
        f"is it in another region or account? --region R, AWS_PROFILE,{more or ' another --bucket'}"
    )


def is_login_trouble(error: AwsError) -> bool:
    """Whether new credentials would help."""
    return error.kind in (ErrorKind.EXPIRED, ErrorKind.NO_CREDENTIALS)
