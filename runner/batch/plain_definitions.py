"""Job definitions of one container, as single jobs use them: what is registered, and found again.

Pure. A definition's content has a hash, which is kept in its parameters: the same content is
registered once. Facts: Batch API reference, RegisterJobDefinition.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.batch.fargate import rounded
from runner.batch.names import definition_name
from runner.errors import UsageError
from runner.model.messages import quoted

CONTENT = "runner-content"
"""The parameter that holds the content's hash. No command has a placeholder of this name."""

_EFS = re.compile(r"efs:(?P<id>fs-[0-9a-f]{8,40})(?P<root>/[^:]*)?:(?P<path>/[^:]*)(?P<ro>:ro)?")
_HOST = re.compile(r"(?P<host>/[^:]*):(?P<path>/[^:]*)(?P<ro>:ro)?")

Request = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PlainDefinition:
    """``memory`` in MiB, ``timeout`` in s, ``shm`` in MiB, ``ephemeral_storage`` in GiB.

    ``volumes``: ``/on/the/host:/in/the/container[:ro]`` or ``efs:fs-…[/below]:/in/the/container``.
    """

    image: str
    cpus: float = 1
    memory: int = 2_048
    gpus: int = 0
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    volumes: Sequence[str] = ()
    job_role: str | None = None
    execution_role: str | None = None
    timeout: int | None = None
    attempts: int | None = None
    fargate: bool = False
    public_ip: bool = False
    user: str | None = None
    privileged: bool = False
    shm: int | None = None
    ephemeral_storage: int | None = None
    log_group: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def resources(cpus: float | None, memory: int | None, gpus: int | None) -> list[Request]:
    """resourceRequirements of what was given; ``memory`` in MiB."""
    given = (
        ("VCPU", None if cpus is None else f"{cpus:g}"),
        ("MEMORY", None if memory is None else str(memory)),
        ("GPU", str(gpus) if gpus else None),
    )
    return [{"type": kind, "value": value} for kind, value in given if value is not None]


def pairs(values: Mapping[str, str]) -> list[Request]:
    """Variables as Batch takes them."""
    return [{"name": name, "value": value} for name, value in values.items()]


def request_of(wanted: PlainDefinition, name: str | None = None) -> tuple[Request, list[str]]:
    """The RegisterJobDefinition request, and what is worth a word: what was rounded, say.

    ``name`` None: one that is made of the content. Raises UsageError for what cannot go together.
    """
    notes: list[str] = []
    cpus, memory = wanted.cpus, wanted.memory
    if wanted.fargate:
        _check_fargate(wanted)
        cpus, memory = rounded(cpus, memory)
        if (cpus, memory) != (wanted.cpus, wanted.memory):
            notes.append(rounding(wanted.cpus, wanted.memory, cpus, memory))
    else:
        if wanted.ephemeral_storage or wanted.public_ip:
            raise UsageError("ephemeral storage and a public address are Fargate's: add --fargate")
        if (cpus := whole(cpus)) != wanted.cpus:
            notes.append(whole_only(wanted.cpus, cpus))
    if wanted.secrets and not wanted.execution_role:
        raise UsageError("secrets need an execution role, with which they are read")
    container: Request = {
        "image": wanted.image,
        "resourceRequirements": resources(cpus, memory, wanted.gpus),
        **({"command": list(wanted.command)} if wanted.command else {}),
        **({"environment": pairs(wanted.environment)} if wanted.environment else {}),
        **_optional(wanted),
        **_volumes(wanted.volumes),
    }
    request: Request = {
        "type": "container",
        "containerProperties": container,
        "platformCapabilities": ["FARGATE" if wanted.fargate else "EC2"],
    }
    if wanted.timeout is not None:
        request["timeout"] = {"attemptDurationSeconds": wanted.timeout}
    if wanted.attempts is not None:
        request["retryStrategy"] = {"attempts": wanted.attempts}
    if wanted.tags:
        request["tags"] = dict(wanted.tags)
    request["parameters"] = {CONTENT: content_hash(request)}
    return {"jobDefinitionName": name or definition_name(request), **request}, notes


