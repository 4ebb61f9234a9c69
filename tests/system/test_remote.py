"""A queue on a machine on EC2, looked at and acted on from a laptop, over SSM and S3."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ec2_stub import Ec2Stub
from elsewhere import Elsewhere
from fake_ssm import Agent
from s3_faults import EXPIRED, FaultProxy, Match
from test_terminal import Terminal

from runner.control import ssm_codec
from runner.timestamps import rfc3339


def job(name: str, command: str = "true", **more: Any) -> dict[str, Any]:
    return {"job_id": name, "command": command, "timeout": "2m", **more}


LONG = job("long", "echo begun; exec sleep 900", timeout="20m")


def stored(elsewhere: Elsewhere, job: str, status: str, queue: str = "q") -> None:
    """Wait until S3 says so of a job."""

    def look() -> bool:
        keys = elsewhere.endpoint.keys(elsewhere.bucket, f"queues/{queue}/queue-state.json")
        if not keys:
            return False
        state = json.loads(elsewhere.endpoint.read(elsewhere.bucket, next(iter(keys))))
        return any(each["job_id"] == job and each["status"] == status for each in state["jobs"])

    elsewhere.machine.until(look)


# -- looking ---------------------------------------------------------------------------------


def test_status_by_instance_and_by_queue(elsewhere: Elsewhere) -> None:
    """The first thing that anybody asks after a launch."""
    name = elsewhere.launched()
    elsewhere.run(job("a", "echo hi"), LONG, job("after", depends_on=["long"]))
    elsewhere.until_job("long", "running")
    stored(elsewhere, "long", "running")
    done = elsewhere.laptop.call("status", name)
    lines = done.stdout.splitlines()
    assert lines[0] == f"Instance:    {name} (t3.medium, us-east-1a, on demand), running"
    assert "Queue ID:    q" in lines and "Status:      running" in lines
    assert "Progress:    1 of 3 jobs have ended (33 %)" in lines
    assert any(line.startswith("Elapsed:     ") for line in lines)
    assert any("at $0.0416 an hour" in line for line in lines)
    assert "Seen:        from the machine, now" in lines
    (running,) = [line.split() for line in lines if line.startswith("long ")]
    assert running[1:4] == ["running", "1", "-"] and "PID" in running
    (first,) = done.stderr.splitlines()
    assert first.startswith("runner status: from S3, ") and "old: q running" in first

    found = elsewhere.laptop.data("status", "q")
    assert (found["status"], found["source"]["from"]) == ("running", "ssm")
    assert found["instance"]["instance_id"] == name
    assert [each["job_id"] for each in found["jobs"]] == ["a", "long", "after"]
    # Programs get every field, not only what a table shows.
    assert found["jobs"][0]["started_at"].endswith("Z") and "cpu_seconds" in found["jobs"][0]
    assert elsewhere.ssm.sent[0][0] == "Runner-Look"

    story = elsewhere.laptop.call("status", name, "--job", "a").stdout
    assert "job_id:           a" in story and "started attempt=1" in story.split("story:")[1]
    only = elsewhere.laptop.data("status", name, "--status", "running")
    assert [each["job_id"] for each in only["jobs"]] == ["long"]
    assert elsewhere.laptop.call("status", name, "--exit-code").returncode == 101
    assert "q         running" in elsewhere.laptop.call("queues", "--on", name).stdout


def test_ten_thousand_jobs_in_a_few_calls(elsewhere: Elsewhere) -> None:
    """SSM cuts at 24,000 characters, which would be no answer at all."""
    name = elsewhere.launched()
    jobs = [job(f"job-{number:05d}") for number in range(9_999)]
    elsewhere.run(LONG, *jobs)
    elsewhere.until_job("long", "running")
    found = elsewhere.laptop.data("status", name)
    assert [each["job_id"] for each in found["jobs"]] == ["long", *(j["job_id"] for j in jobs)]
    assert found["jobs"][9_999]["status"] == "pending"
    assert elsewhere.ssm.calls["SendCommand"] <= 12
    assert max(elsewhere.ssm.outputs) < 23_100
    elsewhere.ssm.calls.clear()
    # What a table shows is less.
    assert len(elsewhere.laptop.call("status", name).stdout.splitlines()) > 10_000
    assert elsewhere.ssm.calls["SendCommand"] <= 6


def test_s3_is_shown_at_once_and_then_the_machine(elsewhere: Elsewhere) -> None:
    """Who waits half a minute for an answer thinks that nothing works."""
    name = elsewhere.launched()
    elsewhere.run(LONG)
    stored(elsewhere, "long", "running")
    record(elsewhere, instance_id=name)
    elsewhere.ssm.agents[name].slow = 30
    shortest = 99.0
    for _ in range(3):
        begin = time.monotonic()
        asked = elsewhere.laptop.start("status", name, stderr=subprocess.PIPE)
        assert asked.stderr is not None
        line = asked.stderr.readline().decode()
        shortest = min(shortest, time.monotonic() - begin)
        asked.kill()
        asked.wait()
        asked.stderr.close()
        assert line.startswith("runner status: from S3, ") and "q running" in line
    # Less than a second on a machine of one's own; here the cores are shared with other tests.
    assert shortest < 5


def test_on_a_terminal_the_first_picture_is_replaced(elsewhere: Elsewhere) -> None:
    """Two tables below each other would be read as two queues."""
    name = elsewhere.launched()
    elsewhere.run(LONG)
    stored(elsewhere, "long", "running")
    elsewhere.ssm.agents[name].slow = 1
    terminal = Terminal(elsewhere.laptop, "status", name)
    terminal.until("asking the machine")
    first = terminal.shown
    assert "Seen:        from S3" in first and "from the machine" not in first
    terminal.until("from the machine, now")
    lines = first.count("\n") - 1
    assert f"\x1b[{lines}F\x1b[J" in terminal.shown
    terminal.process.wait(20)
    terminal.close()


@pytest.mark.parametrize("how", ["shell", "denied"])
def test_it_does_not_need_our_documents(elsewhere: Elsewhere, how: str) -> None:
    """Who has not run `runner setup` could not look at anything."""
    name = elsewhere.launched()
    elsewhere.run(LONG)
    if how == "shell":
        elsewhere.ssm.documents.clear()
    if how == "denied":
        elsewhere.ssm.denied |= {"Runner-Look", "Runner-Act"}
    assert elsewhere.laptop.data("status", name)["source"]["from"] == "ssm"
    assert elsewhere.laptop.call("pause", "--on", name).returncode == 0
    assert {document for document, _ in elsewhere.ssm.sent} == {"AWS-RunShellScript"}


def test_who_may_only_look_can_not_act(elsewhere: Elsewhere) -> None:
    """A permission to look would be one to cancel."""
    elsewhere.run(LONG)
    elsewhere.until_job("long", "running")
    word = ssm_codec.pack_request("cancel", queue="q")
    done = elsewhere.machine.call("ask", "--look-only", word)
    assert done.returncode == 0
    answer = ssm_codec.unpack(done.stdout)
    assert answer["ok"] is False and "may only look" in answer["error"]["message"]
    assert elsewhere.status() == "running"
    for wrong in (["ask", "--limit", "5", word], ["ask"], ["ask", word, "--lok-only"]):
        assert elsewhere.machine.call(*wrong).returncode == 2
    rubbish = ssm_codec.unpack(elsewhere.machine.call("ask", "%%%").stdout)
    assert rubbish["error"]["exit_code"] == 2


# -- logs ------------------------------------------------------------------------------------


def test_a_log_is_followed_to_its_end(elsewhere: Elsewhere) -> None:
    """Lines would be lost or shown twice between two looks."""
    name = elsewhere.launched()
    go = elsewhere.machine.home / "go"
    lines = "for i in $(seq 3000); do echo line $i; done"
    elsewhere.run(job("a", f"{lines}; until [ -e {go} ]; do sleep 0.05; done; echo last"))
    elsewhere.until_job("a", "running")
    out = elsewhere.laptop.home / "out"
    with open(out, "wb") as file:
        following = elsewhere.laptop.start("logs", "a", "-f", "--on", name, stdout=file)
    elsewhere.laptop.until(lambda: b"line 3000\n" in out.read_bytes())
    go.touch()
    assert following.wait(30) == 0
    wanted = [*(f"line {number}" for number in range(1, 3001)), "last"]
    assert out.read_text().split("\n")[:-1] == wanted


def test_ctrl_c_ends_following(elsewhere: Elsewhere) -> None:
    """Nothing but kill would help."""
    name = elsewhere.launched()
    elsewhere.run(LONG)
    elsewhere.until_job("long", "running")
    out = elsewhere.laptop.home / "out"
    with open(out, "wb") as file:
        following = elsewhere.laptop.start("logs", "long", "-f", "--on", name, stdout=file)
    elsewhere.laptop.until(lambda: out.read_bytes() == b"begun\n")
    following.send_signal(signal.SIGINT)
    assert following.wait(20) == 130
    assert "Traceback" not in elsewhere.laptop.stderr


@pytest.mark.long
def test_a_long_log_and_one_of_a_machine_that_is_gone(elsewhere: Elsewhere) -> None:
    """A gigabyte would be fetched in pieces of 17 KB; a log would be lost with its machine."""
    name = elsewhere.launched()
    elsewhere.run(job("a", "seq 100000"), job("b", "echo short; echo err >&2"))
    elsewhere.machine.until(lambda: elsewhere.status() == "completed")
    text = "".join(f"{number}\n" for number in range(1, 100_001))
    done = elsewhere.laptop.call("logs", "a", "--on", name)
    assert done.stdout == text[-256 * 1024 :]
    assert f"the first {len(text) - 256 * 1024:,} bytes of stdout are left out" in done.stderr
    done = elsewhere.laptop.call("logs", "a", "--on", name, "--bytes", "12")
    assert (done.stdout, done.stderr) == (text[-12:], "")

    elsewhere.ec2().terminate_instances(InstanceIds=[name])
    done = elsewhere.laptop.call("logs", "b", "--on", name, "--stderr", "-f")
    assert (done.returncode, done.stdout) == (0, "err\n")
    assert f"{name} is terminated" in done.stderr and "this is from S3" in done.stderr
    done = elsewhere.laptop.call("logs", "c", "--on", name)
    assert done.returncode == 102 and "there is no job" in done.stderr


# -- acting ----------------------------------------------------------------------------------


def test_the_verbs_that_act(elsewhere: Elsewhere) -> None:
    """A queue on EC2 could only be changed by hand, over ssh."""
    name = elsewhere.launched()
    call = elsewhere.laptop.call
    elsewhere.run(LONG, job("next", "exit 3"), on_failure="continue")
    elsewhere.until_job("long", "running")
    assert call("pause", "--on", name).stdout.startswith("q running, paused")
    assert elsewhere.machine.ask("status", queue="q", limit=0)["queue"]["paused"]
    assert "paused" not in call("unpause", "--on", "q").stdout
    done = call("cancel", "nosuch", "--on", name)
    assert done.returncode == 102 and "there is no job" in done.stderr
    assert call("cancel", "long", "--on", name).returncode == 0
    elsewhere.until_job("next", "failed")
    done = call("cancel", "long", "--on", name)
    assert done.returncode == 2 and "has ended already" in done.stderr
    elsewhere.machine.until(lambda: elsewhere.status() in ("failed", "cancelled"))
    assert call("retry", "long", "--on", name).returncode == 0
    elsewhere.until_job("long", "running")
    assert "held until" in call("keep", "2h", "--on", name).stdout
    assert "nothing is planned" in call("keep", "--release", "--on", name).stdout
    assert "is stopping" in call("stop", "--on", name).stdout
    elsewhere.machine.until(lambda: not (elsewhere.machine.run_dir / "runner.sock").exists())
    # With no daemon the machine's disk answers.
    assert elsewhere.laptop.data("status", name)["status"] == "interrupted"
    assert {document for document, _ in elsewhere.ssm.sent} == {"Runner-Look", "Runner-Act"}


def test_a_queue_is_submitted_to_a_running_machine(elsewhere: Elsewhere) -> None:
    """A second queue would cost a second boot; a document doesn't fit into a command."""
    name = elsewhere.launched()
    elsewhere.run(job("a"))
    jobs = [job(f"job-{number:04d}", f"echo {number} # {'x' * 3000}") for number in range(30)]
    document = elsewhere.laptop.document(*jobs, name="q2", result_s3_bucket=elsewhere.bucket,
                                         result_s3_prefix="an/odd/place")  # fmt: skip
    done = elsewhere.laptop.call("submit", document, "--on", name)
    assert (done.returncode, done.stdout) == (0, "q2 submitted\n"), done.stderr
    elsewhere.machine.until(lambda: elsewhere.status("q2") == "completed")
    again = elsewhere.laptop.call("submit", document, "--on", name)
    assert again.stdout.startswith("q2 there already")
    # It is found by its own id, here, and from elsewhere by the bucket's index.
    found = elsewhere.laptop.data("status", "q2")
    assert (found["queue_id"], found["jobs_total"]) == ("q2", 30)
    far = {"XDG_STATE_HOME": str(elsewhere.laptop.home / "nobody")}
    told = elsewhere.laptop.call("status", "q2", "--bucket", elsewhere.bucket, env=far)
    assert "Queue ID:    q2" in told.stdout
    done = elsewhere.laptop.call(
        "results", "q2", "--job", "job-0007", "--bucket", elsewhere.bucket, env=far
    )
    assert done.returncode == 0, done.stderr
    assert (elsewhere.laptop.home / "results/job-0007/stdout.log").read_text() == "7\n"
    # `launch` knows the way, too; what it can't do there it says before anything is touched.
    onto = ("launch", "--instance-id", name, "--batch-queue")
    more = elsewhere.laptop.document(job("b"), name="q3", result_s3_bucket=elsewhere.bucket)
    done = elsewhere.laptop.call(*onto, more, "--spot")
    assert done.returncode == 2 and "--spot is about a new machine" in done.stderr
    done = elsewhere.laptop.call(*onto, more, "--wait")
    assert done.returncode == 0 and done.stdout.startswith("q3 submitted\nq3 completed"), done
    # A document is bad before anything is touched.
    sent = len(elsewhere.ssm.sent)
    bad = elsewhere.laptop.document(job("a", depends_on=["b"]), name="bad")
    assert elsewhere.laptop.call("submit", bad, "--on", name).returncode == 2
    assert len(elsewhere.ssm.sent) == sent


