"""What the rows of a queue's database hold, as records. Each raises RecordError for what is none.

Pure. SQLite keeps a value of any type in any column, and a damaged page may still be a valid one:
nothing is taken for granted but that a row has its columns.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.core.states import (
    JobState,
    QueueState,
    job_from_record,
    queue_from_record,
    to_record,
)
from runner.errors import RecordError
from runner.model.elements import ArrayUnits, arrays_of, element_name
from runner.model.placement import ArraySpec
from runner.model.queue import AddedJob, JobSpec
from runner.model.records import WallTime, decode, identifier, read, text
from runner.model.validation_errors import InvalidError

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


@dataclass(frozen=True, slots=True)
class Outline:
    """What there is to see of a document. ``timeouts`` as durations are written.

    ``units``: the names of plain jobs and of the elements of ``arrays``, each with its timeout.
    """

    queue_name: str
    units: list[str]
    timeouts: list[str]
    arrays: tuple[ArrayUnits, ...]


@dataclass(frozen=True, slots=True)
class _Event:
    wall: WallTime
    event: str
    job: str | None = None


def text_of(value: Any, name: str) -> str:
    """A column's value that has to be text."""
    try:
        return text(value)
    except InvalidError as error:
        raise RecordError(f"{name}: {error}") from None


def meta_of(rows: Iterable[tuple[Any, Any]], path: Path) -> dict[str, str]:
    """The queue's own words: keys and values."""
    name = f"{path}: a word of its own"
    return {text_of(key, name): _value_of(value, name) for key, value in rows}


def meta_rows(words: Mapping[str, str]) -> list[tuple[str, str | bytes]]:
    """The same as rows. A path that isn't UTF-8 is kept as its bytes: SQLite's text has to be."""
    return [(key, _to_row(value)) for key, value in words.items()]


_REQUEST = "request:"


def request_rows(requests: Mapping[str, float]) -> dict[str, str]:
    """Ids of requests that were carried out, and when (wall), as words of the queue's own."""
    return {f"{_REQUEST}{request_id}": repr(wall) for request_id, wall in requests.items()}


def requests_of(words: Mapping[str, str]) -> dict[str, float]:
    """The inverse. A time that is none is taken for long ago: the request was carried out."""
    return {
        key.removeprefix(_REQUEST): _seconds(value)
        for key, value in words.items()
        if key.startswith(_REQUEST)
    }


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _to_row(value: str) -> str | bytes:
    try:
        value.encode()
    except UnicodeEncodeError:
        return os.fsencode(value)
    return value


def _value_of(value: Any, name: str) -> str:
    if isinstance(value, bytes):
        path = os.fsdecode(value)
        if _to_row(path) == value:
            return path
    return text_of(value, name)


def queue_id_of(meta: dict[str, str], path: Path) -> str:
    """The queue's id, which is also the name of its folder."""
    try:
        return str(identifier(meta.get("queue_id")))
    except InvalidError as error:
        raise RecordError(f"{path}: its queue_id: {error}") from None


def queue_of(record: Any, path: Path) -> QueueState:
    """The queue's record."""
    name = f"{path}: the queue's record"
    return queue_from_record(decode(text_of(record, name), name), name)


def job_of(index: int, record: Any, total: int, path: Path) -> JobState:
    """The record of one of so many jobs."""
    name = f"{path}: the record of job {index}"
    if not 0 <= index < total:
        raise RecordError(f"{name}: the document has {total} jobs")
    return job_from_record(decode(text_of(record, name), name), name)


def added_of(row: tuple[Any, ...], path: Path) -> AddedJob:
    """A job that was added to the document."""
    parent, job = row
    name = f"{path}: a job that was added"
    return AddedJob(text_of(job, name), None if parent is None else text_of(parent, name))


def outline_of(document: str, path: Path) -> Outline:
    """What there is to see of a document that was validated when it was accepted."""
    name = f"{path}: the document"
    told = decode(document, name)
    try:
        queue_name, jobs = text(told["queue_name"]), told["jobs"]
        ids = [job["job_id"] for job in jobs]
        timeouts = [job["timeout"] for job in jobs]
        sizes = [job.get("array") for job in jobs]
        if not all(type(word) is str for word in itertools.chain(ids, timeouts)):
            raise TypeError
        if not all(size is None or (type(size) is int and size > 0) for size in sizes):
            raise TypeError
    except (AttributeError, KeyError, TypeError, InvalidError):
        raise RecordError(f"{name}: is not one that was accepted") from None
    if all(size is None for size in sizes):
        return Outline(queue_name, ids, timeouts, ())
    return Outline(
        queue_name,
        list(itertools.chain.from_iterable(map(_names, ids, sizes))),
        [timeout for timeout, size in zip(timeouts, sizes, strict=True) for _ in range(size or 1)],
        _arrays(jobs),
    )


def _names(job_id: str, size: int | None) -> list[str]:
    return [job_id] if size is None else [element_name(job_id, index) for index in range(size)]


def _arrays(jobs: Iterable[Mapping[str, Any]]) -> tuple[ArrayUnits, ...]:
    """As far as they are to be seen: of what an array does only its limits are known."""
    return arrays_of(
        [
            JobSpec(
                job["job_id"],
                command="",
                timeout=0.0,
                array=ArraySpec(size, job.get("array_parallel"), bool(job.get("array_stop")))
                if (size := job.get("array")) is not None
                else None,
            )
            for job in jobs
        ]
    )


def event_of(row: tuple[Any, ...], path: Path) -> dict[str, Any]:
    """A line of the story: its moment, its job, what happened, and the rest of it."""
    wall, job, event, detail = row
    name = f"{path}: an event"
    told = read(_Event, {"wall": wall, "job": job, "event": event}, name)
    more = decode(text_of(detail, name), name) if detail is not None else {}
    if not isinstance(more, dict):
        raise RecordError(f"{name}: its detail is no object")
    return {"wall": told.wall, "job": told.job, "event": told.event, **more}


def text_of_value(value: Any) -> str:
    """JSON. A record's words are for people: what isn't UTF-8 in a file's name becomes ``?``."""
    told = _encode(value)
    return told if told.isascii() else told.encode("utf-8", "replace").decode()


def record_text(state: JobState) -> str:
    """A job's record as it is stored."""
    return text_of_value(to_record(state))
