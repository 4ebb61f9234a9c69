"""Submitting a failed job of AWS Batch again: the request, made of what Batch tells of the job.

Pure. Batch itself retries attempts of one job only; it numbers a smaller array anew. So the failed
children of an array become an array whose command exports the index that each child had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.errors import UsageError

INDICES = "RUNNER_ARRAY_INDICES"
"""The variable that holds the indices of the children that run again."""

SCRIPT = (
    'n=${AWS_BATCH_JOB_ARRAY_INDEX:-0}; for i in $RUNNER_ARRAY_INDICES; do [ "$n" -eq 0 ] && break;'
    ' n=$((n-1)); done; export AWS_BATCH_JOB_ARRAY_INDEX="$i"; exec "$@"'
)
"""For POSIX sh: the child's former index, then the job's own command."""

_KEPT = ("retryStrategy", "timeout", "tags", "propagateTags", "shareIdentifier")

Document = Mapping[str, Any]
Request = dict[str, Any]


def request_again(
    job: Document,
    definition: Document | None,
    dropped: Sequence[str],
    indices: Sequence[int] | None = None,
) -> Request:
    """A SubmitJob request for a job's detail.

    ``definition``: the job's own, if it is still there: only what differs from it is sent.
    ``dropped``: parameters that were that submission's own. ``indices``: children of an array that
    are to run; None: all of the job. Raises UsageError where Batch cannot run it again so.
    """
    if "eksProperties" in job or "nodeProperties" in job:
        raise UsageError(f"{job['jobId']} runs on EKS or on several nodes: submit it as before")
    parameters = {k: v for k, v in (job.get("parameters") or {}).items() if k not in dropped}
    request: Request = {
        "jobName": job["jobName"],
        "jobQueue": job["jobQueue"],
        "jobDefinition": job["jobDefinition"],
        **{name: job[name] for name in _KEPT if job.get(name) not in (None, {})},
        **({"parameters": parameters} if parameters else {}),
        **_overrides(job, definition, indices),
    }
    request["retryStrategy"] = _without_empty(request.get("retryStrategy") or {})
    if not request["retryStrategy"]:
        del request["retryStrategy"]
    if job.get("schedulingPriority") is not None and "shareIdentifier" in request:
        request["schedulingPriorityOverride"] = job["schedulingPriority"]
    size = (job.get("arrayProperties") or {}).get("size")
    count = size if indices is None else len(indices)
    if count is not None and count > 1:
        request["arrayProperties"] = {"size": count}
    return request


def _overrides(
    job: Document, definition: Document | None, indices: Sequence[int] | None
) -> Request:
    if several := job.get("ecsProperties"):
        if indices is not None:
            raise UsageError(
                f"{job['jobId']} has several containers, so its children's indices cannot be "
                "handed on: submit the whole array again"
            )
        own = ((definition or {}).get("ecsProperties") or {}).get("taskProperties") or [{}]
        known = {each["name"]: each for each in own[0].get("containers", ())}
        containers = []
        for each in several["taskProperties"][0]["containers"]:
            if changed := _changed(each, known.get(each["name"], {})):
                containers.append({"name": each["name"], **changed})
        override = {"taskProperties": [{"containers": containers}]}
        return {"ecsPropertiesOverride": override} if containers else {}
    container = job.get("container") or {}
    changed = _changed(container, (definition or {}).get("containerProperties") or {})
    if indices is not None:
        changed = _with_indices(job, container, changed, indices)
    return {"containerOverrides": changed} if changed else {}


def _with_indices(
    job: Document, container: Document, changed: Request, indices: Sequence[int]
) -> Request:
    if not container.get("command"):
        raise UsageError(
            f"{job['jobId']} has no command but its image's, so its children's indices cannot be "
            "handed on: submit the whole array again"
        )
    told = {"name": INDICES, "value": " ".join(map(str, indices))}
    command = container["command"]
    if list(command[:3]) == ["/bin/sh", "-c", SCRIPT]:
        command = command[4:]
    others = [each for each in changed.get("environment", ()) if each["name"] != INDICES]
    return {
        **changed,
        "command": ["/bin/sh", "-c", SCRIPT, "sh", *command],
        "environment": [*others, told],
    }


def former_indices(job: Document) -> list[int] | None:
    """Which indices the children of an array that was retried stand for; None: their own."""
    container = job.get("container") or {}
    for each in container.get("environment") or ():
        if each["name"] == INDICES:
            return [int(index) for index in each["value"].split()]
    return None


def _changed(now: Document, registered: Document) -> Request:
    found: Request = {}
    if now.get("command") and now["command"] != registered.get("command"):
        found["command"] = list(now["command"])
    for name, key in (("environment", "name"), ("resourceRequirements", "type")):
        known = {each[key]: each for each in registered.get(name) or ()}
        others = [
            dict(each)
            for each in now.get(name) or ()
            if known.get(each[key]) != each and not each[key].startswith("AWS_BATCH")
        ]
        if others:
            found[name] = others
    return found


def _without_empty(strategy: Document) -> Request:
    return {key: value for key, value in strategy.items() if value not in ([], None)}
