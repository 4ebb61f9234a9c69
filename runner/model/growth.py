"""Jobs that a queue gets while it runs: at the end of its document, which stays as it was given.

Owns how they are written beside the document, what they may be called and may wait for, and which
job made them. Pure. Numbers of jobs that are there never change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from runner.errors import DocumentError
from runner.model.graph import find_cycle
from runner.model.messages import did_you_mean, quoted
from runner.model.queue import AddedJob, JobSpec, QueueSpec
from runner.model.relations import spell_cycle
from runner.model.serialization import dump_job

_END = "\n]}\n"
"""What a document ends with, as it is stored."""


def added_job(job: JobSpec, parent: str | None) -> AddedJob:
    """The stored form of a job."""
    return AddedJob(dump_job(job), parent)


def as_given(queue: QueueSpec) -> QueueSpec:
    """The queue without what was added to it."""
    if not queue.added:
        return queue
    return replace(queue, jobs=tuple(queue.jobs[: len(queue.jobs) - len(queue.added)]), added={})


def grown(queue: QueueSpec, jobs: Sequence[JobSpec], parents: Iterable[str | None]) -> QueueSpec:
    """The queue with these jobs at its end."""
    added = dict(zip([job.job_id for job in jobs], parents, strict=True))
    return replace(queue, jobs=(*queue.jobs, *jobs), added={**queue.added, **added})


def grown_text(document: str, added: Sequence[AddedJob]) -> str:
    """The text of the stored document, as if it had been given with these jobs at its end."""
    if not added:
        return document
    head = document.removesuffix(_END)
    comma = "" if head.endswith("[\n") else ",\n"
    return head + comma + ",\n".join([each.text for each in added]) + _END


def with_added(queue: QueueSpec, parents: Sequence[str | None]) -> QueueSpec:
    """A queue that was read from such a text: its last jobs are those that were added."""
    if not parents:
        return queue
    names = [job.job_id for job in queue.jobs[len(queue.jobs) - len(parents) :]]
    return replace(queue, added=dict(zip(names, parents, strict=True)))


def added_to(queue: QueueSpec) -> list[tuple[int, AddedJob]]:
    """What was added to a queue, each with its number among all jobs."""
    first = len(queue.jobs) - len(queue.added)
    return [
        (at, added_job(queue.jobs[at], parent))
        for at, parent in enumerate(queue.added.values(), first)
    ]


def children_of(queue: QueueSpec, parent: str) -> list[JobSpec]:
    """The jobs that a job expanded to."""
    first = len(queue.jobs) - len(queue.added)
    return [job for job in queue.jobs[first:] if queue.added[job.job_id] == parent]


def check_added(jobs: Sequence[JobSpec], known: Mapping[str, object]) -> None:
    """Whether these jobs may be added to a queue whose jobs' ids are ``known``.

    They may wait for each other, and for those that are there. Raises DocumentError with every
    fault.
    """
    faults: list[str] = []
    ids: dict[str, int] = {}
    for at, job in enumerate(jobs):
        first = ids.setdefault(job.job_id, at)
        if first != at:
            faults.append(f'jobs[{at}].job_id: "{job.job_id}" is also the id of jobs[{first}]')
        elif job.job_id in known:
            faults.append(f'jobs[{at}].job_id: the queue has a job "{job.job_id}" already')
    for at, job in enumerate(jobs):
        for number, name in enumerate(job.depends_on):
            if name not in ids and name not in known:
                hint = did_you_mean(name, [*ids, *known])
                place = f"jobs[{at}].depends_on[{number}]"
                faults.append(f"{place}: there is no job {quoted(name)}{hint}")
    if (cycle := find_cycle(jobs)) is not None:
        faults.append(f"jobs[{ids[cycle[0]]}].depends_on: cycle: {spell_cycle(cycle)}")
    if faults:
        raise DocumentError(faults)
