"""What tells of a machine that died: the scheduler's calls, and a launch that asks for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runner.core.lost_notices import lost_calls, schedule_name, schedule_names
from runner.errors import UsageError
from runner.model.notify import MAX_TARGETS, NotifySpec
from runner.model.queue import JobSpec, QueueSpec
from runner.model.settings import load_settings
from runner.targets.ec2.boot.provision import write_settings
from runner.targets.ec2.launch.launch_options import launch_options_of, parse_launch_options

TOPIC = "arn:aws:sns:eu-west-1:123456789012:n"
QUEUE = QueueSpec("q", "nightly", (JobSpec("a", "true", 60.0),), 3600.0, "stop")
STORE = "s3://bucket/queues/q"


def test_the_scheduler_calls_what_it_can() -> None:
    """A webhook can't be told without a machine, and a topic would get what SNS refuses."""
    notify = tuple(
        NotifySpec(to)
        for to in ("https://example.com/x", TOPIC, "eventbridge:ops", "ssm:/hook", f"{TOPIC}.fifo")
    )
    topic, bus, fifo = lost_calls(replace(QUEUE, notify=notify), STORE, "launch1", 2e9)
    assert topic.target == "arn:aws:scheduler:::aws-sdk:sns:publish"
    given = json.loads(topic.input)
    assert given["TopicArn"] == TOPIC
    assert given["Subject"] == "Queue nightly was lost with its machine"
    body = json.loads(given["Message"].rpartition("\n\n")[2])
    assert (body["event"], body["results"], body["at"]) == ("lost", STORE, "2033-05-18T03:33:20Z")
    assert bus.target == "arn:aws:scheduler:::aws-sdk:eventbridge:putEvents"
    (entry,) = json.loads(bus.input)["Entries"]
    assert (entry["EventBusName"], entry["DetailType"]) == ("ops", "Queue lost")
    assert json.loads(entry["Detail"])["id"] == body["id"]
    assert json.loads(fifo.input)["MessageDeduplicationId"] == body["id"]


def test_another_partition_has_another_scheduler() -> None:
    """In China the schedule would be refused."""
    notify = (NotifySpec("arn:aws-cn:sns:cn-north-1:123456789012:n"),)
    (call,) = lost_calls(replace(QUEUE, notify=notify), STORE, "l", 2e9)
    assert call.target == "arn:aws-cn:scheduler:::aws-sdk:sns:publish"


def test_a_replacement_has_the_same_names() -> None:
    """Each machine of a queue would leave a schedule that tells of its loss."""
    names = list(schedule_names(STORE))
    assert names[0] == schedule_name(STORE, 0)
    assert len({*names}) == MAX_TARGETS
    assert all(len(name) <= 64 for name in names), "EventBridge Scheduler takes no longer ones"
    assert schedule_name("s3://bucket/queues/other", 0) not in names
    options = launch_options_of({"notify_if_lost": True}, "eu-west-1", None)
    assert parse_launch_options(options.encode(), "it").flags["notify_if_lost"] is True


def test_an_images_own_targets_outlive_the_launchs_settings(tmp_path: Path) -> None:
    """A machine of an image with `[[notify]]` would not boot: its settings would be no TOML."""
    path = tmp_path / "runner.toml"
    told = '[[notify]]\nto = "exec:/x \\"y\\""\non = ["failed"]\n[batch]\nregion = "eu-west-1"\n'
    path.write_text(told)
    write_settings(path, {"lost_notice": "true", "on_complete": "terminate"})
    settings = load_settings({}, root=True, home=None, config=path)
    assert settings.notify == (NotifySpec('exec:/x "y"', ("failed",)),)
    assert settings.lost_notice
    assert settings.batch.region == "eu-west-1"


def test_the_flag_is_a_flag(tmp_path: Path) -> None:
    """A slip would be taken for yes."""
    with pytest.raises(UsageError, match="RUNNER_LOST_NOTICE: must be true or false"):
        load_settings({"RUNNER_LOST_NOTICE": "maybe"}, root=False, home=tmp_path)