def test_a_document_that_was_changed_on_its_way_is_refused(elsewhere: Elsewhere) -> None:
    """Who can write to the bucket would run commands as the job user."""
    elsewhere.run(job("a"))
    client = elsewhere.endpoint.client()
    client.put_object(Bucket=elsewhere.bucket, Key="runner/x.json", Body=b"{}")
    url = f"s3://{elsewhere.bucket}/runner/x.json"
    word = ssm_codec.pack_request("submit", s3=url, sha256="0" * 64)
    answer = ssm_codec.unpack(elsewhere.machine.call("ask", word).stdout)
    assert answer["ok"] is False and "not what was sent" in answer["error"]["message"]


# -- machines that don't answer --------------------------------------------------------------


@pytest.fixture
def mute(elsewhere: Elsewhere) -> tuple[Elsewhere, str]:
    """A queue that runs, S3 that knows of it, and a machine for the test to break."""
    name = elsewhere.launched()
    elsewhere.run(LONG)
    stored(elsewhere, "long", "running")
    return elsewhere, name


def broken(elsewhere: Elsewhere, name: str, how: str) -> None:
    agent = elsewhere.ssm.agents[name]
    match how:
        case "stopped":
            elsewhere.ec2().stop_instances(InstanceIds=[name])
        case "terminated":
            elsewhere.ec2().terminate_instances(InstanceIds=[name])
        case "unregistered":
            agent.ping = None
        case "lost":
            agent.ping = "ConnectionLost"
        case "deaf":
            agent.deaf = True
            elsewhere.ssm.hasty = 20
        case "empty":
            agent.env = {**agent.env, "PATH": "/usr/bin:/bin"}
        case "expired":
            elsewhere.ssm.expired = True


