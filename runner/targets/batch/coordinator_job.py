"""The coordinator's job, as AWS Batch is asked for it. Pure.

Facts: Batch API reference, "RegisterJobDefinition", "SubmitJob"; Batch User Guide, "Automated job
retries".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from runner.batch.names import MAX_NAME, definition_name
from runner.targets.batch.coordinator_options import CoordinatorOptions

PREFIX = "runner-coordinator-"
"""What the names of all coordinators' jobs begin with."""

STARTS = 10
"""How often Batch starts a coordinator that is lost: the most that it allows."""

_FOR_GOOD = ("2", "100", "103", "104", "105")
"""Exit codes with which it has ended for good: refused, with its queue, or because it was asked to.
Batch takes five rules."""

STORE_VARIABLE = "RUNNER_STORE"
BUNDLE_VARIABLE = "RUNNER_BUNDLE"
VOLUME_VARIABLE = "RUNNER_VOLUME"
FOLDER = "/tmp/runner"
"""Where a coordinator's container has what it fetches of runner: nothing that has to last."""

_ODD = re.compile(r"[^A-Za-z0-9_-]+")

Document = dict[str, Any]


def job_name(queue_id: str, launch: str) -> str:
    """Each launch has a name of its own; the queue's is in it for people."""
    return f"{PREFIX}{launch[:8]}-{_ODD.sub('-', queue_id)}"[:MAX_NAME]


def definition(
    options: CoordinatorOptions, command: Sequence[str], bundle: str | None, *, fargate: bool
) -> Document:
    """The request of RegisterJobDefinition: the same for all queues of these options.

    On EC2 a vCPU is the least that Batch takes, on Fargate a quarter.
    """
    size = ("0.25", "1024") if fargate else ("1", "1024")
    environment = {VOLUME_VARIABLE: FOLDER}
    if bundle is not None:
        environment[BUNDLE_VARIABLE] = bundle
    container: Document = {
        "image": options.agent_image,
        "command": list(command),
        "environment": _pairs(environment),
        "resourceRequirements": [
            {"type": kind, "value": value}
            for kind, value in zip(("VCPU", "MEMORY"), size, strict=True)
        ],
    }
    if options.own_role is not None:
        container["jobRoleArn"] = options.own_role
    if options.execution_role is not None:
        container["executionRoleArn"] = options.execution_role
    if fargate:
        container["networkConfiguration"] = {"assignPublicIp": "ENABLED"}
    content: Document = {
        "type": "container",
        "platformCapabilities": ["FARGATE" if fargate else "EC2"],
        "containerProperties": container,
        "retryStrategy": {
            "attempts": STARTS,
            "evaluateOnExit": [{"onExitCode": code, "action": "EXIT"} for code in _FOR_GOOD],
        },
    }
    return {"jobDefinitionName": definition_name(content), **content}


def submission(
    name: str, options: CoordinatorOptions, definition: str, store: str, *, fair_share: bool
) -> Document:
    """The request of SubmitJob."""
    environment = {STORE_VARIABLE: store, "AWS_REGION": options.region}
    request: Document = {
        "jobName": name,
        "jobQueue": options.job_queue,
        "jobDefinition": definition,
        "containerOverrides": {"environment": _pairs(environment)},
    }
    if fair_share:
        request["shareIdentifier"] = "runner"
    return request


def _pairs(environment: dict[str, str]) -> list[Document]:
    return [{"name": name, "value": value} for name, value in environment.items()]
