"""What has happened, told line by line, and what the store has to write of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runner.model.queue import JobSpec


@dataclass(frozen=True, slots=True)
class StoryEntry:
    """One line of a job's (or, without a job, the queue's) history."""

    wall: float
    job: int | None
    event: str
    detail: dict[str, Any] | None = None

    def __str__(self) -> str:
        rest = " ".join(f"{name}={value}" for name, value in (self.detail or {}).items())
        return f"{self.wall:.3f} {self.event} {rest}".rstrip()


@dataclass(frozen=True, slots=True)
class Added:
    """A job that the queue has got. ``place``: its number in the document, where an array is one;
    ``parent``: the id of the job that expanded to it, None if it was asked for."""

    place: int
    job: JobSpec
    parent: str | None


@dataclass(slots=True)
class Changes:
    """What steps have changed since it was last taken: exactly what the store has to write.

    ``urgent``: something depends on it, so it must be durable now.
    """

    jobs: set[int] = field(default_factory=set)
    story: list[StoryEntry] = field(default_factory=list)
    added: list[Added] = field(default_factory=list)
    urgent: bool = False


def history_of(job: int, entries: Iterator[StoryEntry]) -> Iterator[str]:
    """The lines that speak of one job."""
    return (str(entry) for entry in entries if entry.job == job)
