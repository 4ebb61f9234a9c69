"""Who may call Batch: by the policies of the caller's user or role, which moto holds.

Actions and resources count, conditions don't. Which resources an action has: Service Authorization
Reference, "AWS Batch".
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from .jobs import Document
from .refusals import Refused
from .services import MotoServices
from .settings import Settings

FRESH_S = 0.5
"""Seconds for which a caller's policies are those that were read."""

Asked = tuple[str, str]
"""An action, and the resource on which it is to be done."""


class Rights:
    """``services``: with an admin, who may read everybody's policies."""

    def __init__(self, services: MotoServices, settings: Settings) -> None:
        self._services = services
        self._settings = settings
        self._read: dict[str, tuple[float, str, list[Document]]] = {}

    def check(self, access_key: str, operation: str, request: Document) -> None:
        """Raises ``Refused``."""
        who, statements = self._statements(access_key)
        for action, resource in self._asked(operation, request):
            if not any(_allows(each, action, resource) for each in statements):
                raise Refused(
                    403,
                    "AccessDeniedException",
                    f"User: {who} is not authorized to perform: {action} on resource: {resource}",
                )

    def _asked(self, operation: str, request: Document) -> Iterator[Asked]:
        for resource in self._resources(operation, request):
            yield f"batch:{operation}", resource
        if operation in ("SubmitJob", "RegisterJobDefinition") and request.get("tags"):
            kind = "job" if operation == "SubmitJob" else "job-definition"
            yield "batch:TagResource", self._settings.arn(f"{kind}/x")
        if operation == "RegisterJobDefinition":
            for role in _roles(request):
                yield "iam:PassRole", role

    def _resources(self, operation: str, request: Document) -> list[str]:
        def arn(kind: str, member: str) -> str:
            value = str(request.get(member, ""))
            return value if value.startswith("arn:") else self._settings.arn(f"{kind}/{value}")

        match operation:
            case "SubmitJob":
                return [arn("job-queue", "jobQueue"), arn("job-definition", "jobDefinition")]
            case "RegisterJobDefinition":
                return [arn("job-definition", "jobDefinitionName")]
            case "DeregisterJobDefinition":
                return [arn("job-definition", "jobDefinition")]
            case "CancelJob" | "TerminateJob":
                return [arn("job", "jobId")]
            case "GetJobQueueSnapshot":
                return [arn("job-queue", "jobQueue")]
            case "TagResource" | "UntagResource":
                return [str(request.get("resourceArn"))]
        return ["*"]

    def _statements(self, access_key: str) -> tuple[str, list[Document]]:
        at, who, found = self._read.get(access_key, (0.0, "", []))
        if time.monotonic() - at > FRESH_S:
            who, documents = self._services.policies_of(access_key)
            found = [each for document in documents for each in _listed(document["Statement"])]
            self._read[access_key] = time.monotonic(), who, found
        return who, found


def access_key_of(authorization: str) -> str:
    """Of a signed request's header (Signature Version 4)."""
    found = re.search(r"Credential=([^/,]+)/", authorization)
    return found[1] if found else ""


def _roles(request: Document) -> Iterator[str]:
    several = (request.get("ecsProperties") or {}).get("taskProperties", ())
    for holder in (request.get("containerProperties") or {}, *several):
        for member in ("jobRoleArn", "taskRoleArn", "executionRoleArn"):
            if role := holder.get(member):
                yield str(role)


def _allows(statement: Mapping[str, Any], action: str, resource: str) -> bool:
    def fits(value: str, member: str, same: Callable[[str], str] = str) -> bool:
        return any(fnmatchcase(same(value), same(each)) for each in _listed(statement[member]))

    return (
        statement["Effect"] == "Allow"
        and fits(action, "Action", str.lower)
        and fits(resource, "Resource")
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
