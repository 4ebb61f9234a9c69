"""One call of `resume`: a launch that first sees the end of the machine before it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from runner.aws.ec2 import Ec2
from runner.cli import fleet, options
from runner.cli.launching import Launching
from runner.errors import ConflictError, NotFoundError, StateError, UsageError
from runner.model.document import Queue, parse_stored, read_document
from runner.model.wording import quoted
from runner.results.layout import Layout
from runner.results.stores import open_store, parse_s3
from runner.targets.ec2 import names, predecessor
from runner.targets.ec2.bucket import Bucket
from runner.targets.ec2.launches import Launches
from runner.targets.ec2.predecessor import Predecessors
from runner.targets.ec2.recipe import FLAGS, LARGEST, NAME, Recipe, known, replacement
from runner.targets.ec2.survey import Surveyed
from runner.targets.ec2.unsaved import stored_work
from runner.targets.ec2.user_data import Shipped
from runner.targets.ec2.watching import StateOf
from runner.targets.ec2.whereabouts import Whereabouts, locate
from runner.targets.ec2.wish import Wish, wish_of


def prepared(arguments: argparse.Namespace, launches: Launches) -> Resuming:
    """What was launched, with the flags over it. Raises RunnerError; nothing has been touched."""
    queue_id = arguments.queue_id
    where = locate(queue_id, arguments.region, arguments.bucket, launches)
    bucket = Bucket(where.bucket, where.regions[0])
    region = arguments.region or where.regions[0]
    if arguments.batch_queue is not None:
        if not options.again(arguments).mends:
            raise UsageError("--batch-queue: goes with --retry-failed, --update or --rerun-changed")
        queue = _corrected(Path(arguments.batch_queue), queue_id)
    else:
        queue = _document(bucket, where, queue_id)
    stored = _recipe(bucket, where)
    recipe = stored or Recipe(where.regions[0])
    flags = replacement(recipe, vars(arguments), region)
    if "instance_type" not in flags:
        raise UsageError(
            f"--instance-type: is required, for nothing tells how '{queue_id}' was launched"
        )
    unset = dict.fromkeys(FLAGS)
    merged = argparse.Namespace(**{**vars(arguments), **unset, **flags, "region": region})
    wish = wish_of(vars(merged), queue.global_timeout)
    shipped = None if arguments.workdir else recipe.workdir
    notes = [] if stored else [f"nothing tells how '{queue_id}' was launched: only flags count"]
    return Resuming(merged, queue, wish, launches, where, shipped, notes)


def _corrected(path: Path, queue_id: str) -> Queue:
    """The document that was given. Raises UsageError, ConflictError for another queue's."""
    queue = read_document(path)
    if queue.queue_id not in (None, queue_id):
        raise ConflictError(f"{path} is of another queue, {quoted(str(queue.queue_id))}")
    return queue.with_id(queue_id)


def _document(bucket: Bucket, where: Whereabouts, queue_id: str) -> Queue:
    """The document as the machine before had it last, else as it was launched with."""
    prefix = parse_s3(where.store)[1]
    keys = [f"{prefix}/{Layout.document_key}" if prefix else Layout.document_key]
    if where.launch:
        keys.append(names.launch_key(where.launch, Layout.document_key))
    for key in keys:
        raw = bucket.get(key)
        if raw is not None:
            queue = parse_stored(raw)
            if queue.queue_id not in (None, queue_id):
                raise ConflictError(
                    f"s3://{bucket.name}/{key} is of another queue, {quoted(str(queue.queue_id))}"
                )
            return queue.with_id(queue_id)
    raise NotFoundError(f"{where.store} has no document of '{queue_id}', and its launch neither")


def _recipe(bucket: Bucket, where: Whereabouts) -> Recipe | None:
    """How the newest launch was asked for; None if nothing tells.

    Raises UsageError, RecordError for what the launch didn't write.
    """
    if not where.launch:
        return None
    key = names.launch_key(where.launch, NAME)
    data = bucket.get(key, LARGEST + 1)
    if data is None:
        return None
    return known(data, where.recipe, f"s3://{bucket.name}/{key}")


class Resuming(Launching):
    """Launching, but for who may have the queue: the machines before it, which are ended."""

    verb = "resume"
    asks = True

    def __init__(
        self,
        arguments: argparse.Namespace,
        queue: Queue,
        wish: Wish,
        launches: Launches,
        where: Whereabouts,
        shipped: Shipped | None,
        notes: list[str],
    ) -> None:
        super().__init__(arguments, queue, wish, launches)
        self._where = where
        self._shipped = shipped
        self._told = notes
        self._former = Predecessors([], [])

    def _stand(self, surveyed: Surveyed) -> None:
        """See what is to be ended. Raises ConflictError for a queue that has ended."""
        if self._store != self._where.store:
            raise StateError(
                f"its document says {self._store}, and its launch {self._where.store}: "
                "which of them has its results?"
            )
        standing = StateOf(self._bucket, parse_s3(self._store)[1]).look()
        if standing is not None and self._again.mends:
            self._see_mendable(standing, surveyed)
        elif standing is not None and standing.ended:
            raise ConflictError(
                f"queue '{self._id}' is {standing.status}: there is nothing to go on with\n"
                f"fetch its results with: runner results {self._id}\n"
                "--retry-failed runs again what failed, corrected with --batch-queue FILE"
            )
        regions = [self._ec2.region, *self._where.regions]
        clients = [Ec2(region) for region in dict.fromkeys(regions)]
        self._former = predecessor.find(clients, self._id)
        surveyed.notes += self._notes()

    def _notes(self) -> list[str]:
        now = time.time()
        notes = [f"{fleet.in_words(one, now)}: is ended first" for _, one in self._former.alive]
        notes += [
            f"EC2 in {region} can't say whether a machine still has the queue ({why}): "
            "its lease is waited for"
            for region, why in self._former.silent
        ]
        return [*self._told, *notes, stored_work(self._store).told(now)]

    def _make_way(self, surveyed: Surveyed) -> None:
        """End them: a cut before this has ended nothing, and one after it is gone on from."""
        store = open_store(self._store)
        try:
            predecessor.see_ended(self._former, store, self.say)
        finally:
            store.close()
        # Nobody else may have begun meanwhile, and the index is as it is now.
        super()._stand(surveyed)

    def _code(self, packed: Path | None) -> Path | Shipped | None:
        return packed or self._shipped
