"""The rule of ``notify``, in a document and in the settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from runner.model.checks import Check, check_duration, check_object, check_text, choice, each
from runner.model.messages import one_of
from runner.model.notify import (
    BUS_PATTERN,
    EVENTBRIDGE,
    EVENTS,
    EXEC,
    MAX_TARGETS,
    STUCK,
    TOPIC_PATTERN,
    NotifySpec,
    is_reference,
    is_topic,
    is_url,
    url_fault,
)
from runner.model.secrets import parse_reference
from runner.model.validation_errors import Faults, InvalidError

_TOPIC = re.compile(TOPIC_PATTERN)
_BUS = re.compile(BUS_PATTERN)

_FORMS = (
    "an SNS topic's ARN, eventbridge:BUS, an https:// URL, or ssm:NAME or secretsmanager:NAME "
    "where such a URL is kept"
)


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
            if text.startswith("http://") and not is_url(text):
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