STATES = [
    ("unregistered", "hasn't registered with SSM yet", "up to a few minutes"),
    ("lost", "SSM has lost its connection", "reboot-instances"),
    ("deaf", "it took no command in time", "ask again"),
    ("empty", "runner isn't installed on it yet", "bootstrap.log"),
    ("expired", "SSM can't be asked: ExpiredToken", "aws sso login"),
    ("stopped", "is stopped: EC2 says", "aws ec2 start-instances"),
    ("terminated", "is terminated: EC2 says", "runner resume q"),
]


@pytest.mark.long
def test_a_machine_that_can_not_be_asked_gets_s3s_state_and_a_reason(
    mute: tuple[Elsewhere, str],
) -> None:
    """People would not know whether to wait, to log in, or to launch another."""
    elsewhere, name = mute
    whole = elsewhere.ssm.agents[name]
    for how, why, next_ in STATES:
        elsewhere.ssm.agents[name] = replace(whole)
        elsewhere.ssm.expired = False
        broken(elsewhere, name, how)
        done = elsewhere.laptop.call("status", name)
        assert done.returncode == 0, done.stderr
        assert "Status:      running" in done.stdout and "long " in done.stdout
        (seen,) = [line for line in done.stdout.splitlines() if line.startswith("Seen:")]
        assert "from S3, " in seen and why in seen
        assert next_ in done.stdout
        acted = elsewhere.laptop.call("pause", "--on", name)
        assert acted.returncode == 106
        assert why.split(":")[0] in acted.stderr and next_ in acted.stderr
    assert elsewhere.machine.ask("status", queue="q", limit=0)["queue"].get("paused") is None


