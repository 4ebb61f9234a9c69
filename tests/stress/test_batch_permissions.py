"""The policies for AWS Batch that ship are enough for what they are for, and no action is too many.

moto enforces S3, logs, SSM and Secrets Manager; the tests' Batch server enforces Batch and
iam:PassRole, with their resources.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import boto3
import pytest
from batch_account import BatchAccount
from batch_server import CloudWatchLogs, Delays, MotoServices, Processes, Rights, Settings
from guarded import Guarded
from templates import batch_policies, widened, without

from runner.cli.main import run_command

INSTANT = Delays(submitted=(0, 1), runnable=(0, 1), starting=(0, 1), ended=(0, 1))
JOB_ROLE = "arn:aws:iam::123456789012:role/runner-batch-job"

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    made = Guarded()
    made.admin()
    with made.off_guard():
        shipped = policies(made.bucket)
        for name in ("job", "execution", "coordinator"):
            made.make_role(f"runner-batch-{name}", enforceable(shipped[f"batch-{name}"]))
    yield made
    made.endpoint.close()


def policies(bucket: str) -> dict[str, dict[str, Any]]:
    """Those that ship, for one bucket and the default prefix."""
    return batch_policies(
        BucketArns=f"arn:aws:s3:::{bucket}",
        ResultArns=f"arn:aws:s3:::{bucket}/queues/*",
        ResultPrefixes="queues/*",
        SecretArns="",
        KmsKeyArn="",
    )


def person(bucket: str) -> dict[str, Any]:
    """The policy for people."""
    return enforceable(policies(bucket)["batch"])


def enforceable(policy: dict[str, Any]) -> dict[str, Any]:
    """What moto enforces is widened as moto needs it, the rest is as it ships."""
    shipped = policy["Statement"]
    of_batch = [each for each in shipped if str(each["Action"]).count("batch:") or _passes(each)]
    others = [each for each in shipped if each not in of_batch]
    return {
        "Version": "2012-10-17",
        "Statement": [*widened({"Statement": others})["Statement"], *of_batch],
    }


def _passes(statement: dict[str, Any]) -> bool:
    return bool(statement["Action"] == "iam:PassRole")


@pytest.fixture
def account(guarded: Guarded) -> Iterator[BatchAccount]:
    keys = guarded.admin()
    services = MotoServices(guarded.endpoint.url, admin=keys)
    settings = Settings(delays=INSTANT, rates={})
    sink = CloudWatchLogs(guarded.endpoint.url, "us-east-1", keys)
    made = BatchAccount(
        Processes(sink), settings, services, rights=Rights(services, settings), keys=keys
    )
    guarded.allow(person(guarded.bucket))
    yield made
    made.close()


@pytest.fixture
def call(
    account: BatchAccount, guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Call:
    """Runs `runner batch …` as somebody with the policy: its exit code, stdout and stderr."""
    own = {**guarded.env, "AWS_ENDPOINT_URL_BATCH": account.server.url, "HOME": str(tmp_path)}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RUNNER_BATCH_JOB_QUEUE", "queue")
    monkeypatch.setenv("RUNNER_BATCH_JOB_ROLE", JOB_ROLE)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            code = run_command(["batch", *words])
        texts = []
        for each in (out, err):
            each.flush()
            texts.append(each.buffer.getvalue().decode())  # type: ignore[attr-defined]
        print(words, code, texts)
        return code, *texts  # type: ignore[return-value]

    return run


def test_verbs_need_no_more_than_the_policy(call: Call, guarded: Guarded, tmp_path: Path) -> None:
    """Who was given the policy would be refused at the first verb that nobody tried."""
    (tmp_path / "f").write_text("x")
    where = f"s3://{guarded.bucket}/queues/inputs/f"
    image = ("--image", "i", "--memory", "64", "--")
    assert call("register", "runner-tool", *image, "true")[0] == 0
    assert call("put", "f", where)[0] == 0
    assert call("get", where, "back")[0] == 0
    code, out, _ = call("submit", "--tag", "a=b", *image, "sh", "-c", "echo hello; exit 3")
    assert code == 0
    job = out.strip()
    assert call("wait", job)[0] == 100
    for words in (("status", job), ("describe", job), ("explain", job), ("list",)):
        assert call(*words)[0] == 0
    assert call("logs", job)[1] == "hello\n"
    assert call("retry", job)[0] == 0
    code, out, _ = call("submit", *image, "sleep", "60")
    assert call("cancel", out.strip())[0] in (0, 1)
    assert call("terminate", out.strip())[0] == 0


NEEDED = [
    ("batch:RegisterJobDefinition", ("register", "runner-x", "--image", "i")),
    ("iam:PassRole", ("register", "runner-y", "--image", "i")),
    ("batch:SubmitJob", ("submit", "runner-there")),
    ("batch:TagResource", ("submit", "runner-there", "--tag", "a=b")),
    ("batch:DescribeJobDefinitions", ("register", "runner-z", "--image", "i")),
    ("batch:DescribeJobs", ("status", "7b")),
    ("batch:ListJobs", ("list",)),
    ("batch:TerminateJob", ("terminate", "{job}")),
    ("logs:GetLogEvents", ("logs", "{job}")),
]


@pytest.mark.parametrize(("action", "words"), NEEDED, ids=[each[0] for each in NEEDED])
def test_each_action_is_needed(
    call: Call, account: BatchAccount, guarded: Guarded, action: str, words: tuple[str, ...]
) -> None:
    """The policy would allow what nothing does."""
    account.register("runner-there", command=["sleep", "60"])
    job = account.start("runner-there")
    account.wait(job, "RUNNING")
    guarded.allow(without(person(guarded.bucket), action))
    code, _, err = call(*(word.format(job=job) for word in words))
    assert code not in (0, 2) or "enied" in err
    assert action in err or "AccessDenied" in err or "denied" in err, err


def test_other_definitions_and_roles_are_refused(call: Call, account: BatchAccount) -> None:
    """With somebody else's definition one would have its role."""
    account.register("admin")
    code, _, err = call("submit", "admin")
    assert code != 0 and "batch:SubmitJob" in err and "job-definition/admin" in err
    code, _, err = call("register", "mine", "--image", "i", "--memory", "64", "--", "true")
    assert code != 0 and "batch:RegisterJobDefinition" in err


