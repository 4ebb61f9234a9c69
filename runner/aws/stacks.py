"""CloudFormation stacks of one region: what is there, and to make them as a template says.

Owns change sets, waiting, and which of the many events tells why it went wrong. It knows no
template of ours.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, calling, part_of
from runner.errors import RunnerError

POLL_EVERY = 2.0
"""Seconds. CloudFormation allows some calls a second for an account."""

PATIENCE = 1800.0
"""Seconds for one stack: roles and documents take one minute, a bucket half of one."""

_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
"""CloudFormation's words, in a change set's StatusReason, for: it is as the template says."""

_NEVER_MADE = "REVIEW_IN_PROGRESS"

_UNUSABLE = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
"""A stack whose first creation failed can't be updated, only deleted (CloudFormation User Guide,
"Stack status codes")."""

_CANCELLED = ("Resource creation cancelled", "Resource update cancelled")
"""Said of what was under way when something else failed."""


class StackFailed(RunnerError):
    """A stack could not be made or changed; the message has AWS's words for the first failure."""


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack as it stands."""

    name: str
    stack_id: str
    status: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        """Whether CloudFormation is at work on it."""
        return self.status.endswith("_IN_PROGRESS") and self.status != _NEVER_MADE


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to one resource of a stack, or to the stack itself (by its name)."""

    resource: str
    kind: str
    status: str
    why: str


Tell = Callable[[Event], None]


