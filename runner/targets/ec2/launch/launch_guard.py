"""Whether a queue may be launched, and the claim on it, for as long as it isn't launched.

A claim is believed for a while only, by S3's clock (see RECENT), for who made it may be dead. So it
is renewed before each request to EC2 that comes late: this computer may have slept meanwhile, and
another have launched the queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from runner.aws.ec2 import Ec2, Machine
from runner.errors import ConflictError, EndedElsewhereError
from runner.service.known_elsewhere import outcome
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.index import ClaimedError, Index, IndexEntry
from runner.targets.ec2.launch.local_launches import Launch, Launches
from runner.targets.ec2.observe.queue_machines import RECENT, Holder, QueueMachines, machines_of
from runner.targets.ec2.observe.queue_standing import QueueStanding, StateOf
from runner.targets.ec2.queue_ref import QueueRef

RENEWED = RECENT / 3
"""Seconds for which a claim isn't looked at again: well within the time that others believe it."""

TRIES = 3
"""Of renewing it, where each comes too late."""


def uptime() -> float:
    """Seconds by a clock that goes on while the computer sleeps (on a Mac the monotonic one)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class LaunchGuard:
    """What one queue stands on. ``clock`` in seconds, also while the computer sleeps."""

    def __init__(
        self,
        ec2: Ec2,
        bucket: LaunchBucket,
        launches: Launches,
        clock: Callable[[], float] = uptime,
    ) -> None:
        self._ec2 = ec2
        self._bucket = bucket
        self._index = Index(bucket)
        self._launches = launches
        self._clock = clock
        self._entry = IndexEntry()
        self._launch: Launch | None = None
        self._renewed = 0.0

    def machines(self, queue: QueueRef, digest: str, regions: Sequence[Ec2] = ()) -> QueueMachines:
        """Which machines have it, with what may become of the caller's own cut-off launch left
        out. Raises AwsError."""
        own = self._launches.read(queue)
        goes_on = own is not None and (not own.open or own.digest == digest)
        return machines_of(
            queue,
            self._bucket,
            [self._ec2, *regions],
            own.launch if own is not None and goes_on else None,
        )

    def check(
        self, queue: QueueRef, digest: str, *, mends: bool = False, waited: bool = False
    ) -> QueueStanding | None:
        """How the queue stands in the bucket, if it was begun before.

        ``mends``: also where it has ended. ``waited``: its lease was waited for, so that what that
        settles is no doubt any more. Raises ConflictError, EndedElsewhereError, AwsError.
        """
        found = self.machines(queue, digest)
        if found.holders:
            raise ConflictError(has_machine(queue, found.holders[0]))
        for doubt in found.doubts:
            if not (waited and doubt.unsure.waitable):
                raise ConflictError(f"{doubt.why}\nnothing was launched")
        self._entry = found.entry
        standing = StateOf(self._bucket, queue.prefix).look()
        if standing is not None and standing.ended and not mends:
            told = _has_ended(queue, standing)
            code = outcome(standing.status, standing.incomplete)
            raise EndedElsewhereError(told, code, standing.status)
        return standing

    # -- the claim ---------------------------------------------------------------------------

    def claim(self, launch: Launch) -> None:
        """Say in the bucket that it is about to be launched. Raises ConflictError if somebody else
        has said so since ``check``, AwsError."""
        try:
            self._write(launch)
        except ClaimedError as error:
            raise ConflictError(
                f"another launch of '{launch.queue_id}' has just begun elsewhere "
                f"({error.by.claim}): nothing was launched here\n"
                "see what it came to with: runner ls"
            ) from error

    def take_up(self, launch: Launch) -> bool:
        """Whether the claim of a launch that was cut off still stands; it is renewed then. Raises
        AwsError."""
        self._entry = self._index.read(launch.ref)
        if self._entry.claim != launch.launch:
            return False
        try:
            self._write(launch)
        except ClaimedError:
            return False
        return True

    def renew(self) -> None:
        """See that the claim stands, if it was seen some time ago. Before each request to EC2.

        Raises ConflictError if another has the queue now, AwsError.
        """
        for _ in range(TRIES):
            if not self._late:
                return
            assert self._launch is not None
            try:
                self._write(self._launch)
            except ClaimedError as error:
                raise ConflictError(
                    f"this computer was away for a while, and another launch has "
                    f"'{self._launch.queue_id}' now ({error.by.claim}): it is not launched here"
                ) from error
        if self._late:
            raise ConflictError(
                "the queue's claim can't be renewed in time: S3 answers too late, or this computer "
                "sleeps again and again\nnothing more was asked for; the same command again goes on"
            )

    @property
    def _late(self) -> bool:
        """Whether the claim may be believed no more by the time that EC2 is asked."""
        return self._launch is not None and self._clock() - self._renewed >= RENEWED

    def settle(self, launch: Launch, nothing: str = "") -> None:
        """Say what came of it: its machine, or ``nothing`` and why. Raises ClaimedError if another
        has claimed the queue meanwhile, AwsError."""
        if self._launch is None:
            self._entry = self._index.read(launch.ref)
            if self._entry.claim not in ("", launch.launch):
                raise ClaimedError(f"{launch.ref} is claimed by another", self._entry)
        self._write(launch, **({"outcome": nothing} if nothing else {}))

    def _write(self, launch: Launch, **more: str) -> None:
        began = self._clock()  # this computer may sleep before the answer comes
        self._entry = self._index.claim(launch.record, launch.launch, self._entry, **more)
        self._renewed = began
        self._launch = launch


def has_machine(queue: QueueRef, holder: Holder) -> str:
    """For people: which machine, how that is known, and what to do."""
    owned = holder.owned
    machine = owned.machine
    about = [owned.instance_type, owned.state, machine.zone if machine is not None else ""]
    told = (
        f"queue '{queue.queue_id}' has a machine: {owned.id} ({', '.join(filter(None, about))}; "
        f"{holder.known.value})\n"
    )
    if machine is None:
        return f"{told}EC2 may launch it at any time; end the request: runner terminate {owned.id}"
    return told + _what_to_do(machine)


def _what_to_do(machine: Machine) -> str:
    return (
        f"look at it with: runner-status {machine.instance_id}\n"
        "for another machine end that one first, or give the document another queue_id"
    )


def _has_ended(queue: QueueRef, standing: QueueStanding) -> str:
    return (
        f"nothing was launched: queue '{queue.queue_id}' has {_ENDED[standing.status]}: "
        f"{queue.store} has its results, and a machine would find nothing to do\n"
        f"fetch them with: runner results {queue.queue_id}\n"
        "--retry-failed runs again what failed; another queue_id makes another queue"
    )


_ENDED = {"completed": "completed", "failed": "failed", "cancelled": "been cancelled"}