AS_JOB = """
import boto3, sys
s3 = boto3.client("s3", region_name="us-east-1")
bucket, failed = sys.argv[1], []
def tried(name, call):
    try:
        call()
        return "allowed"
    except Exception as error:
        return error.response["Error"]["Code"]
queue = "queues/q/"
told = {}
for key in ("jobs/a/attempts/1/t.claim.json", "work/r/a/f", "jobs/x/17/stdout.log",
            "submissions/t.json", "lease.json", "queue-state.json", "control/c.json",
            "journal/000000000001.json", "coordinator.json", "queue.json"):
    told["put " + key] = tried(key, lambda: s3.put_object(Bucket=bucket, Key=queue + key, Body=b""))
for key in ("submissions/t.json", "lease.json", "jobs/b/manifest.json"):
    told["get " + key] = tried(key, lambda: s3.get_object(Bucket=bucket, Key=queue + key))
bundle = "runner/bundles/b"
told["get bundle"] = tried("", lambda: s3.get_object(Bucket=bucket, Key=bundle))
told["put bundle"] = tried("", lambda: s3.put_object(Bucket=bucket, Key=bundle, Body=b""))
told["list"] = tried("", lambda: s3.list_objects_v2(Bucket=bucket, Prefix=queue + "jobs/"))
for name, found in told.items():
    print(name, found)
"""


