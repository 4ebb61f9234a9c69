"""A queue as a canonical document: equal queues give the same text, and it reads back equal.

What is stored and sent. Defaults are left out, so a later version may add fields without making
old documents differ.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any

from runner.model.durations import format_duration
from runner.model.queue import BASE_DELAYS, InputSpec, JobSpec, QueueSpec, ResultSpec, RetrySpec

DURATIONS = frozenset({"timeout", "global_timeout", "term_grace", "base_delay", "max_delay"})


def dump_document(queue: QueueSpec) -> str:
    """Canonical JSON, one job a line, that parse_document reads back to an equal QueueSpec.

    Durations must be whole microseconds, as all that were parsed are.
    """
    head = _encode(_plain(queue, _QUEUE_DEFAULTS))[1:-1]
    jobs = ",\n".join([_encode(_plain(job, _JOB_DEFAULTS)) for job in queue.jobs])
    return f'{{{head},"jobs":[\n{jobs}\n]}}\n'


_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


def _plain(
    record: QueueSpec | JobSpec | RetrySpec | InputSpec, defaults: dict[str, Any]
) -> dict[str, Any]:
    """What the document says of a record: no defaults, and not the jobs of a queue."""
    plain: dict[str, Any] = {}
    for name, default in defaults.items():
        value = getattr(record, name)
        if value == default:
            continue
        if name in DURATIONS:
            value = format_duration(value)
        elif name in ("env", "secret_env"):
            value = dict(sorted(value.items()))
        elif isinstance(value, RetrySpec):
            value = _plain_retry(value)
        elif name == "input_paths":
            value = [_plain(each, _INPUT_DEFAULTS) for each in value]
        elif name == "result_paths":
            value = [_plain_result(each) for each in value]
        plain[name] = value
    return plain


def _plain_result(result: ResultSpec) -> str | dict[str, Any]:
    """As documents had it before there was anything to say of a glob, where nothing is said."""
    return {"path": result.path, "optional": True} if result.optional else result.path


def _plain_retry(retry: RetrySpec) -> dict[str, Any]:
    plain = _plain(retry, _RETRY_DEFAULTS)
    if retry.base_delay == BASE_DELAYS[retry.backoff]:
        del plain["base_delay"]
    return plain


def _defaults(record: type[QueueSpec | JobSpec | RetrySpec | InputSpec]) -> dict[str, Any]:
    """Each field's default; for a required one MISSING, which equals no value."""
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(record)
        if field.name != "jobs"
    }


_QUEUE_DEFAULTS = _defaults(QueueSpec) | {"queue_id": None}
_JOB_DEFAULTS = _defaults(JobSpec)
_RETRY_DEFAULTS = _defaults(RetrySpec)
_INPUT_DEFAULTS = _defaults(InputSpec)
