"""Everybody is told of a queue: by a run, a daemon, a coordinator; on SNS, EventBridge, by webhooks
whose addresses are secret; and nobody who doesn't answer holds anything up."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from coordinated import Coordinated
from receiver import Receiver
from s3_endpoint import Endpoint
from world import World

from runner.model.document import read_document
from runner.model.notify import EVENTS
from runner.targets.ec2.launch.local_launches import Launch
from runner.targets.ec2.launch.lost_notice import place

SECRET = "T0verysecretB0"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def job(name: str, command: str = "true", **more: Any) -> dict[str, Any]:
    return {"job_id": name, "command": command, "timeout": "1m", **more}


def stored(world: World, queue: str = "q") -> dict[str, Any]:
    path = world.state / "queues" / queue / "queue-state.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def notified(world: World, queue: str = "q") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stored(world, queue).get("notified", [])
    return found


def all_told(world: World, queue: str = "q") -> bool:
    lines = notified(world, queue)
    return bool(lines) and all("told_at" in line for line in lines)


def to(receiver: Receiver, path: str = "hook", *events: str, **more: Any) -> dict[str, Any]:
    on = {"on": list(events)} if events else {}
    return {"to": receiver.url(path), **on, **more}


# -- a run in the foreground -----------------------------------------------------------------


def test_a_run_tells_and_says_so(world: World, receiver: Receiver) -> None:
    """The state would say that nobody knows what everybody was told."""
    path = world.document(job("a"), notify=[to(receiver)])
    assert world.call("run", path).returncode == 0
    (came,) = receiver.received
    (line,) = notified(world)
    assert (line["id"], line["event"]) == (came.key, "completed")
    assert "told_at" in line
    # Again: it has ended, and everybody knows.
    assert world.call("run", path).returncode == 0
    assert len(receiver.received) == 1


def test_a_run_waits_for_nobody_longer_than_it_is_told(world: World, receiver: Receiver) -> None:
    """A chat that hangs would hold up what comes after the run for a day."""
    receiver.manner = lambda *_: "hang"
    path = world.document(job("a"), notify=[to(receiver)])
    begun = time.monotonic()
    assert world.call("run", path, env={"RUNNER_NOTIFY_WAIT": "1s"}).returncode == 0
    assert 1 <= time.monotonic() - begun < 8
    receiver.manner = lambda *_: "ok"
    assert world.call("run", path).returncode == 0
    assert all_told(world)
    assert len({came.key for came in receiver.received}) == 1


def test_ctrl_c_ends_the_wait(world: World, receiver: Receiver) -> None:
    """A person would have to wait for a chat that hangs."""
    receiver.manner = lambda *_: "hang"
    path = world.document(job("a"), notify=[to(receiver)])
    run = world.start("run", path, env={"RUNNER_NOTIFY_WAIT": "1h"})
    world.until(lambda: receiver.received)
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 0


@pytest.mark.share
def test_what_is_refused_is_not_waited_for(world: World, receiver: Receiver) -> None:
    """Each run with an old address would take a minute longer."""
    receiver.manner = lambda *_: 404
    path = world.document(job("a"), notify=[to(receiver, SECRET)])
    begun = time.monotonic()
    done = world.call("run", path)
    assert done.returncode == 0
    assert time.monotonic() - begun < 20
    assert notified(world)[0]["error"] == "HTTP 404"
    assert SECRET not in done.stdout + done.stderr


def test_an_interruption_and_no_progress_are_told(world: World, receiver: Receiver) -> None:
    """A training that hangs would be found out when its time is over."""
    notify = [to(receiver, "hook", "interrupted", "stuck", stuck_after="500ms")]
    talks = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.2; done; touch quiet; sleep 1000"
    path = world.document(job("talks", talks), notify=notify)
    run = world.start("run", path)
    world.until_file("quiet")
    quiet = len(receiver.received)
    world.until(lambda: receiver.received)
    assert quiet == 0, "a job that writes to its log is not stuck"
    assert "no progress for 500ms: job 'talks' is running" in receiver.received[0].body["reason"]
    run.send_signal(signal.SIGTERM)
    assert run.wait(20) == 104
    assert [came.body["event"] for came in receiver.received] == ["stuck", "interrupted"]


def test_results_that_are_missing_are_told(world: World, receiver: Receiver) -> None:
    """Somebody would rely on files that were never there."""
    path = world.document(
        job("a", result_paths=["none.txt"]), notify=[to(receiver, "hook", "results_incomplete")]
    )
    assert world.call("run", path, "--results", str(world.home / "out")).returncode == 105
    (came,) = receiver.received
    assert came.body["job_id"] == "a"
    assert "none.txt" in came.body["reason"]


@pytest.mark.share
def test_another_machine_tells_nothing_again(
    world: World, receiver: Receiver, endpoint: Endpoint, tmp_path: Path
) -> None:
    """Each replacement of a spot machine would ring the same telephones."""
    world.env |= endpoint.env
    events = ("first_failure", "interrupted", "failed")
    path = world.document(
        job("no", "exit 1"),
        job("long", "[ -e again ] || { touch began; sleep 1000; }"),
        on_failure="continue", notify=[to(receiver, "hook", *events)],
    )  # fmt: skip
    store = ["--results", f"s3://{endpoint.bucket()}/q"]
    first = world.start("run", path, *store)
    world.until_file("began")
    world.until(lambda: receiver.received)
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 104
    (world.home / "again").touch()
    other = tmp_path / "other"
    done = world.call("run", path, *store, "--state-dir", str(other))
    assert done.returncode == 100
    assert [came.body["event"] for came in receiver.received] == [*events]
    lines = json.loads((other / "queue-state.json").read_text())["notified"]
    assert [line["event"] for line in lines] == [*events]


# -- a daemon ----------------------------------------------------------------------------------


def submit(world: World, *jobs: dict[str, Any], name: str = "q", **queue: Any) -> None:
    done = world.call("submit", world.document(*jobs, name=name, **queue))
    assert done.returncode == 0, done.stderr


def test_a_receiver_that_hangs_holds_up_no_queue(world: World, receiver: Receiver) -> None:
    """One chat that is away would stop a machine's work."""
    receiver.manner = lambda path, *_: "hang" if path == "hang" else "ok"
    world.daemon()
    submit(world, job("a"), notify=[to(receiver, "hang"), to(receiver)])
    begun = time.monotonic()
    submit(world, job("a"), name="next", notify=[to(receiver, "next")])
    world.until(lambda: all_told(world, "next"))
    assert time.monotonic() - begun < 8
    assert receiver.at("hook")
    assert ["told_at" in line for line in notified(world)] == [False, True]


