"""The file in which a job leaves the jobs that it expands to: ``{"jobs": […]}``.

Its jobs are as a document's are, ``defaults``, ``params`` and ``matrix`` among what may be said of
them. Owns what else may stand there (nothing), and the names that the jobs get in the queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from runner.errors import DocumentError
from runner.model.expansion.given import Expansion
from runner.model.expansion.places import GivenFaults
from runner.model.fields import JOB_FIELDS
from runner.model.in_short import DEFAULTS, PARAMS, Member, is_short
from runner.model.json_reader import JOBS, Reader, decode, is_ignored
from runner.model.messages import step
from runner.model.parser import parse_members
from runner.model.queue import JobSpec, QueueSpec
from runner.model.validation_errors import Faults

_KEYS = (JOBS, DEFAULTS, PARAMS)
_LONGEST = 128


def parse_fan_out(raw: bytes, queue: QueueSpec, parent: str) -> tuple[JobSpec, ...]:
    """The jobs under their names in the queue: ``PARENT.ID``. They depend on ``parent``.

    ``queue``: what they are added to. There may be none. Raises DocumentError with every error.
    """
    jobs = _jobs_in(raw, queue, "file")
    long = [job.job_id for job in jobs if len(f"{parent}.{job.job_id}") > _LONGEST]
    if long:
        told = f"is too long behind '{parent}.': an id has at most {_LONGEST} characters"
        raise DocumentError([f'job "{name}": its id {told}' for name in long])
    return tuple([_within(parent, job) for job in jobs])


def parse_added(raw: bytes, queue: QueueSpec) -> tuple[JobSpec, ...]:
    """The jobs in a text of the same form that are to be added to ``queue``, under the names they
    have there. They may depend on each other. Raises DocumentError with every error."""
    return tuple(_jobs_in(raw, queue, "jobs"))


def _jobs_in(raw: bytes, queue: QueueSpec, name: str) -> Sequence[JobSpec]:
    text = decode(raw, name)
    faults = GivenFaults(None) if is_short(text) else Faults()
    members: Iterable[Member] = _framed(Reader(text, faults).members(), queue, faults)
    if isinstance(faults, GivenFaults):
        members = Expansion(members, JOB_FIELDS, faults, {}).members()
    return parse_members(members, faults).jobs


def _framed(members: Iterable[Member], queue: QueueSpec, faults: Faults) -> Iterator[Member]:
    """The members of a document that says of its queue what the queue's own says of it."""
    found = False
    for key, index, value in members:
        found = found or key == JOBS
        if key in _KEYS:
            yield key, index, value
        elif not is_ignored(key):
            faults.add(step(key), 'only "jobs" (and "defaults", "params") stand here', key, _KEYS)
    if not found:
        faults.add(f".{JOBS}", "is missing: the jobs, in an array, which may be empty")
        yield JOBS, None, []
    yield "queue_name", None, queue.queue_name
    yield "global_timeout", None, "1h"
    yield "on_failure", None, queue.on_failure
    if queue.pools:
        yield "pools", None, dict(queue.pools)


def _within(parent: str, job: JobSpec) -> JobSpec:
    array = job.array
    if array is not None and array.elementwise:
        array = array._replace(
            elementwise=tuple([f"{parent}.{name}" for name in array.elementwise])
        )
    return replace(
        job,
        job_id=f"{parent}.{job.job_id}",
        depends_on=(parent, *[f"{parent}.{name}" for name in job.depends_on]),
        array=array,
    )
