"""An AWS account for tests of `launch`: moto with the instance profile, and the real command.

It is one endpoint for many tests: each takes a bucket and a queue_id of its own.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from boto_models import read_once
from s3_endpoint import Endpoint
from warm import Process

from runner.cli.main import run_command

PROFILE = "runner-instance"


class Account:
    """``url``: where commands find AWS; the endpoint's own unless something stands before it."""

    def __init__(self) -> None:
        read_once()
        self.endpoint = Endpoint()
        self.url = self.endpoint.url
        self.client("iam").create_role(RoleName=PROFILE, AssumeRolePolicyDocument="{}")
        self.make_profile()

    def make_profile(self) -> None:
        """What `runner setup` makes."""
        iam = self.client("iam")
        iam.create_instance_profile(InstanceProfileName=PROFILE)
        iam.add_role_to_instance_profile(InstanceProfileName=PROFILE, RoleName=PROFILE)

    def client(self, service: str, region: str = "us-east-1") -> Any:
        """A client that goes straight to it, whatever the environment says."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint.url,
            region_name=region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def close(self) -> None:
        self.endpoint.close()


class Laptop:
    """A user's folder, with a document, and what the account has of its queue."""

    def __init__(self, account: Account, root: Path) -> None:
        self.account = account
        self.root = root
        self.url = account.url
        self.popen: type[subprocess.Popen[str]] = Process
        self.bucket = account.endpoint.bucket()
        self.queue_id: str | None = f"q-{uuid.uuid4().hex[:8]}"
        self.bundle = root / "bundle.tar.gz"
        _write_bundle(self.bundle, "x86_64")
        self.path = root / "queue.json"
        self.write()

    def write(self, **more: Any) -> None:
        """The document."""
        document = {
            "queue_id": self.queue_id,
            "queue_name": "q",
            "global_timeout": "8h",
            "on_failure": "stop",
            "result_s3_bucket": self.bucket,
            "jobs": [{"job_id": "a", "command": "true", "timeout": "1m"}],
            **more,
        }
        kept = {name: value for name, value in document.items() if value is not None}
        self.path.write_text(json.dumps(kept))

    @property
    def env(self) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("RUNNER_")}
        places = {"HOME": str(self.root), "XDG_STATE_HOME": str(self.root / "state")}
        return {**own, **self.account.endpoint.env, "AWS_ENDPOINT_URL": self.url, **places}

    def words(self, *flags: str) -> list[str]:
        """The command line."""
        words = [sys.executable, "-m", "runner", "launch", "--batch-queue", str(self.path)]
        if "--instance-type" not in flags:
            words += ["--instance-type", "t3.medium"]
        if "--bundle" not in flags:
            words += ["--bundle", str(self.bundle)]
        return [*words, *flags]

    def launch(self, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return self.command(*self.words(*flags)[3:], **env)

    def command(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A command line of runner, in this process: boto3 and EC2's model are loaded once for all
        tests.

        What it said is shown if the test fails.
        """
        out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
        own = {name: value for name, value in (self.env | env).items() if value}
        with patch.dict(os.environ, own, clear=True), closed_stdin():
            with redirect_stdout(out), redirect_stderr(err):
                code = run_command([*words])
        told = [each.buffer.getvalue().decode() for each in (out, err)]  # type: ignore[attr-defined]
        print(f"-> {code}\n{told[0]}\n{told[1]}")
        return subprocess.CompletedProcess(words, code, *told)

    def start(self, *flags: str, **env: str) -> subprocess.Popen[str]:
        """Start it; the caller ends it."""
        return self.start_command(*self.words(*flags)[3:], **env)

    def start_command(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """A command line of runner; the caller ends it."""
        return self.popen(
            [sys.executable, "-m", "runner", *words],
            env=self.env | env,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    # -- what came of it ---------------------------------------------------------------------

    def instances(self, region: str = "us-east-1") -> list[dict[str, Any]]:
        """All that the queue's launches have brought about, as EC2 describes them."""
        where = [{"Name": "tag:runner:store", "Values": [f"s3://{self.bucket}/*"]}]
        answer = self.account.client("ec2", region).describe_instances(Filters=where)
        return [each for some in answer["Reservations"] for each in some["Instances"]]

    def stored(self) -> list[str]:
        return sorted(self.account.endpoint.keys(self.bucket))

    def read(self, key: str) -> Any:
        return json.loads(self.account.endpoint.read(self.bucket, key))

    def store(self, key: str, value: Any) -> None:
        """Put a JSON object there."""
        body = json.dumps(value, separators=(",", ":")).encode()
        self.account.endpoint.client().put_object(Bucket=self.bucket, Key=key, Body=body)

    def records(self) -> list[Path]:
        """The files of the laptop's launches."""
        return list((self.root / "state" / "runner" / "launches").glob("*.json"))

    def record(self) -> dict[str, Any]:
        """The laptop's own record of its only launch."""
        (path,) = self.records()
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def _write_bundle(path: Path, arch: str) -> None:
    """Enough of a bundle to be taken for one."""
    version = f"1.0 {arch}\n".encode()
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(f"runner-1.0-{arch}/VERSION")
        member.size = len(version)
        archive.addfile(member, io.BytesIO(version))


def tags_of(item: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in item.get("Tags", ())}


@contextmanager
def closed_stdin() -> Iterator[None]:
    """Nobody is there who could be asked."""
    with open(os.devnull) as nothing, patch("sys.stdin", nothing):
        yield


@contextmanager
def account() -> Iterator[Account]:
    """For a fixture."""
    made = Account()
    try:
        yield made
    finally:
        made.close()
