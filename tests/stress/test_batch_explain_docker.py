"""Why jobs of Batch failed, told of jobs that really failed so in Docker."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from batch_account import BatchAccount
from batch_server import Delays, Settings
from batch_server.docker_containers import Docker
from batch_server.dockerd import IMAGE, DockerDaemon
from docker_registry import COMMAND, Registry
from s3_endpoint import Endpoint

from runner.aws.batch import Batch
from runner.batch.circumstances import explain
from runner.batch.diagnosis import Diagnosis
from runner.batch.job_detail import read_job

SHORT = Delays(submitted=(0, 5), runnable=(0, 20), starting=(0, 10), ended=(0, 5))


@pytest.fixture
def account(
    daemon: DockerDaemon, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BatchAccount]:
    """Batch's second is 20 ms here."""
    settings = Settings(second_s=0.02, delays=SHORT)
    made = BatchAccount(Docker(daemon.client, endpoint.url, settings.region), settings)
    made.register(image=IMAGE)
    for name, value in {**endpoint.env, **made.env}.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


@pytest.fixture
def registries() -> Iterator[tuple[Registry, Registry]]:
    """An open one, and one that wants a login. Without the package: skipped, but never in CI."""
    if shutil.which(COMMAND) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs Debian's docker-registry")
    made = Registry(login=False), Registry(login=True)
    yield made
    for each in made:
        each.close()


def explained(account: BatchAccount, job_id: str) -> Diagnosis:
    missing: list[str] = []
    found = explain(Batch(), read_job(account.wait(job_id)), None, missing.append)
    assert not missing
    return found


# It lives on for a moment: Docker may hear of the want of memory only after the end, and not tell.
OUT_OF_MEMORY = "head -c 200000000 /dev/zero | tail; code=$?; sleep 1; exit $code"


def test_commands_that_fail_are_told_apart(account: BatchAccount) -> None:
    """Somebody would read "Essential container in task exited" and know as much as before."""
    jobs = {
        "exit_code": account.submit("echo reading; echo 'no such sample' >&2; exit 7"),
        "out_of_memory": account.submit(OUT_OF_MEMORY),
        "command_not_found": account.submit("no-such-tool --version"),
        "segmentation_fault": account.submit("sh -c 'kill -SEGV $$'; exit $?"),
        "aborted": account.submit("sh -c 'kill -ABRT $$'; exit $?"),
        "killed": account.submit("sh -c 'kill -KILL $$'; exit $?"),
        "timeout": account.submit("sleep 600", timeout={"attemptDurationSeconds": 60}),
    }
    found = {name: explained(account, job_id) for name, job_id in jobs.items()}
    assert {name: why.code for name, why in found.items()} == {name: name for name in jobs}
    assert "64 MiB" in found["out_of_memory"].cause
    assert "128MiB" in found["out_of_memory"].next_steps[0]
    assert "7" in found["exit_code"].cause
    absent = explained(account, account.submit(["no-such-tool"]))
    assert absent.code == "command_not_found" and "no-such-tool" in absent.cause
    denied = explained(account, account.submit(["/etc"]))
    assert denied.code == "command_not_executable"


def test_images_that_cannot_be_had_are_told_apart(
    account: BatchAccount, registries: tuple[Registry, Registry]
) -> None:
    """A wrong tag, a missing login and a network without a way out would look the same."""
    opened, private = (each.address for each in registries)
    images = {
        "image_missing": f"{opened}/tools/align:2.1",
        "image_denied": f"{private}/tools/align:2.1",
        "registry_unreachable": "127.0.0.1:1/tools/align:2.1",
    }
    jobs = {}
    for name, image in images.items():
        account.register(name, image=image)
        jobs[name] = account.submit("true", jobDefinition=name)
    found = {name: explained(account, job_id) for name, job_id in jobs.items()}
    assert {name: why.code for name, why in found.items()} == {name: name for name in images}
    for name, why in found.items():
        assert images[name] in why.cause and images[name].partition("/")[0] in why.cause


def test_lost_host_and_an_end_from_outside(account: BatchAccount) -> None:
    """A job that was taken away would be told as one that failed."""
    jobs = [account.submit("sleep 600") for _ in range(2)]
    for job_id in jobs:
        account.wait(job_id, "RUNNING")
    instance = account.server.lose_host_of(jobs[0])
    lost = explained(account, jobs[0])
    assert (lost.code, instance in lost.cause) == ("host_lost", True)
    if account.job(jobs[1])["status"] != "FAILED":  # it was on another host
        account.client.terminate_job(jobId=jobs[1], reason="enough")
        ended = explained(account, jobs[1])
        assert (ended.code, "enough" in ended.cause) == ("terminated", True)
