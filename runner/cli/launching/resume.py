"""One call of `resume`: a launch that first sees the end of the machine before it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from runner.aws.ec2 import Ec2
from runner.cli import options
from runner.cli.launching.launch import Launching
from runner.cli.show import machine_queues, machines
from runner.errors import ConflictError, StateError, UsageError
from runner.model.document import QueueSpec
from runner.model.messages import quoted
from runner.results.stores import open_store, parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.end.end_marker import Agreed
from runner.targets.ec2.end.stored_work import stored_work
from runner.targets.ec2.index import IndexEntry
from runner.targets.ec2.launch import predecessor
from runner.targets.ec2.launch.launch_options import (
    FLAGS,
    LARGEST,
    NAME,
    LaunchOptions,
    known,
    replacement,
)
from runner.targets.ec2.launch.launch_request import LaunchRequest, launch_request_of
from runner.targets.ec2.launch.local_launches import Launches
from runner.targets.ec2.launch.preflight import PreflightFacts
from runner.targets.ec2.launch.replacement_document import document_of
from runner.targets.ec2.launch.user_data import Shipped
from runner.targets.ec2.observe.locate import QueueLocations, locate
from runner.targets.ec2.observe.machine_queues import MachineQueues, queues_of
from runner.targets.ec2.observe.queue_machines import Known, QueueMachines
from runner.targets.ec2.observe.queue_standing import StateOf


def prepared(arguments: argparse.Namespace, launches: Launches) -> Resuming:
    """What was launched, with the flags over it. Raises RunnerError; nothing has been touched."""
    queue_id = arguments.queue_id
    where = locate(queue_id, arguments.region, arguments.bucket, launches)
    bucket = LaunchBucket(where.bucket, where.regions[0])
    region = arguments.region or where.regions[0]
    if arguments.batch_queue is not None:
        if not options.again(arguments).mends:
            raise UsageError("--batch-queue: goes with --retry-failed, --update or --rerun-changed")
        queue = _corrected(arguments, Path(arguments.batch_queue), queue_id)
    else:
        queue = document_of(bucket, where.store, where.launch, queue_id, where.document)
    stored = _stored_options(bucket, where)
    launched = stored or LaunchOptions(where.regions[0])
    flags = replacement(launched, vars(arguments), region)
    if "instance_type" not in flags:
        raise UsageError(
            f"--instance-type: is required, for nothing tells how '{queue_id}' was launched"
        )
    unset = dict.fromkeys(FLAGS)
    merged = argparse.Namespace(**{**vars(arguments), **unset, **flags, "region": region})
    wanted = launch_request_of(vars(merged), queue.global_timeout)
    shipped = None if arguments.workdir else launched.workdir
    notes = [] if stored else [f"nothing tells how '{queue_id}' was launched: only flags count"]
    return Resuming(merged, queue, wanted, launches, where, shipped, notes)


def _corrected(arguments: argparse.Namespace, path: Path, queue_id: str) -> QueueSpec:
    """The document that was given. Raises UsageError, ConflictError for another queue's."""
    queue = options.read(arguments, path)
    if queue.queue_id not in (None, queue_id):
        raise ConflictError(f"{path} is of another queue, {quoted(str(queue.queue_id))}")
    return queue.with_id(queue_id)


def _stored_options(bucket: LaunchBucket, where: QueueLocations) -> LaunchOptions | None:
    """How the newest launch was asked for; None if nothing tells.

    Raises UsageError, RecordError for what the launch didn't write.
    """
    if not where.launch:
        return None
    key = names.launch_key(where.launch, NAME)
    data = bucket.get(key, LARGEST + 1)
    if data is None:
        return None
    return known(data, where.options_sha256, f"s3://{bucket.name}/{key}")


class Resuming(Launching):
    """Launching, but for who may have the queue: the machines before it, which are ended."""

    verb = "resume"
    asks = True

    def __init__(
        self,
        arguments: argparse.Namespace,
        queue: QueueSpec,
        wanted: LaunchRequest,
        launches: Launches,
        where: QueueLocations,
        shipped: Shipped | None,
        notes: list[str],
    ) -> None:
        super().__init__(arguments, queue, wanted, launches)
        self._where = where
        self._shipped = shipped
        self._told = notes
        self._former = QueueMachines([], [], IndexEntry())
        self._queues: list[MachineQueues] = []

    def _stand(self, facts: PreflightFacts) -> None:
        """See what is to be ended. Raises ConflictError for a queue that has ended."""
        if self._store != self._where.store:
            raise StateError(
                f"its document says {self._store}, and its launch {self._where.store}: "
                "which of them has its results?"
            )
        standing = StateOf(self._bucket, parse_s3(self._store)[1]).look()
        if standing is not None and self._again.mends:
            self._see_mendable(standing, facts)
        elif standing is not None and standing.ended:
            raise ConflictError(
                f"queue '{self._id}' is {standing.status}: there is nothing to go on with\n"
                f"fetch its results with: runner results {self._id}\n"
                "--retry-failed runs again what failed, corrected with --batch-queue FILE"
            )
        regions = [Ec2(region) for region in self._where.regions]
        self._former = self._guard.machines(self._ref, self._digest, regions)
        self._see_endable()
        self._see_others()
        facts.notes += self._notes()

    def _see_endable(self) -> None:
        """See that the machines which have the queue are known, and may be ended. Raises
        ConflictError; nothing was ended then."""
        for doubt in self._former.doubts:
            if not doubt.unsure.waitable:
                raise ConflictError(f"{doubt.why}\nnothing was ended, and nothing launched")
        for holder in self._former.holders:
            if holder.known is Known.LEASE or holder.owned.queue is None:
                # Whoever may write results could name any machine there.
                raise ConflictError(
                    f"{holder.owned.id} works on the queue ({holder.known.value}), and was not "
                    "launched for it: it is not ended for that\n"
                    f"end the queue there (runner cancel --all --on {holder.owned.id} --queue "
                    f"{self._id}) or the machine (runner terminate {holder.owned.id})"
                )

    def _see_others(self) -> None:
        """See that no other unfinished queue ends with the machines. Raises ConflictError."""
        targets = [(holder.ec2, holder.owned) for holder in self._former.holders]
        self._queues = queues_of(targets, time.time())
        machine_queues.check(self._queues, [self._ref], others=self._arguments.end_others)

    def _notes(self) -> list[str]:
        now = time.time()
        notes = []
        for one in self._queues:
            notes += [
                f"{machines.in_words(one.owned, now)}: is ended first",
                *machine_queues.describe(one),
            ]
        notes += [f"{doubt.why}: its lease is waited for" for doubt in self._former.doubts]
        return [*self._told, *notes, stored_work(self._store).describe(now)]

    def _make_way(self, facts: PreflightFacts) -> None:
        """End them: a cut before this has ended nothing, and one after it can be repeated."""
        self._see_others()  # a queue may have been put onto them meanwhile
        others = self._arguments.end_others
        agreed = {
            one.owned.id: Agreed(named=[self._ref], others=others, lines=one.lines)
            for one in self._queues
        }
        store = open_store(self._store)
        try:
            predecessor.see_ended(
                self._former.holders, agreed, self._former.doubts, store, self.say
            )
        finally:
            store.close()
        # Nobody else may have begun meanwhile, and the index is as it is now.
        self._waited = bool(self._former.doubts)
        super()._stand(facts)

    def _code(self, packed: Path | None) -> Path | Shipped | None:
        return packed or self._shipped
