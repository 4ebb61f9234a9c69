"""A laptop and an AWS account that says no, and machines of the lab for what is launched there.

The user's journey from `runner-launch` to the end of the machine: moto is EC2, S3 and IAM, which
enforces the policies that ship; SSM is the fake's; cloud-init runs the user-data that EC2 was
given. Owns what only the real EC2 does between these: it boots what was launched, and notices what
has ended.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import templates
from cloud import REGION, Cloud, CloudMachine
from fake_ssm import Agent, FakeSsm

PATIENCE = 240.0


class Journey:
    """``queue``: the document's name in the laptop's folder. Close the stack at the end."""

    def __init__(self, root: Path, bundle: Path, home: Path, stack: ExitStack) -> None:
        self._root, self._stack = root, stack
        self.home, self.bundle = home, bundle
        self.cloud = Cloud()
        stack.callback(self.cloud.close)
        self.ssm = FakeSsm(self.cloud.endpoint.url)
        stack.callback(self.ssm.close)
        iam = self.cloud.admin("iam")
        iam.create_instance_profile(InstanceProfileName=self.cloud.role)
        iam.add_role_to_instance_profile(
            InstanceProfileName=self.cloud.role, RoleName=self.cloud.role
        )
        iam.create_user(UserName="laptop")
        key = iam.create_access_key(UserName="laptop")["AccessKey"]
        bucket = f"arn:aws:s3:::{self.cloud.bucket}"
        ships = templates.policies(
            BucketArns=bucket, ResultArns=f"{bucket}/queues/*", ResultPrefixes="queues/*"
        )
        laptop = json.dumps(templates.widened(ships["launch"]))
        iam.put_user_policy(UserName="laptop", PolicyName="p", PolicyDocument=laptop)
        self.cloud.allow(templates.widened(ships["role"]))
        own = {name: v for name, v in os.environ.items() if not name.startswith("RUNNER_")}
        self.env = {
            **own,
            **self.cloud.endpoint.env,
            "AWS_ENDPOINT_URL_SSM": self.ssm.url,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "RUNNER_CONFIG": str(home / "runner.toml"),
        }
        (home / "runner.toml").touch()

    # -- the laptop --------------------------------------------------------------------------

    def write(self, *jobs: dict[str, Any], **queue: Any) -> None:
        """The document, queue.json."""
        document = {
            "queue_id": "q",
            "queue_name": "journey",
            "global_timeout": "1h",
            "on_failure": "continue",
            "result_s3_bucket": self.cloud.bucket,
            **queue,
            "jobs": [{"timeout": "10m", **job} for job in jobs],
        }
        (self.home / "queue.json").write_text(json.dumps(document))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a verb on the laptop; the caller waits for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "runner", *words],
            cwd=self.home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a verb on the laptop to its end; what it said is shown if the test fails."""
        process = self.start(*words)
        out, err = process.communicate(timeout=PATIENCE)
        print(f"$ runner {' '.join(words)}  -> {process.returncode}\n{out}{err}")
        assert process.returncode == code, (words, process.returncode, out, err)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def data(self, *words: str, code: int = 0) -> dict[str, Any]:
        """The JSON that a verb prints."""
        told: dict[str, Any] = json.loads(self.call(*words, "--json", code=code).stdout)
        return told

    def launch(self, *flags: str, verb: tuple[str, ...] = ()) -> str:
        """Launch queue.json, or what ``verb`` says; the instance."""
        verb = verb or ("launch", "--batch-queue", "queue.json", "--instance-type", "t3.medium")
        told = self.data(*verb, "--bundle", str(self.bundle), "--yes", *flags)
        return str(told["instance_id"])

    def job(self, target: str, job: str) -> dict[str, Any]:
        """How a job stands, asked from the laptop."""
        told = self.data("status", target)
        found: dict[str, Any] = {each["job_id"]: each for each in told["jobs"]}[job]
        return found

    # -- EC2 ---------------------------------------------------------------------------------

    def machine(self, instance: str, *, spot: bool = False, **variables: str) -> CloudMachine:
        """What EC2 makes of a launched instance: it has its user-data, and is not yet booted.

        ``variables``: of the environment of all its services.
        """
        told = self.cloud.admin("ec2").describe_instance_attribute(
            InstanceId=instance, Attribute="userData"
        )
        data = base64.b64decode(told["UserData"]["Value"])
        quick = {"RUNNER_ON_COMPLETE_DELAY": "1s", **variables}
        made = CloudMachine(self._root, self.cloud, data, spot=spot, instance_id=instance, **quick)
        self._stack.enter_context(made.machine)
        return made

    def register(self, there: CloudMachine) -> None:
        """Its SSM agent is up: from now on it can be asked."""
        self.ssm.agents[there.instance_id] = Agent(REGION, os.environ, inside=there.machine.inside)

    def stored_state(self) -> dict[str, Any]:
        """The state in the bucket; {} if there is none."""
        told: dict[str, Any] = json.loads(self.cloud.get("queues/q/queue-state.json") or b"{}")
        return told
