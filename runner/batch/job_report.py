"""A job of AWS Batch in words for people, and as data for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from runner.batch.diagnosis import Diagnosis
from runner.batch.job_detail import STATES, AttemptDetail, ContainerDetail, JobDetail
from runner.batch.log_address import log_address
from runner.model.durations import format_duration
from runner.model.printable import clean

_WIDTH = 13
"""Of the names before the values."""


def lines(
    job: JobDetail,
    now: float,
    *,
    region: str | None = None,
    urls: bool = False,
    diagnosis: Diagnosis | None = None,
) -> list[str]:
    """What there is to say of it, a fact a line. ``now``: seconds since the epoch."""
    return [
        f"{name + ':':<{_WIDTH}} {clean(text)}" if name else f"{'':<{_WIDTH}} {clean(text)}"
        for name, text in _facts(job, now, region, urls, diagnosis)
    ]


def view(
    job: JobDetail, now: float, *, region: str | None = None, diagnosis: Diagnosis | None = None
) -> dict[str, Any]:
    """The same for JSON. Neither environment nor command: they may hold secrets."""
    last = next(iter(_shown_ends(job)), None)
    address = log_address(job, last, region) if last is not None else None
    found: dict[str, Any] = {
        "job_id": job.id,
        "job_arn": job.arn,
        "name": job.name,
        "status": job.status,
        "reason": job.reason,
        "queue": job.queue,
        "definition": job.definition,
        "created_at": _iso(job.created),
        "started_at": _iso(job.started),
        "stopped_at": _iso(job.stopped),
        "runtime_seconds": runtime(job, now),
        "exit_code": last.exit_code if last is not None else None,
        "container_reason": last.reason if last is not None else None,
        "log_stream": address.stream if address is not None else None,
        "log_group": address.group if address is not None else None,
        "log_url": address.url if address is not None else None,
        "containers": [_container_view(each, job, region) for each in job.ends],
        "attempts": [_attempt_view(each, job, region) for each in job.attempts],
        "attempts_allowed": job.retries,
        "result_store": job.result_store,
    }
    if job.array is not None:
        counts = {state: job.array.counts[state] for state in STATES if state in job.array.counts}
        array = {"size": job.array.size, "index": job.array.index, "counts": counts}
        found["array"] = array
    if job.nodes is not None:
        found["nodes"] = {"count": job.nodes.count, "main": job.nodes.main}
    if diagnosis is not None:
        found["diagnosis"] = diagnosis.view()
    return found


def runtime(job: JobDetail, now: float) -> float | None:
    """Seconds from its last attempt's start to its end, or to ``now``; None before the start."""
    if job.started is None:
        return None
    return max(0.0, (job.stopped if job.stopped is not None else now) - job.started)


def array_counts(job: JobDetail) -> str:
    """How many children of an array are in each state: ``3 RUNNING, 2 SUCCEEDED``."""
    counts = job.array.counts if job.array is not None else {}
    return ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts.get(state))


def moment(seconds: float | None) -> str:
    """A time as people read it, in UTC."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(seconds: float) -> str:
    """A length of time to the second, below ten seconds to the tenth."""
    return format_duration(round(seconds, 1) if seconds < 10 else round(seconds))


def _facts(
    job: JobDetail, now: float, region: str | None, urls: bool, diagnosis: Diagnosis | None
) -> Iterator[tuple[str, str]]:
    yield "Job", job.id
    yield "Name", job.name
    yield "Status", job.status
    if job.reason:
        yield "Reason", job.reason
    if job.queue:
        yield "Queue", job.queue
    if job.definition:
        yield "Definition", job.definition
    yield "Created", moment(job.created)
    yield "Started", moment(job.started)
    yield "Stopped", moment(job.stopped)
    passed = runtime(job, now)
    yield "Runtime", "-" if passed is None else span(passed)
    yield from _of_parts(job)
    if job.result_store is not None:
        yield "Of a queue", f"its output is kept in {job.result_store}"
    ends = _shown_ends(job)
    for each in ends:
        yield from _of_container(each, job, region, urls, named=len(ends) > 1)
    if len(job.attempts) > 1 or job.retries > 1:
        yield "Attempts", f"{len(job.attempts)} ended, of {job.retries} at most"
        for attempt in job.attempts:
            yield "", _attempt_words(attempt)
    if diagnosis is not None:
        yield "Diagnosis", f"{diagnosis.cause} [{diagnosis.code}]"
        yield from (("Next", step) for step in diagnosis.next_steps[:1])
        yield from (("", step) for step in diagnosis.next_steps[1:])
        yield from (("Its log", line) for line in diagnosis.log[:1])
        yield from (("", line) for line in diagnosis.log[1:])


def _of_parts(job: JobDetail) -> Iterator[tuple[str, str]]:
    if job.array is not None and job.array.size is not None:
        counts = array_counts(job)
        yield "Array", f"{job.array.size:,} children" + (f": {counts}" if counts else "")
    elif job.array is not None and job.array.index is not None:
        yield "Array", f"child {job.array.index} of {job.id.partition(':')[0]}"
    if job.nodes is not None:
        main = f"{job.id.partition('#')[0]}#{job.nodes.main}"
        yield "Nodes", f"{job.nodes.count}; the main one is {main}"


def _of_container(
    each: ContainerDetail, job: JobDetail, region: str | None, urls: bool, *, named: bool
) -> Iterator[tuple[str, str]]:
    if named:
        yield "Container", each.name + ("" if each.essential else " (not essential)")
    if each.exit_code is not None:
        yield "Exit code", str(each.exit_code)
    if each.reason:
        yield "Its reason", each.reason
    if each.log_stream:
        yield "Log stream", each.log_stream
    if urls and (address := log_address(job, each, region)) is not None:
        yield "Log", address.url


def _shown_ends(job: JobDetail) -> list[ContainerDetail]:
    """The containers of which something is known, the essential ones first."""
    known = [
        each
        for each in job.ends
        if each.exit_code is not None or each.reason is not None or each.log_stream is not None
    ]
    return sorted(known, key=lambda each: not each.essential)


def _attempt_words(attempt: AttemptDetail) -> str:
    ends = []
    for each in attempt.containers:
        name = f"{each.name}: " if len(attempt.containers) > 1 else ""
        if each.exit_code is not None:
            ends.append(f"{name}exit code {each.exit_code}")
        if each.reason:
            ends.append(f"{name}{each.reason}")
    told = "; ".join([*([attempt.reason] if attempt.reason else []), *ends])
    when = f"{moment(attempt.started)} to {moment(attempt.stopped)}"
    if attempt.started is None:
        when = f"never ran, ended {moment(attempt.stopped)}"
    return f"{attempt.number}  {when}  {told}".rstrip()


def _container_view(each: ContainerDetail, job: JobDetail, region: str | None) -> dict[str, Any]:
    address = log_address(job, each, region)
    return {
        "name": each.name,
        "essential": each.essential,
        "image": each.image,
        "exit_code": each.exit_code,
        "reason": each.reason,
        "log_stream": each.log_stream,
        "log_url": address.url if address is not None else None,
    }


def _attempt_view(attempt: AttemptDetail, job: JobDetail, region: str | None) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "started_at": _iso(attempt.started),
        "stopped_at": _iso(attempt.stopped),
        "reason": attempt.reason,
        "containers": [
            {
                "name": each.name,
                "exit_code": each.exit_code,
                "reason": each.reason,
                "log_stream": each.log_stream,
            }
            for each in attempt.containers
        ],
    }


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