def test_no_state_anywhere_is_told_with_its_reason(elsewhere: Elsewhere) -> None:
    """A machine that boots has stored nothing yet."""
    name = elsewhere.launched(agent=False)
    done = elsewhere.laptop.call("status", name)
    assert done.returncode == 106
    assert "SSM" in done.stderr and f"nothing of it is in {elsewhere.store()} yet" in done.stderr


@pytest.mark.long
def test_busy_and_forgetful_ssm_is_asked_again(mute: tuple[Elsewhere, str]) -> None:
    """Any of its moods would end a status."""
    elsewhere, name = mute
    elsewhere.ssm.unknown_at_first = 3
    elsewhere.ssm.throttle.update({"SendCommand": 2, "GetCommandInvocation": 3})
    source = elsewhere.laptop.data("status", name)["source"]
    assert source["from"] == "ssm", source


# -- finding ---------------------------------------------------------------------------------


def test_what_is_nowhere_is_told_with_where_it_was_looked_for(elsewhere: Elsewhere) -> None:
    """A wrong region looks like a queue that is gone."""
    name = elsewhere.launched(region="eu-west-1")
    done = elsewhere.laptop.call("status", name)
    assert done.returncode == 102
    assert "EC2 in us-east-1 knows no instance" in done.stderr and "--region R" in done.stderr
    done = elsewhere.laptop.call("status", "nosuch")
    assert done.returncode == 102
    for word in ("there is no queue", "tag runner:queue=nosuch", "--region R", "--bucket B"):
        assert word in done.stderr
    assert elsewhere.laptop.call("status", "i-12").returncode == 2
    assert elsewhere.laptop.call("pause", "--region", "eu-west-1").returncode == 2
    done = elsewhere.laptop.call("status", name, "--region", "eu-west-1")
    assert done.returncode == 102 and f"{name} says: there is no queue" in done.stderr


