"""Which queues a machine has, and how each stands: what is lost, or disturbed, if it is ended.

Its tags know the first, the list in its bucket those that were put onto it from elsewhere, and the
machine itself all of them, also what was submitted on it. What can't be seen is told; a queue whose
state isn't known counts as unfinished. It ends nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from runner.aws.ec2 import Ec2
from runner.aws.errors import AwsError
from runner.aws.ssm import Ssm
from runner.aws.timeouts import together
from runner.errors import RunnerError
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.end.stored_work import stored_work
from runner.targets.ec2.launch.submitted_document import bucket_of
from runner.targets.ec2.observe.machines import Owned
from runner.targets.ec2.observe.ssm_requester import SsmRequester
from runner.targets.ec2.queue_ref import QueueRef

AT_ONCE = 16

PATIENCE = 45.0
"""Seconds for all that is asked of a machine and its bucket before its end."""

LISTED_PATIENCE = 2.0
"""Seconds for which a list of machines waits for their buckets."""

_ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class QueueThere:
    """One queue of a machine. ``status``: as the machine says, else as is stored, else "".

    ``about``: what is known of its work, for people.
    """

    queue: QueueRef
    status: str
    about: str

    @property
    def unfinished(self) -> bool:
        """Whether it has not ended, for all that is known."""
        return self.status not in _ENDED

    def __str__(self) -> str:
        return f"queue {self.queue.queue_id}: {self.status or 'state unknown'}; {self.about}"


@dataclass(frozen=True, slots=True)
class MachineQueues:
    """``doubts``: what may hide more of them, for people. ``lines``: what the list in its bucket
    had of them, ETags by key; None if it couldn't be read."""

    owned: Owned
    queues: list[QueueThere] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    lines: Mapping[str, str] | None = None

    def unfinished_but(self, named: Sequence[QueueRef]) -> list[QueueThere]:
        """Those that would be ended though nobody named them."""
        return [one for one in self.queues if one.unfinished and not _is_among(one.queue, named)]


def _is_among(queue: QueueRef, named: Sequence[QueueRef]) -> bool:
    """Where one store isn't known the id alone counts."""
    return any(
        one.queue_id == queue.queue_id
        and (one.store == queue.store or "" in (one.store, queue.store))
        for one in named
    )


def queues_of(targets: Sequence[tuple[Ec2, Owned]], now: float) -> list[MachineQueues]:
    """Of each machine, in the same order; some are asked at once. Blocks; raises nothing.

    ``now``: seconds since the epoch.
    """
    asked = [partial(_of_machine, ec2, owned, now) for ec2, owned in targets]
    answers: list[MachineQueues | Exception] = []
    for at in range(0, len(asked), AT_ONCE):
        answers += together(asked[at : at + AT_ONCE], PATIENCE)
    return [
        MachineQueues(owned, _first(owned), [f"its queues can't be told: {answer}"])
        if isinstance(answer, Exception)
        else answer
        for (_, owned), answer in zip(targets, answers, strict=True)
    ]


def _first(owned: Owned) -> list[QueueThere]:
    """What its tags say, if nothing else can be had."""
    if owned.queue is None:
        return []
    queue = QueueRef(owned.queue, owned.tags.get(names.STORE, ""))
    return [QueueThere(queue, "", "nothing is known of its state")]


def put_onto(
    found: Sequence[tuple[Ec2, Owned]], patience: float = LISTED_PATIENCE
) -> tuple[dict[str, list[str]], list[str]]:
    """The queue_ids that were put onto living machines, by instance id; and which bucket couldn't
    be asked. One list a bucket; blocks for ``patience`` seconds at most."""
    regions: dict[str, str] = {}
    for ec2, owned in found:
        bucket = bucket_of(owned.tags.get(names.STORE))
        if owned.alive and owned.machine is not None and bucket:
            regions.setdefault(bucket, ec2.region)
    lists = [partial(_keys, bucket, region) for bucket, region in regions.items()]
    known: dict[str, list[str]] = {}
    trouble: list[str] = []
    for bucket, answer in zip(regions, together(lists, patience), strict=True):
        if isinstance(answer, Exception):
            trouble.append(f"what was put onto machines of s3://{bucket} isn't shown: {answer}")
            continue
        for key in answer:
            instance_id, _, queue = key.removeprefix(names.MACHINES).partition("/")
            known.setdefault(instance_id, []).append(queue.partition("/")[0])
    return known, trouble


def _keys(bucket: str, region: str) -> list[str]:
    return LaunchBucket(bucket, region).keys(names.MACHINES)


def _of_machine(ec2: Ec2, owned: Owned, now: float) -> MachineQueues:
    doubts: list[str] = []
    found: list[QueueRef] = []
    if owned.queue is not None:
        found.append(QueueRef(owned.queue, owned.tags.get(names.STORE, "")))
    listed, lines = _listed(ec2, owned, doubts)
    found += listed
    alive = _asked(ec2, owned, doubts)
    found = list(dict.fromkeys(found))
    ids = Counter(queue.queue_id for queue in found)
    queues = [
        _there(queue, alive.get(queue.queue_id), now, alone=ids[queue.queue_id] == 1)
        for queue in (*found, *(QueueRef(queue_id, "") for queue_id in alive if not ids[queue_id]))
    ]
    return MachineQueues(owned, queues, doubts, lines)


def _listed(
    ec2: Ec2, owned: Owned, doubts: list[str]
) -> tuple[list[QueueRef], Mapping[str, str] | None]:
    """What was put onto it from elsewhere, as its bucket says; and the list itself."""
    bucket = bucket_of(owned.tags.get(names.STORE))
    if owned.machine is None or not bucket:
        return [], None
    listed: list[QueueRef] = []
    lines: Mapping[str, str] | None = None
    there = LaunchBucket(bucket, ec2.region)
    try:
        lines = there.etags(names.machine_folder(owned.machine.instance_id))
        for key in lines:
            if (line := there.stored(key)) is None:
                continue  # it was undone
            told = line.json
            if isinstance(told.get("queue_id"), str):
                listed.append(QueueRef(told["queue_id"], str(told.get("store") or "")))
            else:
                doubts.append("a document without queue_id is on its way to it")
    except AwsError as error:
        doubts.append(f"s3://{bucket} can't say which queues were put onto it: {error}")
        lines = None
    return listed, lines


def _asked(ec2: Ec2, owned: Owned, doubts: list[str]) -> Mapping[str, str]:
    """The status of each of its queues, as the machine itself says; empty if it can't be asked."""
    machine = owned.machine
    if machine is None or machine.state != "running":
        return {}
    try:
        answer: Mapping[str, Any] = SsmRequester(Ssm(ec2.region), machine.instance_id).ask("queues")
    except RunnerError as error:
        why = str(error).partition("\n")[0]
        doubts.append(f"it can't be asked for its queues ({why}): it may have more than these")
        return {}
    return {
        str(one["queue_id"]): str(one.get("status") or "")
        for one in answer["queues"]
        if "kept_as" not in one
    }


def _there(queue: QueueRef, alive: str | None, now: float, *, alone: bool) -> QueueThere:
    """``alive``: what the machine says of this id; ``alone``: whether no other queue has it."""
    if not queue.store:
        return QueueThere(queue, alive or "", "it stores nothing, as far as is known")
    work = stored_work(queue.store)
    if not alone and alive in _ENDED:
        alive = None  # it may be the other one that has ended
    status = work.status if alive is None else alive
    return QueueThere(queue, status, work.describe(now))
