"""The field ``notify``: what is accepted in a document and in the settings, and what is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.errors import DocumentError, UsageError
from runner.model.comparison import first_difference
from runner.model.lint import warnings
from runner.model.notify import NotifySpec, joined, label_of
from runner.model.parser import parse_document
from runner.model.serialization import dump_document
from runner.model.settings import load_settings

HOOK = "https://hooks.slack.com/services/T0/B0/verysecret"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:nightly"


def document(*notify: dict[str, Any]) -> bytes:
    jobs = [{"job_id": "a", "command": "true", "timeout": "1m"}]
    rest = {"queue_name": "n", "global_timeout": "1h", "on_failure": "stop"}
    return json.dumps({**rest, "jobs": jobs, "notify": list(notify)}).encode()


@pytest.mark.parametrize(
    "to",
    [
        TOPIC,
        f"{TOPIC}.fifo",
        "arn:aws-cn:sns:cn-north-1:123456789012:n",
        "eventbridge:default",
        "eventbridge:arn:aws:events:us-east-1:123456789012:event-bus/team/ops",
        HOOK,
        "https://example.com:8443/hook?key=1",
        "http://127.0.0.1:8000/hook",
        "http://localhost:8000",
        "ssm:/slack/hook",
        "secretsmanager:team/chat#hook",
    ],
)
def test_targets(to: str) -> None:
    """Somebody who can be told would be refused, or lost on the way through the store."""
    queue = parse_document(document({"to": to}))
    assert queue.notify == (NotifySpec(to),)
    assert parse_document(dump_document(queue).encode()) == queue


@pytest.mark.parametrize(
    ("notify", "message"),
    [
        ({}, "notify[0].to: is required, but missing"),
        ({"to": ""}, "notify[0].to: must not be empty"),
        ({"to": "exec:/usr/bin/x"}, "notify[0].to: exec: is for the settings only"),
        ({"to": "http://example.com/x"}, "notify[0].to: must be an https:// URL"),
        ({"to": "http://127.0.0.1.evil.com/x"}, "notify[0].to: must be an https:// URL"),
        ({"to": "https://a:verysecret@b/"}, "notify[0].to: holds a user's name before its host"),
        ({"to": "https://"}, "notify[0].to: is not an https:// URL"),
        ({"to": "https://h/a b"}, "notify[0].to: is not an https:// URL"),
        ({"to": "https://h:99999/"}, "notify[0].to: is not a URL"),
        ({"to": "arn:aws:sqs:eu-central-1:123456789012:q"}, "is not the ARN of an SNS topic"),
        ({"to": "eventbridge:"}, "must be eventbridge:BUS"),
        ({"to": "hooks.slack.com/verysecret"}, "notify[0].to: must be an SNS topic's ARN"),
        ({"to": "ssm:"}, "notify[0].to: must be ssm:NAME"),
        ({"to": TOPIC, "on": []}, "notify[0].on: must hold at least one of"),
        ({"to": TOPIC, "on": ["finished"]}, 'notify[0].on[0]: must be "completed"'),
        ({"to": TOPIC, "on": ["stuck"]}, "notify[0].stuck_after: is required"),
        ({"to": TOPIC, "stuck_after": "1h"}, "notify[0].stuck_after: has a meaning only"),
        ({"to": TOPIC, "on": ["stuck"], "stuck_after": "1d"}, 'write "24h"'),
        ({"to": TOPIC, "tou": 1}, "notify[0].tou: unknown key"),
    ],
)
def test_refusals(notify: dict[str, Any], message: str) -> None:
    """A notice would be sent nowhere, and the address of a channel shown in an error."""
    with pytest.raises(DocumentError) as refused:
        parse_document(document(notify))
    assert message in str(refused.value)
    assert "verysecret" not in str(refused.value)


def test_a_target_is_named_once() -> None:
    """It would be told of each event twice."""
    with pytest.raises(DocumentError, match=r"notify\[1\].to: is also that of \[0\]"):
        parse_document(document({"to": TOPIC}, {"to": TOPIC, "on": ["failed"]}))


def test_a_url_shows_nowhere() -> None:
    """Whoever reads a log or a state could write to the channel."""
    spec = NotifySpec(HOOK)
    other = parse_document(document({"to": HOOK}))
    shown = [spec.label, repr(spec), repr(other)]
    shown.append(str(first_difference(parse_document(document()), other)))
    assert "verysecret" not in " ".join(shown)
    assert spec.label.startswith("https://hooks.slack.com/…")
    assert label_of(HOOK) != label_of(HOOK + "x")
    assert label_of("ssm:/slack/hook") == "ssm:/slack/hook"


def test_the_settings_may_run_a_program(tmp_path: Path) -> None:
    """An administrator could not say how every queue of a machine tells of its end."""
    config = tmp_path / "runner.toml"
    config.write_text('[[notify]]\nto = "exec:/usr/local/bin/tell"\non = ["failed"]\n')
    settings = load_settings({}, root=False, home=tmp_path, config=config)
    assert settings.notify == (NotifySpec("exec:/usr/local/bin/tell", ("failed",)),)
    given = {"RUNNER_NOTIFY": '[{"to": "eventbridge:default"}]', "RUNNER_NOTIFY_WAIT": "5s"}
    settings = load_settings(given, root=False, home=tmp_path, config=config)
    assert (settings.notify, settings.notify_wait) == ((NotifySpec("eventbridge:default"),), 5.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("https://h/x", "RUNNER_NOTIFY: must be JSON"),
        ('[{"to": "exec:tell"}]', "RUNNER_NOTIFY: [0].to: must be exec:PATH"),
        ('{"to": "x"}', "RUNNER_NOTIFY: must be an array of objects"),
    ],
)
def test_settings_that_are_refused(given: str, message: str, tmp_path: Path) -> None:
    """A machine would tell nobody, and nobody would know."""
    with pytest.raises(UsageError) as refused:
        load_settings({"RUNNER_NOTIFY": given}, root=False, home=tmp_path)
    assert message in str(refused.value)


def test_document_and_settings_join() -> None:
    """A target that both name would be told twice."""
    ours = (NotifySpec(TOPIC, ("failed",)),)
    theirs = (NotifySpec(TOPIC, ("completed", "stuck"), 60.0), NotifySpec("exec:/x"))
    assert joined(ours, theirs) == (
        NotifySpec(TOPIC, ("completed", "failed", "stuck"), 60.0),
        NotifySpec("exec:/x"),
    )


def test_a_chats_address_in_the_document_is_warned_of() -> None:
    """Whoever may read the bucket could write to the channel."""
    found = warnings(parse_document(document({"to": HOOK}, {"to": "ssm:/hook"})))
    assert [line.partition(": ")[0] for line in found] == ["notify[0].to"]
    assert "verysecret" not in found[0]
    assert warnings(parse_document(document({"to": "https://example.com/x"}))) == []
