"""A queue that is put onto a machine which runs already: seen to have no other, claimed, told.

The bucket's index says that the machine has it before the machine is asked to take it, and in the
machine's own bucket a list of what was put onto it is kept: its tags tell of its first queue only,
and a cut at any point must leave the queue visible. An answer that was lost leaves both. Nothing is
put onto a machine that is about to be ended (see end_marker.py).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from runner.aws.ec2 import Ec2
from runner.aws.errors import AwsError
from runner.errors import ConflictError, RunnerError, UnreachableError
from runner.model.durations import format_duration
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.end.end_marker import VALID, markers
from runner.targets.ec2.index import ClaimedError, Index, IndexEntry
from runner.targets.ec2.launch.launch_guard import has_machine
from runner.targets.ec2.launch.local_launches import Launches
from runner.targets.ec2.launch.submitted_document import bucket_of, ship
from runner.targets.ec2.launch_record import LaunchRecord
from runner.targets.ec2.observe.machine_lookup import ResolvedTarget
from runner.targets.ec2.observe.queue_machines import QueueMachines, Unsure, machines_of
from runner.targets.ec2.observe.ssm_requester import NotInstalled, NotReached
from runner.targets.ec2.queue_ref import QueueRef

Answer = dict[str, Any]
Submit = Callable[[str, str], Answer]
"""Has the machine take the document at an ``s3://…``, which has this sha256."""


def place(
    found: ResolvedTarget,
    document: Mapping[str, Any],
    text: str,
    submit: Submit,
    say: Callable[[str], None],
) -> Answer:
    """Put the queue onto the machine; the machine's answer.

    Raises ConflictError for a queue that has a machine of its own, or may have; what ``submit``
    raises; StoreError, AwsError, UsageError.
    """
    placing = _Placing(found, document)
    placing.check()
    url, sha256 = ship(found, document.get("result_s3_bucket"), text)
    try:
        placing.claim(sha256)
        placing.see_stays()
    except RunnerError:
        placing.undo()
        raise
    try:
        answer = submit(url, sha256)
    except (NotReached, NotInstalled):
        placing.undo()
        raise
    except UnreachableError:
        raise  # it may have been taken
    except RunnerError as error:
        if not isinstance(error, AwsError):
            placing.undo()  # the machine has refused it
        raise
    if answer.get("elsewhere"):
        placing.undo()
    else:
        try:
            placing.settle(str(answer["queue_id"]))
        except RunnerError as error:
            say(f"it is only found by --on {found.instance_id}, not by its id: {error}")
    return answer


@dataclass(slots=True)
class _Listed:
    """Its line in the machine's list: ``key`` in ``bucket``."""

    bucket: LaunchBucket
    key: str


