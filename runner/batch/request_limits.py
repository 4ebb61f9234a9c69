"""The limits of AWS Batch on a submission and a definition, checked before anything is sent. Pure.

Batch refuses some of these, and accepts others and fails the job later. Each error names the limit.
Facts: Batch User Guide, "Service quotas", "Job retries", "Job timeouts", "Array jobs"; Batch API
reference, SubmitJob and RegisterJobDefinition.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runner.batch.names import (
    MAX_ARRAY,
    MAX_DEFINITION,
    MAX_NAME,
    MAX_OVERRIDES,
    MAX_SUBMISSION,
    MIN_ARRAY,
    MIN_TIMEOUT,
    overrides_length,
)
from runner.errors import UsageError
from runner.model.messages import quoted

MAX_DEPENDENCIES = 20
MAX_ATTEMPTS = 10
MAX_RULES = 5
MAX_TAGS = 50
MAX_PRIORITY = 9_999
MIN_MEMORY = 4
"""MiB."""

MAX_REASON = 1_024
"""Characters of the reason for CancelJob and TerminateJob."""

FARGATE_DAYS = 14
"""Fargate ends what runs for longer."""

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{MAX_NAME - 1}}}")
_SHARE = re.compile(r"[A-Za-z0-9]{1,255}")
_OWN = "AWS_BATCH"

Request = Mapping[str, Any]


def check_submission(request: Request, *, fair_share: bool | None = None) -> None:
    """A SubmitJob request. ``fair_share``: whether its queue has a policy; None: not known.

    Raises UsageError with all that is wrong, a line each.
    """
    _raise(_of_submission(request, fair_share))


def check_definition(request: Request) -> None:
    """A RegisterJobDefinition request. Raises UsageError with all that is wrong, a line each."""
    _raise(_of_definition(request))


def check_reason(reason: str) -> None:
    """The reason for an end. Raises UsageError."""
    if not 0 < len(reason) <= MAX_REASON:
        text = f"{len(reason):,} characters: AWS Batch takes 1 to {MAX_REASON:,}"
        raise UsageError(f"the reason has {text}")


def check_name(name: str, what: str) -> None:
    """A job's or a definition's name. Raises UsageError."""
    _raise(_of_name(name, what))


def _raise(faults: Iterable[str]) -> None:
    if found := list(faults):
        raise UsageError("\n".join(found))


def _of_name(name: str, what: str) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        rule = f"1 to {MAX_NAME} letters, digits, '-' and '_', the first a letter or digit"
        yield f"{what} {quoted(name)}: AWS Batch takes {rule}"


def _of_submission(request: Request, fair_share: bool | None) -> Iterator[str]:
    yield from _of_name(request["jobName"], "job name")
    size = (request.get("arrayProperties") or {}).get("size")
    if size is not None and not MIN_ARRAY <= size <= MAX_ARRAY:
        yield f"an array of {size:,}: AWS Batch takes {MIN_ARRAY} to {MAX_ARRAY:,} children"
    dependencies = request.get("dependsOn") or ()
    if len(dependencies) > MAX_DEPENDENCIES:
        yield f"{len(dependencies)} dependencies: AWS Batch takes at most {MAX_DEPENDENCIES}"
    if size is None and any(each.get("type") for each in dependencies):
        yield "N_TO_N and SEQUENTIAL dependencies are for arrays only"
    share = request.get("shareIdentifier")
    if fair_share and share is None:
        yield "the queue has a fair-share policy: a share is required"
    if fair_share is False and share is not None:
        yield "the queue has no fair-share policy: it takes no share"
    if share is not None and not _SHARE.fullmatch(share):
        yield f"share {quoted(share)}: AWS Batch takes 1 to 255 letters and digits"
    priority = request.get("schedulingPriorityOverride")
    if priority is not None and not 0 <= priority <= MAX_PRIORITY:
        yield f"priority {priority}: AWS Batch takes 0 to {MAX_PRIORITY:,}"
    yield from _of_both(request)
    for override in _overrides(request):
        yield from _of_container(override)
    held = request.get("containerOverrides") or request.get("ecsPropertiesOverride") or {}
    if (length := overrides_length(held)) > MAX_OVERRIDES:
        advice = "put long values into S3 or the definition"
        yield (
            f"command and environment have {length:,} characters as JSON: AWS Batch takes at most "
            f"{MAX_OVERRIDES:,}; {advice}"
        )
    if (length := _bytes(request)) > MAX_SUBMISSION:
        yield f"the submission has {length:,} bytes: AWS Batch takes at most {MAX_SUBMISSION:,}"


def _of_definition(request: Request) -> Iterator[str]:
    yield from _of_name(request["jobDefinitionName"], "definition name")
    yield from _of_both(request)
    single = request.get("containerProperties")
    tasks = (request.get("ecsProperties") or {}).get("taskProperties", ())
    containers = [single] if single else [each for task in tasks for each in task["containers"]]
    fargate = "FARGATE" in (request.get("platformCapabilities") or ())
    for container in containers:
        yield from _of_container(container)
        for each in container.get("resourceRequirements") or ():
            if not fargate and not each["value"].isdecimal():
                yield f"{each['type']} {each['value']}: on EC2 AWS Batch takes whole numbers only"
    if (length := _bytes(request)) > MAX_DEFINITION:
        yield f"the definition has {length:,} bytes: AWS Batch takes at most {MAX_DEFINITION:,}"


def _of_both(request: Request) -> Iterator[str]:
    strategy = request.get("retryStrategy") or {}
    attempts = strategy.get("attempts", 1)
    if not 1 <= attempts <= MAX_ATTEMPTS:
        yield f"{attempts} attempts: AWS Batch makes 1 to {MAX_ATTEMPTS}"
    if len(strategy.get("evaluateOnExit") or ()) > MAX_RULES:
        yield f"more than {MAX_RULES} evaluateOnExit rules"
    seconds = (request.get("timeout") or {}).get("attemptDurationSeconds")
    if seconds is not None and seconds < MIN_TIMEOUT:
        yield f"a timeout of {seconds} s: AWS Batch takes at least {MIN_TIMEOUT} s"
    tags = request.get("tags") or {}
    if len(tags) > MAX_TAGS:
        yield f"{len(tags)} tags: AWS Batch takes at most {MAX_TAGS}"
    for key in tags:
        if key.lower().startswith("aws:"):
            yield f"tag {quoted(key)}: AWS keeps keys that begin with 'aws:' for itself"


def _of_container(container: Request) -> Iterator[str]:
    if "" in (container.get("command") or ()):
        yield "the command has an empty word, which AWS Batch refuses"
    names = [each["name"] for each in container.get("environment") or ()]
    for name in names:
        if name.startswith(_OWN):
            yield f"variable {quoted(name)}: AWS Batch keeps names with {_OWN} in front for itself"
    for each in container.get("resourceRequirements") or ():
        value = float(each["value"])
        if each["type"] == "MEMORY" and value < MIN_MEMORY:
            yield f"{value:g} MiB of memory: AWS Batch takes at least {MIN_MEMORY} MiB"
        elif value <= 0:
            yield f"{each['type']} {each['value']}: must be more than 0"


def _overrides(request: Request) -> list[Request]:
    if single := request.get("containerOverrides"):
        return [single]
    tasks = (request.get("ecsPropertiesOverride") or {}).get("taskProperties", ())
    return [each for task in tasks for each in task.get("containers", ())]


def _bytes(request: Request) -> int:
    return len(json.dumps(request))  # as botocore sends it: ASCII, with blanks
