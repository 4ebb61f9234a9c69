"""Whom a queue tells of what: ``notify`` of a document and of the settings. Its rule is
``notify_rule``'s.

A target is an SNS topic's ARN, ``eventbridge:BUS``, an https URL, a reference to where such a URL
is kept (as in ``secret_env``), or, in the settings only, ``exec:PATH``. A URL is a secret: whoever
has it can write to the channel behind it. So what is shown of one is its host and a digest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from runner.model.durations import format_duration
from runner.model.secrets import SECRETS_MANAGER, SSM

DEFAULT_EVENTS = ("completed", "failed", "cancelled")
"""How a queue ends; told of where a target names no events."""

EVENTS = (*DEFAULT_EVENTS, "first_failure", "interrupted", "results_incomplete", "stuck")
STUCK = "stuck"

MAX_TARGETS = 20

EXEC = "exec:"
EVENTBRIDGE = "eventbridge:"
MAX_URL = 2048

# SNS API reference, "CreateTopic": 256 letters, digits, - and _, perhaps with .fifo.
TOPIC_PATTERN = r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?"
# EventBridge API reference, "PutEventsRequestEntry": EventBusName.
_BUS_NAME = r"[/.A-Za-z0-9_-]{1,256}"
BUS_PATTERN = (
    rf"{EVENTBRIDGE}(?:arn:aws[a-z-]*:events:[a-z0-9-]+:[0-9]{{12}}:event-bus/)?{_BUS_NAME}"
)
URL_PATTERN = r"https://[!-~]{1,2040}"
LOOPBACK_PATTERN = r"http://(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?(?:/[!-~]*)?"

_URL = rf"{URL_PATTERN}|{LOOPBACK_PATTERN}"

# Slack: "Sending messages using incoming webhooks"; the second is of Slack's GovSlack.
SLACK_HOSTS = ("hooks.slack.com", "hooks.slack-gov.com")

# Microsoft Teams: "Create incoming webhooks with Workflows". Until 2025 their addresses were of
# logic.azure.com; webhook.office.com is that of connectors, which take the same cards.
TEAMS_HOSTS = (".webhook.office.com", ".logic.azure.com", ".api.powerplatform.com")


@dataclass(frozen=True, slots=True)
class NotifySpec:
    """A target, and the events that it is told of, in the order of EVENTS.

    ``stuck_after``: seconds without progress after which the queue is stuck; with that event only.
    """

    to: str = field(repr=False)
    on: tuple[str, ...] = DEFAULT_EVENTS
    stuck_after: float | None = None

    @property
    def label(self) -> str:
        """What may be shown of the target, which also tells it from the others."""
        return label_of(self.to)


def label_of(target: str) -> str:
    """A target as it may be shown: of a URL the host, and a digest of the rest."""
    if not is_url(target):
        return target
    import hashlib

    scheme, host = urlsplit(target)[:2]
    digest = hashlib.sha256(target.encode()).hexdigest()
    return f"{scheme}://{host.rpartition('@')[2]}/…{digest[:8]}"


def is_url(target: str) -> bool:
    """Whether it is a URL to which a notice may be sent."""
    return re.fullmatch(_URL, target) is not None


def is_chat(target: str) -> bool:
    """Whether it is the URL of a channel of Slack or Teams."""
    host = (urlsplit(target).hostname or "").lower() if is_url(target) else ""
    return host in SLACK_HOSTS or host.endswith(TEAMS_HOSTS)


def is_topic(target: str) -> bool:
    """Whether it is an SNS topic's ARN."""
    return target.startswith("arn:")


def is_reference(target: str) -> bool:
    """Whether it says where the URL is kept."""
    return target.startswith((f"{SSM}:", f"{SECRETS_MANAGER}:"))


def url_fault(url: str) -> str | None:
    """Why nothing can be sent to a URL, without a word of it; None if it can be."""
    if len(url) > MAX_URL:
        return f"is longer than {MAX_URL:,} characters"
    if not is_url(url):
        return "is not an https:// URL"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if not host:
        return "names no host"
    if "@" in parts.netloc:
        return "holds a user's name before its host, which is not sent"
    return None


def plain_notify(specs: tuple[NotifySpec, ...]) -> list[dict[str, Any]]:
    """As a document has it; what is a default is left out."""
    return [_plain(spec) for spec in specs]


def _plain(spec: NotifySpec) -> dict[str, Any]:
    told: dict[str, Any] = {"to": spec.to}
    if spec.on != DEFAULT_EVENTS:
        told["on"] = list(spec.on)
    if spec.stuck_after is not None:
        told["stuck_after"] = format_duration(spec.stuck_after)
    return told


def joined(first: tuple[NotifySpec, ...], more: tuple[NotifySpec, ...]) -> tuple[NotifySpec, ...]:
    """The targets of a document and of the settings; one that both name is told of all once."""
    found = {spec.to: spec for spec in first}
    for spec in more:
        if (known := found.get(spec.to)) is not None:
            on = tuple(event for event in EVENTS if event in known.on or event in spec.on)
            spec = replace(known, on=on, stuck_after=known.stuck_after or spec.stuck_after)
        found[spec.to] = spec
    return tuple(found.values())
