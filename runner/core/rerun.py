"""Jobs that have ended and are to run again, with those behind them. Pure.

Owns which jobs a rerun takes along: what was skipped for want of it, and the jobs that wait for an
end of any kind (``run_if``), for they have seen another end than the one that is to come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from runner.core.families import Families
from runner.core.states import PENDING, JobState, JobStatus
from runner.model.document import JobSpec
from runner.model.graph import Graph


def as_new(state: JobState) -> JobState:
    """Numbers go on; what still lives or is being stored of its last attempt goes on, too."""
    return replace(
        PENDING,
        attempt=state.attempt,
        first_started_at=state.first_start,
        interruptions=state.interruptions,
        needs_check=state.needs_check,
        background=state.background,
        slot=state.slot,
        token=state.token,
        released=state.released,
        # While it is looked at what there is, nothing is stored yet, and nobody would say it was.
        collecting=state.collecting and not state.restoring,
    )


def behind(
    jobs: Sequence[JobSpec],
    graph: Graph,
    states: Sequence[JobState],
    seeds: Iterable[int],
    families: Families,
    *,
    everything: bool,
) -> set[int]:
    """The jobs to run again because ``seeds`` do: those that have ended, or run now.

    ``everything``: also what completed or failed after one of them had completed. Jobs that a
    person has cancelled stay so, and those that wait for their turn need nothing.
    """
    seen: dict[int, bool] = {}
    taken = set()
    todo = [(at, everything or _has_run_for_any_end(jobs[at], states[at])) for at in seeds]
    while todo:
        index, all_of_them = todo.pop()
        dependents: Sequence[int]
        if index < 0:
            dependents = families.outside(~index, graph.dependents[~index])
        else:
            dependents = graph.dependents[index]
        family = families.of.get(index if index >= 0 else ~index)
        if family is not None:
            # What waits for all that a job has expanded to waits for each of them.
            if not (seen.get(~family, False) or seen.get(~family) is all_of_them):
                seen[~family] = all_of_them
                todo.append((~family, all_of_them))
        for other in dependents:
            if other >= graph.units:
                # An array as a whole: what waits for it waits for each of its elements.
                if not (seen.get(other, False) or seen.get(other) is all_of_them):
                    seen[other] = all_of_them
                    todo.append((other, all_of_them))
                continue
            status = states[other].status
            if status not in _TAKEN or seen.get(other, False) or seen.get(other) is all_of_them:
                continue
            for_any_end = jobs[other].run_if != "success"
            if all_of_them or for_any_end or status is JobStatus.SKIPPED:
                taken.add(other)
            takes = all_of_them or _has_run_for_any_end(jobs[other], states[other])
            seen[other] = takes
            if status is not JobStatus.RUNNING:
                todo.append((other, takes))
    return taken


_TAKEN = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.SKIPPED, JobStatus.RUNNING})


def _has_run_for_any_end(job: JobSpec, state: JobState) -> bool:
    """It has seen another end than the one to come: what used its results goes with it."""
    return job.run_if != "success" and state.status in (JobStatus.COMPLETED, JobStatus.FAILED)
