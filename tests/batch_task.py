"""The Batch job of an attempt, as a driver would register and submit it: stage, main and agent."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batch_account import BatchAccount, requirements
from batch_attempt import Attempt

from runner.batch.container.commands import agent_command, main_command, stage_command

VOLUME = "/runner"
ROOT = Path(__file__).parents[1]
PYTHON_HOME = Path(sys.base_prefix)
HOST = tuple(
    each
    for each in ("/usr", "/lib", "/lib64", "/bin", "/etc", str(ROOT), sys.prefix, str(PYTHON_HOME))
    if Path(each).is_dir()
)
"""What a container that has this machine's Python needs of it."""


def register(
    account: BatchAccount,
    image: str,
    agent_image: str,
    environment: Mapping[str, str],
    *,
    host: Sequence[str] = (),
    memory: int = 64,
    stop_seconds: int = 30,
    user: str | None = None,
) -> str:
    """The definition's name and revision. ``host``: folders of this machine that stage and agent
    have as well; ``environment``: of all three; ``user``: as whom COMMAND runs."""
    variables = {"RUNNER_VOLUME": VOLUME, "RUNNER_STOP_SECONDS": str(stop_seconds), **environment}
    told = [{"name": name, "value": value} for name, value in variables.items()]
    volumes: list[dict[str, Any]] = [{"name": "runner"}]
    mounts = [{"sourceVolume": "runner", "containerPath": VOLUME}]
    own = []
    for number, folder in enumerate(host):
        volumes.append({"name": f"host{number}", "host": {"sourcePath": folder}})
        own.append({"sourceVolume": f"host{number}", "containerPath": folder, "readOnly": True})

    def container(name: str, image: str, command: list[str], mib: int) -> dict[str, Any]:
        return {
            "name": name,
            **({"user": user} if user is not None and name == "main" else {}),
            "image": image,
            "command": command,
            "environment": told,
            "mountPoints": mounts if name == "main" else [*mounts, *own],
            "resourceRequirements": requirements(1, mib),
            "essential": name == "agent",
            "stopTimeout": stop_seconds,
            "dependsOn": []
            if name == "stage"
            else [{"containerName": "stage", "condition": "SUCCESS"}],
        }

    answer = account.client.register_job_definition(
        jobDefinitionName="attempt",
        type="container",
        ecsProperties={
            "taskProperties": [
                {
                    "containers": [
                        container("stage", agent_image, stage_command(), 512),
                        container("main", image, main_command(), memory),
                        container("agent", agent_image, agent_command(), 512),
                    ],
                    "volumes": volumes,
                }
            ]
        },
    )
    return f"attempt:{answer['revision']}"


def submit(account: BatchAccount, definition: str, attempt: Attempt, **request: Any) -> str:
    """The id of a Batch job of this submission."""
    told = [{"name": "RUNNER_SUBMISSION", "value": attempt.environment["RUNNER_SUBMISSION"]}]
    containers = [{"name": name, "environment": told} for name in ("stage", "main", "agent")]
    answer = account.client.submit_job(
        jobName="attempt",
        jobQueue="queue",
        jobDefinition=definition,
        ecsPropertiesOverride={"taskProperties": [{"containers": containers}]},
        **request,
    )
    return str(answer["jobId"])
