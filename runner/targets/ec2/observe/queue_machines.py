"""Which machines have a queue, how that is known, and what of it is in doubt.

A machine has a queue if its tags, the index or a living lease say so, whichever queue it was
launched for. EC2's lists lag, an answer may be lost and a region be silent: what can't be seen is
told as a doubt, and never as "there is none". It ends and launches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from runner.aws.ec2 import Ec2, Machine
from runner.aws.errors import AwsError, ErrorKind
from runner.model.durations import format_duration
from runner.results.layout import Layout
from runner.results.lease import Held, parse_lease
from runner.results.store import Versioned
from runner.targets.ec2 import names
from runner.targets.ec2.account.regions import ask
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.index import Index, IndexEntry
from runner.targets.ec2.observe.machines import Owned, look
from runner.targets.ec2.queue_ref import QueueRef

RECENT = 180.0
"""Seconds in which a machine that was asked for may still come to be seen (EC2 API reference,
"Eventual consistency": so long are its examples' waits)."""


class Known(Enum):
    """How it is known that a machine has the queue."""

    TAG = "its tags say so"
    INDEX = "the bucket's index says so"
    LEASE = "it renews the queue's lease"


class Unsure(Enum):
    """What is in doubt. What is ``waitable`` ends with the queue's lease."""

    LAUNCHING = "a launch whose machine isn't known yet"
    UNSEEN = "a machine that EC2 doesn't show yet"
    HELD = "a lease whose holder EC2 doesn't know"
    SILENT = "a region that doesn't answer"

    @property
    def waitable(self) -> bool:
        """Whether it is over once nobody renews the lease any more."""
        return self in (Unsure.HELD, Unsure.SILENT)


@dataclass(frozen=True, slots=True)
class Holder:
    """A machine that lives, or may come to life (a spot request), and has the queue."""

    ec2: Ec2
    owned: Owned
    known: Known


@dataclass(frozen=True, slots=True)
class Doubt:
    """``why``: for people. ``instance_id``: the machine it is about, where one is named."""

    unsure: Unsure
    why: str
    instance_id: str | None = None


@dataclass(frozen=True, slots=True)
class QueueMachines:
    """``entry``: what the index has of the queue; who claims it claims it in its place."""

    holders: list[Holder]
    doubts: list[Doubt]
    entry: IndexEntry


@dataclass(frozen=True, slots=True)
class _Lease:
    """``alive``: it was renewed within the time that it is valid for, by S3's clock."""

    held: Held | None = None
    age: float = 0.0

    @property
    def alive(self) -> bool:
        held = self.held
        return held is not None and not held.released and self.age < held.valid_for


def machines_of(
    queue: QueueRef, bucket: LaunchBucket, regions: Sequence[Ec2], own_launch: str | None = None
) -> QueueMachines:
    """What there is of the queue in these regions, and in the one that the index names.

    ``own_launch``: the launch that the caller goes on with: it raises no doubt. Blocks; raises
    AwsError where S3 can't be asked.
    """
    entry = Index(bucket).read(queue)
    lease = _read_lease(bucket, queue)
    clients = _with_region(regions, entry)
    asked = ask(clients, lambda ec2: tagged(ec2, queue))
    holders = [Holder(ec2, one, Known.TAG) for ec2, found in asked.answers for one in found]
    doubts = [
        Doubt(Unsure.SILENT, f"EC2 in {region} can't say whether a machine has it: {why}")
        for region, why in asked.failed
    ]
    silent = {region for region, _ in asked.failed}
    answering = [ec2 for ec2 in clients if ec2.region not in silent]
    _add_indexed(entry, answering, holders, doubts, own_launch)
    _add_leased(lease, answering, holders, doubts)
    return QueueMachines(holders, doubts, entry)


def tagged(ec2: Ec2, queue: QueueRef, *, ended: bool = False) -> list[Owned]:
    """All of one region that was launched for the queue. Raises AwsError."""
    return [one for one in look(ec2, ended=ended, queue=queue.queue_id) if launched_for(one, queue)]


def launched_for(owned: Owned, queue: QueueRef) -> bool:
    """By its tags. One that doesn't say where its results go may be anybody's: it counts."""
    if owned.queue != queue.queue_id:
        return False
    return owned.tags.get(names.STORE, queue.store) == queue.store


def _read_lease(bucket: LaunchBucket, queue: QueueRef) -> _Lease:
    found = bucket.stored(queue.key(Layout.lease_key))
    if found is None:
        return _Lease()
    return _Lease(parse_lease(Versioned(found.data, found.etag)), found.age)


def _with_region(regions: Sequence[Ec2], entry: IndexEntry) -> list[Ec2]:
    found = {ec2.region: ec2 for ec2 in regions}
    if entry.record is not None and entry.record.region not in found:
        found[entry.record.region] = Ec2(entry.record.region)
    return list(found.values())


def _add_indexed(
    entry: IndexEntry,
    answering: Sequence[Ec2],
    holders: list[Holder],
    doubts: list[Doubt],
    own_launch: str | None,
) -> None:
    record = entry.record
    ago, left = (format_duration(round(each)) for each in (entry.age, RECENT - entry.age))
    if entry.unreadable and entry.age < RECENT:
        told = f"what the bucket's index has of the queue since {ago} can't be read"
        doubts.append(Doubt(Unsure.LAUNCHING, f"{told}; it counts for {left} more"))
    if record is None or entry.outcome:
        return
    if record.instance_id is None:
        if entry.age < RECENT and (own_launch is None or record.launch != own_launch):
            doubts.append(
                Doubt(
                    Unsure.LAUNCHING,
                    f"another launch of '{record.queue_id}' ({record.launch}) began {ago} "
                    "ago, and what came of it isn't known yet\nthe same command again, there and "
                    f"with its flags, goes on with it; any other: in {left}",
                )
            )
        return
    if _has(holders, record.instance_id):
        return
    ec2 = next((each for each in answering if each.region == record.region), None)
    if ec2 is None:
        return  # its region's silence is a doubt already
    machine = ec2.machine(record.instance_id)
    if machine is not None and not machine.gone:
        holders.append(Holder(ec2, _owned(ec2, machine), Known.INDEX))
    elif machine is None and entry.age < RECENT:
        doubts.append(
            Doubt(
                Unsure.UNSEEN,
                f"{record.instance_id} in {record.region} has '{record.queue_id}' since {ago}, and "
                f"EC2 doesn't show it yet: it is known in {left}",
                record.instance_id,
            )
        )


def _add_leased(
    lease: _Lease, answering: Sequence[Ec2], holders: list[Holder], doubts: list[Doubt]
) -> None:
    held = lease.held
    if held is None or not lease.alive or _has(holders, held.instance_id):
        return
    if held.instance_id is not None:
        for ec2 in answering:
            machine = _machine(ec2, held.instance_id)
            if machine is not None:
                if not machine.gone:
                    holders.append(Holder(ec2, _owned(ec2, machine), Known.LEASE))
                return
    ago, left = (format_duration(round(s)) for s in (lease.age, held.valid_for - lease.age))
    doubts.append(
        Doubt(
            Unsure.HELD,
            f"{held.who} works on it: it renewed the queue's lease {ago} ago, which is valid for "
            f"another {left}",
            held.instance_id,
        )
    )


def _machine(ec2: Ec2, instance_id: str) -> Machine | None:
    """None also for an id that no instance can have: a job can write the lease."""
    try:
        return ec2.machine(instance_id)
    except AwsError as error:
        if error.kind is not ErrorKind.INVALID:
            raise
        return None


def _owned(ec2: Ec2, machine: Machine) -> Owned:
    if not machine.spot and machine.spot_request is None:
        return Owned(ec2.region, machine)
    own = {"Name": "instance-id", "Values": [machine.instance_id]}
    requests = ec2.spot_requests(Filters=[own])
    return Owned(ec2.region, machine, requests[0] if requests else None)


def _has(holders: Iterable[Holder], instance_id: str | None) -> bool:
    return instance_id is not None and any(
        one.owned.machine is not None and one.owned.machine.instance_id == instance_id
        for one in holders
    )
