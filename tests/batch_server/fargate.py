"""What Fargate takes: pairs of vCPU and memory, and what a definition may not ask for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .refusals import client_error

GIB = 1024
PAIRS: Mapping[float, Collection[int]] = {
    0.25: (512, 1024, 2048),
    0.5: range(1 * GIB, 4 * GIB + 1, GIB),
    1: range(2 * GIB, 8 * GIB + 1, GIB),
    2: range(4 * GIB, 16 * GIB + 1, GIB),
    4: range(8 * GIB, 30 * GIB + 1, GIB),
    8: range(16 * GIB, 60 * GIB + 1, 4 * GIB),
    16: range(32 * GIB, 120 * GIB + 1, 8 * GIB),
    32: (60 * GIB, 120 * GIB, 244 * GIB),
}
"""vCPU → MiB (documentation of ResourceRequirement in botocore's model)."""

LONGEST_STOP = 120
"""Seconds of a container's stopTimeout."""


def check_fargate(definition: Mapping[str, Any], containers: Sequence[Mapping[str, Any]]) -> None:
    """Raises ``Refused`` where a definition with platformCapabilities FARGATE would be."""
    several = definition.get("ecsProperties")
    holder = several["taskProperties"][0] if several else definition["containerProperties"]
    if not holder.get("executionRoleArn"):
        raise client_error("Fargate requires an executionRoleArn")
    for container in containers:
        linux = container.get("linuxParameters") or {}
        for name, wrong in (
            ("privileged", container.get("privileged")),
            ("sharedMemorySize", linux.get("sharedMemorySize")),
            ("tmpfs", linux.get("tmpfs")),
            ("devices", linux.get("devices")),
            ("vcpus", container.get("vcpus")),
            ("memory", container.get("memory")),
            ("GPU", _requirement(container, "GPU")),
        ):
            if wrong:
                raise client_error(f"{name} is not supported on Fargate")
        if container.get("stopTimeout", 0) > LONGEST_STOP:
            raise client_error(f"stopTimeout must be at most {LONGEST_STOP} on Fargate")
    for volume in holder.get("volumes") or ():
        if (volume.get("host") or {}).get("sourcePath"):
            raise client_error("host paths are not supported on Fargate")
    check_pair(containers)


def check_pair(containers: Sequence[Mapping[str, Any]]) -> None:
    """The task's sums must be one of Fargate's pairs."""
    vcpus = sum(float(_requirement(each, "VCPU") or 0) for each in containers)
    memory = sum(float(_requirement(each, "MEMORY") or 0) for each in containers)
    if memory not in PAIRS.get(vcpus, ()):
        raise client_error(f"Fargate has no pair of {vcpus:g} vCPU and {memory:g} MiB")


def _requirement(container: Mapping[str, Any], kind: str) -> str | None:
    for requirement in container.get("resourceRequirements") or ():
        if requirement["type"] == kind:
            value: str = requirement["value"]
            return value
    return None
