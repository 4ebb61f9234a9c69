"""What can happen to what a job reads, before and while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from runner.core.outcomes import Now


@dataclass(frozen=True, slots=True)
class InputsFetched:
    """A job's inputs are there after so many seconds; or never will be, for this ``error``.

    ``restored``: so many files of its checkpoint had to be brought back. ``lost``: why it has to
    do without one. ``unchanged``: all that it depends on is as it was at its last run, whose
    results stand: in whose name they are stored, and who has made them; ``why``: what has changed.
    ``results``: so many of those came from the store.
    """

    now: Now
    job: int
    seconds: float
    error: str | None = None
    restored: int = 0
    lost: str | None = None
    unchanged: tuple[str, str] | None = None
    why: str | None = None
    results: int = 0


@dataclass(frozen=True, slots=True)
class InputsChanged:
    """What a job reads has changed while it ran: its results can't stand for a later run."""

    now: Now
    job: int
    why: str


@dataclass(frozen=True, slots=True)
class InputsDelayed:
    """A job's inputs aren't there yet: ``error`` says why, and it is tried again."""

    now: Now
    job: int
    error: str
