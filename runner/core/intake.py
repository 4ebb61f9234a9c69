"""Events by which a queue gets jobs while it runs, and what a job has left of them."""

from __future__ import annotations

from dataclasses import dataclass

from runner.core.outcomes import Now
from runner.model.queue import JobSpec


@dataclass(frozen=True, slots=True)
class FanOut:
    """The jobs that a job has left in the file it ``expands``, under their names in the queue; or
    why that file holds none."""

    jobs: tuple[JobSpec, ...] = ()
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class JobsAdded:
    """These jobs were asked for; what they wait for is there, or among them before or behind."""

    now: Now
    jobs: tuple[JobSpec, ...]


@dataclass(frozen=True, slots=True)
class IntakeChanged:
    """The queue is to stay when nothing is left to do (``accepts``), or to end then."""

    now: Now
    accepts: bool