def test_a_daemon_that_was_killed_tells_after_its_restart(
    world: World, receiver: Receiver, endpoint: Endpoint
) -> None:
    """A notice that met a 503 would be lost with the daemon; or the store not know of it."""
    world.env |= endpoint.env
    receiver.manner = lambda *_: 503
    bucket = endpoint.bucket()
    daemon = world.daemon()
    submit(world, job("a"), notify=[to(receiver)], result_s3_bucket=bucket)
    world.until(lambda: notified(world) and "error" in notified(world)[0])
    world.until(lambda: "queue_left" in world.stderr)
    daemon.kill()
    daemon.wait()
    receiver.manner = lambda *_: "ok"
    world.daemon()
    world.until(lambda: all_told(world))
    assert len({came.key for came in receiver.received}) == 1

    def in_store() -> bool:
        state = json.loads(endpoint.read(bucket, "queues/q/queue-state.json"))
        return all("told_at" in line for line in state["notified"])

    world.until(in_store)
    assert stored(world)["status"] == "completed"


@pytest.mark.share
def test_the_machine_waits_for_receivers(world: World, receiver: Receiver) -> None:
    """A machine would end before it has told anybody; or never, for one who doesn't answer."""
    receiver.manner = lambda *_: "hang"
    more = 'on_complete = "stop"\non_complete_delay = "1h"\nnotify_wait = "4s"\n'
    with world.config.open("a") as config:
        config.write(more)
    world.daemon()
    submit(world, job("a"), notify=[to(receiver)])
    world.until(lambda: "queue_left" in world.stderr)
    ended = stored(world)["completed_at"]
    world.until(lambda: "machine_end_planned" in world.stderr)
    (line,) = (line for line in world.stderr.splitlines() if "machine_end_planned" in line)
    ended_at = time.mktime(time.strptime(ended[:19], "%Y-%m-%dT%H:%M:%S"))
    assert time.mktime(time.gmtime()) - ended_at >= 3, line


