"""A queue as a canonical document: equal queues give the same text, and it reads back equal.

What is stored and sent. Defaults are left out, so a later version may add fields without making
old documents differ.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any

from runner.model.durations import format_duration
from runner.model.in_short import OPEN, escaped
from runner.model.notify import plain_notify
from runner.model.placement import ArraySpec, BatchSpec, Placement, ResourceSpec
from runner.model.queue import (
    BASE_DELAYS,
    GIVEN_PREFIX,
    InputSpec,
    JobSpec,
    QueueSpec,
    ResultSpec,
    RetrySpec,
)
from runner.model.sizes import format_binary_size

DURATIONS = frozenset({"timeout", "global_timeout", "term_grace", "base_delay", "max_delay"})


def dump_document(queue: QueueSpec) -> str:
    """Canonical JSON, one job a line, that parse_document reads back to an equal QueueSpec.

    The document that it was written out from comes first, as a note. Durations must be whole
    microseconds, as all that were parsed are.
    """
    head = _encode(_plain(queue, _QUEUE_DEFAULTS))[1:-1]
    # What was added to it is kept beside it, see ``growth``.
    given_jobs = queue.jobs[: len(queue.jobs) - len(queue.added)]
    jobs = ",\n".join([_encode(_plain(job, _JOB_DEFAULTS)) for job in given_jobs])
    text = f'{head},"jobs":[\n{jobs}\n]}}\n'
    if OPEN in text:
        text = escaped(text)
    given = "" if queue.given is None else f"{GIVEN_PREFIX[1:]}{queue.given},"
    return f"{{{given}{text}"


def dump_job(job: JobSpec) -> str:
    """A job as it stands in a dumped document: one line."""
    text = _encode(_plain(job, _JOB_DEFAULTS))
    return escaped(text) if OPEN in text else text


def given_part(document: str) -> str:
    """What a dumped document that begins with GIVEN_PREFIX was written out from, as JSON."""
    _, end = json.JSONDecoder().raw_decode(document, len(GIVEN_PREFIX))
    return document[len(GIVEN_PREFIX) : end]


_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


def _plain(
    record: QueueSpec | JobSpec | RetrySpec | InputSpec | ResultSpec, defaults: dict[str, Any]
) -> dict[str, Any]:
    """What the document says of a record: no defaults, and not the jobs of a queue."""
    plain: dict[str, Any] = {}
    for name, default in defaults.items():
        value = getattr(record, name)
        # Mostly it is the very default: to compare two records field by field takes longer.
        if value is default or value == default:
            continue
        if name in DURATIONS:
            value = format_duration(value)
        elif name in ("env", "secret_env"):
            value = dict(sorted(value.items()))
        elif isinstance(value, RetrySpec):
            value = _plain_retry(value)
        elif name == "input_paths":
            value = [_plain(each, _INPUT_DEFAULTS) for each in value]
        elif name in ("result_paths", "output_paths"):
            value = [_plain_result(each) for each in value]
        elif name == "pools":
            value = dict(value)
        elif name == "notify":
            value = plain_notify(value)
        elif name == "array":
            plain |= plain_part(value)
            if value.elementwise and isinstance(record, JobSpec):
                plain["depends_on"] = written_dependencies(record)
            continue
        elif name == "placement":
            plain |= plain_part(value)
            continue
        plain[name] = value
    return plain


def written_dependencies(job: JobSpec) -> tuple[str, ...]:
    """The dependencies as the document names them: `x[]` for one from element to element."""
    elementwise = () if job.array is None else job.array.elementwise
    if not elementwise:
        return job.depends_on
    return tuple([f"{name}[]" if name in elementwise else name for name in job.depends_on])


def plain_part(part: Placement | ArraySpec | None) -> dict[str, Any]:
    """What the document says, field by field, of what is one record here."""
    match part:
        case None:
            return {}
        case ArraySpec():
            said: dict[str, Any]
            said = {"array": part.size, "array_parallel": part.parallel, "array_stop": part.stop}
            return {name: value for name, value in said.items() if value not in (None, False)}
        case Placement():
            said = part._asdict()
            said["resources"] = _plain_resources(part.resources)
            said["batch"] = _plain_batch(part.batch)
            return {name: value for name, value in said.items() if value is not None}


def _plain_resources(resources: ResourceSpec | None) -> dict[str, Any] | None:
    if resources is None:
        return None
    plain: dict[str, Any] = {}
    if resources.cpus != 1:
        plain["cpus"] = int(resources.cpus) if resources.cpus % 1 == 0 else resources.cpus
    if resources.memory:
        sizes = [format_binary_size(size) for size in resources.memory]
        plain["memory"] = sizes[0] if len(sizes) == 1 else sizes
    if resources.gpus is not None:
        plain["gpus"] = resources.gpus
    return plain | dict(resources.pools)


def _plain_batch(batch: BatchSpec | None) -> dict[str, Any] | None:
    if batch is None:
        return None
    plain = {name: value for name, value in batch._asdict().items() if value not in (None, ())}
    for name in ("shm", "ephemeral_storage"):
        if name in plain:
            plain[name] = format_binary_size(plain[name])
    if batch.tags:
        plain["tags"] = dict(batch.tags)
    return plain


def _plain_result(result: ResultSpec) -> str | dict[str, Any]:
    """As documents had it before there was anything to say of a glob, where nothing is said."""
    said = _plain(result, _RESULT_DEFAULTS)
    return result.path if said.keys() == {"path"} else said


def _plain_retry(retry: RetrySpec) -> dict[str, Any]:
    plain = _plain(retry, _RETRY_DEFAULTS)
    if retry.base_delay == BASE_DELAYS[retry.backoff]:
        del plain["base_delay"]
    return plain


def _defaults(
    record: type[QueueSpec | JobSpec | RetrySpec | InputSpec | ResultSpec],
) -> dict[str, Any]:
    """Each field's default; for a required one MISSING, which equals no value."""
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(record)
        if field.name not in ("jobs", "given", "added")
    }


_QUEUE_DEFAULTS = _defaults(QueueSpec) | {"queue_id": None}
_JOB_DEFAULTS = _defaults(JobSpec)
_RETRY_DEFAULTS = _defaults(RetrySpec)
_INPUT_DEFAULTS = _defaults(InputSpec)
_RESULT_DEFAULTS = _defaults(ResultSpec)
