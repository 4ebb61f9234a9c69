"""Job queues, compute environments and their hosts: where a task is placed, and why it isn't."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

INSUFFICIENT = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
TOO_MUCH = "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"
NO_SUCH_HOST = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"
UNDETERMINED = "UNDETERMINED"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a task asks for: vCPUs, MiB and GPUs of all its containers."""

    vcpus: float
    memory: int
    gpus: int = 0


@dataclass(slots=True, eq=False)
class Host:
    """An instance with the ECS agent, and what is free on it: vCPUs, MiB, GPUs by their UUIDs."""

    id: str
    arn: str
    vcpus: float
    memory: int
    gpus: list[str]

    def fits(self, needs: Needs) -> bool:
        return (
            self.vcpus >= needs.vcpus
            and self.memory >= needs.memory
            and len(self.gpus) >= needs.gpus
        )


@dataclass(slots=True, eq=False)
class ComputeEnvironment:
    """``places``: False, and no job that needs it ever starts, as when its region is full.

    ``obstacle``: why it places nothing, in Batch's words; "", and it doesn't say. ``invalid``: why
    its status is INVALID; such a one places nothing. ``shown``: more of its computeResources.
    """

    name: str
    kind: str = "EC2"
    max_vcpus: float = 256
    host_vcpus: float = 4
    host_memory: int = 15_900
    host_gpus: int = 0
    places: bool = True
    obstacle: str | None = None
    enabled: bool = True
    invalid: str | None = None
    shown: dict[str, object] = field(default_factory=dict)
    hosts: list[Host] = field(default_factory=list)
    used: float = 0

    @property
    def fargate(self) -> bool:
        return self.kind.startswith("FARGATE")


@dataclass(slots=True, eq=False)
class JobQueue:
    """``limits``: its jobStateTimeLimitActions, as DescribeJobQueues shows them.

    ``shares``: of a fair-share queue, the weight factor of each share identifier; 1 for others.
    """

    name: str
    environments: list[ComputeEnvironment]
    priority: int = 1
    fair_share: bool = False
    enabled: bool = True
    limits: list[dict[str, object]] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=dict)
    in_use: dict[str, float] = field(default_factory=dict)
    """vCPUs of running jobs, by share."""
    waiting: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    """By share ("" without fair share), a heap of what can be placed: priority, number, id."""

    def in_turn(self) -> list[list[tuple[int, int, str]]]:
        """The heaps that hold something, the one whose share has least in use first."""
        held = [
            (self._use(share), heap[0][1], heap) for share, heap in self.waiting.items() if heap
        ]
        return [heap for _, _, heap in sorted(held, key=lambda each: each[:2])]

    def _use(self, share: str) -> float:
        """A lower weight factor gives a share more (API reference, "ShareAttributes")."""
        return self.in_use.get(share, 0.0) * self.shares.get(share, 1.0)


@dataclass(frozen=True, slots=True)
class Placement:
    environment: ComputeEnvironment
    host: Host | None
    needs: Needs
    gpus: tuple[str, ...] = ()

    def release(self) -> None:
        self.environment.used -= self.needs.vcpus
        if self.host is not None:
            self.host.vcpus += self.needs.vcpus
            self.host.memory += self.needs.memory
            self.host.gpus.extend(self.gpus)


_instances = itertools.count(1)


def place(queue: JobQueue, needs: Needs, arn: Callable[[str, str], str]) -> Placement | str | None:
    """Where it goes; why it can't go anywhere; or None while there is just no room."""
    reasons: list[str | None] = []
    for environment in queue.environments:
        if (reason := _obstacle(environment, needs)) is not None:
            reasons.append(reason)
            continue
        if environment.used + needs.vcpus > environment.max_vcpus:
            reasons.append(None)
            continue
        environment.used += needs.vcpus
        if environment.fargate:
            return Placement(environment, None, needs)
        host = _host(environment, needs, arn)
        gpus = tuple(host.gpus.pop() for _ in range(needs.gpus))
        return Placement(environment, host, needs, gpus)
    return None if None in reasons or not reasons else reasons[0]


def _obstacle(environment: ComputeEnvironment, needs: Needs) -> str | None:
    if environment.obstacle is not None:
        return environment.obstacle
    if environment.invalid is not None or not environment.enabled:
        return UNDETERMINED
    if needs.vcpus > environment.max_vcpus:
        return TOO_MUCH
    whole = (environment.host_vcpus, environment.host_memory, environment.host_gpus)
    asked = (needs.vcpus, needs.memory, needs.gpus)
    if not environment.fargate and any(a > b for a, b in zip(asked, whole, strict=True)):
        return NO_SUCH_HOST
    return None if environment.places else INSUFFICIENT


def _host(environment: ComputeEnvironment, needs: Needs, arn: Callable[[str, str], str]) -> Host:
    for host in environment.hosts:
        if host.fits(needs):
            break
    else:
        host = Host(
            id=f"i-{next(_instances):017x}",
            arn=arn(f"container-instance/{uuid.uuid4()}", "ecs"),
            vcpus=environment.host_vcpus,
            memory=environment.host_memory,
            gpus=[f"GPU-{uuid.uuid4()}" for _ in range(environment.host_gpus)],
        )
        environment.hosts.append(host)
    host.vcpus -= needs.vcpus
    host.memory -= needs.memory
    return host
