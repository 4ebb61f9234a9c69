"""The end of a machine of ours: first its spot request, or EC2 launches another; then itself.

Every verb that ends a machine does it here. Owns the order, and when it is believed. Repeating it
changes nothing. Terminating an instance of a persistent request opens the request again (EC2 User
Guide, "Terminate a Spot Instance").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from runner.aws.ec2 import Ec2, SpotRequest
from runner.aws.errors import AwsError, ErrorKind
from runner.errors import ConflictError, RunnerError, UsageError
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.end.end_marker import Agreed, EndGuard
from runner.targets.ec2.launch.launch_guard import uptime
from runner.targets.ec2.launch.submitted_document import bucket_of
from runner.targets.ec2.observe.machines import Owned

CONFIRMED_WITHIN = 90.0
"""Seconds until an end that EC2 has accepted is to be seen in its records."""

FIRST_LOOK = 0.5
LAST_LOOK = 4.0
"""Seconds between two looks."""

AT_ONCE = 8


class NotEndedError(RunnerError):
    """EC2 did not end a machine, or doesn't say so. It may still cost money."""


class NotOursError(UsageError):
    """An instance without our tag is never touched."""


@dataclass(slots=True)
class EndedMachine:
    """What was done about one target. ``done`` names what was ended, in order.

    ``error``: why it wasn't ended; ``refused``: for what is on it. ``notes``: for people.
    """

    owned: Owned
    done: list[str] = field(default_factory=list)
    error: str | None = None
    refused: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EndWait:
    """How a wait passes its time; replaced in tests. ``uptime``: also while the computer sleeps."""

    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    uptime: Callable[[], float] = uptime
    patience: float = CONFIRMED_WITHIN


def end(ec2: Ec2, owned: Owned, agreed: Agreed, waiting: EndWait | None = None) -> EndedMachine:
    """End it, and see that it is so. Blocks up to a minute and a half or so; raises nothing.

    A request that can't be cancelled keeps its machine: the next one would cost as much. So does a
    queue that isn't ``agreed``.
    """
    waiting = waiting or EndWait()
    ended = EndedMachine(owned)
    guards = _Guards(ec2.region, agreed, ended, waiting)
    try:
        if owned.machine is not None:
            guards.check(owned.machine.instance_id)  # before its request is gone
        machines = _cancel(ec2, owned, ended, waiting)
        for instance_id in machines:
            _terminate(ec2, instance_id, guards, ended)
        for instance_id in machines:
            _confirm(ec2, instance_id, waiting)
            guards.clear(instance_id)
    except RunnerError as error:
        ended.error = str(error)
        ended.refused = isinstance(error, ConflictError)
    guards.withdraw()
    return ended


class _Guards:
    """Of all machines that end with one target: EC2 may launch another for its request."""

    def __init__(self, region: str, agreed: Agreed, ended: EndedMachine, waiting: EndWait) -> None:
        name = bucket_of(ended.owned.tags.get(names.STORE))
        self._bucket = LaunchBucket(name, region) if name else None
        self._agreed = agreed
        self._say = ended.notes.append
        self._waiting = waiting
        self._open: dict[str, EndGuard] = {}
        self._kept: dict[str, EndGuard] = {}

    def check(self, instance_id: str) -> None:
        """See EndGuard.check. A machine without a store has no list that anything is put into."""
        if self._bucket is None:
            return
        if instance_id not in self._open:
            self._open[instance_id] = EndGuard(
                self._bucket, instance_id, self._agreed, self._say, self._waiting.uptime
            )
        self._open[instance_id].check()

    def keep(self, instance_id: str) -> None:
        """EC2 has been asked for its end: the marker stays until the end is seen."""
        if instance_id in self._open:
            self._kept[instance_id] = self._open.pop(instance_id)

    def clear(self, instance_id: str) -> None:
        """It has ended."""
        self.keep(instance_id)
        if instance_id in self._kept:
            self._kept.pop(instance_id).clear()

    def withdraw(self) -> None:
        """Those of which EC2 wasn't asked for an end are not about to be ended."""
        for guard in self._open.values():
            guard.withdraw()