@pytest.mark.share
def test_a_cancel_without_a_daemon_is_told(world: World, receiver: Receiver) -> None:
    """Who waits for a queue would wait for one that somebody has cancelled."""
    path = world.document(job("a", "touch began; sleep 1000"), notify=[to(receiver)])
    run = world.start("run", path)
    world.until_file("began")
    run.send_signal(signal.SIGTERM)
    run.wait(20)
    assert world.call("cancel", "--all").returncode == 0
    assert [came.body["event"] for came in receiver.received] == ["cancelled"]


@pytest.mark.share
def test_settings_tell_for_every_queue(world: World, tmp_path: Path) -> None:
    """An administrator would have to change each document."""
    told = tmp_path / "told"
    program = tmp_path / "tell"
    program.write_text(f"#!/bin/sh\ncat >> {told}; echo >> {told}\n")
    program.chmod(0o755)
    with world.config.open("a") as config:
        config.write(f'[[notify]]\nto = "exec:{program}"\non = ["completed"]\n')
    world.daemon()
    submit(world, job("a"))
    world.until(lambda: all_told(world))
    assert json.loads(told.read_text())["queue_id"] == "q"
    listed = world.data("notify")
    assert listed == [{"to": f"exec:{program}", "on": ["completed"]}]
    tested = world.call("notify", "--test")
    assert (tested.returncode, tested.stdout) == (0, f"exec:{program}  told: exit status 0\n")


# -- a coordinator -----------------------------------------------------------------------------


@pytest.mark.share
def test_a_coordinator_tells_and_the_next_one_knows(
    endpoint: Endpoint, receiver: Receiver, tmp_path: Path
) -> None:
    """A queue on AWS Batch would end without a word, or with one for each host that is lost."""
    bucket = endpoint.bucket()
    there = Coordinated(tmp_path / "hosts", endpoint.client(), bucket, endpoint.env)
    path = tmp_path / "q.json"
    go = tmp_path / "go"
    notify = [to(receiver, "hook", "first_failure", "failed")]
    base = {"queue_name": "q", "global_timeout": "1h", "on_failure": "continue"}
    jobs = [job("no", "exit 1"), job("b", f"until [ -e {go} ]; do sleep 0.05; done")]
    path.write_text(json.dumps({**base, "jobs": jobs, "notify": notify}))
    store = there.launch(path)

    def told_there() -> bool:
        try:
            lines = there.state(store).get("notified", [])
        except endpoint.client().exceptions.NoSuchKey:
            return False
        return any("told_at" in line for line in lines)

    first = there.start(store)
    try:
        until(told_there)
        first.kill()
        first.communicate()
        go.touch()
        second = there.start(store)
        out, _ = second.communicate(timeout=60)
    finally:
        first.kill()
    assert second.returncode == 100, out
    events = [came.body["event"] for came in receiver.received]
    assert sorted(set(events)) == ["failed", "first_failure"], out
    ids = {(came.body["event"], came.key) for came in receiver.received}
    assert len(ids) == 2
    assert all("told_at" in line for line in there.state(store)["notified"])


def until(true: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)  # reason: the poll's own interval


# -- AWS ---------------------------------------------------------------------------------------


