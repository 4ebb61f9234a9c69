"""A firing's machine, from exactly the Input that is stored; and the timer of `--here`."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from cloud import REGION, Cloud, CloudMachine
from firing_clock import ROLE, FiringClock, make_region
from lab import Machine
from launched import quickstart, role
from templates import schedule_policies, widened, without

LOG = "/var/log/runner-bootstrap.log"
WHEN = "2026-11-29T02:00:00Z"
QUEUE = "nightly-2026-11-29T020000Z"


class Administrator:
    """Somebody who may all, in a folder with a document."""

    def __init__(self, cloud: Cloud, root: Path) -> None:
        self._cloud = cloud
        keys = cloud._admin
        own = {name: text for name, text in os.environ.items() if not name.startswith("RUNNER_")}
        self.root = root
        self.env = {
            **own,
            **cloud.endpoint.env,
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "HOME": str(root),
            "XDG_STATE_HOME": str(root / "state"),
        }

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """moto reckons other signatures than boto3 for the Scheduler: nobody looks meanwhile."""
        command = [sys.executable, "-m", "runner", *words]
        self._cloud._enforce("inf")
        done = subprocess.run(
            command, env=self.env, cwd=self.root, capture_output=True, text=True, timeout=300
        )
        self._cloud._enforce("0")
        print(f"{words} -> {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def stored(self, name: str) -> Callable[[str], Any]:
        """A Scheduler that knows one schedule, as it is stored."""
        self._cloud._enforce("inf")
        client = self._cloud._client("scheduler")
        found = client.get_schedule(GroupName="runner", Name=name)
        client.close()
        self._cloud._enforce("0")
        return lambda _: SimpleNamespace(get_schedule=lambda **_: found)


@pytest.fixture
def administrator(cloud: Cloud, tmp_path: Path, bundle: Path) -> Administrator:
    """In an account where `runner setup --schedules` was called; its roles may what ships."""
    cloud._enforce("inf")
    iam = cloud._client("iam")
    iam.create_instance_profile(InstanceProfileName=cloud.role)
    iam.add_role_to_instance_profile(InstanceProfileName=cloud.role, RoleName=cloud.role)
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    iam.create_role(
        RoleName=ROLE,
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    make_region(cloud._client)
    cloud.allow(role(cloud.bucket))
    return Administrator(cloud, tmp_path)


def scheduler_role(cloud: Cloud, policy: dict[str, Any]) -> Callable[[str], Any]:
    """Clients of the Scheduler's role, which may what the policy says."""
    cloud._enforce("inf")
    iam = cloud._client("iam")
    iam.put_role_policy(RoleName=ROLE, PolicyName="p", PolicyDocument=json.dumps(policy))
    arn = iam.get_role(RoleName=ROLE)["Role"]["Arn"]
    keys = cloud._client("sts").assume_role(RoleArn=arn, RoleSessionName="firing")["Credentials"]
    cloud._enforce("0")
    return lambda service: boto3.client(
        service,
        endpoint_url=cloud.endpoint.url,
        region_name=REGION,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )


