"""EC2 as a laptop or a machine sees it: instances by id, tag or token; run, terminate, cancel.

Owns the shape of what comes back. It knows neither queues nor which tags mean what.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.aws.clients import ATTEMPTS, make_client
from runner.aws.errors import AwsError, ErrorKind, calling, part_of

CONNECT_TIMEOUT = 5
READ_TIMEOUT = 20

GONE = frozenset({"shutting-down", "terminated"})
"""States of an instance that never comes back."""

MOST_VALUES = 200

_CHECKS = ("SystemStatus", "InstanceStatus")

ALIVE = ("pending", "running", "stopping", "stopped")


@dataclass(frozen=True, slots=True)
class Machine:
    """One instance, as EC2 describes it. ``launched``: seconds since the epoch, of its last start.

    ``began``: of its first one, as far as EC2 tells: its disk was attached then (0: nobody knows).
    ``why``: EC2's words for its state, "" if it has none; ``transition``: its words for the last
    change of it, with a time in them more often than not.
    """

    instance_id: str
    state: str
    instance_type: str
    region: str
    zone: str = ""
    spot: bool = False
    spot_request: str | None = None
    launched: float = 0.0
    why: str = ""
    transition: str = ""
    image: str = ""
    profile: str | None = None
    token: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    began: float = 0.0

    @property
    def gone(self) -> bool:
        """Whether it never comes back."""
        return self.state in GONE


@dataclass(frozen=True, slots=True)
class SpotRequest:
    """``state``: open, active, closed, cancelled, failed, disabled. ``status``: EC2's code.

    ``created``, ``valid_until``: seconds since the epoch; EC2 launches nothing after the latter.
    """

    request_id: str
    state: str
    status: str
    message: str
    instance_id: str | None
    tags: Mapping[str, str] = field(default_factory=dict)
    instance_type: str = ""
    created: float | None = None
    valid_until: float | None = None

    @property
    def alive(self) -> bool:
        """Whether EC2 may launch a machine for it (``disabled``: when a person starts it)."""
        return self.state in ("open", "active", "disabled")


@dataclass(frozen=True, slots=True)
class Disk:
    """A volume of an instance. ``kind``: EC2's word, ``gp3``."""

    instance_id: str
    gib: int
    kind: str


class Ec2:
    """One region. All calls block, and raise AwsError. ``attempts``: of a call, by boto3 itself.

    ``own_session``: see make_client. A client costs 0.15 s with one, else 0.01 s after the first.
    """

    def __init__(
        self, region: str | None = None, attempts: int = ATTEMPTS, *, own_session: bool = True
    ) -> None:
        self._region = region
        self._attempts = attempts
        self._own_session = own_session
        self._made: Any = None

    @property
    def client(self) -> Any:
        """boto3's client, for calls that only one place makes. Made with the first call."""
        if self._made is None:
            self._made = make_client(
                "ec2",
                self._region,
                connect=CONNECT_TIMEOUT,
                read=READ_TIMEOUT,
                attempts=self._attempts,
                own_session=self._own_session,
            )
        return self._made

    @property
    def region(self) -> str:
        """Which region it is, where none was named: boto3's own choice."""
        return str(self._region or self.client.meta.region_name)

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One call, by boto3's name of it."""
        with calling(lambda error: error):
            answer: dict[str, Any] = getattr(self.client, operation)(**parameters)
        return answer

    def pages(self, operation: str, key: str, **parameters: Any) -> list[dict[str, Any]]:
        """All items of a call that answers in pages."""
        with calling(lambda error: error):
            pages = self.client.get_paginator(operation).paginate(**parameters)
            return [item for page in pages for item in page.get(key, ())]

    # -- looking -----------------------------------------------------------------------------

    def machine(self, instance_id: str) -> Machine | None:
        """One instance; None if EC2 doesn't know it (it forgets one some time after its end)."""
        try:
            found = self._machines(InstanceIds=[instance_id])
        except AwsError as error:
            if error.kind is ErrorKind.MISSING:
                return None
            raise
        return found[0] if found else None

    def checks(self, instance_id: str) -> str:
        """EC2's status checks of a running instance: ``ok``, ``initializing``, ``impaired``, …; ""
        where there are none (API reference, "DescribeInstanceStatus")."""
        found = self.call("describe_instance_status", InstanceIds=[instance_id])
        for told in found.get("InstanceStatuses", ()):
            each = [str((told.get(part) or {}).get("Status", "")) for part in _CHECKS]
            return next((word for word in each if word and word != "ok"), each[0])
        return ""

    def machines_of(self, instance_ids: Sequence[str]) -> list[Machine]:
        """Those of these instances that EC2 knows, in calls of 200: a filter takes no more values
        (EC2 User Guide, "Filter your resources")."""
        found: list[Machine] = []
        for begin in range(0, len(instance_ids), MOST_VALUES):
            ids = list(instance_ids[begin : begin + MOST_VALUES])
            found += self._machines(Filters=[{"Name": "instance-id", "Values": ids}])
        return found

    def disks(self, instance_ids: Sequence[str]) -> list[Disk]:
        """The volumes that are attached to these instances, a stopped one's too."""
        found: list[dict[str, Any]] = []
        for begin in range(0, len(instance_ids), MOST_VALUES):
            ids = list(instance_ids[begin : begin + MOST_VALUES])
            mine = [{"Name": "attachment.instance-id", "Values": ids}]
            found += self.pages("describe_volumes", "Volumes", Filters=mine)
        return [
            Disk(str(mount["InstanceId"]), int(item["Size"]), str(item.get("VolumeType", "")))
            for item in found
            for mount in item.get("Attachments", ())
            if mount.get("InstanceId")
        ]

    def machines(self, tags: Mapping[str, str | None], states: Sequence[str] = ()) -> list[Machine]:
        """All with these tags (None: any value) in these states (none named: any), oldest first."""
        filters = filters_of(tags)
        if states:
            filters.append({"Name": "instance-state-name", "Values": list(states)})
        return self._machines(Filters=filters)

    def launched_with(self, token: str) -> Machine | None:
        """The instance that a RunInstances with this client token has launched, if any.

        After a call whose answer was lost, the only way to know (EC2 API reference, "Ensuring
        idempotency"). An instance that has ended since is found too.
        """
        found = self._machines(Filters=[{"Name": "client-token", "Values": [token]}])
        return found[-1] if found else None

    def _machines(self, **parameters: Any) -> list[Machine]:
        reservations = self.pages("describe_instances", "Reservations", **parameters)
        found = [
            machine_of(instance, self.region)
            for reservation in reservations
            for instance in reservation.get("Instances", ())
        ]
        return sorted(found, key=lambda machine: (machine.launched, machine.instance_id))

    def spot_requests(self, **parameters: Any) -> list[SpotRequest]:
        """Spot requests by ``Filters`` or ``SpotInstanceRequestIds``."""
        found = self.pages("describe_spot_instance_requests", "SpotInstanceRequests", **parameters)
        return [_request_of(item) for item in found]

    def regions(self) -> list[str]:
        """The regions that the account has enabled (EC2 API reference, "DescribeRegions")."""
        found = self.call("describe_regions").get("Regions", ())
        return sorted(str(region["RegionName"]) for region in found)

    # -- acting ------------------------------------------------------------------------------

    def run(self, **parameters: Any) -> Machine:
        """RunInstances; one instance."""
        answer = self.call("run_instances", MinCount=1, MaxCount=1, **parameters)
        return machine_of(part_of(answer, "RunInstances", "Instances", 0), self.region)

    def cancel_spot(self, request_ids: Sequence[str]) -> None:
        """Have EC2 launch nothing more for them. It leaves a running instance running, and
        terminates a stopped one (EC2 API reference)."""
        if request_ids:
            self.call("cancel_spot_instance_requests", SpotInstanceRequestIds=list(request_ids))

    def terminate(self, instance_id: str) -> None:
        """Begin its end. Its spot request is to be cancelled before, or EC2 launches another."""
        self.call("terminate_instances", InstanceIds=[instance_id])


