"""The marker in a machine's bucket that says that the machine is about to be ended.

Owns the order between an end and a queue that is put onto the machine at the same time. Whoever
ends it writes a marker, then lists what was put onto it, then terminates; whoever puts a queue onto
it writes the queue's line in that list, then looks for markers, then hands the queue over. S3 shows
each write to every later read ("Amazon S3 data consistency model"), so at least one of the two sees
the other, and gives way.

A marker is believed for a while only, by S3's clock, for the process that wrote it may be dead. So
it is renewed, and the list read again, if the end comes late: this computer may have slept.
"""

from __future__ import annotations

import os
import pwd
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from runner.aws.errors import AwsError, ErrorKind
from runner.aws.timeouts import within
from runner.errors import ConflictError, RunnerError
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.observe.queue_machines import RECENT
from runner.targets.ec2.queue_ref import QueueRef

VALID = RECENT
"""Seconds for which a marker is believed."""

RENEWED = VALID / 3
"""Seconds after which it is written again before an end."""

TRIES = 3
"""Of writing it, where each comes too late."""

PATIENCE = 20.0
"""Seconds for the bucket's answers: a machine that costs money is not kept by a silent bucket."""

Say = Callable[[str], None]


class UnmarkedError(RunnerError):
    """The bucket can't be told that a machine is about to be ended, and others may use it."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a person has agreed to end with a machine.

    ``whole``: whatever is on it, for the machine itself was named, or is overdue. ``named``: the
    queues that were named else. ``others``: any other queue too (``--end-others``). ``lines``: the
    list of what was put onto it as it was looked at, ETags by key; None if it wasn't.
    """

    whole: bool = False
    named: Sequence[QueueRef] = ()
    others: bool = False
    lines: Mapping[str, str] | None = None

    def unagreed(self, instance_id: str, lines: Mapping[str, str]) -> list[str]:
        """The queues (by queue_id, "-" without one) that were put onto it since, and which nobody
        has named."""
        before = self.lines or {}
        folder = names.machine_folder(instance_id)
        new = [key for key, etag in lines.items() if before.get(key) != etag]
        own = {names.machine_line(instance_id, each.queue_id, each.store) for each in self.named}
        # Of a queue whose store isn't known the id alone counts.
        own_ids = {each.queue_id for each in self.named if not each.store}
        ids = {key: key.removeprefix(folder).partition("/")[0] for key in new}
        return [queue for key, queue in ids.items() if key not in own and queue not in own_ids]


@dataclass(frozen=True, slots=True)
class Marker:
    """Somebody's. ``by``: who ends the machine; ``age``: seconds since it was written."""

    by: str
    age: float


def markers(bucket: LaunchBucket, instance_id: str) -> list[Marker]:
    """Those that are to be believed. Blocks; raises AwsError."""
    found = [bucket.stored(key) for key in bucket.keys(names.ending_folder(instance_id))]
    return [
        Marker(str(each.json.get("by") or "unknown"), each.age)
        for each in found
        if each is not None and each.age < VALID
    ]


class EndGuard:
    """Sees that one machine may be ended, right before it is. ``clock`` in seconds, also while the
    computer sleeps; ``say`` is told what can't be seen."""

    def __init__(
        self,
        bucket: LaunchBucket,
        instance_id: str,
        agreed: Agreed,
        say: Say,
        clock: Callable[[], float],
    ) -> None:
        self._bucket = bucket
        self._machine = instance_id
        self._agreed = agreed
        self._say = say
        self._clock = clock
        # Its own object: of two that end the machine neither takes the other's away.
        self._key = f"{names.ending_folder(instance_id)}{secrets.token_hex(16)}.json"
        self._looked: float | None = None
        self._written = False

    @property
    def _late(self) -> bool:
        return self._looked is None or self._clock() - self._looked >= RENEWED

    def check(self) -> None:
        """Mark the machine, and see what is on it; nothing if that was done a moment ago.

        Raises ConflictError for a queue that nobody has agreed to end, UnmarkedError.
        """
        for _ in range(TRIES):
            if not self._late:
                return
            self._mark_and_look()
        if self._late:
            raise UnmarkedError(
                f"s3://{self._bucket.name} answers too late, or this computer sleeps again and "
                f"again: {self._machine} is left alone; the same command again goes on"
            )

    def _mark_and_look(self) -> None:
        began = self._clock()  # this computer may sleep before the answer comes
        try:
            lines = within(PATIENCE, self._marked)
        except AwsError as error:
            self._unmarked(error)
            lines = {}
        found = self._agreed.unagreed(self._machine, lines)
        told = " and ".join(_queue(each) for each in found)
        if found and self._agreed.whole and self._agreed.lines is None:
            self._say(f"{self._machine} has {told} too, and is ended with it")
        elif found and not self._agreed.others:
            raise ConflictError(
                f"{self._machine} has {told} too, put onto it meanwhile\n"
                "the same command again tells how it stands"
            )
        self._looked = began

    def _marked(self) -> dict[str, str]:
        self._written = True
        self._bucket.put_json(self._key, {"version": 1, "by": who()})
        return self._bucket.etags(names.machine_folder(self._machine))

    def _unmarked(self, error: AwsError) -> None:
        self._written = error.kind is ErrorKind.PASSING
        if error.code == "NoSuchBucket":
            return  # nobody can put a queue onto it either: that is said in the same bucket
        told = (
            f"s3://{self._bucket.name} can't be told that {self._machine} is about to be ended "
            f"({error}): a queue that is put onto it just now is lost with it"
        )
        if not (self._agreed.whole or self._agreed.others):
            again = f"to end it all the same: runner terminate {self._machine}"
            raise UnmarkedError(f"{told}, so it was left alone\n{again}") from error
        self._say(told)

    def withdraw(self) -> None:
        """It is not ended. A marker that can't be removed now is believed for a while."""
        self._looked = None
        if not self._written:
            return
        with suppress(AwsError):
            within(PATIENCE, lambda: self._bucket.delete(self._key))

    def clear(self) -> None:
        """It has ended: no marker is of use any more."""
        if not self._written:
            return
        with suppress(AwsError):
            within(PATIENCE, self._clear)

    def _clear(self) -> None:
        for key in self._bucket.keys(names.ending_folder(self._machine)):
            self._bucket.delete(key)


def _queue(queue_id: str) -> str:
    return "a queue without an id" if queue_id == "-" else f"queue '{queue_id}'"


def who() -> str:
    """This computer's user, for people."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
