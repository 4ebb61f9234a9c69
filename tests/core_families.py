"""How a job that has expanded to others stands for those behind it, told from the records alone."""

from __future__ import annotations

from core_arrays import status_of, units_of

from runner.core.scheduler import Scheduler
from runner.core.states import ENDED, JobStatus


def members_of(scheduler: Scheduler, node: int) -> list[int]:
    """What a job has expanded to, by number; an array has not."""
    if node >= len(scheduler.jobs):
        return []
    name = scheduler.names[node]
    added = scheduler.document.added
    return [scheduler.graph.index[child] for child, parent in added.items() if parent == name]


def is_inside(scheduler: Scheduler, by: int, node: int) -> bool:
    """Whether ``by`` is of the family of ``node``: for those the job is one like any other."""
    return any(
        by in (member, *units_of(scheduler, member)) for member in members_of(scheduler, node)
    )


def seen(scheduler: Scheduler, node: int, by: int | None = None) -> JobStatus:
    """A tolerated failure is a success for those behind it; and for those outside a job stands as
    all that it has expanded to does, once that has ended."""
    status = status_of(scheduler, node)
    job = scheduler.document.jobs[units_of(scheduler, node)[0]]
    if status is JobStatus.FAILED and job.allow_failure:
        return JobStatus.COMPLETED
    members = members_of(scheduler, node)
    if status is not JobStatus.COMPLETED or not members:
        return status
    if by is not None and is_inside(scheduler, by, node):
        return status
    if not all(has_ended(scheduler, member) for member in members):
        # Also while what one has made is looked for: it runs again if that is gone.
        return JobStatus.PENDING
    statuses = {seen(scheduler, member) for member in members}
    for trouble in (JobStatus.FAILED, JobStatus.CANCELLED):
        if trouble in statuses and not job.allow_failure:
            return trouble
    return status


def has_ended(scheduler: Scheduler, index: int, by: int | None = None) -> bool:
    """With all that it has expanded to, for those outside, and what it is to leave behind."""
    members = members_of(scheduler, index)
    if members and not (by is not None and is_inside(scheduler, by, index)):
        if not all(has_ended(scheduler, member) for member in members):
            return False
    if index >= len(scheduler.jobs):
        return all(has_ended(scheduler, unit) for unit in units_of(scheduler, index))
    state = scheduler.jobs[index]
    waits = state.collecting and not state.spooled
    stored = not (waits and scheduler.document.jobs[index].kept_paths) and not state.restoring
    return state.status in ENDED and (stored or state.status is not JobStatus.COMPLETED)


def all_behind(scheduler: Scheduler, started: list[int]) -> set[int]:
    """All that waits for these, directly or not: what waits for a job waits for its family."""
    names, index, added = scheduler.names, scheduler.graph.index, scheduler.document.added
    todo, found = set(started), set()
    while todo:
        behind = scheduler.graph.descendants(todo)
        members = {at for at in todo | behind if at < len(names)}
        found |= behind
        owners = {added.get(names[at].partition("[")[0]) for at in members}
        todo = {index[owner] for owner in owners if owner is not None} - found - todo
        # The owner itself has not begun again: only what waits for it counts.
        todo = {at for at in todo if not scheduler.graph.descendants([at]) <= found}
    return found
