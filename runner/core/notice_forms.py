"""A notice as its receivers want it: JSON for programs, text for people, Slack's and Teams' forms.

Pure. What is written is what the outbox has, so that a notice that is sent twice is the same twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from runner.core.states import NoticeState
from runner.model.notify import SLACK_HOSTS, TEAMS_HOSTS
from runner.timestamps import rfc3339

VERSION = 1

TEST = "test"
"""The event of a notice that somebody asked for to see it come."""

CARD = "application/vnd.microsoft.card.adaptive"
CARD_SCHEMA = "http://adaptivecards.io/schemas/adaptive-card.json"

SUBJECT = 99
"""Characters of an SNS subject: "less than 100", of ASCII, on one line (API reference, Publish)."""

_HAPPENED = {
    "completed": "has completed",
    "failed": "has failed",
    "cancelled": "was cancelled",
    "first_failure": "has a first failure",
    "interrupted": "was interrupted",
    "results_incomplete": "has ended, but results are missing",
    "stuck": "makes no progress",
    "lost": "was lost with its machine",
    TEST: "tells that notices come through",
}


@dataclass(frozen=True, slots=True)
class Message:
    """A notice, and the queue that it is of. ``results``: where its results are stored."""

    notice: NoticeState
    queue_id: str
    queue_name: str
    run_id: str
    results: str | None = None

    @property
    def title(self) -> str:
        """What has happened, in one line."""
        happened = _HAPPENED.get(self.notice.event, self.notice.event)
        return f"Queue {_one_line(self.queue_name)} {happened}"


def body(message: Message) -> dict[str, Any]:
    """For programs. A field that says nothing is left out."""
    notice = message.notice
    told = {
        "version": VERSION,
        "id": notice.id,
        "event": notice.event,
        "queue_id": message.queue_id,
        "queue_name": message.queue_name,
        "run_id": message.run_id or None,
        "status": notice.status or None,
        "reason": notice.reason,
        "job_id": notice.job,
        "jobs": dict(notice.counts) or None,
        "at": rfc3339(notice.at),
        "results": message.results,
        "text": text(message),
    }
    return {name: value for name, value in told.items() if value is not None}


def text(message: Message) -> str:
    """For people: the title, and below it what is known."""
    return "\n".join([message.title, *(f"{name}: {value}" for name, value in _facts(message))])


def subject(message: Message) -> str:
    """The same for the head of a mail."""
    told = message.title.encode("ascii", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in told)[:SUBJECT]


def encoded(value: Any) -> bytes:
    """JSON, as it is sent."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def webhook_body(url: str, message: Message) -> bytes:
    """What is posted to a URL: Slack and Teams, known by their hosts, want a form of their own."""
    host = (urlsplit(url).hostname or "").lower()
    if host in SLACK_HOSTS:
        return encoded(slack(message))
    if host.endswith(TEAMS_HOSTS):
        return encoded(teams(message))
    return encoded(body(message))


def slack(message: Message) -> dict[str, Any]:
    """``text`` is what a notification shows, the blocks what the channel does."""
    facts = [f"*{name}:* {_escaped(value)}" for name, value in _facts(message)]
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": f"*{_escaped(message.title)}*"}}
    ]
    if facts:
        # Slack: "Section block", 3,000 characters of a text.
        rest = "\n".join(facts)[:3000]
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": rest}})
    return {"text": _escaped(message.title), "blocks": blocks}


def teams(message: Message) -> dict[str, Any]:
    """An adaptive card as the attachment of a message."""
    facts = [{"title": name, "value": value} for name, value in _facts(message)]
    card: list[dict[str, Any]] = [
        {
            "type": "TextBlock",
            "text": message.title,
            "weight": "Bolder",
            "size": "Medium",
            "wrap": True,
        }
    ]
    if facts:
        card.append({"type": "FactSet", "facts": facts})
    content = {"$schema": CARD_SCHEMA, "type": "AdaptiveCard", "version": "1.4", "body": card}
    attachment = {"contentType": CARD, "contentUrl": None, "content": content}
    return {"type": "message", "attachments": [attachment]}


def _facts(message: Message) -> list[tuple[str, str]]:
    notice = message.notice
    jobs = ", ".join(f"{n:,} {status}" for status, n in notice.counts.items())
    told = [
        ("Why", notice.reason),
        ("Jobs", jobs),
        ("Queue", message.queue_id),
        ("Results", message.results),
    ]
    return [(name, value) for name, value in told if value]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    """Slack: "Formatting text for app surfaces": these three are signs of its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
