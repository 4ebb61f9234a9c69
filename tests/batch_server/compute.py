"""Job queues, compute environments and their hosts: where a task is placed, and why it isn't."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

INSUFFICIENT = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
TOO_MUCH = "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"
NO_SUCH_HOST = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"


@dataclass(slots=True, eq=False)
class Host:
    """An instance with the ECS agent. ``jobs``: what runs on it, by vCPUs and MiB."""

    id: str
    arn: str
    vcpus: float
    memory: int


@dataclass(slots=True, eq=False)
class ComputeEnvironment:
    """``places``: False, and no job that needs it ever starts, as when its region is full."""

    name: str
    kind: str = "EC2"
    max_vcpus: float = 256
    host_vcpus: float = 4
    host_memory: int = 15_900
    places: bool = True
    hosts: list[Host] = field(default_factory=list)
    used: float = 0

    @property
    def fargate(self) -> bool:
        return self.kind.startswith("FARGATE")


@dataclass(slots=True, eq=False)
class JobQueue:
    """``limits``: its jobStateTimeLimitActions, as DescribeJobQueues shows them."""

    name: str
    environments: list[ComputeEnvironment]
    priority: int = 1
    fair_share: bool = False
    enabled: bool = True
    limits: list[dict[str, object]] = field(default_factory=list)
    waiting: list[tuple[int, int, str]] = field(default_factory=list)
    """A heap of what can be placed: priority, number, id."""


@dataclass(frozen=True, slots=True)
class Placement:
    environment: ComputeEnvironment
    host: Host | None
    vcpus: float
    memory: int

    def release(self) -> None:
        self.environment.used -= self.vcpus
        if self.host is not None:
            self.host.vcpus += self.vcpus
            self.host.memory += self.memory


_instances = itertools.count(1)


def place(
    queue: JobQueue, vcpus: float, memory: int, arn: Callable[[str, str], str]
) -> Placement | str | None:
    """Where it goes; why it can't go anywhere; or None while there is just no room."""
    reasons: list[str | None] = []
    for environment in queue.environments:
        if (reason := _obstacle(environment, vcpus, memory)) is not None:
            reasons.append(reason)
            continue
        if environment.used + vcpus > environment.max_vcpus:
            reasons.append(None)
            continue
        host = None if environment.fargate else _host(environment, vcpus, memory, arn)
        environment.used += vcpus
        return Placement(environment, host, vcpus, memory)
    return None if None in reasons or not reasons else reasons[0]


def _obstacle(environment: ComputeEnvironment, vcpus: float, memory: int) -> str | None:
    if vcpus > environment.max_vcpus:
        return TOO_MUCH
    if not environment.fargate and (
        vcpus > environment.host_vcpus or memory > environment.host_memory
    ):
        return NO_SUCH_HOST
    return None if environment.places else INSUFFICIENT


def _host(
    environment: ComputeEnvironment, vcpus: float, memory: int, arn: Callable[[str, str], str]
) -> Host:
    for host in environment.hosts:
        if host.vcpus >= vcpus and host.memory >= memory:
            break
    else:
        host = Host(
            id=f"i-{next(_instances):017x}",
            arn=arn(f"container-instance/{uuid.uuid4()}", "ecs"),
            vcpus=environment.host_vcpus,
            memory=environment.host_memory,
        )
        environment.hosts.append(host)
    host.vcpus -= vcpus
    host.memory -= memory
    return host