def test_a_firing_runs_the_queue_and_its_results_are_fetched(
    administrator: Administrator, cloud: Cloud, bundle: Path, lab_root: Path, tmp_path: Path
) -> None:
    """Two in the morning would come, and nothing of the night's work."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "greeting").write_text("hello\n")
    document = {**quickstart(), "result_s3_bucket": cloud.bucket, "queue_id": "nightly"}
    document["jobs"][0]["command"] += " && cat greeting && echo $QUEUE_ID"
    (tmp_path / "queue.json").write_text(json.dumps(document))
    params = {
        "batch_queue": "queue.json",
        "instance_type": "t3.medium",
        "workdir": str(tmp_path / "code"),
        "bundle": str(bundle),
        "max_lifetime": "1h",
        "overlap": "skip",
    }
    (tmp_path / "params.json").write_text(json.dumps(params))
    made = administrator.call("schedule", "create", "params.json", "--cron", "0 2 * * *")
    assert made.returncode == 0

    store = administrator.stored("nightly")
    policy = widened(schedule_policies()["scheduler"])
    refused = FiringClock(store, scheduler_role(cloud, without(policy, "ec2:RunInstances")))
    with pytest.raises(ClientError, match=r"AccessDenied|UnauthorizedOperation|not authorized"):
        refused.fire("nightly", WHEN)
    clock = FiringClock(store, scheduler_role(cloud, policy))
    instance = clock.fire("nightly", WHEN, times=2)
    assert instance is not None

    text = clock.tokens.popitem()[1][0]
    request = json.loads(text)
    there = CloudMachine(
        lab_root,
        cloud,
        base64.b64decode(request["UserData"]),
        instance_id=instance,
        RUNNER_ON_COMPLETE_DELAY="1s",
    )
    with there.machine as machine:
        # As EC2 tells them where InstanceMetadataTags is enabled.
        assert request["MetadataOptions"]["InstanceMetadataTags"] == "enabled"
        for tag in request["TagSpecifications"][0]["Tags"]:
            there.imds.data[f"tags/instance/{tag['Key']}"] = tag["Value"]
        machine.boot(wait=False)
        try:
            assert machine.wait_end(240) == 0
        except subprocess.TimeoutExpired:
            pytest.fail(machine.read(LOG) if machine.exists(LOG) else machine.last_words())
        assert cloud.state(instance) == "terminated"
        log = machine.read(LOG)
        assert "armed: the machine ends 3600 s after its first boot at the latest" in log
        kept = int(machine.read("/var/lib/runner-boot/expires"))
        assert f"{kept}" in machine.read("/etc/systemd/system/runner-overdue.service")
    told = administrator.call("schedule", "ls", "--json")
    (one,) = json.loads(told.stdout)["schedules"]
    (firing,) = [each for each in one["firings"] if each["when"] == WHEN]
    assert (firing["instance_id"], firing["outcome"]) == (instance, "completed")
    fetched = administrator.call("results", QUEUE, "--region", REGION, "--output", "out")
    assert fetched.returncode == 0
    said = (tmp_path / "out" / "setup" / "stdout.log").read_text()
    assert said == f"Starting...\nhello\n{QUEUE}\n"


@pytest.fixture
def user_machine(lab_root: Path, bundle: Path) -> Iterator[Machine]:
    with Machine(lab_root) as made:
        yield made


def test_the_timer_of_here_is_what_systemd_takes_and_fires(
    user_machine: Machine, tmp_path: Path
) -> None:
    """A line with a slip would be found in the morning, by a night without a run."""
    document = quickstart()
    (tmp_path / "queue.json").write_text(json.dumps(document))
    words = ["schedule", "create", "queue.json", "--here", "--name", "night", "--json"]
    shown = {}
    for cron in ("0 2 * * 1-5", "*/10 3,4 1 * *", "0 9 13 * 5", "rate(1 hours)"):
        done = subprocess.run(
            [sys.executable, "-m", "runner", *words, "--cron", cron, "--timezone", "Europe/Berlin"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        shown[cron] = json.loads(done.stdout)
    machine = user_machine.boot()
    machine.run("mkdir", "-p", "-m", "0700", "/run/user/0")
    # A user's own manager, as a login starts it; this image has no PAM for one.
    machine.run(
        "systemd-run", "--property=Delegate=yes", "--setenv=XDG_RUNTIME_DIR=/run/user/0",
        "--setenv=HOME=/root", "/lib/systemd/systemd", "--user",
    )  # fmt: skip
    machine.wait_for(lambda: machine.exists("/run/user/0/systemd/private"), "the user's manager")
    user = ("env", "XDG_RUNTIME_DIR=/run/user/0", "HOME=/root")
    for made in shown.values():
        place = "/root/.config/systemd/user"
        machine.run("mkdir", "-p", place)
        for suffix in ("service", "timer"):
            text = made[suffix].replace(sys.executable, "/bin/echo").replace(str(tmp_path), "/tmp")
            machine.write(f"{place}/runner-night.{suffix}", text)
        machine.run(
            *user, "systemd-analyze", "--user", "verify", f"{place}/runner-night.timer",
            f"{place}/runner-night.service",
        )  # fmt: skip
    # One that fires in a moment, as the script installs it, under the user's own manager.
    made = shown["rate(1 hours)"]
    script = made["script"].replace("3600s", "1s").replace(sys.executable, "/usr/bin/touch")
    script = script.replace(str(tmp_path), "/root")
    script = script.replace('"-m" "runner" "run" "/root/queue.json" "--fresh"', '"/root/fired"')
    machine.write("/root/timer.sh", script)
    machine.run(*user, "sh", "/root/timer.sh")
    machine.wait_for(lambda: machine.exists("/root/fired"), "the timer's firing")
