"""A job queue and its compute environments as Batch tells them: the fields that are read here.

Pure. Facts: Batch API reference, "JobQueueDetail", "ComputeEnvironmentDetail",
"GetJobQueueSnapshot".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from runner.model import records
from runner.model.records import Rule


@dataclass(frozen=True, slots=True)
class _Order:
    environment: Annotated[str, Rule(key="computeEnvironment")]
    order: int = 0


@dataclass(frozen=True, slots=True)
class QueueDetail:
    """A job queue. ``fair_share``: jobs need a share identifier."""

    name: Annotated[str, Rule(key="jobQueueName")]
    state: str = "ENABLED"
    status: str = "VALID"
    status_reason: Annotated[str | None, Rule(key="statusReason")] = None
    policy: Annotated[str | None, Rule(key="schedulingPolicyArn")] = None
    _order: Annotated[tuple[_Order, ...], Rule(key="computeEnvironmentOrder")] = ()

    @property
    def fair_share(self) -> bool:
        return self.policy is not None

    @property
    def environments(self) -> tuple[str, ...]:
        """Its compute environments, in the order in which they are tried."""
        ordered = sorted(self._order, key=lambda each: each.order)
        return tuple(each.environment for each in ordered)


@dataclass(frozen=True, slots=True)
class _Resources:
    type: str = "EC2"
    max_vcpus: Annotated[int, Rule(key="maxvCpus")] = 0
    desired_vcpus: Annotated[int | None, Rule(key="desiredvCpus")] = None
    instance_types: Annotated[tuple[str, ...], Rule(key="instanceTypes")] = ()


@dataclass(frozen=True, slots=True)
class EnvironmentDetail:
    """A compute environment."""

    name: Annotated[str, Rule(key="computeEnvironmentName")]
    state: str = "ENABLED"
    status: str = "VALID"
    status_reason: Annotated[str | None, Rule(key="statusReason")] = None
    _resources: Annotated[_Resources | None, Rule(key="computeResources")] = None

    @property
    def kind(self) -> str | None:
        """EC2, SPOT, FARGATE or FARGATE_SPOT; None: it is unmanaged."""
        return self._resources.type if self._resources is not None else None

    @property
    def fargate(self) -> bool:
        return (self.kind or "").startswith("FARGATE")

    @property
    def max_vcpus(self) -> int | None:
        return self._resources.max_vcpus if self._resources is not None else None

    @property
    def desired_vcpus(self) -> int | None:
        """What Batch has asked EC2 for; not told of Fargate."""
        return self._resources.desired_vcpus if self._resources is not None else None

    @property
    def instance_types(self) -> tuple[str, ...]:
        return self._resources.instance_types if self._resources is not None else ()

    @property
    def usable(self) -> bool:
        """Whether Batch places jobs there."""
        return self.state == "ENABLED" and self.status == "VALID"


@dataclass(frozen=True, slots=True)
class _FrontJob:
    arn: Annotated[str, Rule(key="jobArn")]


@dataclass(frozen=True, slots=True)
class _Front:
    jobs: tuple[_FrontJob, ...] = ()


@dataclass(frozen=True, slots=True)
class _Snapshot:
    front: Annotated[_Front | None, Rule(key="frontOfQueue")] = None


def read_queue_detail(value: Mapping[str, Any]) -> QueueDetail:
    """What DescribeJobQueues told of one. Raises RecordError."""
    return records.read(QueueDetail, dict(value), "DescribeJobQueues")


def read_environment(value: Mapping[str, Any]) -> EnvironmentDetail:
    """What DescribeComputeEnvironments told of one. Raises RecordError."""
    return records.read(EnvironmentDetail, dict(value), "DescribeComputeEnvironments")


def front_of_queue(value: Mapping[str, Any]) -> tuple[str, ...]:
    """Ids of the first 100 RUNNABLE jobs that GetJobQueueSnapshot told. Raises RecordError."""
    found = records.read(_Snapshot, dict(value), "GetJobQueueSnapshot").front
    jobs = found.jobs if found is not None else ()
    return tuple(each.arn.rpartition("/")[2] for each in jobs)
