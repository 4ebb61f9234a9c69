"""A laptop, and a machine on EC2 that is a folder here: its daemon is real, and so are its answers.

EC2 and S3 are moto's, SSM is the fake's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fake_ssm import Agent, FakeSsm
from s3_endpoint import Endpoint
from warm import Process
from world import World

REGION = "us-east-1"


class Elsewhere:
    """``laptop`` types the commands, ``machine`` is where the daemon runs."""

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.ssm = FakeSsm(endpoint.url)
        self.laptop = World(folder / "laptop")
        self.laptop.popen = Process
        self.machine = World(folder / "machine")
        self.state_home = folder / "laptop" / "xdg"
        self.bucket = endpoint.bucket()
        aws = {**endpoint.env, "AWS_ENDPOINT_URL_SSM": self.ssm.url}
        self.laptop.env.update(aws, XDG_STATE_HOME=str(self.state_home))
        self.machine.env.update(endpoint.env)
        self.bin = folder / "bin"
        self.bin.mkdir()
        program = self.bin / "runner"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m runner "$@"\n')
        program.chmod(0o755)
        self.agent_env = {**self.machine.env, "PATH": f"{self.bin}:/usr/bin:/bin"}
        self._made: list[tuple[str, str]] = []
        for region in (REGION, "eu-west-1"):
            self._end(region, Filters=[{"Name": "tag:runner:queue", "Values": ["q", "q2"]}])

    def ec2(self, region: str = REGION) -> Any:
        import boto3

        return boto3.client(
            "ec2",
            endpoint_url=self.endpoint.url,
            region_name=region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def instance(self, *, region: str = REGION, agent: bool = True, **tags: str) -> str:
        """One more instance, whose agent runs commands on ``machine``."""
        client = self.ec2(region)
        told = [{"Key": f"runner:{name}".replace("_", "-"), "Value": value}
                for name, value in tags.items()]  # fmt: skip
        given: dict[str, Any] = {}
        if told:
            given["TagSpecifications"] = [{"ResourceType": "instance", "Tags": told}]
        answer = client.run_instances(
            ImageId="ami-12c6146b", InstanceType="t3.medium", MinCount=1, MaxCount=1, **given
        )
        name = str(answer["Instances"][0]["InstanceId"])
        self._made.append((region, name))
        if agent:
            self.ssm.agents[name] = Agent(region, self.agent_env)
        return name

    def store(self, queue: str = "q") -> str:
        return f"s3://{self.bucket}/queues/{queue}"

    def launched(self, queue: str = "q", **options: Any) -> str:
        """An instance as launch tags it."""
        tags = {
            "queue": queue,
            "launch": "abc123",
            "store": self.store(queue),
            "price_per_hour": "0.0416",
        }
        return self.instance(**{**tags, **options})

    def run(self, *jobs: dict[str, Any], name: str = "q", **queue: Any) -> None:
        """Have the machine's daemon, which is started if need be, take a queue."""
        document = self.machine.document(
            *jobs, name=name, **{"result_s3_bucket": self.bucket, **queue}
        )
        if not (self.machine.run_dir / "runner.sock").exists():
            self.machine.daemon()
        done = self.machine.call("submit", document)
        assert done.returncode == 0, done.stderr

    def until_job(self, job: str, status: str, queue: str = "q") -> None:
        """Wait until the machine says so of a job."""
        look = self.machine.jobs
        self.machine.until(lambda: look(queue).get(job, {}).get("status") == status)

    def status(self, name: str = "q") -> str:
        """The queue's state, as the machine knows it."""
        return str(self.machine.ask("status", queue=name, limit=0)["queue"]["status"])

    def close(self) -> None:
        self.laptop.close()
        self.machine.close()
        self.ssm.close()
        for region, name in self._made:
            self._end(region, InstanceIds=[name])

    def _end(self, region: str, **which: Any) -> None:
        """Other tests have the same EC2, and may have left machines of queues with our names."""
        client = self.ec2(region)
        found = client.describe_instances(**which)["Reservations"]
        if names := [each["InstanceId"] for one in found for each in one["Instances"]]:
            client.terminate_instances(InstanceIds=names)
            client.delete_tags(Resources=names, Tags=[{"Key": "runner:queue"}])
