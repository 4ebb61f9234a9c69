"""A part of a queue's jobs, which a run is to start: what says so, and how they end."""

from __future__ import annotations

from collections.abc import Callable

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.core.states import ENDED, JobStatus
from runner.errors import ExitCode
from runner.model.elements import split_name


def part_chosen(
    part: frozenset[str] | None, scheduler: Scheduler
) -> list[Callable[[ev.Now], ev.Event]]:
    """The event that has only jobs of these ids start; none where all may."""
    if part is None:
        return []
    units = enumerate(scheduler.document.jobs)
    numbers = frozenset(at for at, unit in units if split_name(unit.job_id)[0] in part)
    return [lambda now: ev.PartChosen(now, numbers)]


def exit_code_of_part(scheduler: Scheduler) -> ExitCode | None:
    """As if they were a queue; None where all jobs were to start."""
    chosen = scheduler.frontier.chosen
    if chosen is None:
        return None
    jobs, states = scheduler.document.jobs, scheduler.jobs
    if any(states[at].status is JobStatus.FAILED and not jobs[at].allow_failure for at in chosen):
        return ExitCode.QUEUE_FAILED
    ended = all(states[at].status in ENDED for at in chosen)
    return ExitCode.DONE if ended else ExitCode.NOT_FINISHED
