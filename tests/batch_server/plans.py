"""From a definition and a submission to containers: overrides, parameters, variables, volumes.

Pure, but for the folders of a task's volumes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from .compute import Needs, Placement
from .executors import Container
from .jobs import Attempt, Definition, Document, Job
from .limits import amount, overrides
from .logs import GROUP

MAIN = "default"
"""The name of a single container; it is in the log stream's."""


def merged(definition: Definition, request: Document) -> Document:
    """The properties of the job: the definition's, with what the submission puts over them."""
    parameters = {**definition.request.get("parameters", {}), **request.get("parameters", {})}
    by_name = {override.get("name", MAIN): override for override in overrides(request)}
    if (several := definition.request.get("ecsProperties")) is None:
        own = definition.request["containerProperties"]
        return _merge(own, by_name.get(MAIN, {}), parameters)
    task = several["taskProperties"][0]
    containers = [
        _merge(container, by_name.get(container["name"], {}), parameters)
        for container in task["containers"]
    ]
    return {"taskProperties": [{**task, "containers": containers}]}


def _merge(own: Document, over: Document, parameters: Mapping[str, str]) -> Document:
    answer = {**own}
    command = over.get("command") or own.get("command") or []
    answer["command"] = [
        parameters.get(part.removeprefix("Ref::"), part) if part.startswith("Ref::") else part
        for part in command
    ]
    answer["environment"] = _by("name", own.get("environment") or (), over.get("environment") or ())
    asked = own.get("resourceRequirements") or ()
    answer["resourceRequirements"] = _by("type", asked, over.get("resourceRequirements") or ())
    # The old keys of the overrides do nothing where the definition has requirements.
    for key in ("vcpus", "memory"):
        if key in over and not asked:
            answer[key] = over[key]
    return answer


def _by(key: str, first: Iterable[Document], second: Iterable[Document]) -> list[Document]:
    return list({each[key]: each for each in (*first, *second)}.values())


def containers_of(properties: Document) -> list[Document]:
    """The containers' properties, of a single one or of several."""
    tasks = properties.get("taskProperties")
    found: list[Document] = tasks[0]["containers"] if tasks else [properties]
    return found


def needs(properties: Document) -> Needs:
    """What the whole task asks for."""
    vcpus, memory, gpus = (
        sum(amount(container, kind) or 0 for container in containers_of(properties))
        for kind in ("VCPU", "MEMORY", "GPU")
    )
    return Needs(vcpus, int(memory), int(gpus))


def names(properties: Document) -> list[str]:
    return [container.get("name", MAIN) for container in containers_of(properties)]


def plan(
    job: Job, attempt: Attempt, placement: Placement, folder: str, shared: str
) -> list[Container]:
    """``folder``: the task's own on the host; ``shared``: where file systems of all jobs lie."""
    holder = job.properties.get("taskProperties", [job.properties])[0]
    volumes = {
        volume["name"]: _volume(volume, folder, shared) for volume in holder.get("volumes") or ()
    }
    known = {
        "AWS_BATCH_JOB_ID": job.id,
        "AWS_BATCH_JOB_ATTEMPT": str(attempt.number),
        "AWS_BATCH_JQ_NAME": job.queue,
        "AWS_BATCH_CE_NAME": placement.environment.name,
    }
    if job.index is not None:
        known["AWS_BATCH_JOB_ARRAY_INDEX"] = str(job.index)
    gpus = list(placement.gpus)
    return [
        Container(
            name=container.get("name", MAIN),
            image=container["image"],
            command=tuple(container["command"]),
            environment={
                **{each["name"]: each.get("value", "") for each in container["environment"]},
                **known,
                **_devices(container, gpus),
            },
            memory_mib=int(amount(container, "MEMORY") or 0),
            group=group_of(container),
            stream=attempt.streams[container.get("name", MAIN)],
            options=container,
            volumes=volumes,
            essential=container.get("essential", True),
            depends_on=tuple(
                (each["containerName"], each["condition"])
                for each in container.get("dependsOn") or ()
            ),
            stop_s=float(container.get("stopTimeout", 30)),
        )
        for container in containers_of(job.properties)
    ]


def group_of(container: Mapping[str, Any]) -> str:
    """The log group of a container's lines."""
    return str(_log_options(container).get("awslogs-group", GROUP))


def stream_of(container: Mapping[str, Any], definition: Definition, task_id: str) -> str:
    """The log stream: a prefix of its own, or the definition's name."""
    prefix = _log_options(container).get("awslogs-stream-prefix", definition.name)
    return f"{prefix}/{container.get('name', MAIN)}/{task_id}"


def _log_options(container: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = (container.get("logConfiguration") or {}).get("options") or {}
    return found


def _devices(container: Mapping[str, Any], left: list[str]) -> dict[str, str]:
    """The container's own GPUs, of those that the task has."""
    own = [left.pop() for _ in range(int(amount(container, "GPU") or 0))]
    return {"NVIDIA_VISIBLE_DEVICES": ",".join(own)} if own else {}


def _volume(volume: Mapping[str, Any], folder: str, shared: str) -> str:
    if path := (volume.get("host") or {}).get("sourcePath"):
        return str(path)
    if file_system := volume.get("efsVolumeConfiguration"):
        root = file_system.get("rootDirectory", "/").strip("/")
        made = os.path.join(shared, file_system["fileSystemId"], root)
    else:
        made = os.path.join(folder, volume["name"])
    os.makedirs(made, exist_ok=True)
    return made
