"""What runs a job's containers: the port that Docker and plain processes stand behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a task. ``options``: the rest of its properties, as they were registered.

    ``volumes``: name → path on the host; ``stop_s``: Batch's seconds between TERM and KILL.
    """

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    memory_mib: int
    group: str
    stream: str
    options: Mapping[str, Any]
    volumes: Mapping[str, str]
    essential: bool = True
    depends_on: tuple[tuple[str, str], ...] = ()
    stop_s: float = 30.0


@dataclass(frozen=True, slots=True)
class ContainerEnd:
    """``exit_code`` is None where it never started; ``reason`` is the ECS agent's text."""

    exit_code: int | None
    reason: str | None = None


class CannotStart(Exception):
    """The container doesn't run; the text is the ECS agent's, with its name in front."""


class Running(Protocol):
    """A container that was started."""

    def terminate(self) -> None:
        """SIGTERM to its first process; nothing where it has ended."""

    def kill(self) -> None:
        """SIGKILL to all of it."""

    def wait(self) -> ContainerEnd:
        """Until it has ended."""


class Executor(Protocol):
    """Runs containers on this machine."""

    def start(self, container: Container) -> Running:
        """It runs when this returns. Raises ``CannotStart``."""

    def close(self) -> None:
        """Whatever still runs is killed."""
