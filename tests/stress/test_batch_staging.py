"""Jobs whose files their own image carries, or nobody: on the tests' Batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker_host
import pytest
from batch_account import BatchAccount
from batch_server import CloudWatchLogs, Fault, MotoServices, Processes, Settings
from batch_server.docker_containers import Docker
from batch_server.dockerd import DockerDaemon
from on_batch import OnBatch, Reacting, instant, job, real_commands
from s3_endpoint import Endpoint

from runner.core import events as ev
from runner.engine.batch import backend, files, survivors
from runner.errors import ExitCode
from runner.service.session import Session

NONE, IN_IMAGE = {"batch": {"staging": "none"}}, {"batch": {"staging": "in-image"}}


@pytest.fixture
def on_batch(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnBatch]:
    settings = Settings(second_s=0.01, delays=instant(), rates={})
    logs = CloudWatchLogs(endpoint.url, settings.region)
    account = BatchAccount(Processes(logs), settings, MotoServices(endpoint.url))
    for name, value in {**endpoint.env, **account.env}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(backend, "CLAIM_AGAIN", 0.05)
    monkeypatch.setattr(survivors, "SEARCH_AGAIN", 0.05)
    monkeypatch.setattr(files, "LOG_SETTLES", 1.0)
    yield OnBatch(account, endpoint.bucket(), tmp_path, real_commands)
    account.close()


def plain(name: str, command: str = "true", **more: Any) -> dict[str, Any]:
    """Batch keeps its time, and an hour there may be 36 s."""
    return job(name, command, **{**NONE, "timeout": "2h", **more})


def test_a_plain_job_is_what_batch_says_of_it(on_batch: OnBatch, endpoint: Endpoint) -> None:
    """Its exit code would be lost, or its retries and the jobs behind it go another way."""
    ended = on_batch.run(
        plain("a", "echo hello $X from $JOB_ID", env={"X": "1"}),
        plain("b", "exit $((JOB_ATTEMPT == 1))", retry={"max_attempts": 2, "base_delay": "1ms"}),
        plain("c", "exit 7"),
        plain("d", depends_on=["c"]),
        plain("always", depends_on=["c"], run_if="always"),
        on_failure="continue",
        max_parallel_jobs=5,
    )
    state = on_batch.state()
    assert ended.exit_code is ExitCode.QUEUE_FAILED
    assert (state["a"]["status"], state["a"]["exit_code"]) == ("completed", 0)
    assert (state["b"]["status"], state["b"]["attempt"]) == ("completed", 2)
    assert (state["c"]["status"], state["c"]["exit_code"]) == ("failed", 7)
    assert (state["d"]["status"], state["always"]["status"]) == ("skipped", "completed")
    assert on_batch.log("a") == "hello 1 from a\n"
    stored = endpoint.read(on_batch.bucket, "queues/q/jobs/a/stdout.log")
    assert (stored, state["a"]["logs_uploaded"]) == (b"hello 1 from a\n", True)
    assert not [key for key in on_batch.records() if "claim" in key or key.endswith("end.json")]


def test_elements_that_are_plain_jobs_have_their_own_index(on_batch: OnBatch) -> None:
    """A retry of some elements would do the work of others."""
    proof = on_batch.folder / "ran"
    ended = on_batch.run(
        plain(
            "x",
            f'echo "$RUNNER_ARRAY_INDEX $AWS_BATCH_JOB_ARRAY_INDEX $JOB_ATTEMPT" >> {proof}; '
            "exit $((RUNNER_ARRAY_INDEX % 3 && JOB_ATTEMPT == 1))",
            array=6,
            retry={"max_attempts": 2, "base_delay": "1ms"},
        ),
        max_parallel_jobs=9,
    )
    assert ended.exit_code is ExitCode.DONE
    told = sorted(proof.read_text().splitlines())
    first, again = [f"{n} {n} 1" for n in range(6)], [f"{n} {n} 2" for n in (1, 2, 4, 5)]
    assert told == sorted([*first, *again])


def test_the_answer_that_is_lost_is_looked_for(on_batch: OnBatch) -> None:
    """A plain job would run twice although Batch has it."""
    on_batch.account.server.faults.add("SubmitJob", Fault.LOST_ANSWER)
    proof = on_batch.folder / "ran"
    assert on_batch.run(plain("a", f"echo >> {proof}")).exit_code is ExitCode.DONE
    assert (proof.read_text(), on_batch.submitted) == ("\n", 1)


def test_batch_keeps_the_time_of_a_plain_job(
    on_batch: OnBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would run for ever where its driver is away."""
    on_batch.run(plain("a", "sleep 60", timeout="60s"))  # of 10 ms each
    a = on_batch.state()["a"]
    assert (a["status"], a["timed_out"], a["signal"]) == ("failed", True, "SIGKILL")


