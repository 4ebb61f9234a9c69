"""Jobs, their attempts and definitions, and which state may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Document = dict[str, Any]


class State(StrEnum):
    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    RUNNABLE = "RUNNABLE"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


ENDED = frozenset({State.SUCCEEDED, State.FAILED})
CANCELLABLE = frozenset({State.SUBMITTED, State.PENDING, State.RUNNABLE})

FOLLOWS: Mapping[State, frozenset[State]] = {
    State.SUBMITTED: frozenset({State.PENDING, State.RUNNABLE, State.FAILED}),
    State.PENDING: frozenset({State.RUNNABLE, State.SUCCEEDED, State.FAILED}),
    State.RUNNABLE: frozenset({State.STARTING, State.FAILED}),
    State.STARTING: frozenset({State.RUNNING, State.RUNNABLE, State.FAILED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.RUNNABLE}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
}
"""PENDING → SUCCEEDED is an array's parent. RUNNABLE again: the next attempt."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One revision. ``request``: what was registered."""

    name: str
    revision: int
    arn: str
    request: Document

    @property
    def fargate(self) -> bool:
        return "FARGATE" in self.request.get("platformCapabilities", ())


@dataclass(slots=True, eq=False)
class Attempt:
    """One task. ``ends``: per container, its exit code and reason."""

    number: int
    task_arn: str
    streams: Mapping[str, str]
    host_arn: str | None
    started_ms: int | None = None
    stopped_ms: int | None = None
    status_reason: str | None = None
    ends: dict[str, tuple[int | None, str | None]] = field(default_factory=dict)
    settled: bool = False
    """Its end is known, and what its containers still do changes nothing."""


@dataclass(slots=True, eq=False)
class Job:
    """``properties``: the container's, or the task's, with the overrides of the submission."""

    id: str
    arn: str
    name: str
    queue: str
    definition: Definition
    request: Document
    properties: Document
    created_ms: int
    visible_at: float
    number: int
    state: State = State.SUBMITTED
    reason: str | None = None
    started_ms: int | None = None
    stopped_ms: int | None = None
    attempts: list[Attempt] = field(default_factory=list)
    current: Attempt | None = None
    parent: Job | None = None
    index: int | None = None
    children: list[Job] = field(default_factory=list)
    waits_for: set[str] = field(default_factory=set)
    placeable_at: float = 0.0
    head_since_ms: int = 0
    cancelled: bool = False
    terminated: bool = False
    ending: str | None = None
    """Why it is being ended: the reason of a cancel or terminate, or Batch's own."""
    never_again: bool = False
    """It was cancelled, terminated or timed out: no retry."""

    @property
    def multi_container(self) -> bool:
        return "taskProperties" in self.properties

    @property
    def share(self) -> str:
        """Its share identifier; "" on a queue without fair share."""
        return str(self.request.get("shareIdentifier", ""))

    @property
    def retry(self) -> Document:
        """The submission's strategy, else the definition's."""
        found: Document = self.request.get("retryStrategy") or self.definition.request.get(
            "retryStrategy", {}
        )
        return {"attempts": 1, "evaluateOnExit": [], **found}

    @property
    def timeout_seconds(self) -> int | None:
        found = self.request.get("timeout") or self.definition.request.get("timeout") or {}
        seconds: int | None = found.get("attemptDurationSeconds")
        return seconds

    def move(self, state: State) -> None:
        """Into the next state; one that may not follow is a mistake of this server."""
        if state not in FOLLOWS[self.state]:
            raise AssertionError(f"{self.id}: {self.state} → {state}")
        self.state = state
