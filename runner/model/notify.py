"""Whom a queue tells of what: the rule of ``notify`` in a document and in the settings.

A target is an SNS topic's ARN, ``eventbridge:BUS``, an https URL, a reference to where such a URL
is kept (as in ``secret_env``), or, in the settings only, ``exec:PATH``. A URL is a secret: whoever
has it can write to the channel behind it. So what is shown of one is its host and a digest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from runner.model.checks import Check, check_duration, check_object, check_text, choice, each
from runner.model.durations import format_duration
from runner.model.messages import one_of
from runner.model.secrets import SECRETS_MANAGER, SSM, parse_reference
from runner.model.validation_errors import Faults, InvalidError

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

_TOPIC = re.compile(TOPIC_PATTERN)
_BUS = re.compile(BUS_PATTERN)
_URL = re.compile(rf"{URL_PATTERN}|{LOOPBACK_PATTERN}")

# Slack: "Sending messages using incoming webhooks"; the second is of Slack's GovSlack.
SLACK_HOSTS = ("hooks.slack.com", "hooks.slack-gov.com")

# Microsoft Teams: "Create incoming webhooks with Workflows". Until 2025 their addresses were of
# logic.azure.com; webhook.office.com is that of connectors, which take the same cards.
TEAMS_HOSTS = (".webhook.office.com", ".logic.azure.com", ".api.powerplatform.com")

_FORMS = (
    "an SNS topic's ARN, eventbridge:BUS, an https:// URL, or ssm:NAME or secretsmanager:NAME "
    "where such a URL is kept"
)


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
    if not _URL.fullmatch(target):
        return target
    scheme, host = urlsplit(target)[:2]
    digest = hashlib.sha256(target.encode()).hexdigest()
    return f"{scheme}://{host.rpartition('@')[2]}/…{digest[:8]}"


def is_chat(target: str) -> bool:
    """Whether it is the URL of a channel of Slack or Teams."""
    host = (urlsplit(target).hostname or "").lower() if _URL.fullmatch(target) else ""
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
    if not _URL.fullmatch(url):
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


def _target(*, settings: bool) -> Check:
    def check(value: Any) -> str:
        text = check_text(value)
        if text.startswith(EXEC):
            path = text.removeprefix(EXEC)
            if not settings:
                raise InvalidError(
                    "exec: is for the settings only (`notify` in runner.toml): a document must not "
                    "run programs on who tells of it"
                )
            if not path.startswith("/") or "\0" in path or path.endswith("/"):
                raise InvalidError('must be exec:PATH, PATH a program\'s, beginning with "/"')
            return text
        if is_reference(text):
            try:
                parse_reference(text)
            except ValueError as error:
                raise InvalidError(str(error)) from None
            return text
        if text.startswith("http"):
            if text.startswith("http://") and not _URL.fullmatch(text):
                raise InvalidError("must be an https:// URL: http:// is for this machine only")
            if fault := url_fault(text):
                raise InvalidError(fault)
            return text
        if is_topic(text) and not _TOPIC.fullmatch(text):
            raise InvalidError("is not the ARN of an SNS topic, arn:aws:sns:REGION:ACCOUNT:NAME")
        if text.startswith(EVENTBRIDGE) and not _BUS.fullmatch(text):
            raise InvalidError("must be eventbridge:BUS, the name or ARN of an event bus")
        if not _TOPIC.fullmatch(text) and not _BUS.fullmatch(text):
            also = ", or exec:PATH" if settings else ""
            # Never the text itself: it may be a URL with a slip in it.
            raise InvalidError(f"must be {_FORMS}{also}")
        return text

    return check


def _events(value: Any) -> tuple[str, ...]:
    words: tuple[str, ...] = each(choice(EVENTS), "events")(value)
    if not words:
        raise InvalidError(f"must hold at least one of {one_of(EVENTS)}")
    return tuple(word for word in EVENTS if word in words)


def _one(fields: dict[str, Check]) -> Check:
    def check(value: Any) -> NotifySpec:
        faults = Faults()
        values = check_object(value, fields, NOTIFY_REQUIRED, faults)
        stuck = STUCK in values.get("on", ())
        if stuck and isinstance(value, dict) and "stuck_after" not in value:
            faults.add(".stuck_after", 'is required with the event "stuck": after what time')
        if not stuck and "stuck_after" in values and "on" not in faults.kept:
            faults.add(".stuck_after", 'has a meaning only with the event "stuck" in "on"')
        if faults:
            raise InvalidError(faults=list(faults.kept.items()))
        return NotifySpec(**values)

    return check


def _all(fields: dict[str, Check]) -> Callable[[Any], tuple[NotifySpec, ...]]:
    every = each(_one(fields), 'objects with "to" and "on"')

    def check(value: Any) -> tuple[NotifySpec, ...]:
        found: tuple[NotifySpec, ...] = every(value)
        if len(found) > MAX_TARGETS:
            raise InvalidError(f"has too many targets: {len(found):,}, at most {MAX_TARGETS}")
        seen: dict[str, int] = {}
        for index, spec in enumerate(found):
            if (first := seen.setdefault(spec.to, index)) != index:
                raise InvalidError(faults=[(f"[{index}].to", f"is also that of [{first}]")])
        return found

    return check


NOTIFY_REQUIRED = frozenset({"to"})
NOTIFY_FIELDS: dict[str, Check] = {
    "to": _target(settings=False),
    "on": _events,
    "stuck_after": check_duration,
}

check_notify = _all(NOTIFY_FIELDS)
"""The rule of a document's ``notify``."""

_check_settings = _all({**NOTIFY_FIELDS, "to": _target(settings=True)})


def read_setting(value: Any) -> tuple[NotifySpec, ...]:
    """The setting ``notify``: tables of the file, or in a variable their JSON.

    Raises ValueError with words for the user.
    """
    if isinstance(value, str):
        import json

        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError('must be JSON: [{"to": …, "on": [...]}]') from None
    try:
        return _check_settings(value)
    except InvalidError as error:
        place, message = error.faults[0]
        raise ValueError(f"{place.removeprefix('.')}: {message}" if place else message) from None


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