def test_a_plain_job_is_cancelled_and_followed_again(on_batch: OnBatch) -> None:
    """It would go on in AWS Batch, and cost; or be forgotten where its driver is killed."""
    document = plain("a", "exec sleep 60", timeout="2h")
    first = on_batch.run(document, watcher=Reacting("attempt_started", Session.detach))
    assert first.exit_code is ExitCode.NOT_FINISHED

    def cancel(session: Session) -> None:
        session.tell(ev.CancelRequested)

    again = on_batch.run(document, watcher=Reacting("attempt_adopted", cancel))
    assert (again.exit_code, on_batch.submitted) == (ExitCode.CANCELLED, 1)
    a = on_batch.state()["a"]
    assert (a["status"], a["exit_code"]) == ("cancelled", 143)
    (only,) = on_batch.account.server.jobs()
    assert on_batch.account.job(only.id)["status"] == "FAILED"


def test_a_lost_host_interrupts_a_plain_job(on_batch: OnBatch) -> None:
    """A Spot reclaim would use up its only attempt."""

    def lose(_: Session) -> None:
        (running,) = on_batch.account.server.jobs()
        on_batch.account.server.lose_host_of(running.id)

    on_batch.run(
        plain("a", "[ $JOB_ATTEMPT = 2 ] || sleep 60"), watcher=Reacting("attempt_started", lose)
    )
    a = on_batch.state()["a"]
    assert (a["status"], a["attempt"], a.get("interruptions")) == ("completed", 2, 1), a


def test_files_are_carried_in_the_image(on_batch: OnBatch, endpoint: Endpoint) -> None:
    """What an image with Python needs no containers for would not be handed on, or be claimed by
    nobody."""
    ended = on_batch.run(
        job("a", "mkdir d; echo 1 > d/1; exit $((JOB_ATTEMPT == 1))", output_paths=["d/*"],
            retry={"max_attempts": 2, "base_delay": "1ms"}, **IN_IMAGE),
        job("b", "cat d/1 d/1 > sum; echo done", depends_on=["a"], result_paths=["sum"],
            **IN_IMAGE),
        job("slow", "sleep 60", timeout="200ms", **IN_IMAGE),
        on_failure="continue",
        max_parallel_jobs=2,
    )  # fmt: skip
    state = on_batch.state()
    assert ended.exit_code is ExitCode.QUEUE_FAILED
    assert (state["a"]["status"], state["a"]["attempt"]) == ("completed", 2)
    assert endpoint.read(on_batch.bucket, "queues/q/jobs/b/sum") == b"1\n1\n"
    assert on_batch.log("b") == "done\n"
    assert (state["slow"]["timed_out"], state["slow"]["signal"]) == (True, "SIGTERM")
    names = {key.rpartition(".")[0].rpartition(".")[2] for key in on_batch.records()}
    assert {"claim", "end", "stored"} <= names


@pytest.fixture
def in_docker(
    daemon: DockerDaemon, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnBatch]:
    """Containers that have this machine's Python, and runner's modules, by mounts."""
    settings = Settings(second_s=1.0, delays=instant(1.0), rates={})
    docker = Docker(daemon.client, endpoint.url, settings.region)
    account = BatchAccount(docker, settings, MotoServices(endpoint.url))
    for name, value in {**endpoint.env, **account.env}.items():
        monkeypatch.setenv(name, value)
    docker_host.lend_python(daemon, monkeypatch, endpoint.env)
    daemon.import_image("local/bare", ("/bin/sh", "/usr/bin/head", "/usr/bin/tail", "/bin/sleep"))
    monkeypatch.setattr(files, "LOG_SETTLES", 7.0)
    yield OnBatch(account, endpoint.bucket(), tmp_path, real_commands)
    account.close()


def test_in_real_containers(in_docker: OnBatch, endpoint: Endpoint) -> None:
    """Files, exit codes, memory and logs of such jobs would be right only where nothing is real."""
    bare = {"image": "local/bare"}
    in_docker.run(
        job("a", "mkdir d; echo 1 > d/1; id -u; touch /made", output_paths=["d/*", "/made"],
            image="local/python", **IN_IMAGE),
        job("b", "cat d/1 /made > sum", depends_on=["a"], result_paths=["sum"],
            image="local/python", **IN_IMAGE),
        plain("c", "echo out; exit 3", **bare),
        plain("big", "head -c 400000000 /dev/zero | tail; code=$?; sleep 1; exit $code",
            resources={"memory": "64MiB"}, **bare),
        on_failure="continue",
        max_parallel_jobs=5,
    )  # fmt: skip
    state = in_docker.state()
    assert {name: each["status"] for name, each in state.items()} == {
        "a": "completed", "b": "completed", "c": "failed", "big": "failed",
    }, state  # fmt: skip
    assert endpoint.read(in_docker.bucket, "queues/q/jobs/b/sum") == b"1\n"
    assert in_docker.log("a") == "0\n" and in_docker.log("c") == "out\n"
    assert state["c"]["exit_code"] == 3
    assert "memory" in state["big"]["error_message"]
