"""Jobs that are added to a queue while it runs: by a job that expands to them, or asked for.

They come after all that are there, in the step that caused them, so that a queue has either both or
neither. Where there are no arrays a job costs the same however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runner.core.consequences import end, forbidden, reconsider
from runner.core.events import FanOut, IntakeChanged, JobsAdded, Now
from runner.core.history import Added
from runner.core.queue_records import QueueRecords
from runner.core.states import PENDING, QUEUE_ENDED, WAITING, QueueStatus, changed
from runner.model.growth import children_of
from runner.model.queue import MAX_JOBS, JobSpec


def on_jobs_added(records: QueueRecords, event: JobsAdded) -> None:
    """Add jobs; those whose id is there were added before. An ended queue takes none."""
    if records.finished or records.queue.status in QUEUE_ENDED:
        return
    known = records.graph.index
    new = [job for job in event.jobs if job.job_id not in known]
    if new:
        judge(records, event.now, _append(records, event.now, new, None))


def on_intake_changed(records: QueueRecords, event: IntakeChanged) -> None:
    """From now on the queue stays when nothing is left to do, or ends then. One that has ended is
    opened again, with a fresh clock; a session that has finished stays finished: the next one
    does it."""
    if records.finished:
        return
    if event.accepts and records.queue.status in QUEUE_ENDED:
        _open_again(records, event.now)
    if event.accepts is not records.queue.accepts_jobs:
        records.queue = changed(records.queue, accepts_jobs=event.accepts)
        told = "opened_for_jobs" if event.accepts else "closed_for_jobs"
        records.tell(event.now.wall, None, told)
    records.changes.urgent = True


def _open_again(records: QueueRecords, now: Now) -> None:
    records.queue = changed(
        records.queue, worked=0.0, mono=now.mono, timed_out=False, cancelling=False, reason=None
    )
    records.set_status(now.wall, QueueStatus.RUNNING, None, completed_at=None)


def fault_of(records: QueueRecords, parent: int, fan_out: FanOut | None) -> str | None:
    """Why a job can't expand to what it has left; None if it can."""
    job = records.document.jobs[parent]
    if fan_out is None:
        return f"expands: {job.expands} was not read"
    if fan_out.fault is not None:
        return fan_out.fault
    found = {child.job_id: child for child in fan_out.jobs}
    before = children_of(records.given, job.job_id)
    for child in before:
        if child.job_id not in found:
            told = f'has no "{child.job_id}" any more'
        elif found[child.job_id] != child:
            told = f'has another "{child.job_id}"'
        else:
            continue
        return (
            f"{job.expands}: {told}: a job that runs again has to leave the same jobs, or more; "
            "--fresh begins anew"
        )
    more = len(found) - len(before)
    if len(records.given.jobs) + more > MAX_JOBS:
        total = len(records.given.jobs) + more
        return f"{job.expands}: the queue would have {total:,} jobs: at most {MAX_JOBS:,}"
    own = {child.job_id for child in before}
    for number, child in enumerate(fan_out.jobs):
        if child.job_id in records.graph.index and child.job_id not in own:
            place = f"{job.expands}: jobs[{number}].job_id"
            return f'{place}: the queue has a job "{child.job_id}" already'
    return None


def expand(records: QueueRecords, now: Now, parent: int, fan_out: FanOut) -> range:
    """Add what a job has left, before anything follows from its end; their units are to be judged
    once it has ended."""
    known = records.graph.index
    new = [job for job in fan_out.jobs if job.job_id not in known]
    return _append(records, now, new, parent) if new else range(0)


def _append(records: QueueRecords, now: Now, jobs: Sequence[JobSpec], parent: int | None) -> range:
    first = len(records.given.jobs)
    by = None if parent is None else records.document.jobs[parent].job_id
    units = records.append(jobs, parent)
    _number_on(records, units)
    records.changes.added += [Added(first + at, job, by) for at, job in enumerate(jobs)]
    names = {"first": jobs[0].job_id, "last": jobs[-1].job_id}
    records.tell(now.wall, parent, "jobs_added", jobs=len(jobs), **names)
    records.changes.urgent = True
    if records.arrays and records.open and not records.ending:
        waiting = [at for at, state in enumerate(records.jobs) if state.status in WAITING]
        reconsider(records, now.wall, waiting)
    return units


def _number_on(records: QueueRecords, units: range) -> None:
    """Attempts of a job that was there before, and is there again, go on from its numbers."""
    former = dict(records.queue.former or {})
    for unit in units if former else ():
        if (attempt := former.pop(records.names[unit], None)) is not None:
            records.put(unit, replace(PENDING, attempt=attempt))
    if len(former) < len(records.queue.former or ()):
        records.queue = replace(records.queue, former=former or None)


def judge(records: QueueRecords, now: Now, units: range) -> None:
    """See whether new jobs may start, or never will as the queue stands."""
    found = ((at, forbidden(records, at, records.jobs[at])) for at in units)
    ends = [(at, over) for at, over in found if over is not None]
    end(records, now.wall, ends)
    if records.open and not records.ending:
        reconsider(records, now.wall, units)


def with_families(records: QueueRecords, chosen: frozenset[int]) -> frozenset[int]:
    """A part of the queue, with all that the jobs in it have expanded to."""
    if not records.families:
        return chosen
    found = set(chosen)
    for index in chosen:
        found.update(records.families.everyone(index))
    return frozenset(found)
