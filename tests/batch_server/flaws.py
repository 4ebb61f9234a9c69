"""An executor whose next containers meet what a host's agent or Docker may do to them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .executors import CannotStart, Container, ContainerEnd, Executor, Running

TIMED_OUT = "DockerTimeoutError: Could not transition to created; timed out after waiting 4m0s"
NOT_INSPECTED = (
    "CannotInspectContainerError: Could not transition to inspecting; timed out after waiting 30s"
)
"""The ECS agent's texts (amazon-ecs-agent, ``agent/dockerclient/dockerapi/errors.go``)."""


@dataclass(slots=True)
class Flawed:
    """``starts``: reasons for which the next containers don't start. ``ends``: what is told of the
    next ends, whatever the container did."""

    executor: Executor
    starts: deque[str] = field(default_factory=deque)
    ends: deque[ContainerEnd] = field(default_factory=deque)

    def start(self, container: Container) -> Running:
        if self.starts:
            raise CannotStart(self.starts.popleft())
        running = self.executor.start(container)
        return _Misread(running, self.ends.popleft()) if self.ends else running

    def close(self) -> None:
        self.executor.close()


@dataclass(frozen=True, slots=True)
class _Misread:
    """A container whose end is told wrongly."""

    running: Running
    end: ContainerEnd

    def terminate(self) -> None:
        self.running.terminate()

    def kill(self) -> None:
        self.running.kill()

    def wait(self) -> ContainerEnd:
        self.running.wait()
        return self.end
