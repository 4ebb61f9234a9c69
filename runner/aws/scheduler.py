"""EventBridge Scheduler of one region: schedules by name, made, read, changed and deleted.

Owns the shape of what goes there and comes back. It knows neither queues nor what a target does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling, part_of

GROUP = "runner"
"""The group of all schedules of ours: rights and lists are by it."""

ROLE = "runner-scheduler"
"""The role that the service takes on to call a target."""

DEAD_LETTERS = "runner-schedules"
"""The SQS queue of what could not be delivered."""

SCHEDULED_TIME = "<aws.scheduler.scheduled-time>"
"""Replaced in Input by the time that the schedule says, ``2022-03-22T18:59:43Z``, the same at each
retry (Scheduler User Guide, "Adding context attributes"). Inside of base64 nothing is replaced."""

MOST_INPUT = 256 * 1024
"""Bytes of Input (API reference, "Target")."""

RETRIES, OLDEST = 30, 3600
"""The most retries of a firing, and the seconds after which it is given up (API reference,
"RetryPolicy": at most 185, and 60 to 86,400 s)."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule. ``expression``: ``cron(…)``, ``rate(…)`` or ``at(…)``, in ``timezone``.

    ``target``, ``role``, ``dead_letters``: ARNs; ``input``: JSON. ``retries`` and ``oldest``
    (seconds): as RETRIES and OLDEST. ``delete_after``: it is deleted once it has fired for the last
    time. ``arn`` and ``created`` (seconds since the epoch) are as the service tells.
    """

    name: str
    expression: str
    target: str
    role: str
    input: str
    timezone: str = "UTC"
    enabled: bool = True
    group: str = GROUP
    dead_letters: str | None = None
    description: str = ""
    retries: int = RETRIES
    oldest: int = OLDEST
    delete_after: bool = False
    arn: str = ""
    created: float = 0.0


def at(when: float) -> str:
    """The expression of a schedule that fires once; seconds since the epoch, in zone UTC."""
    return time.strftime("at(%Y-%m-%dT%H:%M:%S)", time.gmtime(when))


class Schedules:
    """One region. All calls block, and raise AwsError."""

    def __init__(self, region: str | None = None) -> None:
        self._region = region
        self._made: Any = None

    @property
    def region(self) -> str:
        """Where no region was named: boto3's own choice."""
        return str(self._region or self._client.meta.region_name)

    @property
    def _client(self) -> Any:
        if self._made is None:
            self._made = make_client("scheduler", self._region, own_session=True)
        return self._made

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        with calling(lambda error: error):
            answer: dict[str, Any] = getattr(self._client, operation)(**parameters)
        return answer

    def create(self, schedule: Schedule, token: str) -> str:
        """Make it; its ARN. The same ``token`` makes nothing twice.

        Raises AwsError; its kind is CONFLICT where the name is taken.
        """
        answer = self._call("create_schedule", ClientToken=token, **_parameters(schedule))
        return str(part_of(answer, "CreateSchedule", "ScheduleArn"))

    def find(self, name: str, group: str = GROUP) -> Schedule | None:
        """One schedule; None if there is none, or no such group."""
        try:
            return _schedule_of(self._call("get_schedule", GroupName=group, Name=name))
        except AwsError as error:
            if error.kind is ErrorKind.MISSING:
                return None
            raise

    def names(self, group: str = GROUP) -> list[str]:
        """The names of a group's schedules, in order; none where there is no such group."""
        try:
            with calling(lambda error: error):
                pages = self._client.get_paginator("list_schedules").paginate(GroupName=group)
                return sorted(str(item["Name"]) for page in pages for item in page["Schedules"])
        except AwsError as error:
            if error.kind is ErrorKind.MISSING:
                return []
            raise

    def has_group(self, group: str = GROUP) -> bool:
        """Whether there is such a group."""
        try:
            self._call("get_schedule_group", Name=group)
        except AwsError as error:
            if error.kind is ErrorKind.MISSING:
                return False
            raise
        return True

    def update(self, schedule: Schedule) -> None:
        """Have it be so: what isn't told here gets the service's defaults (UpdateSchedule)."""
        self._call("update_schedule", **_parameters(schedule))

    def delete(self, name: str, group: str = GROUP) -> bool:
        """Whether there was one."""
        try:
            self._call("delete_schedule", GroupName=group, Name=name)
        except AwsError as error:
            if error.kind is ErrorKind.MISSING:
                return False
            raise
        return True


def _parameters(schedule: Schedule) -> dict[str, Any]:
    target: dict[str, Any] = {
        "Arn": schedule.target,
        "RoleArn": schedule.role,
        "Input": schedule.input,
        "RetryPolicy": {
            "MaximumRetryAttempts": schedule.retries,
            "MaximumEventAgeInSeconds": schedule.oldest,
        },
    }
    if schedule.dead_letters is not None:
        target["DeadLetterConfig"] = {"Arn": schedule.dead_letters}
    return {
        "Name": schedule.name,
        "GroupName": schedule.group,
        "ScheduleExpression": schedule.expression,
        "ScheduleExpressionTimezone": schedule.timezone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED" if schedule.enabled else "DISABLED",
        "ActionAfterCompletion": "DELETE" if schedule.delete_after else "NONE",
        "Description": schedule.description,
        "Target": target,
    }


def _schedule_of(told: Mapping[str, Any]) -> Schedule:
    target = part_of(told, "GetSchedule", "Target")
    retry = target.get("RetryPolicy") or {}
    created = told.get("CreationDate")
    return Schedule(
        name=str(part_of(told, "GetSchedule", "Name")),
        expression=str(part_of(told, "GetSchedule", "ScheduleExpression")),
        target=str(part_of(target, "GetSchedule", "Arn")),
        role=str(target.get("RoleArn", "")),
        input=str(target.get("Input") or "{}"),
        timezone=str(told.get("ScheduleExpressionTimezone") or "UTC"),
        enabled=told.get("State") != "DISABLED",
        group=str(told.get("GroupName") or GROUP),
        dead_letters=(target.get("DeadLetterConfig") or {}).get("Arn"),
        description=str(told.get("Description") or ""),
        retries=int(retry.get("MaximumRetryAttempts", 185)),
        oldest=int(retry.get("MaximumEventAgeInSeconds", 86_400)),
        delete_after=told.get("ActionAfterCompletion") == "DELETE",
        arn=str(told.get("Arn") or ""),
        created=0.0 if created is None else float(created.timestamp()),
    )
