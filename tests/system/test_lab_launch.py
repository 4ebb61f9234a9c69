"""The first boot of a launched machine, by EC2's and cloud-init's rules: its work, and its end."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cloud import Cloud, CloudMachine, may, new_launch
from installed import REPOSITORY

from runner.targets.ec2 import names
from runner.targets.ec2.user_data import Boot, Shipped, user_data
from runner.targets.ec2.workdir import pack

LOG = "/var/log/runner-bootstrap.log"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    made = Cloud()
    yield made
    made.close()


def role(bucket: str, *, without: str = "") -> list[dict[str, Any]]:
    """What an instance's role needs, and not more."""
    ours, there = f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"
    actions = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}
    return [
        may(*sorted(actions - {without}), on=there),
        may("s3:ListBucket", "s3:ListBucketMultipartUploads", on=ours),
        may("ec2:DescribeInstances", "ec2:DescribeSpotInstanceRequests"),
        may("ec2:CancelSpotInstanceRequests", "ec2:TerminateInstances"),
    ]


class Launched:
    """Makes launches: what they ship is in the bucket, their machines are not booted yet."""

    def __init__(self, root: Path, cloud: Cloud, bundle: Path, stack: ExitStack) -> None:
        self._root, self._cloud, self._stack = root, cloud, stack
        self._bundle = self._ship(names.bundle_key("0" * 64, "x86_64"), bundle.read_bytes())

    def _ship(self, key: str, data: bytes) -> Shipped:
        self._cloud.put(key, data)
        return Shipped(key, hashlib.sha256(data).hexdigest())

    def boot(self, document: dict[str, Any], workdir: Path | None = None, **more: Any) -> Boot:
        launch = new_launch()
        data = json.dumps({**document, "result_s3_bucket": self._cloud.bucket}).encode()
        packed = workdir and pack(workdir, 10**6)
        fields = {
            "region": "us-east-1",
            "bucket": self._cloud.bucket,
            "launch": launch,
            "queue_id": document["queue_id"],
            "bundle": self._bundle,
            "document": self._ship(names.launch_key(launch, "queue.json"), data),
            "workdir": packed
            and self._ship(names.launch_key(launch, "workdir.tar.gz"), packed.read_bytes()),
            "settings": {"on_complete": "terminate", "on_complete_delay": "1s"},
            "expires": int(time.time()) + 3600,
            "keep_on_failure": 0,
        }
        if packed:
            packed.unlink()
        return Boot(**{**fields, **more})

    def machine(self, boot: Boot, **more: Any) -> CloudMachine:
        made = CloudMachine(self._root, self._cloud, user_data(boot), **more)
        self._stack.enter_context(made.machine)
        return made


@pytest.fixture
def launched(lab_root: Path, cloud: Cloud, bundle: Path) -> Iterator[Launched]:
    with ExitStack() as stack:
        yield Launched(lab_root, cloud, bundle, stack)


def report(cloud: Cloud, boot: Boot) -> dict[str, Any]:
    """What the machine has said of its boot; {} if nothing."""
    told: dict[str, Any] = json.loads(
        cloud.get(names.launch_key(boot.launch, "bootstrap.json")) or b"{}"
    )
    return told


def quickstart() -> dict[str, Any]:
    told: dict[str, Any] = json.loads((REPOSITORY / "examples/quickstart.json").read_text())
    return told


def test_a_machine_that_has_nothing_runs_the_queue_and_ends_itself(
    launched: Launched, cloud: Cloud, tmp_path: Path
) -> None:
    """Launched machines would never get to their work, or cost money after it."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/greeting").write_text("hello\n")
    document = quickstart()
    document["jobs"][0]["command"] += " && cat greeting && id -un"
    boot = launched.boot(document, tmp_path / "code")
    cloud.allow(*role(cloud.bucket))
    there = launched.machine(boot)
    there.machine.boot(wait=False)
    assert there.machine.wait_end(90) == 0
    told = report(cloud, boot)
    print(json.dumps(told, indent=1))
    assert told["outcome"] == "ready", told
    assert cloud.state(there.instance_id) == "terminated"
    assert b"Item 10" in (
        cloud.get("queues/my-first-queue/jobs/process/work/quickstart/output.txt") or b""
    )
    assert (
        cloud.get("queues/my-first-queue/jobs/setup/stdout.log") == b"Starting...\nhello\nrunner\n"
    )