def test_job_role_writes_jobs_only(account: BatchAccount, guarded: Guarded) -> None:
    """COMMAND could steer its queue, or a container not bring its results away."""
    account.register(
        "as-job", command=["python3", "-c", AS_JOB, guarded.bucket], jobRoleArn=JOB_ROLE
    )
    with guarded.off_guard():
        s3 = guarded.client("s3")
        for key in ("submissions/t.json", "lease.json", "jobs/b/manifest.json"):
            s3.put_object(Bucket=guarded.bucket, Key=f"queues/q/{key}", Body=b"")
        s3.put_object(Bucket=guarded.bucket, Key="runner/bundles/b", Body=b"")
    job = account.wait(account.start("as-job"))
    stream = job["container"]["logStreamName"]
    told = dict(line.rsplit(" ", 1) for line in lines(guarded, stream))
    allowed = {name for name, found in told.items() if found == "allowed"}
    assert allowed == {
        "put jobs/a/attempts/1/t.claim.json", "put work/r/a/f", "put jobs/x/17/stdout.log",
        "get submissions/t.json", "get lease.json", "get jobs/b/manifest.json", "get bundle",
        "list",
    }  # fmt: skip
    assert len(told) == 16


def lines(guarded: Guarded, stream: str) -> list[str]:
    """A stream's lines, once the sink has brought them all."""
    with guarded.off_guard():
        logs = guarded.client("logs")
        deadline = time.monotonic() + 60
        while True:
            found = logs.get_log_events(
                logGroupName="/aws/batch/job", logStreamName=stream, startFromHead=True
            )["events"]
            if len(found) >= 16 or time.monotonic() > deadline:
                return [each["message"] for each in found]
            time.sleep(0.05)


JOBS = [
    {"job_id": "a", "command": "echo made > out; exit $((JOB_ATTEMPT == 1))",
     "result_paths": ["out"], "retry": {"max_attempts": 2, "base_delay": "1ms"}},
    {"job_id": "b", "command": "cat out", "depends_on": ["a"]},
    {"job_id": "x", "command": "exit 0", "array": 3},
]  # fmt: skip


@pytest.mark.parametrize("driver", ["here", "coordinator"])
def test_a_queue_runs_with_the_policies_that_ship(
    account: BatchAccount, guarded: Guarded, tmp_path: Path, driver: str
) -> None:
    """The first queue after `runner setup --batch` would wait for permissions for ever."""
    document = {
        "queue_id": driver,
        "queue_name": "q",
        "global_timeout": "10m",
        "on_failure": "stop",
        "result_s3_bucket": guarded.bucket,
        "max_parallel_jobs": 4,
        "jobs": [{"timeout": "2m", **job} for job in JOBS],
    }
    path = tmp_path / "queue.json"
    path.write_text(json.dumps(document))
    roles = ("job", "execution", "coordinator")
    env = {
        **os.environ,
        **guarded.env,
        "AWS_ENDPOINT_URL_BATCH": account.server.url,
        "HOME": str(tmp_path),
        "RUNNER_STATE_DIR": str(tmp_path / "state"),
        "RUNNER_LOG_DIR": str(tmp_path / "logs"),
        "RUNNER_BATCH_JOB_QUEUE": "queue",
        "RUNNER_BATCH_BUNDLE": "image",
        **{f"RUNNER_BATCH_{name.upper()}_ROLE": JOB_ROLE.replace("job", name) for name in roles},
    }
    words = ["--target", "batch", "--image", "i"]
    verb = ["run", str(path)] if driver == "here" else ["launch", "--batch-queue", str(path)]
    command = [sys.executable, "-m", "runner", *verb, *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, (done.stdout, done.stderr, account.server.errors())
    assert "denied" not in done.stderr.lower()
    if driver == "coordinator":
        (first, *_) = account.server.jobs()
        assert account.wait(first.id)["status"] == "SUCCEEDED"
        refused = [each for each in account.server.seen if each.error == "AccessDeniedException"]
        assert not refused
    with guarded.off_guard():
        keys = guarded.endpoint.keys(guarded.bucket, f"queues/{driver}/")
    stored = [key for key in keys if key.endswith(".stored.json")]
    assert len(stored) == 6, "an attempt of a, another, one of b, three elements of x"