def test_the_launchs_own_record_knows_the_region(elsewhere: Elsewhere) -> None:
    """Everybody would have to remember in which region what was launched."""
    name = elsewhere.launched(region="eu-west-1")
    elsewhere.run(LONG)
    stored(elsewhere, "long", "running")
    record(elsewhere, instance_id=name, region="eu-west-1")
    for word in (name, "q"):
        found = elsewhere.laptop.data("status", word)
        assert (found["source"]["from"], found["instance"]["region"]) == ("ssm", "eu-west-1")


@pytest.mark.long
def test_a_silent_region_costs_a_look_seconds(elsewhere: Elsewhere) -> None:
    """S3 has the state, and who looks would wait a minute for EC2 before seeing it."""
    elsewhere.run(LONG)
    stored(elsewhere, "long", "running")
    record(elsewhere, instance_id="i-0123456789abcdef0", launched_at=rfc3339(time.time()))
    with Ec2Stub("us-east-1") as stub:
        stub.silent = {"us-east-1"}
        env = {"AWS_ENDPOINT_URL_EC2": stub.url}
        begun = time.monotonic()
        done = elsewhere.laptop.call("status", "q", env=env)
        print(f"status, EC2 silent: {time.monotonic() - begun:.1f} s")
        assert not stub.over.is_set(), "it was never answered"
    assert done.returncode == 0
    assert "Status:      running" in done.stdout
    assert "EC2 can't be asked: no answer within 7 s" in done.stdout


