"""What a schedule asks EC2 for at each firing: its Input, made and read back. Pure.

Input is RunInstances as its API has it, with the firing's time where it differs. What is stored in
the Scheduler is all that is known of a schedule: no record beside it could be another.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.aws.scheduler import MOST_INPUT, SCHEDULED_TIME, Schedule
from runner.errors import RecordError, UsageError
from runner.model.messages import quoted
from runner.model.records import parse
from runner.results.stores import parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.launch.run_instances import MOST_TOKEN
from runner.targets.ec2.queue_ref import store_of

TARGET = "arn:aws:scheduler:::aws-sdk:ec2:runInstances"
"""Scheduler User Guide, "Using universal targets"."""

NOTICES = "notice-"
"""How the names of schedules begin that launch nothing."""

_TAG_KEY = re.compile(r"[A-Za-z0-9+\-=.,_:@]{1,128}")
"""Of an instance whose metadata tells its tags (EC2 User Guide, "Use instance tags in instance
metadata")."""


def input_of(request: Mapping[str, Any]) -> str:
    """A RunInstances request as Input. ``request``: as ``run_instances.request`` makes it, with a
    token and tags of ``schedule_tags``.

    Raises UsageError for what the Scheduler can't hold.
    """
    told = {
        **request,
        "MinCount": 1,
        "MaxCount": 1,
        "UserData": base64.b64encode(request["UserData"]).decode(),
        "MetadataOptions": {**request["MetadataOptions"], "InstanceMetadataTags": "enabled"},
    }
    if "InstanceMarketOptions" in told:
        # A persistent one would come back at any time, with the user-data of a firing long ago.
        told["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {
                "SpotInstanceType": "one-time",
                "InstanceInterruptionBehavior": "terminate",
            },
        }
    # As it is, and not escaped: keywords are replaced where they stand as < and >.
    text = json.dumps(told, ensure_ascii=False)
    if len(text.encode()) > MOST_INPUT:
        raise UsageError(f"the schedule's Input would have more than {MOST_INPUT:,} bytes")
    return text


def unfit_tags(tags: Mapping[str, str]) -> list[str]:
    """Of a user's tags those that no machine of a schedule can have, a line each."""
    return [
        f"--tag {quoted(key)}: the machine reads its tags from its metadata, which takes letters, "
        "digits and + - = . , _ : @ in a key only"
        for key in tags
        if not _TAG_KEY.fullmatch(key) or key in (".", "..", "_index")
    ]


def token_of(launch: str) -> str:
    """The client token of each firing: the same for all deliveries of one."""
    token = f"{launch}-{SCHEDULED_TIME}"
    assert len(token) - len(SCHEDULED_TIME) + len("2026-11-28T02:00:00Z") <= MOST_TOKEN
    return token


def firing_of(text: str, when: str) -> dict[str, Any]:
    """RunInstances of the firing at an RFC 3339 time, for boto3, which encodes user-data itself."""
    request: dict[str, Any] = json.loads(text.replace(SCHEDULED_TIME, when))
    request["UserData"] = base64.b64decode(request["UserData"])
    return {key: value for key, value in request.items() if key not in ("MinCount", "MaxCount")}


@dataclass(frozen=True, slots=True)
class _Tag:
    Key: str
    Value: str = ""


@dataclass(frozen=True, slots=True)
class _Tagged:
    ResourceType: str
    Tags: tuple[_Tag, ...]


@dataclass(frozen=True, slots=True)
class _Input:
    """What is read of Input."""

    InstanceType: str
    ImageId: str
    TagSpecifications: tuple[_Tagged, ...]
    UserData: str
    NetworkInterfaces: tuple[Mapping[str, Any], ...] = ()
    InstanceMarketOptions: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A schedule of ours. ``launch``: its word; ``parent``: ``s3://bucket/prefix`` below which each
    firing has its own store; ``lifetime`` in seconds; ``user_data`` in bytes."""

    schedule: Schedule
    launch: str
    parent: str
    overlap: str
    lifetime: int | None
    instance_type: str
    image: str
    subnet: str
    spot: bool
    options_sha256: str | None
    price: str | None
    user_data: int

    @property
    def name(self) -> str:
        return self.schedule.name

    @property
    def bucket(self) -> str:
        """Where its objects are."""
        return parse_s3(self.parent)[0]

    @property
    def prefix(self) -> str:
        """The key prefix below which each firing has its own."""
        return parse_s3(self.parent)[1]

    def queue_id(self, when: str) -> str:
        """Of the firing at an RFC 3339 time."""
        return names.fired(self.name, when)

    def store(self, when: str) -> str:
        """Where the results of that firing are."""
        return f"{self.parent}/{self.queue_id(when)}"


def stored_of(schedule: Schedule) -> StoredSchedule:
    """What a schedule says of itself. Raises RecordError for one that runner has not made."""
    place = f"schedule {schedule.name}"
    if schedule.target != TARGET:
        raise RecordError(f"{place}: launches no machine: its target is {schedule.target}")
    told = parse(_Input, schedule.input.encode(), place)
    tags = {tag.Key: tag.Value for kind in told.TagSpecifications[:1] for tag in kind.Tags}
    launch, parent = tags.get(names.LAUNCH), store_of(tags.get(names.STORE))
    if not launch or not parent or tags.get(names.QUEUE) != schedule.name:
        raise RecordError(f"{place}: was not made by runner: it has not the tags of its machines")
    lifetime = tags.get(names.LIFETIME, "")
    return StoredSchedule(
        schedule=schedule,
        launch=launch,
        parent=parent,
        overlap=tags.get(names.OVERLAP, "allow"),
        lifetime=int(lifetime) if lifetime.isascii() and lifetime.isdigit() else None,
        instance_type=told.InstanceType,
        image=told.ImageId,
        subnet=str(told.NetworkInterfaces[0].get("SubnetId", "")) if told.NetworkInterfaces else "",
        spot=told.InstanceMarketOptions is not None,
        options_sha256=tags.get(names.OPTIONS),
        price=tags.get(names.PRICE),
        user_data=len(told.UserData) * 3 // 4,
    )
