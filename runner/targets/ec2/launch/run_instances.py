"""A candidate as EC2 is asked for it: the parameters of one RunInstances. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.targets.ec2 import names
from runner.targets.ec2.launch.launch_request import LaunchRequest
from runner.targets.ec2.launch.plan import SPOT, InstanceCandidate, disk_of
from runner.timestamps import rfc3339_seconds

MOST_USER_DATA = 16_384
"""Bytes before base64 (EC2 User Guide, "Run commands at launch")."""

MOST_TOKEN = 64
"""ASCII characters (EC2 API reference, "Ensuring idempotency")."""

MOST_VALUE = 256
"""Characters of a tag's value."""

HOPS = 2
"""Of a metadata answer: jobs may run in containers."""

TAGGED = ("instance", "volume", "network-interface")


def token(launch: str, number: int) -> str:
    """The client token of a launch's n-th request."""
    made = f"{launch}-{number}"
    assert len(made) <= MOST_TOKEN and made.isascii()
    return made


def tags(
    wanted: LaunchRequest,
    launch: str,
    queue_id: str,
    store: str,
    expires: float,
    price: float | None,
) -> dict[str, str]:
    """What every resource of a launch bears; the user's own come last."""
    made = {
        "Name": queue_id,
        names.QUEUE: queue_id,
        names.LAUNCH: launch,
        names.STORE: store,
        names.EXPIRES: rfc3339_seconds(expires),
        names.TERMINATES: wanted.on_complete,
    }
    if price is not None:
        made[names.PRICE] = f"{price:.6f}".rstrip("0").rstrip(".")
    return {**made, **wanted.tags}


def request(
    wanted: LaunchRequest,
    candidate: InstanceCandidate,
    *,
    profile: str,
    tags: Mapping[str, str],
    token: str,
    expires: float,
    user_data: bytes,
) -> dict[str, Any]:
    """RunInstances without its counts. Times are text: the request is kept, and sent as kept."""
    assert len(user_data) <= MOST_USER_DATA
    spot = candidate.market == SPOT
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    kinds = (*TAGGED, "spot-instances-request") if spot else TAGGED
    interface: dict[str, Any] = {"DeviceIndex": 0, "SubnetId": candidate.subnet.subnet_id}
    if wanted.groups:
        interface["Groups"] = list(wanted.groups)
    if wanted.public_ip is not None:
        interface["AssociatePublicIpAddress"] = wanted.public_ip
    made: dict[str, Any] = {
        "ClientToken": token,
        "ImageId": candidate.image.image_id,
        "InstanceType": candidate.type,
        "NetworkInterfaces": [interface],
        "IamInstanceProfile": {"Arn" if profile.startswith("arn:") else "Name": profile},
        "BlockDeviceMappings": [_root(wanted, candidate)],
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": HOPS,
        },
        # With "terminate" a machine that powers itself off would be gone, and not stopped.
        "InstanceInitiatedShutdownBehavior": "stop"
        if wanted.on_complete == "stop"
        else "terminate",
        "TagSpecifications": [{"ResourceType": kind, "Tags": pairs} for kind in kinds],
        "UserData": user_data,
    }
    if wanted.key_name:
        made["KeyName"] = wanted.key_name
    if spot:
        made["InstanceMarketOptions"] = _spot(expires)
    return made


def _root(wanted: LaunchRequest, candidate: InstanceCandidate) -> dict[str, Any]:
    return {
        "DeviceName": candidate.image.root_device,
        "Ebs": {
            "VolumeSize": disk_of(wanted, candidate.image),
            "VolumeType": "gp3",
            "Encrypted": True,
            "DeleteOnTermination": True,
        },
    }


def _spot(expires: float) -> dict[str, Any]:
    """RunInstances takes a persistent request only with stop or hibernate (EC2 API reference,
    SpotMarketOptions). No MaxPrice: EC2 advises against it."""
    return {
        "MarketType": "spot",
        "SpotOptions": {
            "SpotInstanceType": "persistent",
            "InstanceInterruptionBehavior": "stop",
            "ValidUntil": rfc3339_seconds(expires),
        },
    }
