"""Notices as their receivers want them: JSON, a mail's subject, Slack's and Teams' forms."""

from __future__ import annotations

import json

import pytest

from runner.core.notice_forms import Message, body, slack, subject, teams, text, webhook_body
from runner.core.states import NoticeState

NOTICE = NoticeState(
    "0" * 32, "failed", "x", 1_790_000_000.0, 0, None, "failed", "job 'a' failed: <b> & more",
    {"completed": 1200, "failed": 1},
)  # fmt: skip
MESSAGE = Message(NOTICE, "q", "nightly\n*run*", "r", "s3://bucket/queues/q")


def test_programs_get_all_of_it() -> None:
    """A receiver could not tell doubles apart, or which queue it was."""
    assert body(MESSAGE) == {
        "version": 1,
        "id": "0" * 32,
        "event": "failed",
        "queue_id": "q",
        "queue_name": "nightly\n*run*",
        "run_id": "r",
        "status": "failed",
        "reason": "job 'a' failed: <b> & more",
        "jobs": {"completed": 1200, "failed": 1},
        "at": "2026-09-21T14:13:20Z",
        "results": "s3://bucket/queues/q",
        "text": text(MESSAGE),
    }
    assert text(MESSAGE).splitlines() == [
        "Queue nightly *run* has failed",
        "Why: job 'a' failed: <b> & more",
        "Jobs: 1,200 completed, 1 failed",
        "Queue: q",
        "Results: s3://bucket/queues/q",
    ]


def test_slacks_form() -> None:
    """Slack would answer invalid_payload, or take `<b>` for a link."""
    assert slack(MESSAGE) == {
        "text": "Queue nightly *run* has failed",
        "blocks": [
            {
                "type": "section",
                "text": {"type": "mrkdwn", "text": "*Queue nightly *run* has failed*"},
            },
            {
                "type": "section",
                "text": {
                    "type": "mrkdwn",
                    "text": "*Why:* job 'a' failed: &lt;b&gt; &amp; more\n"
                    "*Jobs:* 1,200 completed, 1 failed\n*Queue:* q\n"
                    "*Results:* s3://bucket/queues/q",
                },
            },
        ],
    }


def test_teams_form() -> None:
    """A workflow of Teams fails for each body without an adaptive card among its attachments."""
    (attachment,) = teams(MESSAGE)["attachments"]
    assert teams(MESSAGE)["type"] == "message"
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    title, facts = card["body"]
    assert (title["type"], title["text"]) == ("TextBlock", "Queue nightly *run* has failed")
    assert facts["type"] == "FactSet"
    assert facts["facts"][0] == {"title": "Why", "value": "job 'a' failed: <b> & more"}


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://hooks.slack.com/services/T0/B0/x", "blocks"),
        ("https://HOOKS.SLACK.COM/services/T0/B0/x", "blocks"),
        ("https://team.webhook.office.com/webhookb2/x", "attachments"),
        ("https://prod-1.westeurope.logic.azure.com:443/workflows/x?sig=y", "attachments"),
        ("https://d.8a.environment.api.powerplatform.com/powerautomate/x", "attachments"),
        ("https://hooks.slack.com.evil.example/x", "version"),
        ("https://example.com/hooks.slack.com", "version"),
    ],
)
def test_forms_by_host(url: str, key: str) -> None:
    """A channel would show JSON, or nothing at all."""
    assert key in json.loads(webhook_body(url, MESSAGE))


def test_a_mails_subject_is_one_short_line() -> None:
    """SNS refuses a subject of a hundred characters, with a line break, or not of ASCII."""
    long = Message(NOTICE, "q", "größer\n" * 40, "r")
    assert len(subject(long)) == 99
    assert subject(long).isascii()
    assert subject(long).isprintable()
