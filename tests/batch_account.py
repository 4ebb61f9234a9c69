"""A Batch server for one test, with a queue, a definition and boto3's client."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import boto3
from batch_server import BatchServer, Events, Executor, Rights, Services, Settings
from boto_models import read_once
from botocore.config import Config
from s3_endpoint import env_for

WAIT = 60.0
"""Seconds after which a test that waits for a job has failed."""

ENDED = ("SUCCEEDED", "FAILED")


class BatchAccount:
    """``queue`` and ``definition`` are there; requests are sent once.

    ``services``: where its jobs find the rest of AWS; without it they have only Batch's variables.
    """

    def __init__(
        self,
        executor: Executor,
        settings: Settings | None = None,
        services: Services | None = None,
        events: Events | None = None,
        rights: Rights | None = None,
        keys: tuple[str, str] = ("test", "test"),
    ) -> None:
        """``keys``: the client's; with ``rights`` they decide what it may do."""
        read_once()
        self.server = BatchServer(executor, settings, services, events, rights)
        self.environment = self.server.add_environment("here")
        self.server.add_queue("queue", self.environment)
        self.client: Any = boto3.client(
            "batch",
            endpoint_url=self.server.url,
            region_name=self.server.settings.region,
            aws_access_key_id=keys[0],
            aws_secret_access_key=keys[1],
            config=Config(retries={"total_max_attempts": 1}),
        )

    @property
    def env(self) -> dict[str, str]:
        """What makes a process's boto3 use it; S3 and the like are another's to name."""
        own = env_for(self.server.url)
        url = own.pop("AWS_ENDPOINT_URL")
        return {**own, "AWS_ENDPOINT_URL_BATCH": url}

    def register(
        self, name: str = "definition", image: str = "local/deb", **properties: Any
    ) -> str:
        """A definition with a container of 1 vCPU and 64 MiB; its name and revision."""
        answer = self.client.register_job_definition(
            jobDefinitionName=name,
            type="container",
            containerProperties=container(image, **properties),
        )
        return f"{name}:{answer['revision']}"

    def submit(self, script: str | Sequence[str], **request: Any) -> str:
        """A job of a shell script, or of a command; its id."""
        command = ["sh", "-c", script] if isinstance(script, str) else list(script)
        over = {"command": command, **request.pop("containerOverrides", {})}
        defaults = {"jobName": "job", "jobQueue": "queue", "jobDefinition": "definition"}
        answer = self.client.submit_job(**{**defaults, "containerOverrides": over, **request})
        found: str = answer["jobId"]
        return found

    def start(self, definition: str, **request: Any) -> str:
        """A job as its definition says; its id."""
        found: str = self.client.submit_job(
            jobName="job", jobQueue="queue", jobDefinition=definition, **request
        )["jobId"]
        return found

    def job(self, job_id: str) -> dict[str, Any]:
        """Its JobDetail."""
        (found,) = self.client.describe_jobs(jobs=[job_id])["jobs"]
        answer: dict[str, Any] = found
        return answer

    def wait(
        self, job_id: str, until: Callable[[dict[str, Any]], bool] | str | None = None
    ) -> dict[str, Any]:
        """Its JobDetail once it has ended, is in a state, or is as ``until`` wants it."""
        deadline = time.monotonic() + WAIT
        while True:
            found = self.job(job_id)
            if until is None:
                good = found["status"] in ENDED
            elif isinstance(until, str):
                good = found["status"] == until
            else:
                good = until(found)
            if good:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.01)

    def close(self) -> None:
        """Fails where the server itself has made a mistake."""
        self.client.close()
        self.server.close()
        assert not self.server.errors(), "\n".join(self.server.errors())


def container(image: str = "local/deb", **properties: Any) -> dict[str, Any]:
    """containerProperties of 1 vCPU and 64 MiB."""
    return {
        "image": image,
        "command": ["true"],
        "resourceRequirements": requirements(1, 64),
        **properties,
    }


def requirements(vcpus: float, memory: int) -> list[dict[str, str]]:
    return [
        {"type": "VCPU", "value": f"{vcpus:g}"},
        {"type": "MEMORY", "value": str(memory)},
    ]
