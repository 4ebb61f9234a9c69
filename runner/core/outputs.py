"""Whether what completed jobs made is still there for those who need it.

After a boot ``/tmp`` may be empty and an instance store blank; a person or a cleaner may remove
files at any time. So whenever work begins, and when a job is to run again, a completed job lets
nobody go on until its declared results have been looked at, and restored where they are gone. Where
they can't be, the job runs again: the one way out of ``completed`` that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from runner.core.actions import CollectResults, RestoreOutputs
from runner.core.consequences import reconsider, run_again, settle
from runner.core.events import OutputsChecked
from runner.core.job_ends import to_be_stored
from runner.core.queue_records import QueueRecords
from runner.core.states import ENDED, GONE, LOST, JobStatus


def doubt_all(records: QueueRecords) -> None:
    """Doubt the results that an unended job needs; within a boot not those of what runs already."""
    jobs = records.jobs
    if records.ending or not _looks(records):
        return
    doubt_needed(
        records,
        (
            index
            for index, state in enumerate(jobs)
            if state.status not in ENDED and (records.rebooted or state.live is None)
        ),
    )


def doubt_needed(records: QueueRecords, indices: Iterable[int]) -> None:
    """Doubt the results that these jobs need, and have them looked at if work has begun."""
    if not _looks(records):
        return
    dependencies = records.graph.dependencies
    needed = set()
    for index in indices:
        for before in dependencies[index]:
            needed.add(before)
            if records.families and records.families.of.get(index) != before:
                needed.update(records.families.everyone(before))
    for node in [node for node in needed if records.frontier.is_array(node)]:
        needed.remove(node)
        needed.update(dependencies[node])
    for index in sorted(needed):
        state = records.jobs[index]
        if state.status is JobStatus.COMPLETED and _may_be_gone(records, index):
            records.frontier.unsettle(index)
            records.put(index, replace(state, restoring=True))
            if not records.rebooted:
                records.missed.add(index)
            records.act(_look(records, index))


def _looks(records: QueueRecords) -> bool:
    """Whether this session looks, or has to note for the next one that a boot was in between."""
    return records.collects or (records.resting and records.rebooted)


def _may_be_gone(records: QueueRecords, index: int) -> bool:
    """Whether it is worth a look, and nobody looks already."""
    state = records.jobs[index]
    if state.restoring or not records.document.jobs[index].kept_paths:
        return False
    if records.open and state.collecting and not records.rebooted:
        return False  # the upload looks itself; after a boot it would only find too little
    # Of what was not complete when it was stored nobody knows what there should be.
    return records.rebooted or state.collecting or bool(state.results_uploaded)


def _look(records: QueueRecords, index: int) -> RestoreOutputs:
    return RestoreOutputs(index, rebooted=index not in records.missed)


def check_doubted(records: QueueRecords, wall: float) -> None:
    """Have the results looked at that are doubted, by this session or by one before it."""
    for index in sorted(records.restoring):
        if records.collects:
            records.act(_look(records, index))
        elif not records.resting:
            # Nothing was ever stored by this session's lights: there is nothing to check against.
            _trust(records, wall, index)


def trust_all(records: QueueRecords, wall: float) -> None:
    """Nobody needs them any more."""
    for index in sorted(records.restoring):
        _trust(records, wall, index)


def _trust(records: QueueRecords, wall: float, index: int) -> None:
    """What the session before was about to store nobody stores here."""
    records.put(index, replace(records.jobs[index], restoring=False, collecting=False))
    settle(records, wall, [index])


def on_outputs_checked(records: QueueRecords, event: OutputsChecked) -> None:
    """They are all there, again perhaps; or the job has to make them again."""
    index, wall = event.job, event.now.wall
    state = records.jobs[index]
    if not state.restoring:
        return
    if event.lost is not None and _is_needed(records, index):
        _run_again(records, wall, index, event.lost)
        return
    error = event.lost or (None if state.uploaded else state.result_error)
    state = replace(state, restoring=False, result_error=error)
    if not state.uploaded and not state.collecting:
        state = to_be_stored(records.document.jobs[index], state)
    records.put(index, state)
    if event.restored:
        records.tell(wall, index, "outputs_restored", files=event.restored)
    if state.collecting:
        records.act(CollectResults(index))
    settle(records, wall, [index])


def _is_needed(records: QueueRecords, index: int) -> bool:
    """Whether a job that is still to run depends on it, and it may run again itself."""
    if records.ending:
        return False
    if records.halted and records.document.jobs[index].run_if == "success":
        return False
    return records.is_waited_for(index)


def _run_again(records: QueueRecords, wall: float, index: int, why: str) -> None:
    """What the job itself needs may be gone as well, though nobody else waited for it."""
    reason = GONE if index in records.missed else LOST
    records.put(index, replace(records.jobs[index], collecting=False))
    run_again(records, wall, [index], reason=reason)
    records.tell(wall, index, "outputs_lost", why=why)
    doubt_needed(records, [index])
    records.changes.urgent = True
    reconsider(records, wall, (index,))