def record(elsewhere: Elsewhere, **more: Any) -> None:
    folder = elsewhere.state_home / "runner" / "launches"
    folder.mkdir(parents=True)
    base = {"version": 1, "queue_id": "q", "store": elsewhere.store(), "region": "us-east-1",
            "launch": "l", "launched_at": "2026-01-01T00:00:00Z", "later": ["?"]}  # fmt: skip
    (folder / "q.json").write_text(json.dumps({**base, **more}))


def test_a_queue_of_this_machine_stays_here(elsewhere: Elsewhere) -> None:
    """`runner status nightly` would ask EC2 for a queue that is in the next folder."""
    document = elsewhere.laptop.document(job("a"), name="q")
    assert elsewhere.laptop.call("run", document).returncode == 0
    elsewhere.launched()
    done = elsewhere.laptop.call("status", "q")
    assert "Instance:" not in done.stdout and "Status:      completed" in done.stdout
    assert elsewhere.laptop.call("wait", "q").returncode == 0
    assert not elsewhere.ssm.calls


def test_results_by_instance_and_by_queue_whatever_the_prefix(elsewhere: Elsewhere) -> None:
    """Results would have to be looked for by hand, in a bucket that one has to remember."""
    store = f"s3://{elsewhere.bucket}/deep/own/place"
    name = elsewhere.launched(store=store)
    elsewhere.run(job("a", "echo 1 > r", result_paths=["r"]), result_s3_prefix="deep/own/place")
    elsewhere.machine.until(lambda: elsewhere.status() == "completed")
    for word, folder in ((name, "one"), ("q", "two")):
        done = elsewhere.laptop.call("results", word, "--output", folder)
        assert done.returncode == 0, done.stderr
        assert (elsewhere.laptop.home / folder / "a" / "r").read_text() == "1\n"
    done = elsewhere.laptop.call("results", "nosuch")
    assert done.returncode == 102 and "and on EC2: nothing is known" in done.stderr


# -- waiting ---------------------------------------------------------------------------------


def test_wait_is_cheap_and_carries_the_outcome(elsewhere: Elsewhere) -> None:
    """A night's wait would cost thousands of calls, or miss the end."""
    name = elsewhere.launched()
    go = elsewhere.machine.home / "go"
    elsewhere.run(job("a", f"until [ -e {go} ]; do sleep 0.05; done; exit 3"))
    stored(elsewhere, "a", "running")
    out = elsewhere.laptop.home / "out"
    with open(out, "wb") as file:
        waiting = elsewhere.laptop.start("wait", name, stdout=file)
    elsewhere.laptop.until(lambda: elsewhere.ssm.calls["SendCommand"] == 1)
    go.touch()
    assert waiting.wait(30) == 100
    assert out.read_text().startswith("q failed")
    assert elsewhere.ssm.calls["SendCommand"] == 1


def test_ctrl_c_detaches(elsewhere: Elsewhere) -> None:
    """People would fear that it ends the queue, or wait for ever."""
    name = elsewhere.launched()
    elsewhere.run(LONG)
    elsewhere.until_job("long", "running")
    waiting = elsewhere.laptop.start("wait", name)
    elsewhere.laptop.until(lambda: elsewhere.ssm.calls["GetCommandInvocation"] >= 2)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(20) == 130
    assert "detached; the queue goes on" in elsewhere.laptop.stderr
    assert elsewhere.status() == "running"


