"""What a region has of what was asked for: types, zones, subnets, groups, images.

Owns the EC2 and SSM calls of the preflight and what their refusals mean. Each function raises
UsageError with a line for what is wrong, or AwsError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runner.aws.clients import make_client
from runner.aws.ec2 import Ec2
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.errors import UsageError
from runner.targets.ec2.launch.plan import Image, Subnet, TypeFacts

STANDARD = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{arch}"
"""Amazon Linux 2023 (its User Guide, "Get started on Amazon EC2")."""

DEEP_LEARNING = (
    "/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-amazon-linux-2023"
    "/latest/ami-id"
)
"""The same with NVIDIA's drivers (Deep Learning AMI developer guide, "Find DLAMI IDs")."""


def types(ec2: Ec2, wanted: Sequence[str]) -> dict[str, TypeFacts]:
    """What the types are."""
    try:
        found = ec2.call("describe_instance_types", InstanceTypes=list(wanted))["InstanceTypes"]
    except AwsError as error:
        if error.code == "InvalidInstanceType":
            raise UsageError(f"--instance-type: {_words(error)} ({ec2.region})") from error
        raise
    return {item["InstanceType"]: _type(item) for item in found}


def _type(item: Mapping[str, Any]) -> TypeFacts:
    arches = (item.get("ProcessorInfo") or {}).get("SupportedArchitectures") or ("x86_64",)
    gpus = (item.get("GpuInfo") or {}).get("Gpus") or ()
    return TypeFacts(
        name=item["InstanceType"],
        arch="arm64" if "arm64" in arches else "x86_64",
        gpu=str(gpus[0].get("Manufacturer", "unknown")) if gpus else "",
        markets=tuple(item.get("SupportedUsageClasses") or ("on-demand", "spot")),
        ebs_root="ebs" in (item.get("SupportedRootDeviceTypes") or ("ebs",)),
        vcpus=int((item.get("VCpuInfo") or {}).get("DefaultVCpus") or 0),
        memory_mib=int((item.get("MemoryInfo") or {}).get("SizeInMiB") or 0),
    )


def zones(ec2: Ec2, wanted: Sequence[str]) -> dict[str, frozenset[str]]:
    """In which Availability Zones each type is offered."""
    offers = ec2.pages(
        "describe_instance_type_offerings",
        "InstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": list(wanted)}],
    )
    found: dict[str, set[str]] = {}
    for offer in offers:
        found.setdefault(offer["InstanceType"], set()).add(offer["Location"])
    return {name: frozenset(where) for name, where in found.items()}


def subnets(ec2: Ec2, wanted: Sequence[str]) -> list[Subnet]:
    """Those that were named, in their order; else those of the default VPC."""
    if wanted:
        try:
            found = ec2.pages("describe_subnets", "Subnets", SubnetIds=list(wanted))
        except AwsError as error:
            if error.code.startswith("InvalidSubnetID"):
                raise UsageError(f"--subnet: {_words(error)} ({ec2.region})") from error
            raise
        return sorted(map(_subnet, found), key=lambda each: wanted.index(each.subnet_id))
    default = [{"Name": "default-for-az", "Values": ["true"]}]
    found = ec2.pages("describe_subnets", "Subnets", Filters=default)
    if not found:
        raise UsageError(
            f"{ec2.region} has no default VPC (or it has no default subnets): give --subnet, "
            "or make one with: aws ec2 create-default-vpc"
        )
    return sorted(map(_subnet, found), key=lambda each: each.zone)


def _subnet(item: Mapping[str, Any]) -> Subnet:
    return Subnet(item["SubnetId"], item["AvailabilityZone"], item["VpcId"])


def groups(ec2: Ec2, wanted: Sequence[str]) -> dict[str, str]:
    """The VPC of each security group that was named."""
    if not wanted:
        return {}
    try:
        found = ec2.pages("describe_security_groups", "SecurityGroups", GroupIds=list(wanted))
    except AwsError as error:
        if error.code.startswith("InvalidGroup"):
            raise UsageError(f"--security-group: {_words(error)} ({ec2.region})") from error
        raise
    return {item["GroupId"]: item["VpcId"] for item in found}


def key_pair(ec2: Ec2, name: str | None) -> None:
    """That a key pair is there, if one was named."""
    if name is None:
        return
    try:
        ec2.call("describe_key_pairs", KeyNames=[name])
    except AwsError as error:
        if error.code.startswith("InvalidKeyPair"):
            raise UsageError(f"--key-name: {_words(error)} ({ec2.region})") from error
        raise


def images(ec2: Ec2, given: str | None, kinds: Iterable[TypeFacts]) -> dict[str, Image]:
    """The image of each type: the one that was named, else Amazon's newest."""
    kinds = list(kinds)
    if not kinds:
        return {}
    if given is not None:
        image = _described(ec2, {given: "--ami"}).get(given)
        if image is None:
            raise UsageError(f"--ami: there is no image {given} in {ec2.region}")
        return {kind.name: image for kind in kinds}
    paths = {kind.name: _parameter(kind) for kind in kinds}
    ids = _parameters(ec2.region, sorted(set(paths.values())))
    lines = [
        f"{name}: there is no image {path} in {ec2.region}: give --ami"
        for name, path in paths.items()
        if path not in ids
    ]
    if lines:
        raise UsageError("\n".join(lines))
    found = _described(ec2, {ids[path]: path for path in paths.values()})
    return {name: found[ids[path]] for name, path in paths.items()}


def _parameter(kind: TypeFacts) -> str:
    """AMD's GPUs have no use for NVIDIA's drivers."""
    return (DEEP_LEARNING if kind.gpu == "NVIDIA" else STANDARD).format(arch=kind.arch)


def _parameters(region: str, paths: list[str]) -> dict[str, str]:
    client = make_client("ssm", region)
    with calling(lambda error: error):
        found = client.get_parameters(Names=paths)["Parameters"]
    return {item["Name"]: item["Value"] for item in found}


def _described(ec2: Ec2, sources: Mapping[str, str]) -> dict[str, Image]:
    try:
        found = ec2.call("describe_images", ImageIds=list(sources))["Images"]
    except AwsError as error:
        if error.kind is ErrorKind.MISSING or error.code.startswith("InvalidAMIID"):
            raise UsageError(f"--ami: {_words(error)} ({ec2.region})") from error
        raise
    return {item["ImageId"]: _image(item, sources[item["ImageId"]]) for item in found}


def _image(item: Mapping[str, Any], source: str) -> Image:
    root = item.get("RootDeviceName") or "/dev/xvda"
    sizes = [
        int((device.get("Ebs") or {}).get("VolumeSize") or 0)
        for device in item.get("BlockDeviceMappings", ())
        if device.get("DeviceName") == root
    ]
    return Image(
        image_id=item["ImageId"],
        name=str(item.get("Name") or item["ImageId"]),
        arch=str(item.get("Architecture") or ""),
        root_device=root,
        size=max(sizes, default=0),
        source=source,
        ebs_root=item.get("RootDeviceType", "ebs") == "ebs",
        # EC2 API reference, Image: "windows", or nothing.
        windows=str(item.get("Platform") or "").lower() == "windows",
    )


def _words(error: AwsError) -> str:
    """EC2's own, without its code."""
    return str(error).removeprefix(f"{error.code}: ")
