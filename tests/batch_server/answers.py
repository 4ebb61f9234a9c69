"""Jobs, queues and definitions as the service shows them. Pure.

Which members are there in which state follows recorded answers (aws-parallelcluster's test data):
``startedAt`` is 0 until a job has started, ``attempts`` holds ended ones only, an array's parent
has the summary of its children's states and neither attempts nor an exit code; task and log stream
are there from STARTING on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from . import plans
from .compute import ComputeEnvironment, JobQueue
from .jobs import ENDED, Attempt, Definition, Document, Job, State
from .settings import Settings


def detail(job: Job, settings: Settings) -> Document:
    """A JobDetail."""
    request = job.request
    answer: Document = {
        "jobArn": job.arn,
        "jobName": job.name,
        "jobId": job.id,
        "jobQueue": settings.arn(f"job-queue/{job.queue}"),
        "status": str(job.state),
        "attempts": [_attempt(job, attempt) for attempt in job.attempts],
        "createdAt": job.created_ms,
        "retryStrategy": job.retry,
        "startedAt": job.started_ms or 0,
        "dependsOn": request.get("dependsOn", []),
        "jobDefinition": job.definition.arn,
        "parameters": {
            **job.definition.request.get("parameters", {}),
            **request.get("parameters", {}),
        },
        "tags": {**request.get("tags", {})},
        "propagateTags": request.get(
            "propagateTags", job.definition.request.get("propagateTags", False)
        ),
        "platformCapabilities": job.definition.request.get("platformCapabilities", ["EC2"]),
        "isCancelled": job.cancelled,
        "isTerminated": job.terminated,
        **_optional(job),
    }
    if job.timeout_seconds is not None:
        answer["timeout"] = {"attemptDurationSeconds": job.timeout_seconds}
    if job.multi_container:
        answer["ecsProperties"] = _task_detail(job)
    else:
        answer["container"] = _container_detail(job)
    if job.children:
        answer["arrayProperties"] = {"size": len(job.children), "statusSummary": summary_of(job)}
    elif job.index is not None:
        answer["arrayProperties"] = {"index": job.index, "statusSummary": {}}
    return answer


def summary(job: Job) -> Document:
    """A JobSummary."""
    answer: Document = {
        "jobArn": job.arn,
        "jobId": job.id,
        "jobName": job.name,
        "createdAt": job.created_ms,
        "status": str(job.state),
        "jobDefinition": job.definition.arn,
        "isCancelled": job.cancelled,
        "isTerminated": job.terminated,
        **_optional(job),
    }
    if job.started_ms:
        answer["startedAt"] = job.started_ms
    if job.children:
        answer["arrayProperties"] = {"size": len(job.children)}
    elif job.index is not None:
        answer["arrayProperties"] = {"index": job.index}
    last = _last(job)
    if last is not None and not job.multi_container:
        answer["container"] = _end(last, plans.MAIN)
    return answer


def summary_of(parent: Job) -> dict[str, int]:
    """How many of an array's children are in each state."""
    counted = Counter(child.state for child in parent.children)
    return {str(state): counted[state] for state in State}


def definition(found: Definition, *, active: bool) -> Document:
    """A JobDefinition, as it was registered."""
    return {
        **found.request,
        "jobDefinitionArn": found.arn,
        "revision": found.revision,
        "status": "ACTIVE" if active else "INACTIVE",
        "containerOrchestrationType": "ECS",
    }


def queue(found: JobQueue, settings: Settings) -> Document:
    """A JobQueueDetail."""
    answer: Document = {
        "jobQueueName": found.name,
        "jobQueueArn": settings.arn(f"job-queue/{found.name}"),
        "state": "ENABLED" if found.enabled else "DISABLED",
        "status": "VALID",
        "statusReason": "JobQueue Healthy",
        "priority": found.priority,
        "computeEnvironmentOrder": [
            {
                "order": order,
                "computeEnvironment": settings.arn(f"compute-environment/{environment.name}"),
            }
            for order, environment in enumerate(found.environments, 1)
        ],
        "jobStateTimeLimitActions": found.limits,
    }
    if found.fair_share:
        answer["schedulingPolicyArn"] = settings.arn(f"scheduling-policy/{found.name}")
    return answer


def scheduling_policy(found: JobQueue, settings: Settings) -> Document:
    """A SchedulingPolicyDetail: each fair-share queue has one of its own name."""
    shares = [
        {"shareIdentifier": share, "weightFactor": weight} for share, weight in found.shares.items()
    ]
    return {
        "name": found.name,
        "arn": settings.arn(f"scheduling-policy/{found.name}"),
        "fairsharePolicy": {
            "shareDecaySeconds": 0,
            "computeReservation": 0,
            "shareDistribution": shares,
        },
        "tags": {},
    }