class Stacks:
    """One region. All calls block, and raise AwsError."""

    def __init__(self, region: str, client: Any = None) -> None:
        self.region = region
        self._client = client

    def find(self, name: str) -> Stack | None:
        """A stack; None if there is none, or none was ever made of its change set."""
        try:
            found = self._call("describe_stacks", StackName=name)["Stacks"][0]
        except AwsError as error:
            if "does not exist" in str(error):
                return None
            raise
        stack = _stack_of(found)
        return None if stack.status in (_NEVER_MADE, "DELETE_COMPLETE") else stack

    def is_as(self, stack: Stack, template: str, parameters: Mapping[str, str]) -> bool:
        """Whether a stack at rest was made of this template and these parameters."""
        done = stack.status.endswith("_COMPLETE") and stack.status not in _UNUSABLE
        if not done or dict(stack.parameters) != dict(parameters):
            return False
        answer = self._call("get_template", StackName=stack.name, TemplateStage="Original")
        return bool(answer.get("TemplateBody") == template)

    def deploy(self, name: str, template: str, parameters: Mapping[str, str], tell: Tell) -> str:
        """Have the stack be as the template says: ``created``, ``updated`` or ``unchanged``.

        ``tell`` hears each event. Who is interrupted (KeyboardInterrupt) leaves CloudFormation
        to go on, and the next call waits for that. Raises StackFailed.
        """
        there = self.find(name)
        if there is not None and there.busy:
            there = self._watch(there, set(), tell)
        if there is not None and there.status in _UNUSABLE:
            self._delete(there, tell)
            there = None
        what = "UPDATE" if there else "CREATE"
        change, stack_id = self._prepare(name, template, parameters, what)
        if change is None:
            return "unchanged"
        before = {event_id for event_id, _ in self._events(stack_id)}
        self._call("execute_change_set", ChangeSetName=change, StackName=stack_id)
        self._end(self._require(stack_id), before, tell)
        return "updated" if there else "created"

    # -- the steps ---------------------------------------------------------------------------

    def _prepare(
        self, name: str, template: str, parameters: Mapping[str, str], what: str
    ) -> tuple[str | None, str]:
        """A change set that can be executed, None if nothing is to be changed; and the stack."""
        answer = self._call(
            "create_change_set",
            StackName=name,
            ChangeSetName=f"runner-{uuid.uuid4().hex[:12]}",
            ChangeSetType=what,
            TemplateBody=template,
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            # Roles and policies have names of their own, by which they are found again.
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        change = str(part_of(answer, "CreateChangeSet", "Id"))
        stack_id = str(part_of(answer, "CreateChangeSet", "StackId"))
        until = time.monotonic() + PATIENCE
        while True:
            answer = self._call("describe_change_set", ChangeSetName=change, StackName=name)
            why = str(answer.get("StatusReason") or "")
            status = part_of(answer, "DescribeChangeSet", "Status")
            if status == "CREATE_COMPLETE":
                return change, stack_id
            if status == "FAILED":
                self._call("delete_change_set", ChangeSetName=change, StackName=name)
                if any(words in why for words in _NO_CHANGES):
                    return None, stack_id
                raise StackFailed(f"stack {name} in {self.region}: {why}")
            self._pause(until, name)

    def _delete(self, stack: Stack, tell: Tell) -> None:
        before = {event_id for event_id, _ in self._events(stack.stack_id)}
        self._call("delete_stack", StackName=stack.stack_id)
        ended = self._watch(stack, before, tell)
        if ended is not None:
            self._fail(stack, ended.status, before)

    def _end(self, stack: Stack, before: set[str], tell: Tell) -> None:
        ended = self._watch(stack, before, tell)
        if ended is None or "ROLLBACK" in ended.status or ended.status.endswith("_FAILED"):
            self._fail(stack, ended.status if ended else "DELETE_COMPLETE", before)

    def _fail(self, stack: Stack, status: str, before: set[str]) -> NoReturn:
        events = self._events(stack.stack_id)
        first = next((e for known, e in events if known not in before and _is_cause(e)), None)
        why = f": {first.resource} ({first.kind}): {first.why}" if first else ""
        raise StackFailed(f"stack {stack.name} in {self.region} failed ({status}){why}")

    def _watch(self, stack: Stack, before: set[str], tell: Tell) -> Stack | None:
        """Tell what happens until the stack has come to rest; how it stands then, None if gone."""
        seen = set(before)
        until = time.monotonic() + PATIENCE
        while True:
            # The stack first: what comes to rest afterwards has told its last event by then.
            now = self.find(stack.stack_id)
            for event_id, event in self._events(stack.stack_id):
                if event_id not in seen:
                    seen.add(event_id)
                    tell(event)
            if now is None or not now.busy:
                return now
            self._pause(until, stack.name)

    def _events(self, stack_id: str) -> list[tuple[str, Event]]:
        """All events of a stack with their ids, oldest first."""
        found: list[tuple[str, Event]] = []
        with calling(lambda error: error):
            pages = self._made().get_paginator("describe_stack_events")
            for page in pages.paginate(StackName=stack_id):
                found += [(item["EventId"], _event_of(item)) for item in page["StackEvents"]]
        return found[::-1]

    # -- calls -------------------------------------------------------------------------------

    def _require(self, name: str) -> Stack:
        return _stack_of(self._call("describe_stacks", StackName=name)["Stacks"][0])

    def _pause(self, until: float, name: str) -> None:
        if time.monotonic() > until:
            raise StackFailed(f"stack {name} in {self.region} takes too long; AWS goes on with it")
        time.sleep(POLL_EVERY)

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        with calling(lambda error: error):
            answer: dict[str, Any] = getattr(self._made(), operation)(**parameters)
        return answer

    def _made(self) -> Any:
        if self._client is None:
            # More attempts than elsewhere: a wait of minutes is not to end for one throttling.
            self._client = make_client("cloudformation", self.region, attempts=8)
        return self._client


def _is_cause(event: Event) -> bool:
    failed = event.status.endswith("_FAILED") and event.kind != "AWS::CloudFormation::Stack"
    return failed and not event.why.startswith(_CANCELLED)


def _stack_of(found: Mapping[str, Any]) -> Stack:
    return Stack(
        name=str(found["StackName"]),
        stack_id=str(found["StackId"]),
        status=str(found["StackStatus"]),
        parameters={
            each["ParameterKey"]: each.get("ParameterValue", "")
            for each in found.get("Parameters", ())
        },
        outputs={each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", ())},
    )


def _event_of(item: Mapping[str, Any]) -> Event:
    return Event(
        resource=str(item.get("LogicalResourceId", "")),
        kind=str(item.get("ResourceType", "")),
        status=str(item.get("ResourceStatus", "")),
        why=str(item.get("ResourceStatusReason", "")),
    )
