"""Whether a queue may be launched: it has no machine, none may appear, and it has not ended.

The truth about machines is EC2's tags. The index object in the bucket only tells of a launch whose
machine can't be seen yet; who writes it first, launches.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime

from runner.aws.ec2 import ALIVE, Ec2, Machine
from runner.aws.faults import AwsError, Kind
from runner.errors import ConflictError, EndedElsewhereError
from runner.model.durations import format_duration
from runner.service.elsewhere import outcome
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import Bucket
from runner.targets.ec2.launches import Launch, Launches
from runner.targets.ec2.watching import Standing, StateOf

RECENT = 180.0
"""Seconds in which a machine that was asked for may still come to be seen (EC2 API reference,
"Eventual consistency": so long are its examples' waits)."""


class Ground:
    """What one queue_id stands on."""

    def __init__(self, ec2: Ec2, bucket: Bucket, launches: Launches) -> None:
        self._ec2 = ec2
        self._bucket = bucket
        self._launches = launches
        self._etag: str | None = None

    def check(
        self, queue_id: str, prefix: str, digest: str, *, mends: bool = False
    ) -> Standing | None:
        """How the queue stands in the bucket, if it was begun before.

        ``mends``: also where it has ended. Raises ConflictError, EndedElsewhereError.
        """
        index, self._etag = self._bucket.get_json(names.index_key(queue_id))
        machines = _alive(self._ec2, queue_id)
        elsewhere = index.get("region")
        if isinstance(elsewhere, str) and elsewhere != self._ec2.region:
            machines += _alive(Ec2(elsewhere), queue_id)
        if machines:
            raise ConflictError(_has_machine(queue_id, machines[0]))
        self._see_others(queue_id, index, digest)
        standing = StateOf(self._bucket, prefix).look()
        if standing is not None and standing.ended and not mends:
            told = _has_ended(queue_id, standing, f"{self._bucket.name}/{prefix}")
            code = outcome(standing.status, standing.incomplete)
            raise EndedElsewhereError(told, code, standing.status)
        return standing

    def _see_others(self, queue_id: str, index: Mapping[str, object], digest: str) -> None:
        """A launch from elsewhere, or with other flags, whose machine can't be seen yet."""
        since = time.time() - _seconds(index.get("launched_at"))
        if "instance_id" in index or index.get("outcome") or since >= RECENT:
            return
        own = self._launches.read(queue_id)
        if own is not None and own.launch == index.get("launch"):
            if not own.open or own.digest == digest:
                return
        raise ConflictError(
            f"another launch of '{queue_id}' ({index.get('launch')}) began "
            f"{format_duration(round(since))} ago, and what came of it isn't known yet\n"
            "the same command again, there and with its flags, goes on with it; any other: "
            f"in {format_duration(round(RECENT - since))}"
        )

    def claim(self, launch: Launch) -> None:
        """Say in the bucket that it is about to be launched. Raises ConflictError if somebody else
        has said so since ``check``, AwsError."""
        try:
            self._bucket.swap_json(
                names.index_key(launch.queue_id), launch.record.plain, self._etag
            )
        except AwsError as error:
            if error.kind is not Kind.CONFLICT:
                raise
            raise ConflictError(
                f"another launch of '{launch.queue_id}' has just begun elsewhere: nothing was "
                "launched here; see what it came to with: runner ls"
            ) from error


def _alive(ec2: Ec2, queue_id: str) -> list[Machine]:
    return ec2.machines({names.QUEUE: queue_id}, ALIVE)


def _has_machine(queue_id: str, machine: Machine) -> str:
    return (
        f"queue '{queue_id}' has a machine: {machine.instance_id} "
        f"({machine.instance_type}, {machine.state}, {machine.zone})\n"
        f"look at it with: runner-status {machine.instance_id}\n"
        "for another machine end that one first, or give the document another queue_id"
    )


def _has_ended(queue_id: str, standing: Standing, where: str) -> str:
    return (
        f"nothing was launched: queue '{queue_id}' has {_ENDED[standing.status]}: s3://{where} has "
        "its results, and a machine would find nothing to do\n"
        f"fetch them with: runner results {queue_id}\n"
        "--retry-failed runs again what failed; another queue_id makes another queue"
    )


_ENDED = {"completed": "completed", "failed": "failed", "cancelled": "been cancelled"}


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