def client(endpoint: Endpoint, service: str, region: str = "us-east-1") -> Any:
    return boto3.client(
        service, endpoint_url=endpoint.url, region_name=region,
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip


@pytest.mark.share
def test_sns_and_eventbridge(world: World, endpoint: Endpoint) -> None:
    """What they take is not what was sent."""
    world.env |= endpoint.env
    sqs, sns, events = (client(endpoint, name) for name in ("sqs", "sns", "events"))
    mails = sqs.create_queue(QueueName="mails")["QueueUrl"]
    arn = "arn:aws:sqs:us-east-1:123456789012:"
    topic = sns.create_topic(Name="nightly")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"{arn}mails")
    caught = sqs.create_queue(QueueName="caught")["QueueUrl"]
    events.create_event_bus(Name="ops")
    pattern = json.dumps({"source": ["queue-runner"], "detail-type": ["Queue failed"]})
    events.put_rule(Name="all", EventBusName="ops", EventPattern=pattern)
    events.put_targets(Rule="all", EventBusName="ops", Targets=[{"Id": "1", "Arn": f"{arn}caught"}])
    notify = [{"to": topic}, {"to": "eventbridge:ops"}, {"to": "eventbridge:nowhere"}]
    path = world.document(job("a", "exit 1"), notify=notify)
    assert world.call("run", path, env={"RUNNER_NOTIFY_WAIT": "5s"}).returncode == 100
    lines = notified(world)
    assert ["told_at" in line for line in lines] == [True, True, False], lines
    assert "nowhere" in lines[2]["error"]
    mail = json.loads(sqs.receive_message(QueueUrl=mails)["Messages"][0]["Body"])
    assert mail["Subject"] == "Queue q has failed"
    text, _, told = mail["Message"].rpartition("\n\n")
    assert text.startswith("Queue q has failed\nWhy: job 'a' failed")
    assert json.loads(told)["id"] == lines[0]["id"]
    event = json.loads(sqs.receive_message(QueueUrl=caught)["Messages"][0]["Body"])
    assert (event["source"], event["detail-type"]) == ("queue-runner", "Queue failed")
    assert event["detail"]["id"] == lines[1]["id"]


def test_a_secret_url_shows_nowhere(world: World, receiver: Receiver, endpoint: Endpoint) -> None:
    """Whoever reads a log, a state or `ps` could write to the channel."""
    world.env |= endpoint.env
    ssm = client(endpoint, "ssm")
    for name, path in (("/good", SECRET), ("/bad", f"bad/{SECRET}")):
        ssm.put_parameter(Name=name, Value=receiver.url(path), Type="SecureString", Overwrite=True)
    seen: list[str] = []

    def manner(path: str, *_: Any) -> str | int:
        seen.append(command_lines())
        return 400 if path.startswith("bad") else "ok"

    receiver.manner = manner
    notify = [{"to": "ssm:/good"}, {"to": "ssm:/bad"}, {"to": "ssm:/none"}]
    path = world.document(job("a", "env"), notify=notify)
    done = world.call("run", path)
    assert done.returncode == 0
    assert [(line["to"], line.get("error", "")[:8]) for line in notified(world)] == [
        ("ssm:/good", ""),
        ("ssm:/bad", "HTTP 400"),
        ("ssm:/none", "ssm:/non"),
    ]
    assert receiver.at(SECRET)
    shown = [done.stdout, done.stderr, *seen, world.call("status", "--json").stdout]
    shown += [
        file.read_bytes().decode("latin-1")
        for folder in (world.state, world.logs)
        for file in folder.rglob("*")
        if file.is_file() and not file.is_symlink()
    ]
    assert seen and SECRET not in "".join(shown)


def command_lines() -> str:
    done = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs a program as another user")
def test_a_program_runs_as_the_job_user() -> None:
    """Programs of the settings would run as root when a queue says so."""
    # Not below pytest's folders: those are root's alone.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        world = World(folder / "w", job_user="nobody")
        try:
            told = folder / "told"
            told.touch()
            told.chmod(0o666)
            program = folder / "tell"
            program.write_text(f"#!/bin/sh\nid -u > {told}\n")
            program.chmod(0o755)
            with world.config.open("a") as config:
                config.write(f'[[notify]]\nto = "exec:{program}"\n')
            world.daemon()
            submit(world, job("a"))
            world.until(lambda: all_told(world))
            assert told.read_text() == "65534\n"
        finally:
            world.close()


# -- a machine that died -------------------------------------------------------------------------