def filters_of(tags: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """EC2's filters for what has all of these tags; None is any value."""
    return [
        {"Name": "tag-key", "Values": [key]}
        if value is None
        else {"Name": f"tag:{key}", "Values": [value]}
        for key, value in tags.items()
    ]


def machine_of(instance: Mapping[str, Any], region: str) -> Machine:
    """What EC2's answer says of one instance."""
    launched = instance.get("LaunchTime")
    reason = instance.get("StateReason") or {}
    zone = (instance.get("Placement") or {}).get("AvailabilityZone", "")
    return Machine(
        instance_id=str(part_of(instance, "EC2", "InstanceId")),
        state=str((instance.get("State") or {}).get("Name", "unknown")),
        instance_type=str(instance.get("InstanceType", "")),
        region=region,
        zone=str(zone),
        spot=instance.get("InstanceLifecycle") == "spot",
        spot_request=instance.get("SpotInstanceRequestId") or None,
        launched=launched.timestamp() if launched is not None else time.time(),
        why=str(reason.get("Message") or instance.get("StateTransitionReason") or ""),
        transition=str(instance.get("StateTransitionReason") or ""),
        image=str(instance.get("ImageId", "")),
        profile=(instance.get("IamInstanceProfile") or {}).get("Arn"),
        token=instance.get("ClientToken") or None,
        tags=tags_of(instance),
        began=_began(instance),
    )


def _began(instance: Mapping[str, Any]) -> float:
    """When the disk it was launched with was attached: a stop and a start don't change that."""
    disks = [mapping.get("Ebs") or {} for mapping in instance.get("BlockDeviceMappings", ())]
    times = [instance.get("LaunchTime"), *(disk.get("AttachTime") for disk in disks)]
    return min((time.timestamp() for time in times if time is not None), default=0.0)


def _request_of(item: Mapping[str, Any]) -> SpotRequest:
    status = item.get("Status") or {}
    return SpotRequest(
        request_id=str(item["SpotInstanceRequestId"]),
        state=str(item.get("State", "")),
        status=str(status.get("Code", "")),
        message=str(status.get("Message", "")),
        instance_id=item.get("InstanceId") or None,
        tags=tags_of(item),
        instance_type=str((item.get("LaunchSpecification") or {}).get("InstanceType", "")),
        created=_seconds(item.get("CreateTime")),
        valid_until=_seconds(item.get("ValidUntil")),
    )


def _seconds(moment: Any) -> float | None:
    return None if moment is None else float(moment.timestamp())


def tags_of(item: Mapping[str, Any]) -> dict[str, str]:
    """The tags of anything that EC2 describes."""
    return {tag["Key"]: tag.get("Value", "") for tag in item.get("Tags", ())}
