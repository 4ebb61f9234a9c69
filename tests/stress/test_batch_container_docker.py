"""An attempt's three containers on a real Docker; COMMAND's image has a shell, find and cp only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import batch_task
import pytest
from batch_account import BatchAccount
from batch_attempt import Attempts
from batch_server import Delays, Settings
from batch_server.docker_containers import Docker
from batch_server.dockerd import DockerDaemon
from s3_endpoint import Endpoint

from runner.batch.records import EndKind, OutputsOf, StoredResult

SHORT = Delays(submitted=(0, 1), runnable=(0, 1), starting=(0, 1), ended=(0, 1))
BARE, PYTHON = "local/bare", "local/python"


@pytest.fixture
def batch(daemon: DockerDaemon, endpoint: Endpoint) -> Iterator[BatchAccount]:
    """Batch's second is 100 ms here."""
    settings = Settings(second_s=0.1, delays=SHORT)
    made = BatchAccount(Docker(daemon.client, endpoint.url, settings.region), settings)
    daemon.import_image(BARE, ("/bin/sh", "/usr/bin/find", "/bin/cp"))
    daemon.import_image(PYTHON, ())
    yield made
    made.close()


@pytest.fixture
def queue(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Attempts]:
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    made = Attempts(endpoint, tmp_path)
    yield made
    made.close()


@pytest.fixture
def definition(batch: BatchAccount, endpoint: Endpoint) -> str:
    path = os.pathsep.join([os.path.dirname(sys.executable), os.defpath])
    return batch_task.register(
        batch, BARE, PYTHON, {**endpoint.env, "PATH": path}, host=batch_task.HOST
    )


def test_an_image_needs_a_shell_find_and_cp(
    batch: BatchAccount, definition: str, queue: Attempts
) -> None:
    """Most images of tools could not be used."""
    attempt = queue.submit(
        "echo $RUNNER_WORK_DIR; while :; do :; done & exit 3",
    )
    job = batch.wait(batch_task.submit(batch, definition, attempt))
    assert job["status"] == "FAILED"
    ends = {each["name"]: each for each in job["ecsProperties"]["taskProperties"][0]["containers"]}
    assert ends["agent"]["exitCode"] == ends["main"]["exitCode"] == 3
    assert attempt.log() == b"/runner/work\n"
    assert attempt.end is not None and attempt.end.code == 3

    attempt = queue.submit(
        "cp -R /runner/main/empty /data; echo o > /data/o.txt; echo w > w.bin",
        "good",
        result_paths=(StoredResult("w.bin"), StoredResult("/data/*.txt")),
    )
    job = batch.wait(batch_task.submit(batch, definition, attempt))
    assert job["status"] == "SUCCEEDED", job
    assert attempt.stored is not None and attempt.stored.ok and not attempt.stored.missing
    assert queue.read("jobs/good/o.txt") == b"o\n" and queue.read("jobs/good/w.bin") == b"w\n"
    (file,) = (file for file in queue.manifest("good").files if file.name == "o.txt")
    assert file.source == "/data/o.txt"


def test_an_image_may_run_as_another_user(
    batch: BatchAccount, endpoint: Endpoint, queue: Attempts
) -> None:
    """A job would not be able to write into its own working directory, or even begin."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.defpath])
    definition = batch_task.register(
        batch, BARE, PYTHON, {**endpoint.env, "PATH": path}, host=batch_task.HOST, user="1000:1000"
    )
    made = queue.submit("echo 1 > made", "make", output_paths=(StoredResult("made"),))
    assert batch.wait(batch_task.submit(batch, definition, made))["status"] == "SUCCEEDED"
    attempt = queue.submit(
        "read -r x < made; echo $x > w.bin; echo $x > /tmp/o.txt; echo done",
        result_paths=(StoredResult("w.bin"), StoredResult("/tmp/*.txt")),
        restore=(OutputsOf("make", ("made",)),),
    )
    job = batch.wait(batch_task.submit(batch, definition, attempt))
    assert job["status"] == "SUCCEEDED", (attempt.end, attempt.log("stderr"))
    assert attempt.stored is not None and not attempt.stored.missing, attempt.stored
    assert queue.read("jobs/job/o.txt") == b"1\n" and attempt.log() == b"done\n"


def test_a_tree_is_ended_whole_at_its_timeout(
    batch: BatchAccount, definition: str, queue: Attempts
) -> None:
    """What a command has left behind would go on writing while its results are stored."""
    attempt = queue.submit(
        "trap '' TERM; ( trap '' TERM; while :; do :; done ) & while :; do :; done",
        timeout=1.0,
        term_grace=0.5,
    )
    batch.wait(batch_task.submit(batch, definition, attempt))
    assert attempt.end is not None and attempt.stored is not None and attempt.stored.ok
    assert (attempt.end.kind, attempt.end.signal) == (EndKind.TIMED_OUT, "SIGKILL")
    assert attempt.stored.end.usage is not None and attempt.stored.end.usage.cpu_seconds > 0


def test_what_is_killed_for_want_of_memory_is_told(
    batch: BatchAccount, definition: str, queue: Attempts
) -> None:
    """It would be taken for a crash of the program, and tried again with as little."""
    attempt = queue.submit("echo up; x=xxxxxxxx; while :; do x=$x$x; done")
    job = batch.wait(batch_task.submit(batch, definition, attempt))
    assert job["status"] == "FAILED"
    assert attempt.end is not None and attempt.stored is not None
    if attempt.end.kind is EndKind.SIGNAL:
        usage = attempt.stored.end.usage
        assert attempt.end.signal == "SIGKILL" and usage is not None and usage.oom_kills > 0
    else:
        assert attempt.end.kind is EndKind.KILLED and attempt.stored.only_volume
    assert attempt.log() == b"up\n"


def test_a_job_that_is_terminated_is_asked_and_stored(
    batch: BatchAccount, definition: str, queue: Attempts
) -> None:
    """An interrupted job would lose its log, and what it has saved."""
    attempt = queue.submit(
        "trap 'echo bye; echo c > ckpt; exit 0' TERM; echo up; while :; do :; done",
        checkpoint_paths=("ckpt",),
    )
    job_id = batch_task.submit(batch, definition, attempt)
    batch.wait(job_id, lambda _: bool(queue.endpoint.keys(queue.bucket, "q/jobs/job/attempts/1/s")))
    batch.client.terminate_job(jobId=job_id, reason="enough")
    job = batch.wait(job_id)
    assert job["status"] == "FAILED"
    assert attempt.end is not None and attempt.stored is not None
    assert attempt.end.kind is EndKind.STOPPED and attempt.stored.checkpoint_files == 1
    assert attempt.log() == b"up\nbye\n"