class _Placing:
    """One queue on its way onto a machine."""

    def __init__(self, found: ResolvedTarget, document: Mapping[str, Any]) -> None:
        assert found.instance_id is not None
        self._found = found
        self._machine = found.instance_id
        self._launches = Launches.of_user(os.environ)
        self._bucket = document.get("result_s3_bucket")
        self._prefix = document.get("result_s3_prefix")
        queue_id = document.get("queue_id")
        self._queue = self._ref(queue_id) if queue_id else None
        self._before = IndexEntry()
        self._claimed: IndexEntry | None = None
        self._listed: _Listed | None = None
        self._sha256: str | None = None

    def _ref(self, queue_id: str) -> QueueRef:
        prefix = self._prefix or f"queues/{queue_id}"
        return QueueRef(queue_id, f"s3://{self._bucket}/{prefix}" if self._bucket else "")

    def _index(self) -> Index:
        return Index(LaunchBucket(str(self._bucket), self._found.region))

    def check(self) -> None:
        """See that it has no other machine. Raises ConflictError, AwsError."""
        if self._queue is None or not self._bucket:
            return
        regions = {record.region for record in self._launches.records(self._queue.queue_id)}
        found = machines_of(
            self._queue,
            LaunchBucket(self._bucket, self._found.region),
            [Ec2(region) for region in sorted(regions | {self._found.region})],
        )
        self._refuse(self._queue, found)
        self._before = found.entry

    def _refuse(self, queue: QueueRef, found: QueueMachines) -> None:
        for holder in found.holders:
            if holder.owned.id != self._machine:
                raise ConflictError(
                    f"{has_machine(queue, holder)}\nnothing was submitted to {self._machine}"
                )
        for doubt in found.doubts:
            # A machine that doesn't know its own id renews the lease without it.
            nameless = doubt.unsure is Unsure.HELD and doubt.instance_id is None
            own = doubt.instance_id == self._machine or (nameless and self._is_there(found.entry))
            if not own:
                raise ConflictError(f"{doubt.why}\nnothing was submitted to {self._machine}")

    def claim(self, sha256: str) -> None:
        """Say that the machine has it. Raises ConflictError, AwsError."""
        self._sha256 = sha256
        queue = self._queue
        if queue is not None and self._bucket and not self._is_there(self._before):
            try:
                self._claimed = self._index().claim(
                    self._record(queue), secrets.token_hex(16), self._before
                )
            except ClaimedError as error:
                raise ConflictError(
                    f"'{queue.queue_id}' is being launched or submitted elsewhere "
                    f"({error.by.claim}): nothing was submitted to {self._machine}"
                ) from error
        # Without an id the machine gives it one: until then its document stands for it.
        self._list(queue, f"-/{sha256[:32]}")

    def see_stays(self) -> None:
        """See that nobody is about to end the machine, now that whoever does sees its line.

        Raises ConflictError, AwsError.
        """
        if self._listed is None:
            return
        for marker in markers(self._listed.bucket, self._machine):
            ago, left = (format_duration(round(s)) for s in (marker.age, VALID - marker.age))
            raise ConflictError(
                f"{self._machine} is about to be ended by {marker.by}, who said so {ago} ago: "
                f"nothing was submitted\nif it isn't ended, it takes queues again in {left}"
            )

    def _is_there(self, entry: IndexEntry) -> bool:
        record = entry.record
        return record is not None and record.instance_id == self._machine and not entry.outcome

    def undo(self) -> None:
        """Nothing came of it. What can't be undone now only makes others ask."""
        with suppress(AwsError, ClaimedError):
            if self._claimed is not None and self._queue is not None:
                self._index().put_back(self._record(self._queue), self._claimed, self._before)
        with suppress(AwsError):
            if self._listed is not None and not self._is_there(self._before):
                self._listed.bucket.delete(self._listed.key)

    def settle(self, queue_id: str) -> None:
        """The machine has it: remember it here. Raises StateError, ClaimedError, AwsError."""
        if self._queue is None:
            self._queue = self._ref(queue_id)
            unnamed = self._listed
            if self._bucket:
                index = self._index()
                seen = index.read(self._queue)
                if not self._is_there(seen):
                    index.claim(self._record(self._queue), secrets.token_hex(16), seen)
            self._list(self._queue, "")
            if unnamed is not None:
                unnamed.bucket.delete(unnamed.key)
        self._launches.remember(self._record(self._queue))

    def _list(self, queue: QueueRef | None, unnamed: str) -> None:
        name = bucket_of(self._tags.get(names.STORE)) or self._bucket
        if not name:
            return
        key = (
            names.machine_line(self._machine, queue.queue_id, queue.store)
            if queue
            else f"{names.machine_folder(self._machine)}{unnamed}.json"
        )
        bucket = LaunchBucket(name, self._found.region)
        self._listed = _Listed(bucket, key)
        told = {"queue_id": queue.queue_id, "store": queue.store} if queue else {}
        # Never the same twice: whoever looked at the list before sees that it is new.
        bucket.put_json(key, {"version": 1, **told, "claim": secrets.token_hex(16)})

    def _record(self, queue: QueueRef) -> LaunchRecord:
        found = self._found
        return LaunchRecord(
            queue_id=queue.queue_id,
            store=queue.store,
            region=found.region,
            instance_id=found.instance_id,
            launch=found.launch,
            launched_at=found.launched,
            options_sha256=self._options_sha256(),
            document=self._sha256,
        )

    def _options_sha256(self) -> str | None:
        """The sha256 of how the machine was launched, as the record of its first queue has it.

        Raises AwsError.
        """
        own = [
            one.options_sha256
            for one in self._launches.records_of(self._machine)
            if one.options_sha256
        ]
        if own:
            return own[-1]
        tags = self._tags
        if names.OPTIONS in tags:
            return tags[names.OPTIONS]
        if not tags.get(names.STORE) or names.QUEUE not in tags:
            return None
        queue = QueueRef(tags[names.QUEUE], tags[names.STORE])
        first = Index(LaunchBucket(queue.bucket, self._found.region)).read(queue).record
        return (
            first.options_sha256
            if first is not None and first.launch == self._found.launch
            else None
        )

    @property
    def _tags(self) -> dict[str, str]:
        machine = self._found.machine
        return names.machine_tags(machine.tags) if machine is not None else {}
