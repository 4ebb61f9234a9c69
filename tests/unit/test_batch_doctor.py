"""What `runner doctor --batch` makes of AWS's answers."""

from __future__ import annotations

from typing import Any

import pytest

from runner.cli.main import run_command
from runner.targets.batch.account.doctor.network import judge
from runner.targets.batch.account.doctor.queue import check_environments, check_queue
from runner.targets.ec2.account.doctor.findings import Grade

WELL = {
    "computeEnvironmentName": "e",
    "state": "ENABLED",
    "status": "VALID",
    "statusReason": "ComputeEnvironment Healthy",
    "computeResources": {"type": "FARGATE", "maxvCpus": 16},
}
QUEUE = {
    "state": "ENABLED",
    "status": "VALID",
    "statusReason": "JobQueue Healthy",
    "priority": 1,
    "computeEnvironmentOrder": [{"order": 1}],
}


@pytest.mark.parametrize(
    ("change", "grade", "told"),
    [
        ({}, Grade.OK, "ENABLED, VALID, FARGATE, at most 16 vCPUs"),
        ({"state": "DISABLED"}, Grade.FAIL, "no job starts there"),
        (
            {"status": "INVALID", "statusReason": "CLIENT_ERROR - Access denied"},
            Grade.FAIL,
            "INVALID (CLIENT_ERROR - Access denied)",
        ),
        ({"status": "UPDATING"}, Grade.WARN, "jobs wait until it is VALID"),
        ({"computeResources": {"type": "EC2", "maxvCpus": 0}}, Grade.FAIL, "at most 0 vCPUs"),
        ({"computeResources": {}}, Grade.WARN, "unmanaged"),
    ],
)
def test_environments_are_told_with_what_is_wrong(
    change: dict[str, Any], grade: Grade, told: str
) -> None:
    """Jobs would stay RUNNABLE, and doctor say that all is well."""
    (found,) = check_environments("us-east-1", [{**WELL, **change}])
    assert (found.grade, bool(found.todo)) == (
        grade,
        grade is Grade.FAIL or "UPDATING" in str(change),
    )
    assert told in found.says


@pytest.mark.parametrize(
    ("queue", "grade", "told"),
    [
        (QUEUE, Grade.OK, "ENABLED, VALID, priority 1"),
        ({**QUEUE, "schedulingPolicyArn": "arn:x"}, Grade.OK, "fair share"),
        (None, Grade.FAIL, "no such job queue in us-east-1"),
        ({**QUEUE, "state": "DISABLED"}, Grade.FAIL, "takes no jobs"),
        ({**QUEUE, "status": "INVALID", "statusReason": "why"}, Grade.FAIL, "INVALID (why)"),
        ({**QUEUE, "computeEnvironmentOrder": []}, Grade.FAIL, "no compute environment"),
    ],
)
def test_queues_are_told_with_what_is_wrong(
    queue: dict[str, Any] | None, grade: Grade, told: str
) -> None:
    """Every submission would be refused, or wait for ever."""
    (found,) = check_queue("us-east-1", "q", queue)
    assert found.grade is grade and told in found.says
    assert bool(found.todo) == (grade is Grade.FAIL)


def table(route: dict[str, str] | None, *subnets: str) -> dict[str, Any]:
    """A route table of these subnets; the main one without any."""
    routes = [{"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local"}]
    if route is not None:
        routes.append({"DestinationCidrBlock": "0.0.0.0/0", **route})
    held: list[dict[str, Any]] = [{"SubnetId": each} for each in subnets] or [{"Main": True}]
    return {"VpcId": "vpc-1", "Routes": routes, "Associations": held}


def subnet(name: str, public: bool = False) -> dict[str, Any]:
    return {"SubnetId": name, "VpcId": "vpc-1", "MapPublicIpOnLaunch": public}


ENDPOINTS = [
    {"ServiceName": f"com.amazonaws.us-east-1.{each}"}
    for each in ("ecr.api", "ecr.dkr", "logs", "s3")
]
GATEWAY, NAT = {"GatewayId": "igw-1"}, {"NatGatewayId": "nat-1"}


@pytest.mark.parametrize(
    ("fargate", "public", "route", "endpoints", "grade", "told"),
    [
        (True, False, NAT, [], Grade.OK, "out by nat-1"),
        (True, True, GATEWAY, [], Grade.OK, "the definition has assignPublicIp"),
        (True, False, None, [], Grade.FAIL, "no VPC endpoint for ecr.api, ecr.dkr, logs, s3"),
        (True, False, {**NAT, "State": "blackhole"}, [], Grade.FAIL, "no route"),
        (True, False, None, ENDPOINTS, Grade.OK, "the VPC's endpoints"),
        (False, False, None, ENDPOINTS, Grade.FAIL, "endpoint for ecs, ecs-agent, ecs-telemetry"),
        (False, True, GATEWAY, [], Grade.OK, "machines get public addresses"),
        (False, False, GATEWAY, [], Grade.FAIL, "no public address"),
    ],
)
def test_subnets_need_a_way_out(
    fargate: bool,
    public: bool,
    route: dict[str, str] | None,
    endpoints: list[dict[str, str]],
    grade: Grade,
    told: str,
) -> None:
    """A job would stay RUNNABLE, or its image not be pulled, and nobody know why."""
    subnets = [subnet("subnet-1", public), subnet("subnet-2", public)]
    tables = [table(None), table(route, "subnet-1", "subnet-2")]
    (found,) = judge("network", fargate, subnets, tables, endpoints)
    assert found.grade is grade and told in found.says and "subnet-1, subnet-2" in found.says


def test_main_table_is_for_subnets_without_one() -> None:
    """A subnet would be taken for one without a way out, or for one that has it."""
    found = judge("n", True, [subnet("a"), subnet("b")], [table(NAT), table(None, "b")], [])
    assert [(each.grade, each.says.rpartition(" ")[2]) for each in found] == [
        (Grade.OK, "a"),
        (Grade.FAIL, "b"),
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("doctor", "--job-queue", "q"), "--job-queue goes with --batch"),
        (("doctor", "--image", "i"), "--image goes with --batch"),
        (("doctor", "--batch", "--instance-type", "g5.xlarge"), "--instance-type is about EC2"),
        (("setup", "--compute", "ec2"), "--compute goes with --batch"),
        (("setup", "--batch", "--max-vcpus", "8"), "--max-vcpus goes with --batch --compute"),
        (("setup", "--batch", "--compute", "ec2", "--max-vcpus", "0"), "is no number of vCPUs"),
        (("setup", "--batch", "--compute", "ec2", "--job-queue", "a b"), "isn't the name of"),
        (("setup", "--batch", "--definition", "*"), "isn't the name of a job definition"),
        (("setup", "--batch", "--repository", "tools"), "isn't the ARN of an ECR repository"),
        (("setup", "--batch", "--no-shell"), "--shell is about machines on EC2"),
    ],
)
def test_flags_that_cannot_be_are_refused(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flag would be taken, and do nothing."""
    assert run_command([*words, "--region", "us-east-1"]) == 2
    assert told in capsys.readouterr().err
