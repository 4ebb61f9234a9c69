"""What of a document a single machine does not do, and what it does in a plainer way.

Owns the words of both. Packing by ``resources`` and images are carried out elsewhere, or not yet;
nothing of a document is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Iterator

from runner.errors import DocumentError
from runner.model.document import FIT, JobSpec, QueueSpec
from runner.model.messages import whose
from runner.model.placement import NO_PLACEMENT

_CONTAINERS = ("image", "mounts", "image_options", "image_pull")
"""Fields that are about containers."""


def check_runs_here(queue: QueueSpec) -> None:
    """Raise DocumentError with all that a single machine can't do of this document."""
    if errors := refused(queue):
        raise DocumentError(errors)


def refused(queue: QueueSpec) -> list[str]:
    """A line for each field that can't be honoured on one machine."""
    return list(_images(queue))


def _images(queue: QueueSpec) -> Iterator[str]:
    """The first place of each field that is about containers, and how many jobs it concerns."""
    found: dict[str, tuple[str, list[str]]] = {}
    for index, job in _placed(queue):
        placed = queue.placed(job)
        for name in _CONTAINERS:
            if getattr(placed, name):  # "" is no image, [] no mounts
                own = getattr(job.placement, name) is not None
                place = f"jobs[{index}].{name}" if own else name
                found.setdefault(name, (place, []))[1].append(job.job_id)
    for place, names in found.values():
        yield (
            f"{place}: containers are not run on one machine: `runner run --target batch` runs the "
            f"document on AWS Batch; without this field it runs here{whose(names)}"
        )


def _placed(queue: QueueSpec) -> Iterator[tuple[int, JobSpec]]:
    """The jobs of which anything is said, by themselves or by the queue."""
    everyone = queue.placement is not NO_PLACEMENT
    for index, job in enumerate(queue.jobs):
        if everyone or job.placement is not NO_PLACEMENT:
            yield index, job


def notes(queue: QueueSpec, *, here: bool = True) -> list[str]:
    """What a person should know of how this document runs on one machine; mostly nothing.

    ``here``: it is this one.
    """
    return [*_packing(queue, here=here), *_batch(queue)]


def _packing(queue: QueueSpec, *, here: bool) -> Iterator[str]:
    if not queue.counts_resources:
        return
    most = f"max_parallel_jobs is {queue.max_parallel_jobs}"
    if queue.max_parallel_jobs == FIT:
        from runner.host.processors import usable_processors

        count = f"{usable_processors()} here" if here else "there"
        most = f'max_parallel_jobs "fit" means one job for each processor, {count}'
    yield (
        "one machine does not count resources and pools yet, and jobs start without regard to them:"
        f" {most}"
    )


def _batch(queue: QueueSpec) -> Iterator[str]:
    names = [job.job_id for _, job in _placed(queue) if job.placement.batch is not None]
    if names:
        yield f'"batch" concerns AWS Batch only and has no effect here{whose(names)}'
