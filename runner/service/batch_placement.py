"""The note that a queue's database keeps of where on AWS Batch its attempts run.

Read and written wherever a queue is looked at: it knows nothing of AWS, and costs no start-up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from runner.model.records import Rule, parse, whole
from runner.service.queue_entry import QueueEntry

if TYPE_CHECKING:
    from runner.service.batch_place import BatchRun

ON_BATCH_KEY = "on_batch"
"""The key of ``meta`` under which it is kept that a queue's attempts run on AWS Batch."""

IN_IMAGE = "image"
"""In place of a bundle: the image of the containers has runner."""

UNLIMITED = 1_000_000
"""Jobs at once where the document says "fit", or the flag: Batch itself waits for room."""


@dataclass(frozen=True, slots=True)
class BatchPlacement:
    """Where a queue's attempts run on AWS Batch. ``image``: of jobs that name none; ``bundle``: as
    of the flag; ``max_parallel``: how many at once, whatever the document says."""

    job_queue: str
    region: str | None = None
    image: str | None = None
    bundle: str | None = None
    max_parallel: Annotated[int, Rule(whole(1, UNLIMITED))] | None = None

    def encoded(self) -> str:
        """As it is kept."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(told, sort_keys=True)

    @property
    def where(self) -> str:
        """In words."""
        return f"job queue {self.job_queue}" + (f" in {self.region}" if self.region else "")


def placed_on_batch(entry: QueueEntry) -> BatchPlacement | None:
    """Where on AWS Batch a queue's attempts run; None: on this machine. Raises RecordError."""
    kept = entry.meta.get(ON_BATCH_KEY)
    return parse(BatchPlacement, kept, f"{entry.name}: {ON_BATCH_KEY}") if kept else None


def noted(place: BatchPlacement | None) -> Mapping[str, str]:
    """What a queue's database keeps of it."""
    return {ON_BATCH_KEY: "" if place is None else place.encoded()}


def noted_run(run: BatchRun | None) -> Mapping[str, str]:
    """The same of a foreground run, for who acts on its queue when it has gone."""
    if run is None:
        return noted(None)
    options, target = run.options, run.options.target
    return noted(
        BatchPlacement(
            target.job_queue, target.region, target.image, options.bundle, options.max_parallel
        )
    )
