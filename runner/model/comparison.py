"""What is different between two versions of a queue, in words for the user.

Names the first difference with its place. Never shows a value of ``env``, a command, or a target of
``notify``: each may hold a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from runner.model.durations import format_duration
from runner.model.messages import quoted, step
from runner.model.placement import SHELL, Placement
from runner.model.queue import InputSpec, JobSpec, QueueSpec, ResultSpec, RetrySpec
from runner.model.serialization import DURATIONS, plain_part, written_dependencies

_NOT_SHOWN = frozenset({"command", "notify"})
_SHOWN_ITEMS = 5


def first_difference(a: QueueSpec, b: QueueSpec) -> str | None:
    """How ``b`` first differs from ``a``: `jobs[2].timeout: 2h0m0s is now 1h0m0s`; None if equal.

    The queue's own fields come first, then the jobs, matched by id. An index is a place in ``b``,
    only that of a removed job is one in ``a``.
    """
    return _differs(a, b, "") or _jobs_differ(a.jobs, b.jobs)


def job_difference(a: QueueSpec, was: JobSpec, b: QueueSpec, now: JobSpec) -> str | None:
    """How what ``now`` does in ``b`` first differs from what ``was`` did in ``a``, else None.

    What a job gets from its queue counts as its own. The order of its dependencies doesn't count.
    """
    if was == now and _handed_down(a) == _handed_down(b):
        return None
    return _differs(_effective(a, was), _effective(b, now), "")


def _handed_down(queue: QueueSpec) -> tuple[Any, ...]:
    """What of a queue makes its jobs what they are."""
    folder = queue.working_directory, queue.create_working_directory
    return queue.env, queue.secret_env, *folder, queue.placement


def _effective(queue: QueueSpec, job: JobSpec) -> JobSpec:
    env = {name: value for name, value in queue.env.items() if name not in job.secret_env}
    return replace(
        job,
        depends_on=tuple(sorted(job.depends_on)),
        env={**env, **job.env},
        secret_env=dict(queue.secrets(job)),
        working_directory=job.working_directory or queue.working_directory,
        create_working_directory=queue.makes_folder(job),
        placement=_said(queue.placed(job)),
    )


def _said(placement: Placement) -> Placement:
    """The same, so that two ways to say one thing are equal."""
    shell = None if placement.shell == SHELL else placement.shell
    return placement._replace(
        image=placement.image or None,
        mounts=placement.mounts or None,
        image_options=placement.image_options or None,
        shell=shell,
    )


def _jobs_differ(a: Sequence[JobSpec], b: Sequence[JobSpec]) -> str | None:
    if a == b:
        return None
    before = {job.job_id: job for job in a}
    after = {job.job_id for job in b}
    for index, job in enumerate(a):
        if job.job_id not in after:
            return f'jobs[{index}]: job "{job.job_id}" was removed'
    for index, job in enumerate(b):
        if job.job_id not in before:
            return f'jobs[{index}]: job "{job.job_id}" was added'
        if found := _differs(before[job.job_id], job, f"jobs[{index}]"):
            return found
    for index, (old, new) in enumerate(zip(a, b, strict=True)):
        if old.job_id != new.job_id:
            return f'jobs[{index}]: the order changed: "{old.job_id}" is now "{new.job_id}"'
    return None


def _differs(
    a: QueueSpec | JobSpec | RetrySpec, b: QueueSpec | JobSpec | RetrySpec, place: str
) -> str | None:
    for field in fields(a):
        name = field.name
        if name == "jobs" or not field.compare:
            continue
        old, new = getattr(a, name), getattr(b, name)
        if name == "depends_on" and isinstance(a, JobSpec) and isinstance(b, JobSpec):
            old, new = written_dependencies(a), written_dependencies(b)
        if old == new:
            continue
        where = f"{place}.{name}".removeprefix(".")
        if name in ("env", "secret_env"):
            return _env_differs(old, new, where)
        if isinstance(old, RetrySpec) and isinstance(new, RetrySpec):
            return _differs(old, new, where)
        if name in ("placement", "array"):
            if found := _part_differs(plain_part(old), plain_part(new), place):
                return found
            continue
        if name in _NOT_SHOWN:
            return f"{where} differs"
        return f"{where}: {_shown(name, old)} is now {_shown(name, new)}"
    return None


def _part_differs(old: dict[str, Any], new: dict[str, Any], place: str) -> str | None:
    """The first of the document's fields that differs, of those that are one record here."""
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        where = f"{place}{step(name)}".removeprefix(".")
        if isinstance(before, dict) and isinstance(after, dict):
            return _part_differs(before, after, where)
        return f"{where}: {_shown('', before)} is now {_shown('', after)}"
    return None


def _env_differs(old: Mapping[str, str], new: Mapping[str, str], place: str) -> str:
    name = min(key for key in {*old, *new} if old.get(key) != new.get(key))
    if name not in new:
        return f"{place}{step(name)} was removed"
    if name not in old:
        return f"{place}{step(name)} was added"
    return f"{place}{step(name)} differs"


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "not set"
    if name in DURATIONS:
        return format_duration(value)
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case RetrySpec():
            return f"{value.max_attempts} attempts"
        case ResultSpec():
            said = ["optional"] if value.optional else []
            said += [f"fresh: {value.fresh}"] if value.fresh != "keep" else []
            return quoted(value.path) + (f" ({', '.join(said)})" if said else "")
        case dict():
            return "{}" if not value else _shown("", tuple(value))
        case list():
            return _shown("", tuple(value))
        case InputSpec():
            return f"{quoted(value.s3)} to {quoted(value.path)}"
        case tuple():
            items = [_shown("", item) for item in value[:_SHOWN_ITEMS]]
            more = [f"… ({len(value) - _SHOWN_ITEMS:,} more)"] if value[_SHOWN_ITEMS:] else []
            return f"[{', '.join(items + more)}]"
        case _:
            return str(value)
