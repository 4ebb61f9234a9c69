"""`runner batch VERB` against the tests' Batch server, with logs and files in moto."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from batch_account import BatchAccount
from batch_server import CloudWatchLogs, Delays, Fault, Processes, Settings
from s3_endpoint import Endpoint

from runner.batch import single_jobs
from runner.cli.main import run_command
from runner.cli.verbs.batch import job_options, logs, wait

INSTANT = Delays(submitted=(0, 1), runnable=(0, 1), starting=(0, 1), ended=(0, 1))
SLEEPS = ["sh", "-c", 'trap "exit 7" TERM; while :; do sleep 0.05; done']

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def account(endpoint: Endpoint) -> Iterator[BatchAccount]:
    sink = CloudWatchLogs(endpoint.url, "us-east-1")
    made = BatchAccount(Processes(sink), Settings(delays=INSTANT, rates={}))
    made.register()
    made.server.add_queue("fair", made.environment, fair_share=True)
    yield made
    made.close()


@pytest.fixture
def call(
    account: BatchAccount, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Call:
    """Runs `runner batch …` in this process: its exit code, stdout and stderr."""
    for name, value in {**endpoint.env, **account.env, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RUNNER_BATCH_JOB_QUEUE", "queue")
    monkeypatch.setattr(job_options, "FRESH_PAUSES", (0.01,))
    monkeypatch.setattr(single_jobs, "SEARCH_PAUSES", (0.01, 0.01))
    monkeypatch.setattr(single_jobs, "THROTTLED_PAUSES", (0.01,))
    monkeypatch.setattr(logs, "LINES_EVERY", 0.05)
    monkeypatch.setattr(logs, "JOB_EVERY", 0.1)
    monkeypatch.setattr(wait, "EVERY", 0.05)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = run_command(["batch", *words])
            except SystemExit as ended:
                code = int(ended.code or 0)
        texts = []
        for each in (out, err):
            each.flush()
            texts.append(each.buffer.getvalue().decode())  # type: ignore[attr-defined]
        assert "internal error" not in texts[1], texts[1]
        return code, *texts  # type: ignore[return-value]

    return run


def submitted(call: Call, *words: str) -> str:
    """The id that `submit` prints, and nothing else."""
    code, out, err = call("submit", *words)
    assert code == 0, err
    assert out.count("\n") == 1
    return out.strip()


def test_definition_is_registered_once(call: Call, account: BatchAccount) -> None:
    """Each call of a script would add a revision, or a changed tool keep its old definition."""
    words = ("register", "tool", "--image", "i", "--memory", "64MiB", "--volume", "/tmp:/work")
    assert call(*words, "--", "true")[:2] == (0, "tool:1\n")
    assert call(*words, "--", "true")[:2] == (0, "tool:1\n")
    code, out, _ = call(*words, "--json", "--", "false")
    assert (code, json.loads(out)) == (0, {"definition": "tool:2", "registered": True})
    assert call(*words, "--", "true")[1] == "tool:3\n"
    newest = account.client.describe_job_definitions(jobDefinitions=["tool:3"])["jobDefinitions"]
    container = newest[0]["containerProperties"]
    assert container["mountPoints"] == [{"sourceVolume": "volume-0", "containerPath": "/work"}]


def test_job_is_submitted_with_a_definition_or_an_image(call: Call, account: BatchAccount) -> None:
    """A flag or the command would not reach the job, or more calls be made than needed."""
    flags = ["--name", "one", "--env", "A=1 2", "--cpus", "2", "--memory", "1GiB", "--timeout",
             "90s", "--attempts", "2", "--tag", "k=v", "--parameter", "p=q"]  # fmt: skip
    before = len(account.server.seen)
    job = account.job(submitted(call, "definition", *flags, "--", "sh", "-c", "exit 0", "--", "x"))
    asked = [seen.operation for seen in account.server.seen[before:]]
    assert asked == ["DescribeJobDefinitions", "DescribeJobQueues", "SubmitJob", "DescribeJobs"]
    held = job["container"]
    assert job["jobName"] == "one"
    assert held["command"] == ["sh", "-c", "exit 0", "--", "x"]
    assert held["environment"] == [{"name": "A", "value": "1 2"}]
    asked_for = {each["type"]: each["value"] for each in held["resourceRequirements"]}
    assert asked_for == {"VCPU": "2", "MEMORY": "1024"}
    assert job["timeout"] == {"attemptDurationSeconds": 90}
    assert job["retryStrategy"]["attempts"] == 2
    assert (job["tags"], job["parameters"]["p"]) == ({"k": "v"}, "q")
    image = ("--image", "r/tool:1", "--memory", "64", "--", "true")
    first, second = (account.job(submitted(call, *image)) for _ in range(2))
    assert first["jobDefinition"] == second["jobDefinition"]
    assert first["jobDefinition"].endswith(":1") and first["jobName"] == "tool"


def test_jobs_are_listed_watched_and_explained(call: Call, account: BatchAccount) -> None:
    """A person would need the console to see how a set of jobs stands, and why."""
    array = submitted(
        call, "definition", "--name", "set-a", "--array", "3", "--",
        "sh", "-c", 'echo "sample $AWS_BATCH_JOB_ARRAY_INDEX"; exit "$AWS_BATCH_JOB_ARRAY_INDEX"',
    )  # fmt: skip
    good = submitted(call, "definition", "--name", "set-b", "--", "true")
    code, out, _ = call("wait", array, good)
    assert code == 100
    assert f"{array} FAILED: 2 children of the array failed" in out
    assert f"{good} SUCCEEDED\n" in out
    assert call("wait", good)[0] == 0

    code, out, _ = call("list", "--name", "set-")
    assert [line.split()[0] for line in out.splitlines()] == ["ID", good, array]
    code, out, _ = call("list", "--name", "set-", "--status", "succeeded", "--json")
    assert [job["job_id"] for job in json.loads(out)] == [good]
    code, out, _ = call("list", "--array", array, "--status", "FAILED", "--json")
    assert [job["exit_code"] for job in json.loads(out)] == [1, 2]
    code, out, _ = call("list", "-n", "1", "--json")
    assert len(json.loads(out)) == 1

    code, out, _ = call("status", array, good, f"{array}:2")
    assert code == 0 and len(out.splitlines()) == 4
    code, out, _ = call("status", f"{array}:2", "--json")
    (found,) = json.loads(out)
    assert (found["exit_code"], found["diagnosis"]["code"]) == (2, "exit_code")
    assert found["diagnosis"]["log"] == ["sample 2"]
    code, out, _ = call("explain", array)
    assert f"its child {array}:1: it exited with 1" in out and "log: sample 1" in out
    code, out, _ = call("describe", f"{array}:2")
    assert "Exit code:    2" in out and "cloudwatch/home" in out
    code, out, _ = call("describe", good, "--raw")
    assert json.loads(out)[0]["jobId"] == good

    code, out, _ = call("retry", array)
    again = out.strip()
    call("wait", again)
    seen = [call("logs", f"{again}:{index}")[1] for index in range(2)]
    assert seen == ["sample 1\n", "sample 2\n"]
    code, out, _ = call("retry", f"{again}:1", "--json")
    (once,) = json.loads(out)
    call("wait", once["job_id"])
    assert call("logs", once["job_id"])[1] == "sample 2\n"
    assert call("retry", good)[0] == 2


def test_log_is_shown_and_followed(call: Call, account: BatchAccount, tmp_path: Path) -> None:
    """What a job printed would be cut short, or the last lines missed."""
    monkey, gate = pytest.MonkeyPatch(), tmp_path / "gate"
    script = f"echo one; until [ -e {gate} ]; do sleep 0.02; done; echo two; echo three; exit 3"
    job = submitted(call, "definition", "--", "sh", "-c", script)
    account.wait(job, "RUNNING")
    opened = threading.Timer(0.3, gate.touch)
    opened.start()
    monkey.setattr(logs, "AFTER_END", 1.0)
    code, out, err = call("logs", job, "-f")
    monkey.undo()
    opened.join()
    assert (code, out) == (0, "one\ntwo\nthree\n")
    assert "FAILED with exit code 3" in err
    assert call("logs", job)[1] == "one\ntwo\nthree\n"
    assert call("logs", job, "-n", "2")[1] == "two\nthree\n"
    assert call("logs", job, "-n", "0")[1] == ""
    code, out, _ = call("logs", job, "--json", "-n", "1")
    assert json.loads(out)["message"] == "three"
    assert call("logs", job, "--timestamps", "-n", "1")[1].split()[0].endswith("Z")
    assert call("logs", job, "--attempt", "1")[1] == "one\ntwo\nthree\n"
    assert call("logs", job, "--attempt", "2")[0] == 102
    assert call("logs", job, "--container", "x")[0] == 2


def test_jobs_are_cancelled_and_terminated(call: Call, account: BatchAccount) -> None:
    """A running job would seem to be cancelled and run on, or a waiting one not go."""
    running = submitted(call, "definition", "--", *SLEEPS)
    account.wait(running, "RUNNING")
    waiting = submitted(call, "definition", "--depends-on", running, "--", "true")
    account.server.set_placing(account.environment, False)
    try:
        stuck = submitted(call, "definition", "--", "true")
        account.wait(stuck, "RUNNABLE")
        code, out, _ = call("explain", stuck)
        assert "CAPACITY" in out or "waits for" in out
        code, out, _ = call("cancel", running, stuck, "--reason", "not needed")
        assert code == 1
        assert f"{running}: has begun (RUNNING)" in out and f"{stuck}: cancelled\n" in out
        assert account.wait(stuck)["statusReason"] == "not needed"
        assert "with the reason: not needed" in call("explain", stuck)[1]
        code, out, err = call("wait", running, "--timeout", "100ms")
        assert (code, "it goes on" in err) == (101, True)
        assert call("terminate", running, "--json", "--reason", "enough")[0] == 0
        ended = account.wait(running)
        assert (ended["statusReason"], ended["container"]["exitCode"]) == ("enough", 7)
        assert "had ended before: FAILED" in call("terminate", running)[1]
        assert account.wait(waiting)["status"] == "FAILED"
        assert call("explain", waiting, "--json")[1].count("dependency_failed") == 1
    finally:
        account.server.set_placing(account.environment, True)


def test_lost_answer_of_a_submission_is_found(call: Call, account: BatchAccount) -> None:
    """The job would run unseen, and be submitted a second time."""
    account.server.faults.add("SubmitJob", Fault.THROTTLED)
    account.server.faults.add("SubmitJob", Fault.LOST_ANSWER)
    submitted(call, "definition", "--name", "lost", "--", "true")
    account.server.faults.add("SubmitJob", Fault.LOST_REQUEST)
    code, out, err = call("submit", "definition", "--name", "lost", "--", "true")
    assert (code, out) == (1, "")
    assert "runner batch list --job-queue queue --name lost" in err
    assert [job.name for job in account.server.jobs()].count("lost") == 1


def test_fair_share_queue_needs_a_share(call: Call) -> None:
    """AWS would refuse it without saying what to add."""
    code, _, err = call("submit", "definition", "--job-queue", "fair")
    assert (code, "a share is required" in err) == (2, True)
    submitted(call, "definition", "--job-queue", "fair", "--share", "a", "--priority", "3")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("", 2, "required: VERB"),
        ("stats", 2, "invalid choice"),
        ("status", 2, "required: ID"),
        ("status 7b", 102, "knows no job 7b"),
        ("status arn:aws:batch:eu-west-1:123456789012:job/a --region us-east-1", 2, "one region"),
        ("logs 7b -n -1", 2, "negative"),
        ("logs 7b", 102, "knows no job"),
        ("wait 7b --timeout soon", 2, "--timeout"),
        ("list --status LOST", 2, "--status"),
        ("list --array 7b --name x", 2, "--array"),
        ("retry 7b", 102, "knows no job"),
        ("cancel 7b --reason=", 2, "1 to 1,024"),
        ("submit", 2, "no image is named"),
        ("submit definition --image i", 2, "belongs to a definition"),
        ("submit definition --memory much", 2, "--memory"),
        ("submit definition --cpus none", 2, "--cpus"),
        ("submit definition --env A", 2, "KEY=VALUE"),
        ("submit definition --array 1", 2, "2 to 10,000"),
        ("submit definition --region nowhere", 2, "--region"),
        ("submit definition --job-queue none", 2, "no job queue"),
        ("submit none", 2, "no active job definition"),
        ("submit definition --priority 3", 2, "--share"),
        ("register a/b --image i", 2, "definition name"),
        ("put none s3://bucket/x", 2, "does not exist"),
        ("put . bucket/x", 2, "s3://bucket/key"),
        ("get s3://B/x y", 2, "bucket"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_and_nothing_is_sent(
    call: Call, account: BatchAccount, words: str, code: int, told: str
) -> None:
    """A mistake would end in a traceback, or in a job that nobody wanted."""
    jobs = len(account.server.jobs())
    found, _, err = call(*words.split())
    assert (found, told in err) == (code, True), err
    assert len(account.server.jobs()) == jobs


def test_files_go_to_s3_and_back(call: Call, endpoint: Endpoint, tmp_path: Path) -> None:
    """What a job is to read would not arrive as it is, or what it left not come back."""
    bucket = endpoint.bucket()
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "ä b").write_bytes(b"x" * 100_000)
    (folder / "a").write_text("a")
    (folder / "link").symlink_to("a")
    (folder / "folder").symlink_to("sub")
    code, _, err = call("put", "in", f"s3://{bucket}/work/run")
    assert (code, "is a link to a folder" in err) == (105, True)
    assert endpoint.keys(bucket) == {
        "work/run/a": 1, "work/run/link": 1, "work/run/sub/ä b": 100_000
    }  # fmt: skip
    assert call("put", "in/a", f"s3://{bucket}/one/")[0] == 0
    assert call("put", "in/a", f"s3://{bucket}/two")[0] == 0
    assert endpoint.keys(bucket, "one/") | endpoint.keys(bucket, "two") == {"one/a": 1, "two": 1}
    assert "3 files fetched" in call("get", f"s3://{bucket}/work/run/", "out")[1]
    assert (tmp_path / "out/sub/ä b").read_bytes() == b"x" * 100_000
    assert "all was there already" in call("get", f"s3://{bucket}/work/run/", "out")[1]
    assert call("get", f"s3://{bucket}/two", "out")[0] == 0
    assert (tmp_path / "out/two").read_text() == "a"
    assert call("get", f"s3://{bucket}/none/", "out")[0] == 1
    code, _, err = call("put", "in", "s3://no-such-bucket-here/x")
    assert (code, err.count("no such bucket")) == (1, 1)


def test_requests_can_be_looked_at_first(call: Call, account: BatchAccount) -> None:
    """What would be sent could only be seen once it was."""
    jobs = len(account.server.jobs())
    code, out, _ = call("submit", "--image", "i", "--array", "2", "--dry-run", "--", "true")
    shown: dict[str, Any] = json.loads(out)
    assert code == 0 and len(account.server.jobs()) == jobs
    assert shown["submit"]["arrayProperties"] == {"size": 2}
    assert shown["register"]["containerProperties"]["command"] == ["true"]


def test_nodes_and_pods_are_looked_at(account: BatchAccount, call: Call) -> None:
    """Jobs of other kinds could not be looked at, though their ids are taken."""
    base = {
        "jobQueue": "arn:aws:batch:us-east-1:123456789012:job-queue/queue",
        "jobDefinition": "arn:aws:batch:us-east-1:123456789012:job-definition/d:1",
        "startedAt": 1_700_000_001_000,
        "createdAt": 1_700_000_000_000,
    }
    ends = {"exitCode": 3, "reason": "Essential container in task exited"}
    account.server.show(
        {**base, "jobId": "4c4a0b3e", "jobName": "wide", "status": "RUNNING",
         "nodeProperties": {"numNodes": 2, "mainNode": 0, "nodeRangeProperties": []}},
        {**base, "jobId": "4c4a0b3e#0", "jobName": "wide", "status": "FAILED",
         "stoppedAt": 1_700_000_002_000,
         "container": {"image": "i", "exitCode": 3, "logStreamName": "d/default/0"}},
        {**base, "jobId": "5d5b1c4f", "jobName": "pod", "status": "FAILED",
         "stoppedAt": 1_700_000_002_000,
         "eksProperties": {"podProperties": {"containers": [{"name": "main", **ends}]}}},
    )  # fmt: skip
    code, out, _ = call("status", "4c4a0b3e")
    assert code == 0 and "2; the main one is 4c4a0b3e#0" in out
    code, out, _ = call("status", "4c4a0b3e#0", "--json")
    assert code == 0 and json.loads(out)[0]["exit_code"] == 3
    code, out, _ = call("explain", "5d5b1c4f")
    assert code == 0 and "exited with 3" in out