def _cancel(ec2: Ec2, owned: Owned, ended: EndedMachine, waiting: EndWait) -> list[str]:
    """Cancel its request, if any; the instances that are to be ended then."""
    own = [owned.machine.instance_id] if owned.machine is not None else []
    found = requests_of(ec2, owned)
    alive = [request.request_id for request in found if request.alive]
    if alive:
        try:
            ec2.cancel_spot(alive)
        except AwsError as error:
            if error.kind is not ErrorKind.MISSING:
                raise NotEndedError(
                    f"its spot request {alive[0]} can't be cancelled, so it was left alone: {error}"
                ) from error
        found += _cancelled(ec2, alive, waiting)
        ended.done += alive
    # EC2 may have launched one while the request was cancelled.
    launched = [request.instance_id for request in found if request.instance_id]
    return list(dict.fromkeys(own + launched))


def requests_of(ec2: Ec2, owned: Owned) -> list[SpotRequest]:
    """Its spot requests as EC2 has them now, also one that lost its tags. Raises AwsError."""
    found = {}
    if owned.request is not None:
        found[owned.request.request_id] = owned.request
    machine = owned.machine
    if machine is not None and (machine.spot or machine.spot_request):
        own = {"Name": "instance-id", "Values": [machine.instance_id]}
        for request in ec2.spot_requests(Filters=[own]):
            found[request.request_id] = request
        named = machine.spot_request
        if named is not None and named not in found:
            found |= {request.request_id: request for request in _by_id(ec2, [named])}
    return list(found.values())


def _by_id(ec2: Ec2, ids: list[str]) -> list[SpotRequest]:
    try:
        return ec2.spot_requests(SpotInstanceRequestIds=ids)
    except AwsError as error:
        if error.kind is ErrorKind.MISSING:
            return []
        raise


def _cancelled(ec2: Ec2, ids: list[str], waiting: EndWait) -> list[SpotRequest]:
    """The requests once none of them launches anything more. Raises NotEndedError."""
    for _ in _looks(waiting):
        found = _by_id(ec2, ids)
        if not any(request.alive for request in found):
            return found
    raise NotEndedError(f"spot request {ids[0]} was cancelled, but EC2 still shows it as alive")


def _terminate(ec2: Ec2, instance_id: str, guards: _Guards, ended: EndedMachine) -> None:
    machine = ec2.machine(instance_id)
    if machine is None or machine.gone:
        return
    guards.check(instance_id)
    try:
        ec2.terminate(instance_id)
    except AwsError as error:
        if error.kind is ErrorKind.PASSING:
            guards.keep(instance_id)  # it may have been accepted
        if error.kind is not ErrorKind.MISSING:
            raise
    guards.keep(instance_id)
    ended.done.append(instance_id)


def _confirm(ec2: Ec2, instance_id: str, waiting: EndWait) -> None:
    state = "running"
    for _ in _looks(waiting):
        machine = ec2.machine(instance_id)
        if machine is None or machine.gone:
            return
        state = machine.state
    raise NotEndedError(f"{instance_id}: EC2 accepted its end, but shows it as {state}")


def _looks(waiting: EndWait) -> Iterator[None]:
    """One turn a look, further and further apart, until the patience is over."""
    until = waiting.clock() + waiting.patience
    pause = FIRST_LOOK
    while True:
        yield
        if waiting.clock() + pause > until:
            return
        waiting.sleep(pause)
        pause = min(LAST_LOOK, 1.5 * pause)


def end_all(
    targets: Sequence[tuple[Ec2, Owned, Agreed]], waiting: EndWait | None = None
) -> list[EndedMachine]:
    """End all of them, some at once; one that can't be ended keeps none of the others."""
    if not targets:
        return []
    with ThreadPoolExecutor(min(AT_ONCE, len(targets))) as pool:
        return list(pool.map(lambda one: end(one[0], one[1], one[2], waiting), targets))