def content_hash(request: Mapping[str, Any]) -> str:
    """Of all that a definition holds but its name."""
    told = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def same_content(registered: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether a definition that Batch describes was registered with this request."""
    known = (registered.get("parameters") or {}).get(CONTENT)
    return known is not None and known == request["parameters"][CONTENT]


def rounding(cpus: float, memory: int, to_cpus: float, to_memory: int) -> str:
    """What became of an amount that Fargate hasn't."""
    return (
        f"Fargate has no {cpus:g} vCPUs with {memory:,} MiB: rounded up to {to_cpus:g} vCPUs with "
        f"{to_memory:,} MiB"
    )


def whole(cpus: float) -> float:
    """vCPUs as EC2 takes them. Fractions are Fargate's (Batch API reference, ResourceRequirement);
    Batch refuses `0.5`, and `1.0` too (kestra-io/plugin-aws#504)."""
    return float(math.ceil(cpus))


def whole_only(cpus: float, to: float) -> str:
    """What became of a fraction."""
    return f"on EC2 Batch takes whole vCPUs only: {cpus:g} rounded up to {to:g}"


def _check_fargate(wanted: PlainDefinition) -> None:
    refused = [
        what
        for what, given in (
            ("GPUs", wanted.gpus),
            ("privileged containers", wanted.privileged),
            ("a size of /dev/shm", wanted.shm),
            ("folders of the host", any(_HOST.fullmatch(each) for each in wanted.volumes)),
        )
        if given
    ]
    if refused:
        raise UsageError(f"Fargate has no {' and no '.join(refused)}")
    if not wanted.execution_role:
        raise UsageError("Fargate needs an execution role, with which it pulls the image")
    size = wanted.ephemeral_storage
    if size is not None and not 21 <= size <= 200:
        raise UsageError(f"ephemeral storage of {size} GiB: Fargate takes 21 to 200 GiB")


def _optional(wanted: PlainDefinition) -> Request:
    linux: Request = {"initProcessEnabled": True}
    if wanted.shm is not None:
        linux["sharedMemorySize"] = wanted.shm
    found: Request = {
        "linuxParameters": linux,
        "jobRoleArn": wanted.job_role,
        "executionRoleArn": wanted.execution_role,
        "user": wanted.user,
        "privileged": wanted.privileged or None,
    }
    if wanted.secrets:
        found["secrets"] = [
            {"name": name, "valueFrom": source} for name, source in wanted.secrets.items()
        ]
    if wanted.fargate and wanted.public_ip:
        found["networkConfiguration"] = {"assignPublicIp": "ENABLED"}
    if wanted.ephemeral_storage is not None:
        found["ephemeralStorage"] = {"sizeInGiB": wanted.ephemeral_storage}
    if wanted.log_group is not None:
        options = {"awslogs-group": wanted.log_group}
        found["logConfiguration"] = {"logDriver": "awslogs", "options": options}
    return {key: value for key, value in found.items() if value is not None}


def _volumes(given: Sequence[str]) -> Request:
    volumes: list[Request] = []
    mounts: list[Request] = []
    for number, text in enumerate(given):
        name = f"volume-{number}"
        if found := _EFS.fullmatch(text):
            settings: Request = {"fileSystemId": found["id"], "transitEncryption": "ENABLED"}
            if found["root"]:
                settings["rootDirectory"] = found["root"]
            volumes.append({"name": name, "efsVolumeConfiguration": settings})
        elif found := _HOST.fullmatch(text):
            volumes.append({"name": name, "host": {"sourcePath": found["host"]}})
        else:
            what = "/on/the/host:/in/the/container or efs:fs-…:/in/the/container, perhaps with :ro"
            raise UsageError(f"{quoted(text)} is not {what}")
        mount: Request = {"sourceVolume": name, "containerPath": found["path"]}
        mounts.append({**mount, "readOnly": True} if found["ro"] else mount)
    return {"volumes": volumes, "mountPoints": mounts} if volumes else {}