def environment(found: ComputeEnvironment, settings: Settings) -> Document:
    """A ComputeEnvironmentDetail."""
    resources: Document = {
        "type": found.kind,
        "maxvCpus": int(found.max_vcpus),
        "subnets": ["subnet-1"],
        "securityGroupIds": ["sg-1"],
    }
    if not found.fargate:
        resources |= {
            "minvCpus": 0,
            "desiredvCpus": int(len(found.hosts) * found.host_vcpus),
            "instanceTypes": ["optimal"],
            "instanceRole": settings.arn("instance-profile/ecsInstanceRole", "iam"),
        }
    return {
        "computeEnvironmentName": found.name,
        "computeEnvironmentArn": settings.arn(f"compute-environment/{found.name}"),
        "ecsClusterArn": settings.arn(f"cluster/{found.name}_Batch", "ecs"),
        "type": "MANAGED",
        "state": "ENABLED" if found.enabled else "DISABLED",
        "status": "VALID" if found.invalid is None else "INVALID",
        "statusReason": found.invalid or "ComputeEnvironment Healthy",
        "serviceRole": settings.arn(
            "role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch", "iam"
        ),
        "containerOrchestrationType": "ECS",
        "computeResources": resources | found.shown,
        "tags": {},
    }


def snapshot(jobs: Iterable[Job], environments: Iterable[ComputeEnvironment], now: int) -> Document:
    """What GetJobQueueSnapshot answers."""
    used = sum(environment.used for environment in environments)
    return {
        "frontOfQueue": {
            "jobs": [
                {"jobArn": job.arn, "earliestTimeAtPosition": job.head_since_ms} for job in jobs
            ],
            "lastUpdatedAt": now,
        },
        "queueUtilization": {
            "totalCapacityUsage": [{"capacityUnit": "VCPU", "quantity": float(used)}],
            "lastUpdatedAt": now,
        },
    }


def _optional(job: Job) -> Document:
    held: dict[str, Any] = {
        "statusReason": job.reason,
        "stoppedAt": job.stopped_ms if job.attempts and job.state in ENDED else None,
        "shareIdentifier": job.request.get("shareIdentifier"),
    }
    return {name: value for name, value in held.items() if value is not None}


def _last(job: Job) -> Attempt | None:
    return job.current or (job.attempts[-1] if job.attempts else None)


def _end(attempt: Attempt, name: str) -> Document:
    code, reason = attempt.ends.get(name, (None, None)) if attempt.settled else (None, None)
    held = {"exitCode": code, "reason": reason}
    return {key: value for key, value in held.items() if value is not None}


def _where(attempt: Attempt, *, several: bool) -> Document:
    answer: Document = {"taskArn": attempt.task_arn}
    if attempt.host_arn is not None:
        answer["containerInstanceArn"] = attempt.host_arn
    return answer if several else {**answer, "networkInterfaces": []}


def _stream(attempt: Attempt, name: str) -> Document:
    """From STARTING on, before the stream exists; a pull that failed has none.

    A task that could not start otherwise names one that never was (nextstrain/cli#406).
    """
    _, reason = attempt.ends.get(name, (None, None)) if attempt.settled else (None, None)
    pulled = not (reason or "").startswith("CannotPull")
    return {"logStreamName": attempt.streams[name]} if pulled else {}


def _attempt(job: Job, attempt: Attempt) -> Document:
    answer: Document = {"statusReason": attempt.status_reason, "stoppedAt": attempt.stopped_ms}
    if attempt.started_ms is not None:
        answer["startedAt"] = attempt.started_ms
    if not job.multi_container:
        container = {**_where(attempt, several=False), **_stream(attempt, plans.MAIN)}
        return {**answer, "container": {**container, **_end(attempt, plans.MAIN)}}
    containers = [
        {"name": name, "networkInterfaces": [], **_stream(attempt, name), **_end(attempt, name)}
        for name in plans.names(job.properties)
    ]
    task = {**_where(attempt, several=True), "containers": containers}
    return {**answer, "taskProperties": [task]}


def _container_detail(job: Job) -> Document:
    answer: Document = {
        "volumes": [],
        "mountPoints": [],
        "ulimits": [],
        "networkInterfaces": [],
        "secrets": [],
        **job.properties,
    }
    last = _last(job)
    if last is not None:
        answer |= {**_where(last, several=False), **_stream(last, plans.MAIN)}
        answer |= _end(last, plans.MAIN)
    return answer


def _task_detail(job: Job) -> Document:
    (properties,) = job.properties["taskProperties"]
    last = _last(job)
    containers = []
    for container in properties["containers"]:
        name = container["name"]
        found = {**_stream(last, name), **_end(last, name)} if last is not None else {}
        containers.append({**container, **found})
    task = {**properties, "containers": containers}
    return {"taskProperties": [task | (_where(last, several=True) if last is not None else {})]}
