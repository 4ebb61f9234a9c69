"""Job definitions of a queue's attempts: what a job needs where it runs, as Batch's request.

Pure. One definition stands for all jobs with the same needs: its name is a hash of its content.
What differs between attempts (their submission) goes by overrides. Facts: Batch API reference,
"EcsTaskProperties", "TaskContainerProperties"; Batch User Guide, "Multi-container jobs".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from runner.batch.fargate import rounded
from runner.batch.names import MIN_TIMEOUT, definition_name
from runner.batch.staging import IN_IMAGE_MIB, Staging

VOLUME = "/runner"
"""Where the volume that an attempt's containers share is mounted in each."""

STAGE, MAIN, AGENT = "stage", "main", "agent"

CARRIERS = 2
"""Containers that carry files, beside the command's."""

CARRIER_MIB = 256

CARRIER_VCPUS = 0.25
CARRIER_VCPUS_EC2 = 1.0
"""What each of them gets. On EC2 there are only whole vCPUs ("Value … for type VCPU in
resourceRequirement is not valid", kestra-io/plugin-aws#504)."""

DEFAULT_MEMORY = 2 << 30
"""Bytes of a job that says nothing of its memory: Batch takes none without a number."""

MOST_STOP_SECONDS = 120
"""``stopTimeout`` on Fargate (ECS API reference, "ContainerDefinition")."""

STOP_SPARE = 30
"""Seconds that the agent has for logs and a checkpoint after the command's own grace."""

STAGING_TIME = 3_600
"""Seconds that inputs and uploads may take before Batch's own timeout ends an attempt: it is there
for containers that hang, our own timeout is the agent's."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Commands:
    """What the three containers run, and one that does it all; ``bundle``: where runner is."""

    stage: Sequence[str]
    main: Sequence[str]
    agent: Sequence[str]
    in_image: Sequence[str]
    bundle: str | None = None


@dataclass(frozen=True, slots=True)
class JobNeeds:
    """What an attempt needs where it runs. ``memory``, ``shm``, ``ephemeral``: bytes; ``grace``:
    seconds between SIGTERM and SIGKILL; ``shared``: a file system, ``efs:fs-…[:/path]…``."""

    image: str
    agent_image: str
    vcpus: float = 1.0
    memory: int = DEFAULT_MEMORY
    gpus: int = 0
    grace: float = 30.0
    fargate: bool = False
    job_role: str | None = None
    execution_role: str | None = None
    shm: int | None = None
    ephemeral: int | None = None
    shared: str | None = None
    staging: Staging = Staging.CONTAINERS

    @property
    def carriers(self) -> int:
        """Containers that carry its files."""
        return CARRIERS if self.staging is Staging.CONTAINERS else 0

    @property
    def own_mib(self) -> int:
        """MiB of the command's container. In its own image, what carries its files is in it."""
        more = IN_IMAGE_MIB if self.staging is Staging.IN_IMAGE else 0
        return ceil(self.memory / 2**20) + more


def compose(needs: JobNeeds, commands: Commands) -> Document:
    """The request of RegisterJobDefinition. Raises UsageError for what Fargate has no room for."""
    content: Document = {
        "type": "container",
        "platformCapabilities": ["FARGATE" if needs.fargate else "EC2"],
        **(
            {"containerProperties": _plain(needs)}
            if needs.staging is Staging.NONE
            else {"ecsProperties": {"taskProperties": [_task(needs, commands)]}}
        ),
    }
    return {"jobDefinitionName": definition_name(content), **content}


def _task(needs: JobNeeds, commands: Commands) -> Document:
    containers = _containers(needs, commands)
    task: Document = {"containers": containers, "volumes": [{"name": "runner"}, *_volumes(needs)]}
    if needs.job_role is not None:
        task["taskRoleArn"] = needs.job_role
    return task | _of_task(needs)


def _of_task(needs: JobNeeds) -> Document:
    """What a task of several containers and a job of one have by the same names."""
    found: Document = {}
    if needs.execution_role is not None:
        found["executionRoleArn"] = needs.execution_role
    if needs.fargate:
        found["networkConfiguration"] = {"assignPublicIp": "ENABLED"}
        if needs.ephemeral is not None:
            found["ephemeralStorage"] = {"sizeInGiB": max(21, ceil(needs.ephemeral / 2**30))}
    return found


def _plain(needs: JobNeeds) -> Document:
    """containerProperties of a job that runs its command and nothing of ours."""
    linux: Document = {"initProcessEnabled": True, **_shm(needs)}
    found: Document = {
        "image": needs.image,
        "resourceRequirements": _of_main(needs),
        "linuxParameters": linux,
        **_of_task(needs),
    }
    if needs.job_role is not None:
        found["jobRoleArn"] = needs.job_role
    if needs.shared is not None:
        found["volumes"] = _volumes(needs)
        found["mountPoints"] = _shared_mounts(needs.shared)
    return found


