"""Launches as a laptop makes them, into a cloud of the tests."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from pathlib import Path
from typing import Any

import templates
from cloud import Cloud
from installed import REPOSITORY

from runner.targets.ec2 import names
from runner.targets.ec2.launch.user_data import BootConfig, Shipped
from runner.targets.ec2.launch.workdir import pack


def role(bucket: str, *, without: str = "") -> dict[str, Any]:
    """The policy that ships, as moto can enforce it; less one action."""
    shipped = templates.policies(
        BucketArns=f"arn:aws:s3:::{bucket}",
        ResultArns=f"arn:aws:s3:::{bucket}/queues/*",
        ResultPrefixes="queues/*",
        SecretArns="",
        NoticeArns="",
        KmsKeyArn="",
    )
    policy = templates.widened(shipped["role"])
    return templates.without(policy, without) if without else policy


def quickstart() -> dict[str, Any]:
    """The document of the examples."""
    told: dict[str, Any] = json.loads((REPOSITORY / "examples/quickstart.json").read_text())
    return told


def report(cloud: Cloud, boot: BootConfig) -> dict[str, Any]:
    """What the machine has said of its boot; {} if nothing."""
    said = cloud.get(names.launch_key(boot.launch, "bootstrap.json"))
    told: dict[str, Any] = json.loads(said or b"{}")
    return told


class Launched:
    """Makes launches: what they ship is in the bucket."""

    def __init__(self, cloud: Cloud, bundle: Path) -> None:
        self._cloud = cloud
        data = bundle.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        self._bundle = self.ship(names.bundle_key(digest, "x86_64"), data)

    def ship(self, key: str, data: bytes) -> Shipped:
        self._cloud.put(key, data)
        return Shipped(key, hashlib.sha256(data).hexdigest())

    def boot(
        self, document: dict[str, Any], workdir: Path | None = None, **more: Any
    ) -> BootConfig:
        """For an hour, and not kept on a failure, unless ``more`` says so."""
        launch = uuid.uuid4().hex[:12]
        data = json.dumps({**document, "result_s3_bucket": self._cloud.bucket}).encode()
        shipped = None
        if workdir is not None:
            packed = pack(workdir, 10**6)
            shipped = self.ship(names.launch_key(launch, "workdir.tar.gz"), packed.read_bytes())
            packed.unlink()
        fields: dict[str, Any] = {
            "region": "us-east-1",
            "bucket": self._cloud.bucket,
            "launch": launch,
            "queue_id": document["queue_id"],
            "bundle": self._bundle,
            "document": self.ship(names.launch_key(launch, "queue.json"), data),
            "workdir": shipped,
            "settings": {"on_complete": "terminate", "on_complete_delay": "1s"},
            "expires": int(time.time()) + 3600,
            "keep_on_failure": 0,
        }
        return BootConfig(**{**fields, **more})
