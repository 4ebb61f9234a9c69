"""Whom a queue tells of what, as the models of documents have it.

Owns the types, descriptions and JSON Schema of ``notify``; its rule is in ``notify_rule``.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from runner.model import notify, notify_rule, secrets
from runner.model.pydantic_base import DocumentPart, document_part
from runner.model.pydantic_types import END, Duration, Schema

Event = Literal[
    "completed",
    "failed",
    "cancelled",
    "first_failure",
    "interrupted",
    "results_incomplete",
    "stuck",
]

_STUCK: Schema = {
    "properties": {"on": {"contains": {"const": notify.STUCK}}},
    "required": ["on"],
}
_FORMS = (
    notify.TOPIC_PATTERN,
    notify.BUS_PATTERN,
    notify.URL_PATTERN,
    notify.LOOPBACK_PATTERN,
    secrets.PATTERN,
)


def _ends() -> list[Event]:
    return ["completed", "failed", "cancelled"]


@document_part(
    notify_rule.NOTIFY_FIELDS,
    notify_rule.NOTIFY_REQUIRED,
    {
        "if": _STUCK,
        "then": {"required": ["to", "stuck_after"]},
        "else": {"not": {"required": ["stuck_after"]}},
    },
)
class Notify(DocumentPart):
    """Somebody to be told when something has become of the queue."""

    to: Annotated[
        str,
        Field(
            repr=False,
            description="An SNS topic's ARN, eventbridge:BUS, an https URL (Slack and Teams get "
            "their own form), or ssm:NAME or secretsmanager:NAME where such a URL is kept.",
            json_schema_extra={"pattern": rf"^(?:{'|'.join(_FORMS)}){END}"},
            examples=["arn:aws:sns:eu-central-1:123456789012:nightly", "ssm:/slack/hook"],
        ),
    ]
    _: KW_ONLY
    on: list[Event] = Field(
        default_factory=_ends,
        description="Of what: how the queue ends, the first job that fails for good, an "
        "interruption, results that are missing at the end, or no progress for a time.",
        json_schema_extra={"minItems": 1},
    )
    stuck_after: Duration | None = Field(
        default=None,
        description="With the event stuck: how long no job starts, ends or writes to its log.",
    )


@dataclass(kw_only=True)
class NotifyingQueue(DocumentPart):
    """Whom a queue tells."""

    notify: list[Notify] = Field(
        default_factory=list,
        description="Who is told when the queue ends, or of something else.",
        json_schema_extra={"maxItems": notify.MAX_TARGETS},
        examples=[[{"to": "ssm:/slack/hook", "on": ["failed"]}]],
    )