def _containers(needs: JobNeeds, commands: Commands) -> list[Document]:
    if needs.staging is Staging.IN_IMAGE:
        only = _container(MAIN, needs, needs.image, commands.in_image, _of_main(needs))
        only["environment"] += _of_agent(needs, commands)
        return [{**only, "essential": True}]
    containers = [
        _container(STAGE, needs, needs.agent_image, commands.stage, _of_carrier(needs)),
        _container(MAIN, needs, needs.image, commands.main, _of_main(needs)),
        _container(AGENT, needs, needs.agent_image, commands.agent, _of_carrier(needs)),
    ]
    stage, main, agent = containers
    for each in (stage, agent):
        each["environment"] += _of_agent(needs, commands)
    stage["essential"] = main["essential"] = False
    agent["essential"] = True
    for each in (main, agent):
        each["dependsOn"] = [{"containerName": STAGE, "condition": "SUCCESS"}]
    return containers


def _of_agent(needs: JobNeeds, commands: Commands) -> list[Document]:
    told = {"RUNNER_STOP_SECONDS": str(_stop_seconds(needs)), "RUNNER_BUNDLE": commands.bundle}
    return _variables({name: value for name, value in told.items() if value is not None})


def whole_task(needs: JobNeeds) -> tuple[float, int]:
    """vCPUs and MiB of all its containers together. Raises UsageError where Fargate has no pair
    that is as large."""
    mib = needs.own_mib + needs.carriers * CARRIER_MIB
    if needs.fargate:
        return rounded(needs.vcpus + needs.carriers * CARRIER_VCPUS, mib)
    return max(1, ceil(needs.vcpus)) + needs.carriers * CARRIER_VCPUS_EC2, mib


def attempt_seconds(timeout: float, grace: float) -> int:
    """Batch's own timeout of an attempt, which must not come before ours."""
    return max(MIN_TIMEOUT, ceil(timeout + grace) + STAGING_TIME)


def overrides(submission: str, region: str | None, staging: Staging) -> Document:
    """What differs between attempts: where each container finds its submission."""
    told = {"RUNNER_SUBMISSION": submission}
    environment = _variables(told if region is None else {**told, "AWS_REGION": region})
    names = (MAIN,) if staging is Staging.IN_IMAGE else (STAGE, MAIN, AGENT)
    containers = [{"name": name, "environment": environment} for name in names]
    return {"taskProperties": [{"containers": containers}]}


def _container(
    name: str, needs: JobNeeds, image: str, command: Sequence[str], resources: list[Document]
) -> Document:
    mounts = [{"sourceVolume": "runner", "containerPath": VOLUME}]
    variables = {"RUNNER_VOLUME": VOLUME}
    if needs.shared is not None:
        mounts += _shared_mounts(needs.shared)
        variables["RUNNER_SHARED"] = ":".join(_shared_paths(needs.shared))
        if name != MAIN:
            variables["TMPDIR"] = VOLUME  # /tmp may be all jobs' now
    made: Document = {
        "name": name,
        "image": image,
        "command": list(command),
        "environment": _variables(variables),
        "mountPoints": mounts,
        "resourceRequirements": resources,
        "stopTimeout": _stop_seconds(needs),
    }
    if name == MAIN and (linux := _shm(needs)):
        made["linuxParameters"] = linux
    return made


def _shm(needs: JobNeeds) -> Document:
    if needs.shm is None or needs.fargate:
        return {}
    return {"sharedMemorySize": ceil(needs.shm / 2**20)}


def _variables(told: Mapping[str, str]) -> list[Document]:
    return [{"name": name, "value": value} for name, value in told.items()]


def _stop_seconds(needs: JobNeeds) -> int:
    stop = ceil(needs.grace) + STOP_SPARE
    return min(stop, MOST_STOP_SECONDS) if needs.fargate else stop


def _vcpus_of_carrier(needs: JobNeeds) -> float:
    return CARRIER_VCPUS if needs.fargate else CARRIER_VCPUS_EC2


def _of_carrier(needs: JobNeeds) -> list[Document]:
    return _requirements(_vcpus_of_carrier(needs), CARRIER_MIB)


def _of_main(needs: JobNeeds) -> list[Document]:
    """What the others leave of the task's: on Fargate a pair may have had to be rounded up."""
    vcpus, mib = whole_task(needs)
    own = vcpus - needs.carriers * _vcpus_of_carrier(needs)
    found = _requirements(own, mib - needs.carriers * CARRIER_MIB)
    if needs.gpus:
        found.append({"type": "GPU", "value": str(needs.gpus)})
    return found


def _requirements(vcpus: float, mib: int) -> list[Document]:
    return [
        {"type": "VCPU", "value": f"{vcpus:g}"},
        {"type": "MEMORY", "value": str(mib)},
    ]


def _volumes(needs: JobNeeds) -> list[Document]:
    if needs.shared is None:
        return []
    identifier = needs.shared.removeprefix("efs:").partition(":")[0]
    efs: Document = {"fileSystemId": identifier, "transitEncryption": "ENABLED"}
    paths = _shared_paths(needs.shared)
    if len(paths) == 1:
        return [{"name": "shared0", "efsVolumeConfiguration": efs}]
    return [
        {"name": f"shared{number}", "efsVolumeConfiguration": {**efs, "rootDirectory": path}}
        for number, path in enumerate(paths)
    ]


def _shared_mounts(shared: str) -> list[Document]:
    return [
        {"sourceVolume": f"shared{number}", "containerPath": path}
        for number, path in enumerate(_shared_paths(shared))
    ]


def _shared_paths(shared: str) -> list[str]:
    """Where it is mounted: one path has all of it, several have a folder of their own each."""
    return shared.split(":")[2:] or ["/shared"]
