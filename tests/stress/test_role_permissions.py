"""The machine's role as it ships is enough for all that it does, and no action is too many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from guarded import Guarded
from templates import policies, widened, without, words
from test_s3_permissions import ACTIONS
from world import World

from runner.aws.ec2 import Ec2
from runner.aws.errors import AwsError, ErrorKind
from runner.aws.instance import Instance

JOB = {
    "job_id": "a",
    "command": "head -c 9000000 /dev/zero > big; echo x > small",
    "timeout": "1m",
    "result_paths": ["big", "small"],
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    guarded = Guarded()
    yield guarded
    guarded.endpoint.close()


def role(bucket: str) -> dict[str, Any]:
    """The role's policy for one bucket and the default prefix, as moto can enforce it."""
    shipped = policies(
        BucketArns=f"arn:aws:s3:::{bucket}",
        ResultArns=f"arn:aws:s3:::{bucket}/queues/*",
        ResultPrefixes="queues/*",
        SecretArns="",
        KmsKeyArn="",
    )
    return widened(shipped["role"])


def test_a_queue_is_run_and_stored(world: World, guarded: Guarded) -> None:
    """The first launch after `runner setup` would wait for permissions for ever."""
    guarded.allow(role(guarded.bucket))
    world.env.update(guarded.env)
    done = world.call("run", world.document(JOB, result_s3_bucket=guarded.bucket))
    assert done.returncode == 0, done
    assert "work goes on" not in done.stderr and "done without" not in done.stderr
    fetched = world.call("results", f"s3://{guarded.bucket}/queues/q", "--output", "back")
    assert fetched.returncode == 0, fetched
    assert (world.home / "back/a/big").stat().st_size == 9_000_000


def test_actions_on_results_are_the_readmes() -> None:
    """One would be missing, or one too many: test_s3_permissions shows that each is needed."""
    named = {"Results", "List", "OpenUploads"}
    statements = [s for s in role("b")["Statement"] if s["Sid"] in named]
    listed = {action for each in statements for action in words(each["Action"])}
    assert listed - {"s3:HeadBucket"} == set(ACTIONS)


# -- below runner/, and EC2 ------------------------------------------------------------------


@pytest.fixture
def as_machine(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    """This process calls AWS as the machine does."""
    for name, value in guarded.env.items():
        monkeypatch.setenv(name, value)
    # boto3's session keeps the keys of whoever it called for first.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return guarded


def s3(guarded: Guarded) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=guarded.endpoint.url, region_name="us-east-1")


def put(guarded: Guarded, key: str) -> Callable[[], Any]:
    return lambda: s3(guarded).put_object(Bucket=guarded.bucket, Key=key, Body=b"x")


def get(guarded: Guarded, key: str) -> Callable[[], Any]:
    return lambda: s3(guarded).get_object(Bucket=guarded.bucket, Key=key)


BOOT = [
    ("Bundles", "s3:GetObject", get, "runner/bundles/b"),
    ("Launches", "s3:GetObject", get, "runner/launches/l/queue.json"),
    ("Launches", "s3:GetObject", get, "runner/launches/l/workdir.tar.gz"),
    ("Launches", "s3:GetObject", get, "runner/launches/l/submit-0123.json"),
    ("BootReports", "s3:PutObject", put, "runner/launches/l/bootstrap.log"),
    ("BootReports", "s3:PutObject", put, "runner/launches/l/bootstrap.json"),
]


@pytest.mark.parametrize(("sid", "action", "call", "key"), BOOT)
def test_a_boot_has_what_it_needs(
    as_machine: Guarded, sid: str, action: str, call: Any, key: str
) -> None:
    """The machine would be there, and never get its bundle, or could tell nobody why."""
    with as_machine.off_guard():
        as_machine.client("s3").put_object(Bucket=as_machine.bucket, Key=key, Body=b"x")
    policy = role(as_machine.bucket)
    as_machine.allow(policy)
    call(as_machine, key)()
    as_machine.allow(without(policy, action, sid))
    with pytest.raises(Exception, match=r"AccessDenied|Forbidden"):
        call(as_machine, key)()


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (put, "runner/bundles/b"),
        (put, "runner/index/q.json"),
        (put, "runner/launches/l/launch.json"),
        (get, "runner/launches/l/launch.json"),
        (put, "runner/launches/l/workdir.tar.gz"),
        (put, "runner/launches/l/queue.json"),
        (put, "elsewhere/x"),
        (get, "elsewhere/x"),
        (get, "queuesish/x"),
    ],
)
def test_what_isnt_the_machines_is_refused(as_machine: Guarded, call: Any, key: str) -> None:
    """A job has the role's rights: it could change what the next machine is, or installs."""
    with as_machine.off_guard():
        as_machine.client("s3").put_object(Bucket=as_machine.bucket, Key=key, Body=b"x")
    as_machine.allow(role(as_machine.bucket))
    with pytest.raises(Exception, match=r"AccessDenied|Forbidden"):
        call(as_machine, key)()


def launched(guarded: Guarded) -> str:
    with guarded.off_guard():
        made = guarded.client("ec2").run_instances(ImageId="ami-1", MinCount=1, MaxCount=1)
    return str(made["Instances"][0]["InstanceId"])


def end(instance_id: str) -> None:
    instance = Instance(instance_id, "us-east-1")
    instance.cancel_spot_request()
    instance.terminate()


def test_a_machine_can_end_itself(as_machine: Guarded) -> None:
    """It would idle for fifteen minutes before it powers itself off."""
    as_machine.allow(role(as_machine.bucket))
    end(launched(as_machine))


@pytest.mark.parametrize(
    "action",
    ["ec2:DescribeInstances", "ec2:DescribeSpotInstanceRequests", "ec2:TerminateInstances"],
)
def test_no_action_on_ec2_is_too_many(as_machine: Guarded, action: str) -> None:
    """A right that nothing needs is one that only a thief uses."""
    as_machine.allow(without(role(as_machine.bucket), action))
    with pytest.raises(AwsError) as caught:
        end(launched(as_machine))
    assert caught.value.kind is ErrorKind.DENIED


def test_the_spot_request_is_cancelled_by_right(as_machine: Guarded) -> None:
    """EC2 would launch another machine in the place of one that has ended."""
    with as_machine.off_guard():
        asked = as_machine.client("ec2").request_spot_instances(
            LaunchSpecification={"ImageId": "ami-1", "InstanceType": "t3.medium"}
        )
    requests = [asked["SpotInstanceRequests"][0]["SpotInstanceRequestId"]]
    policy = role(as_machine.bucket)
    as_machine.allow(without(policy, "ec2:CancelSpotInstanceRequests"))
    with pytest.raises(AwsError) as caught:
        Ec2("us-east-1").cancel_spot(requests)
    assert caught.value.kind is ErrorKind.DENIED
    as_machine.allow(policy)
    Ec2("us-east-1").cancel_spot(requests)
