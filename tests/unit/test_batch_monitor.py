"""The monitor of one Batch job, called from Python with a client of the caller's own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from runner.aws.errors import AwsError, ErrorKind
from runner.batch import monitor
from runner.batch.monitor import (
    display_job_status,
    get_job_status,
    main,
    monitor_job,
    parse_args,
)
from runner.errors import NotFoundError


def job(status: str = "RUNNING", **more: Any) -> dict[str, Any]:
    arn = "arn:aws:batch:eu-west-1:123456789012:job/a-1"
    return {"jobId": "a-1", "jobArn": arn, "jobName": "n", "status": status, **more}


class Client:
    """describe_jobs answers one after the other; the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    def describe_jobs(self, jobs: list[str]) -> dict[str, Any]:
        self.asked.append(jobs)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return {"jobs": [] if answer is None else [answer]}


def refusal(code: str, status: int = 400) -> ClientError:
    told = {
        "Error": {"Code": code, "Message": "no"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(told, "DescribeJobs")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nothing is waited for; how long it would have been."""
    found: list[float] = []
    monkeypatch.setattr(monitor.time, "sleep", found.append)
    return found


def test_flags_are_those_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that calls the monitor as before would end with wrong usage."""
    monkeypatch.delenv("AWS_REGION", raising=False)
    plain = parse_args(["--job-id", "a-1"])
    assert (plain.job_id, plain.aws_region, plain.poll_interval) == ("a-1", "us-east-1", 30)
    assert not (plain.monitor or plain.show_logs or plain.json)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert parse_args(["--job-id", "a"]).aws_region == "eu-west-1"
    words = "--job-id a --aws-region us-west-2 --monitor --poll-interval 60 --show-logs --json"
    full = parse_args(words.split())
    assert (full.aws_region, full.poll_interval) == ("us-west-2", 60)
    assert full.monitor and full.show_logs and full.json


@pytest.mark.parametrize(
    "words",
    ["", "--job-id", "--job-id a --poll-interval 0", "--job-id a --poll-interval nan", "--job a",
     "--job-id 'a", "--job-id a --watch", "--job-id a b"],
)  # fmt: skip
def test_wrong_usage_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped flag would be passed over, or AWS be asked without a pause."""
    with pytest.raises(SystemExit) as caught:
        parse_args(words.split())
    assert caught.value.code == 2
    assert "usage: runner-batch-status" in capsys.readouterr().err


def test_status_is_the_jobs_detail() -> None:
    """`job_details['status']` would not be what AWS says."""
    client = Client(job("FAILED", statusReason="x"))
    found = get_job_status(client, "arn:aws:batch:eu-west-1:123456789012:job/a-1")
    assert (found["status"], found["statusReason"], client.asked) == ("FAILED", "x", [["a-1"]])


def test_new_job_is_looked_for_again(waits: list[float]) -> None:
    """A job that was submitted a moment ago would be told to be missing."""
    assert get_job_status(Client(None, None, job()), "a-1")["status"] == "RUNNING"
    assert waits == [1.0, 2.0]
    with pytest.raises(NotFoundError, match="knows no job a-1"):
        get_job_status(Client(None), "a-1")


@pytest.mark.parametrize(
    "error",
    [refusal("TooManyRequestsException", 429), refusal("ServerException", 500),
     EndpointConnectionError(endpoint_url="https://batch")],
)  # fmt: skip
def test_what_passes_is_tried_again(error: Exception, waits: list[float]) -> None:
    """One throttled call would end the watching of a job that runs for days."""
    assert get_job_status(Client(error, error, job()), "a-1")["status"] == "RUNNING"
    assert waits == [1.0, 2.0]
    with pytest.raises(AwsError) as caught:
        get_job_status(Client(error), "a-1")
    assert caught.value.kind is ErrorKind.PASSING


def test_refusal_is_not_tried_again(waits: list[float]) -> None:
    """What can't succeed would be waited for."""
    with pytest.raises(AwsError) as caught:
        get_job_status(Client(refusal("AccessDeniedException", 403)), "a-1")
    assert (caught.value.kind, waits) == (ErrorKind.DENIED, [])


def test_changes_are_shown_until_the_end(
    waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader would get the same text every half minute, or miss a change."""
    client = Client(job(), job(), job("SUCCEEDED"))
    assert monitor_job(client, "a-1", poll_interval=60)["status"] == "SUCCEEDED"
    shown = capsys.readouterr().out
    assert (shown.count("RUNNING"), shown.count("SUCCEEDED"), waits) == (1, 1, [60, 60])


def test_lost_answer_later_ends_nothing(waits: list[float]) -> None:
    """Ten minutes without network would end the watching."""
    lost = refusal("ServiceUnavailable", 503)
    tries = [lost] * (len(monitor.PAUSES) + 1)
    assert monitor_job(Client(job(), *tries, job("FAILED")), "a-1")["status"] == "FAILED"
    with pytest.raises(AwsError):
        monitor_job(Client(job(), refusal("AccessDeniedException", 403)), "a-1")


def test_ctrl_c_leaves_the_job_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody who wants their terminal back would fear for the job, or get a traceback."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(monitor.time, "sleep", interrupt)
    assert monitor_job(Client(job()), "a-1")["status"] == "RUNNING"
    assert "the job was left alone, and goes on: it is RUNNING" in capsys.readouterr().err


def test_display_shows_the_address_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """`--show-logs` would show no way to the log."""
    info = job(container={"logStreamName": "d/default/x"})
    display_job_status(info)
    assert "https://" not in capsys.readouterr().out
    display_job_status(info, show_logs=True)
    assert "https://eu-west-1.console.aws.amazon.com/" in capsys.readouterr().out
    display_job_status(info, as_json=True)
    assert json.loads(capsys.readouterr().out)["log_stream"] == "d/default/x"


@pytest.mark.parametrize(
    ("client", "code", "told"),
    [
        (Client(job("FAILED")), 0, ""),
        (Client(None), 1, "knows no job a-1"),
        (Client(refusal("AccessDeniedException", 403)), 1, "batch:DescribeJobs"),
        (Client(refusal("ExpiredTokenException", 400)), 1, "have expired"),
        (Client(refusal("TooManyRequestsException", 429)), 1, "no answer after 6 tries"),
        (Client(KeyboardInterrupt()), 1, "left alone"),
        (Client({"jobId": "a-1"}), 1, "answered without status"),
    ],
)
def test_exit_status_tells_whether_it_could_be_looked_at(
    client: Client,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A script could not tell a failed job from a failed look."""
    regions: list[str] = []

    def made(region: str) -> Client:
        regions.append(region)
        return client

    monkeypatch.setattr(monitor, "get_batch_client", made)
    assert main(["--job-id", "arn:aws:batch:eu-west-1:123456789012:job/a-1"]) == code
    assert told in capsys.readouterr().err
    assert regions == ["eu-west-1"]


def test_log_level_is_the_users(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """LOG_LEVEL would have no effect, or a word of another tool's end the monitor."""
    for level, told in (("ERROR", ""), ("info", "looking again"), ("trace", "taken for INFO")):
        monkeypatch.setenv("LOG_LEVEL", level)
        monkeypatch.setattr(monitor.logger, "handlers", [])
        client = Client(job(), job("SUCCEEDED"))
        monkeypatch.setattr(monitor, "get_batch_client", lambda _, made=client: made)
        assert main(["--job-id", "a-1", "--monitor", "--poll-interval", "0.5"]) == 0
        assert told in (said := capsys.readouterr().err)
        assert bool(said) == bool(told)
