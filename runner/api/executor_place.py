"""Where an Executor keeps what it has: what each of its targets is opened with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runner.model.settings import Settings


@dataclass(frozen=True, slots=True)
class ExecutorPlace:
    """Where an Executor keeps what it has. ``durable``: it outlives the process. ``code``: folders
    that calls import from, which go where they go. ``state_dir``: as it was given; ``named``:
    ``queue_id`` was."""

    settings: Settings
    queue_id: str
    durable: bool
    code: tuple[str, ...] = ()
    state_dir: Path | None = None
    named: bool = True


def check_found_again(durable: bool, name: str | None, *, served: bool) -> None:
    """Raise ValueError where no other session could find the jobs again."""
    if not durable:
        raise ValueError(
            'on_exit: "detach" needs a state_dir: without one the jobs\' files are removed '
            "with the process"
        )
    if served and name is None:
        raise ValueError(
            'on_exit: "detach" needs a name, by which another session finds the jobs again'
        )
