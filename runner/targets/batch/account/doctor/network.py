"""Whether jobs reach ECR, S3 and CloudWatch from a compute environment's subnets.

What a job without a way out shows is RUNNABLE for ever on EC2, CannotPullContainer or
ResourceInitializationError on Fargate (Batch User Guide, "Jobs stuck in RUNNABLE"; ECS Developer
Guide, "Fargate task networking").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.targets.batch.account.doctor.queue import is_fargate
from runner.targets.ec2.account.doctor.findings import Finding, fail, ok, warn

Document = dict[str, Any]

_EVERYWHERE = "0.0.0.0/0"

_ON_FARGATE = ("ecr.api", "ecr.dkr", "logs", "s3")
_ON_EC2 = (*_ON_FARGATE, "ecs", "ecs-agent", "ecs-telemetry")
"""Endpoints without which nothing starts where there is no way out (Batch User Guide, "Interface
VPC endpoints")."""


def check_network(region: str, environments: Sequence[Document]) -> list[Finding]:
    """One finding for each environment and each way that its subnets have. Raises AwsError."""
    return [found for each in environments for found in _check_environment(region, each)]


def _check_environment(region: str, environment: Document) -> list[Finding]:
    check = f"network of {environment['computeEnvironmentName']}"
    ids = (environment.get("computeResources") or {}).get("subnets") or []
    if not ids:
        return []
    try:
        subnets, tables, endpoints = _look(region, ids)
    except AwsError as error:
        if error.kind is ErrorKind.DENIED:
            lacks = "ec2:DescribeSubnets, ec2:DescribeRouteTables or ec2:DescribeVpcEndpoints"
            return [warn(check, f"can't be seen: {lacks} is missing")]
        todo = "make another compute environment, in subnets that are there"
        return [fail(check, str(error), todo)]
    return judge(check, is_fargate(environment), subnets, tables, endpoints)


def _look(region: str, ids: Sequence[str]) -> tuple[list[Document], list[Document], list[Document]]:
    client = make_client("ec2", region, connect=4, read=8, attempts=2)
    with calling(lambda error: error):
        subnets = client.describe_subnets(SubnetIds=[*ids])["Subnets"]
        vpcs = [{"Name": "vpc-id", "Values": sorted({each["VpcId"] for each in subnets})}]
        tables = client.describe_route_tables(Filters=vpcs)["RouteTables"]
        endpoints = client.describe_vpc_endpoints(Filters=vpcs)["VpcEndpoints"]
    return subnets, tables, endpoints


def judge(
    check: str,
    fargate: bool,
    subnets: Sequence[Document],
    tables: Sequence[Document],
    endpoints: Sequence[Document],
) -> list[Finding]:
    """What EC2 tells of the subnets, their VPC's route tables and endpoints. Pure."""
    alike: dict[tuple[str | None, bool], list[str]] = {}
    for each in subnets:
        way = _way_out(_table_of(each, tables))
        public = bool(each.get("MapPublicIpOnLaunch"))
        alike.setdefault((way, public), []).append(str(each["SubnetId"]))
    there = [str(each["ServiceName"]) for each in endpoints]
    return [
        _of_way(check, fargate, ", ".join(sorted(ids)), way, public, there)
        for (way, public), ids in alike.items()
    ]


def _of_way(
    check: str, fargate: bool, ids: str, way: str | None, public: bool, endpoints: Sequence[str]
) -> Finding:
    if way is None:
        wanted = _ON_FARGATE if fargate else _ON_EC2
        missing = [each for each in wanted if not any(e.endswith(f".{each}") for e in endpoints)]
        if not missing:
            return ok(check, f"{ids}: no way out, but the VPC's endpoints")
        says = f"no route to the internet, and no VPC endpoint for {', '.join(missing)}: {ids}"
        return fail(check, says, "a NAT gateway, those endpoints, or other subnets")
    if not way.startswith("igw-"):
        return ok(check, f"out by {way}: {ids}")
    if fargate:
        # runner's own definitions ask for an address.
        return ok(check, f"out by {way}, where the definition has assignPublicIp: {ids}")
    if public:
        return ok(check, f"out by {way}, machines get public addresses: {ids}")
    says = f"out by {way}, but machines get no public address: {ids}"
    command = "aws ec2 modify-subnet-attribute --map-public-ip-on-launch --subnet-id ID"
    return fail(check, says, f"`{command}`, or a NAT gateway")


def _table_of(subnet: Document, tables: Sequence[Document]) -> Document:
    """The route table of its own, else the VPC's main one (VPC User Guide, "Route tables")."""
    main: Document = {}
    for table in tables:
        for each in table.get("Associations", ()):
            if each.get("SubnetId") == subnet["SubnetId"]:
                return table
            if each.get("Main") and table.get("VpcId") == subnet["VpcId"]:
                main = table
    return main


def _way_out(table: Document) -> str | None:
    """What the default route goes through; None without one that works."""
    for route in table.get("Routes", ()):
        if route.get("DestinationCidrBlock") != _EVERYWHERE or route.get("State") == "blackhole":
            continue
        for key in ("NatGatewayId", "GatewayId", "TransitGatewayId", "NetworkInterfaceId"):
            if route.get(key):
                return str(route[key])
    return None
