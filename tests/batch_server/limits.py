"""The limits that botocore's model doesn't hold: names, sizes, retries, dependencies, resources.

Pure. Sources: Batch User Guide (service_limits, job_retries, job_timeouts, array_jobs) and the
documentation strings of botocore's model. Wordings are the server's own unless they say so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .fargate import check_fargate
from .jobs import Definition, Document
from .refusals import client_error
from .retries import EXIT_PATTERN, LONGEST_PATTERN, RULE_PATTERN

SUBMIT_BYTES = 30 * 1024
REGISTER_BYTES = 24 * 1024
OVERRIDE_CHARACTERS = 8192
DEPENDENCIES = 20
ARRAY = range(2, 10_001)
ATTEMPTS = range(1, 11)
RULES = 5
SHORTEST_TIMEOUT = 60
TAGS = 50
CONTAINERS = 10
REASON_CHARACTERS = 1024
DESCRIBED = 100
SHARES = 500
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
SHARE = re.compile(r"[A-Za-z0-9]{1,255}")


def check_submission(
    request: Document, size: int, definition: Definition, *, fair_share: bool
) -> None:
    """Raises ``Refused`` where SubmitJob would be."""
    _refuse_if(size > SUBMIT_BYTES, f"Request is larger than {SUBMIT_BYTES} bytes")
    _refuse_if(not NAME.fullmatch(request["jobName"]), "Job name should match valid pattern")
    _check_share(request, fair_share)
    if (array := request.get("arrayProperties")) is not None:
        _refuse_if(array.get("size") not in ARRAY, "Array size must be from 2 to 10000")
    _check_dependencies(request)
    check_common(request)
    several = "ecsProperties" in definition.request
    wrong = "containerOverrides" if several else "ecsPropertiesOverride"
    _refuse_if(wrong in request, f"{wrong} does not fit the job definition")
    for unknown in ("nodeOverrides", "eksPropertiesOverride"):
        _refuse_if(unknown in request, f"{unknown} does not fit the job definition")
    for override in overrides(request):
        _check_container(override)
    if several:
        _check_override_names(request, definition)
    if not definition.fargate:
        check_whole(overrides(request))


def check_registration(request: Document, size: int) -> None:
    """Raises ``Refused`` where RegisterJobDefinition would be."""
    _refuse_if(size > REGISTER_BYTES, f"Request is larger than {REGISTER_BYTES} bytes")
    _refuse_if(
        not NAME.fullmatch(request["jobDefinitionName"]),
        "Job definition name should match valid pattern",
    )
    _refuse_if(request["type"] != "container", "Only container jobs are known to this server")
    single, several = request.get("containerProperties"), request.get("ecsProperties")
    _refuse_if(
        (single is None) == (several is None),
        "Either containerProperties or ecsProperties is required",
    )
    check_common(request)
    if not 0 <= request.get("schedulingPriority", 0) <= 9999:
        raise client_error("schedulingPriority must be from 0 to 9999")
    if several is not None:
        _check_task(several)
        containers: Sequence[Document] = several["taskProperties"][0]["containers"]
    else:
        assert single is not None
        containers = [single]
        _refuse_if(not single.get("image"), "Container properties must have an image")
    for container in containers:
        _check_container(container)
        # In a task of several the amounts may be the containers' or, on Fargate, their sum.
        for kind in ("VCPU", "MEMORY"):
            _refuse_if(amount(container, kind) is None, f"Container needs a {kind} requirement")
        memory = amount(container, "MEMORY")
        _refuse_if(memory is None or memory < 4, "MEMORY must be at least 4 MiB")
    if "FARGATE" in request.get("platformCapabilities", ()):
        check_fargate(request, containers)
    else:
        check_whole(containers)


def check_whole(containers: Iterable[Document]) -> None:
    """Elsewhere than on Fargate amounts are whole numbers; the words are Batch's
    (kestra-io/plugin-aws#504)."""
    for container in containers:
        for each in container.get("resourceRequirements") or ():
            _refuse_if(
                not each["value"].isdigit(),
                f"Value {each['value']} for type {each['type']} in resourceRequirement is not"
                " valid. Please provide a numeric value.",
            )


def check_common(request: Document) -> None:
    """What a submission and a definition both may hold."""
    _check_retry(request.get("retryStrategy"))
    timeout = (request.get("timeout") or {}).get("attemptDurationSeconds")
    _refuse_if(
        timeout is not None and timeout < SHORTEST_TIMEOUT,
        f"attemptDurationSeconds must be at least {SHORTEST_TIMEOUT}",
    )
    for key in request.get("tags") or {}:
        _refuse_if(key.lower().startswith("aws:"), "Tag keys must not begin with aws:")


def check_reason(reason: str) -> None:
    _refuse_if(not reason, "Reason must not be empty")
    _refuse_if(
        len(reason) > REASON_CHARACTERS, f"Reason is longer than {REASON_CHARACTERS} characters"
    )


def overrides(request: Document) -> list[Document]:
    """The containers' overrides of a submission."""
    if single := request.get("containerOverrides"):
        return [single]
    tasks = (request.get("ecsPropertiesOverride") or {}).get("taskProperties", ())
    return [container for task in tasks for container in task.get("containers", ())]


def overrides_too_long(request: Document) -> bool:
    """Such a job is accepted, and fails."""
    held = request.get("containerOverrides") or request.get("ecsPropertiesOverride") or {}
    return len(json.dumps(held, separators=(",", ":"))) > OVERRIDE_CHARACTERS


def amount(container: Mapping[str, Any], kind: str) -> float | None:
    """What a container asks for: vCPUs, MiB or GPUs; the old keys count where the new don't."""
    for requirement in container.get("resourceRequirements") or ():
        if requirement["type"] == kind:
            try:
                return float(requirement["value"])
            except ValueError:
                raise client_error(f"{kind} {requirement['value']!r} is not a number") from None
    old = {"VCPU": "vcpus", "MEMORY": "memory"}.get(kind)
    found = container.get(old) if old else None
    return None if found is None else float(found)


def _check_share(request: Document, fair_share: bool) -> None:
    share = request.get("shareIdentifier")
    _refuse_if(fair_share and share is None, "shareIdentifier is required on a fair-share queue")
    _refuse_if(
        not fair_share and share is not None, "shareIdentifier needs a queue with fair share"
    )
    _refuse_if(
        share is not None and not SHARE.fullmatch(share), "shareIdentifier must be alphanumeric"
    )
    priority = request.get("schedulingPriorityOverride")
    _refuse_if(
        priority is not None and not 0 <= priority <= 9999,
        "schedulingPriorityOverride must be from 0 to 9999",
    )


def _check_dependencies(request: Document) -> None:
    dependencies = request.get("dependsOn") or ()
    _refuse_if(len(dependencies) > DEPENDENCIES, f"More than {DEPENDENCIES} dependencies")
    array = "arrayProperties" in request
    for dependency in dependencies:
        kind, job = dependency.get("type"), dependency.get("jobId")
        _refuse_if(kind is not None and not array, f"{kind} dependency of a job without an array")
        _refuse_if(kind == "SEQUENTIAL" and job is not None, "SEQUENTIAL takes no jobId")
        _refuse_if(kind != "SEQUENTIAL" and not job, "A dependency needs a jobId")


def _check_retry(strategy: Document | None) -> None:
    if strategy is None:
        return
    attempts, rules = strategy.get("attempts"), strategy.get("evaluateOnExit") or ()
    _refuse_if(attempts is not None and attempts not in ATTEMPTS, "attempts must be from 1 to 10")
    _refuse_if(bool(rules) and attempts is None, "evaluateOnExit requires attempts")
    _refuse_if(len(rules) > RULES, f"More than {RULES} evaluateOnExit rules")
    for rule in rules:
        for key, pattern in (
            ("onExitCode", EXIT_PATTERN),
            ("onReason", RULE_PATTERN),
            ("onStatusReason", RULE_PATTERN),
        ):
            value = rule.get(key, "")
            _refuse_if(
                len(value) > LONGEST_PATTERN or not pattern.fullmatch(value),
                f"{key} {value!r} is no valid pattern",
            )


def _check_container(container: Document) -> None:
    _refuse_if("" in (container.get("command") or ()), "Command must not have empty strings")
    for variable in container.get("environment") or ():
        _refuse_if(
            variable.get("name", "").startswith("AWS_BATCH"),
            "Environment variables must not begin with AWS_BATCH",
        )
    for kind in ("VCPU", "MEMORY", "GPU"):
        found = amount(container, kind)
        _refuse_if(found is not None and found <= 0, f"{kind} must be more than 0")


def _check_task(properties: Document) -> None:
    tasks = properties["taskProperties"]
    _refuse_if(len(tasks) != 1, "ecsProperties must have one task")
    containers = tasks[0]["containers"]
    _refuse_if(not 1 <= len(containers) <= CONTAINERS, f"A task has 1 to {CONTAINERS} containers")
    names = [container.get("name") for container in containers]
    _refuse_if(None in names or len({*names}) != len(names), "Containers need names of their own")
    _refuse_if(
        not any(container.get("essential", True) for container in containers),
        "A task needs an essential container",
    )
    before = {
        container["name"]: {each["containerName"] for each in container.get("dependsOn") or ()}
        for container in containers
    }
    essential = {each["name"] for each in containers if each.get("essential", True)}
    for container in containers:
        for each in container.get("dependsOn") or ():
            name, condition = each["containerName"], each["condition"]
            _refuse_if(name not in before, f"dependsOn names no container: {name}")
            _refuse_if(
                condition not in ("START", "COMPLETE", "SUCCESS"), f"No condition: {condition}"
            )
            _refuse_if(
                condition != "START" and name in essential,
                f"{condition} can't be waited for of the essential container {name}",
            )
    while before:
        free = [name for name, needs in before.items() if not needs & before.keys()]
        _refuse_if(not free, "dependsOn goes in a circle")
        for name in free:
            del before[name]


def _check_override_names(request: Document, definition: Definition) -> None:
    known = {
        container["name"]
        for container in definition.request["ecsProperties"]["taskProperties"][0]["containers"]
    }
    named = [override.get("name") for override in overrides(request)]
    _refuse_if(
        any(name not in known for name in named), "An override names no container of the task"
    )


def _refuse_if(wrong: bool, text: str) -> None:
    if wrong:
        raise client_error(text)


def too_many_tags(request: Document, definition: Definition) -> bool:
    """With propagateTags the task's are the job's and the definition's; such a job fails."""
    propagated = request.get("propagateTags", definition.request.get("propagateTags", False))
    tags: Iterable[str] = {**(definition.request.get("tags") or {}), **(request.get("tags") or {})}
    return bool(propagated) and len(list(tags)) > TAGS