@pytest.mark.share
def test_a_machine_that_died_is_told_of_and_one_that_ended_well_is_not(
    world: World, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would hear of a spot machine that is gone; or of each that ended well a day later."""
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    world.env |= endpoint.env
    scheduler = client(endpoint, "scheduler")
    sns, sqs = client(endpoint, "sns"), client(endpoint, "sqs")
    topic = sns.create_topic(Name="lost")["TopicArn"]
    mails = sqs.create_queue(QueueName="lost")["QueueUrl"]
    sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:123456789012:lost"
    )
    bucket = endpoint.bucket()
    waits = f"cd {world.home}; touch began; until [ -e go ]; do sleep 0.05; done"
    path = world.document(
        job("a", waits), notify=queue_notify(topic), result_s3_bucket=bucket
    )  # fmt: skip
    queue = read_document(world.home / path)
    launch = Launch("q", f"s3://{bucket}/queues/q", "us-east-1", "launch1", 0.0, time.time() + 60)
    names = place(queue, launch, "us-east-1", print)
    assert len(names) == 2
    assert place(queue, launch, "us-east-1", print) == names, "again is the same"

    def placed() -> list[str]:
        found = scheduler.list_schedules(GroupName="default")["Schedules"]
        return sorted(each["Name"] for each in found if each["Name"] in names)

    assert placed() == names
    told = [scheduler.get_schedule(Name=name, GroupName="default") for name in names]
    assert {each["ActionAfterCompletion"] for each in told} == {"DELETE"}
    event, mail = (json.loads(each["Target"]["Input"]) for each in told)
    # What the scheduler calls when it fires.
    assert client(endpoint, "events").put_events(**event)["FailedEntryCount"] == 0
    sns.publish(**mail)
    body = json.loads(sqs.receive_message(QueueUrl=mails)["Messages"][0]["Body"])
    assert body["Subject"] == "Queue q was lost with its machine"
    with world.config.open("a") as config:
        config.write("lost_notice = true\n")
    daemon = world.daemon()
    submit(world, job("a", waits), notify=queue_notify(topic), result_s3_bucket=bucket)
    world.until_file("began")
    daemon.kill()
    daemon.wait()
    assert placed() == names, "it died: it is told of"
    (world.home / "go").touch()
    world.daemon()
    world.until(lambda: placed() == [])
    assert stored(world)["status"] == "completed"


def queue_notify(topic: str) -> list[dict[str, Any]]:
    return [{"to": "eventbridge:default", "on": ["failed"]}, {"to": topic, "on": ["failed"]}]


# -- the guide ---------------------------------------------------------------------------------


def test_the_guide_works_as_printed(world: World, receiver: Receiver, endpoint: Endpoint) -> None:
    """A reader would copy what doesn't do what the page says."""
    page = (Path(__file__).parents[2] / "docs/guides/notices.md").read_text()
    assert {event for event in EVENTS if f"`{event}`" in page} == {*EVENTS}
    given = json.loads(re.findall(r"```json\n(.*?)```", page, re.S)[0])
    region = "eu-central-1"
    world.env |= {**endpoint.env, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    there = {name: client(endpoint, name, region) for name in ("ssm", "sns", "events")}
    there["ssm"].put_parameter(Name="/slack/hook", Value=receiver.url(), Type="SecureString")
    topic = there["sns"].create_topic(Name="nightly")["TopicArn"]
    there["events"].create_event_bus(Name="ops")
    assert [each["to"] for each in given["notify"]] == ["ssm:/slack/hook", topic, "eventbridge:ops"]
    (world.home / "queue.json").write_text(json.dumps({**given, "queue_id": "q"}))
    (world.home / "train.py").write_text("raise SystemExit(1)")
    listed = world.call("notify", "queue.json")
    assert listed.stdout.splitlines()[-1] == "eventbridge:ops  stuck after 2h0m0s"
    tested = world.call("notify", "queue.json", "--test")
    assert tested.returncode == 0, tested.stdout
    assert tested.stdout.startswith("ssm:/slack/hook  told: HTTP 200: ok\n")
    assert world.call("run", "queue.json").returncode == 100
    came = {each.body["event"]: each.body for each in receiver.received}
    assert came.keys() == {"test", "first_failure", "failed"}
    # The page shows a stored one, in full.
    shown = json.loads(re.findall(r"```text\n(\{.*?\})\n```", page, re.S)[0])
    assert shown.keys() - came["failed"].keys() == {"results"}
    assert came["failed"].keys() <= shown.keys()
    assert "notified" in world.call("status", "--json").stdout
