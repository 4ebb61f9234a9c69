"""A job definition of AWS Batch as capabilities: what its jobs need and are given. Pure.

runner registers definitions of its own, for its containers carry files; one that is named says what
they hold. What runner can't take over from it is refused: a job would run without it in silence.
Facts: Batch API reference, "JobDefinition", "ContainerProperties".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.api.capabilities import Capabilities, parse_capabilities

_TAKEN = frozenset(
    {"image", "vcpus", "memory", "resourceRequirements", "environment", "jobRoleArn",
     "executionRoleArn"}
)  # fmt: skip
_OTHERS_SAY = frozenset(
    {"command", "logConfiguration", "networkConfiguration", "fargatePlatformConfiguration"}
)
"""The call or command stands in their place, or the job queue and runner's own definition."""

_NUMBERS = {"VCPU": "cpus", "GPU": "gpus"}


def capabilities_of(
    name: str, definition: Mapping[str, Any], roles: Mapping[str, str | None]
) -> Capabilities:
    """What a JobDefinition says. ``roles``: the executor's, as `jobRoleArn` and `executionRoleArn`.

    Raises ValueError with a line for each thing that can't be taken over.
    """
    container: Mapping[str, Any] = definition.get("containerProperties") or {}
    if definition.get("type") != "container" or not container:
        raise ValueError(f'"job_definition": {name} is not of one container')
    if faults := list(_faults(name, definition, container, roles)):
        raise ValueError("\n".join(faults))
    found: dict[str, Any] = {"image": container.get("image"), **_resources(container)}
    found["env"] = {
        each["name"]: each.get("value", "") for each in container.get("environment", ())
    }
    found["timeout"] = (definition.get("timeout") or {}).get("attemptDurationSeconds")
    found["retry"] = (definition.get("retryStrategy") or {}).get("attempts")
    return parse_capabilities({key: value for key, value in found.items() if value is not None})


def _faults(
    name: str,
    definition: Mapping[str, Any],
    container: Mapping[str, Any],
    roles: Mapping[str, str | None],
) -> Iterator[str]:
    for key, value in container.items():
        if value and key not in _TAKEN | _OTHERS_SAY and not _is_usual(key, value):
            yield f'"job_definition": {name} has {key}, which runner can\'t take over'
    if definition.get("parameters"):
        yield f'"job_definition": {name} has parameters, which runner can\'t take over'
    for key, own in roles.items():
        option = {"jobRoleArn": "job_role", "executionRoleArn": "execution_role"}[key]
        if container.get(key) not in (None, "", own):
            yield (
                f'"job_definition": {name} has the {key} {container[key]}: an Executor has one '
                f"for all its jobs, its option {option}"
            )


def _is_usual(key: str, value: Any) -> bool:
    """Whether it is as runner's own definitions have it."""
    if key == "linuxParameters":
        return {name for name, said in value.items() if said} <= {"initProcessEnabled"}
    if key == "runtimePlatform":
        return bool(value.get("cpuArchitecture", "X86_64") == "X86_64")
    return False


def _resources(container: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"cpus": container.get("vcpus"), "memory": container.get("memory")}
    for each in container.get("resourceRequirements", ()):
        kind, value = each["type"], each["value"]
        if kind == "MEMORY":
            found["memory"] = int(value)
        elif kind in _NUMBERS:
            found[_NUMBERS[kind]] = int(value) if value.isdigit() else float(value)
    return found