@pytest.mark.long
def test_expired_credentials_do_not_end_a_wait(elsewhere: Elsewhere) -> None:
    """An SSO session lasts eight hours, a training two days."""
    name = elsewhere.launched()
    go = elsewhere.machine.home / "go"
    elsewhere.run(job("a", f"until [ -e {go} ]; do sleep 0.05; done"))
    stored(elsewhere, "a", "running")
    proxy = FaultProxy(elsewhere.endpoint.port)
    try:
        proxy.fail(Match("GET", "queues/q/queue-state.json"), EXPIRED, times=4)
        waiting = elsewhere.laptop.start("wait", name, env={"AWS_ENDPOINT_URL_S3": proxy.url})
        elsewhere.laptop.until(lambda: "still waiting" in elsewhere.laptop.stderr)
        assert "ExpiredToken" in elsewhere.laptop.stderr
        assert "log in again" in elsewhere.laptop.stderr
        go.touch()
        assert waiting.wait(40) == 0
    finally:
        proxy.close()


def test_watch_to_the_end(elsewhere: Elsewhere) -> None:
    """A display that asks SSM once a second would be throttled."""
    name = elsewhere.launched()
    go = elsewhere.machine.home / "go"
    elsewhere.run(job("a", f"until [ -e {go} ]; do sleep 0.05; done"))
    stored(elsewhere, "a", "running")
    out = elsewhere.laptop.home / "out"
    with open(out, "wb") as file:
        watching = elsewhere.laptop.start("status", name, "--watch", stdout=file)
    elsewhere.laptop.until(lambda: elsewhere.ssm.calls["SendCommand"] == 1)
    go.touch()
    assert watching.wait(30) == 0
    begun, *between, ended = out.read_text().splitlines()
    assert (begun, ended) == ("q running (1 running)", "q completed (1 completed)")
    # A look may come while the logs of the job are being stored: the queue still runs then.
    assert between in ([], ["q running (1 completed)"])
    assert elsewhere.ssm.calls["SendCommand"] <= 2


def test_a_wait_ends_when_the_machine_is_gone(mute: tuple[Elsewhere, str]) -> None:
    """It would wait for a queue that no process works on any more."""
    elsewhere, name = mute
    elsewhere.ec2().terminate_instances(InstanceIds=[name])
    done = elsewhere.laptop.call("wait", name)
    assert done.returncode == 101
    assert "no process works on q" in done.stderr and "runner resume q" in done.stderr


# -- a shell ---------------------------------------------------------------------------------


def test_shell_says_how_or_does_it(elsewhere: Elsewhere, tmp_path: Path) -> None:
    """People would open port 22."""
    name = elsewhere.launched()
    own = tmp_path / "own"
    own.mkdir()
    done = elsewhere.laptop.call("shell", "q", env={"PATH": str(own)})
    assert done.returncode == 1
    assert "session-manager-plugin isn't installed" in done.stderr
    assert f"then: aws ssm start-session --target {name} --region us-east-1" in done.stderr
    for program in ("aws", "session-manager-plugin"):
        (own / program).write_text('#!/bin/sh\necho "$0 $*"\n')
        (own / program).chmod(0o755)
    path = {"PATH": f"{own}{os.pathsep}/usr/bin:/bin"}
    done = elsewhere.laptop.call("shell", name, env=path)
    assert done.stdout == f"{own}/aws ssm start-session --target {name} --region us-east-1\n"
    elsewhere.ec2().stop_instances(InstanceIds=[name])
    done = elsewhere.laptop.call("shell", name, env=path)
    assert done.returncode == 106 and "is stopped" in done.stderr


def test_an_agent_of_another_account_is_none(elsewhere: Elsewhere) -> None:
    """The same id with another account's credentials must not be taken for a machine that boots."""
    name = elsewhere.launched(agent=False)
    elsewhere.ssm.agents["i-0123456789abcdef0"] = Agent("us-east-1", elsewhere.agent_env)
    done = elsewhere.laptop.call("cancel", "--all", "--on", name)
    assert done.returncode == 106 and "registered with SSM" in done.stderr
