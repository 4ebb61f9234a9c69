"""A task and its containers as the task metadata endpoint, version 4, shows them. Pure.

Members: ECS Developer Guide, "Amazon ECS task metadata V4 JSON response".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

from .executors import Container
from .jobs import Attempt, Document, Job
from .limits import amount
from .plans import needs
from .tasks import ContainerLook


def container(job: Job, attempt: Attempt, plan: Container, look: ContainerLook) -> Document:
    """One container. Without an exit code while it hasn't ended."""
    docker_id = hashlib.sha256(f"{attempt.task_arn} {plan.name}".encode()).hexdigest()
    answer: Document = {
        "DockerId": docker_id,
        "Name": plan.name,
        "DockerName": f"ecs-{job.definition.name}-{job.definition.revision}-{plan.name}",
        "Image": plan.image,
        "ImageID": f"sha256:{hashlib.sha256(plan.image.encode()).hexdigest()}",
        "Labels": {
            "com.amazonaws.ecs.cluster": _cluster(attempt),
            "com.amazonaws.ecs.container-name": plan.name,
            "com.amazonaws.ecs.task-arn": attempt.task_arn,
            "com.amazonaws.ecs.task-definition-family": job.definition.name,
            "com.amazonaws.ecs.task-definition-version": str(job.definition.revision),
        },
        "DesiredStatus": "STOPPED" if look.stopping else "RUNNING",
        "KnownStatus": look.state,
        "Limits": {
            "CPU": int(1024 * (amount(dict(plan.options), "VCPU") or 0)),
            "Memory": plan.memory_mib,
        },
        "Type": "NORMAL",
        "LogDriver": "awslogs",
        "LogOptions": {"awslogs-group": plan.group, "awslogs-stream": plan.stream},
        "ContainerARN": f"{attempt.task_arn.replace(':task/', ':container/')}/{docker_id[:12]}",
    }
    if look.started is not None:
        answer |= {"CreatedAt": _time(look.started), "StartedAt": _time(look.started)}
    if look.ended is not None:
        answer["FinishedAt"] = _time(look.ended)
    if look.end is not None and look.end.exit_code is not None:
        answer["ExitCode"] = look.end.exit_code
    return answer


def task(job: Job, attempt: Attempt, containers: Iterable[Document], *, fargate: bool) -> Document:
    """The whole task."""
    shown = list(containers)
    asked = needs(job.properties)
    stopping = any(each["DesiredStatus"] == "STOPPED" for each in shown)
    return {
        "Cluster": _cluster(attempt),
        "TaskARN": attempt.task_arn,
        "Family": job.definition.name,
        "Revision": str(job.definition.revision),
        "DesiredStatus": "STOPPED" if stopping else "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": {"CPU": asked.vcpus, "Memory": asked.memory},
        "AvailabilityZone": "us-east-1a",
        "LaunchType": "FARGATE" if fargate else "EC2",
        "Containers": shown,
    }


def _cluster(attempt: Attempt) -> str:
    return attempt.task_arn.split("/")[1]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
