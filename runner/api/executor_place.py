"""Where an Executor keeps what it has: what each of its targets is opened with."""

from __future__ import annotations

from dataclasses import dataclass

from runner.model.settings import Settings


@dataclass(frozen=True, slots=True)
class ExecutorPlace:
    """Where an Executor keeps what it has. ``durable``: it outlives the process. ``code``: folders
    that calls import from, which go where they go."""

    settings: Settings
    queue_id: str
    durable: bool
    code: tuple[str, ...] = ()
