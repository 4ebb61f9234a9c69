"""What S3 has of a queue: its last state with its age, and its logs. Nobody needs to be alive.

Gives the same answers as a daemon would, as far as what is stored goes.
"""

from __future__ import annotations

import base64
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.aws.clients import S3Client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.core.state_file import StateFile, StateFileElements, StateFileJob, read_state
from runner.core.states import ENDED, QUEUE_ENDED, JobStatus
from runner.errors import NotFoundError, RunnerError, UsageError
from runner.model.elements import parse_indices, split_name, which_element
from runner.model.messages import did_you_mean, quoted
from runner.model.records import decode, keys
from runner.results.layout import Layout
from runner.results.stores import open_store, parse_s3
from runner.targets.ec2.bucket import age_of
from runner.timestamps import parse_rfc3339, rfc3339

if TYPE_CHECKING:
    from runner.results.download.log_range import Range
    from runner.results.download.stored_log import StoredLog
    from runner.results.store import ResultStore
    from runner.results.stored_queue import StoredJob, StoredQueue

CONNECTIONS = 4

LOG_PIECE = 256 * 1024
"""Bytes of a log in one answer."""

Answer = dict[str, Any]

_ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Seen:
    """A state as it was stored ``age`` seconds ago, by S3's own clock; ``read`` is ours
    (monotonic) of when it was read. ``stored``: when that was, seconds since the epoch by S3."""

    state: Mapping[str, Any]
    age: float
    read: float
    stored: float | None = None

    @property
    def age_now(self) -> float:
        """Seconds since it was stored."""
        return max(0.0, self.age + time.monotonic() - self.read)

    @property
    def at(self) -> str | None:
        """The time now by the clock that has written it: its last change, and the age of that."""
        wall = _wall(self.state.get("updated_at"))
        return None if wall is None else rfc3339(wall + self.age_now)

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.state["status"] in _ENDED

    @property
    def queue_id(self) -> str:
        return str(self.state["queue_id"])


class StoredStatus:
    """The state of one queue in ``s3://bucket/prefix``, which is read again and again.

    Raises AwsError, and StateError for what is no state.
    """

    def __init__(self, store: str) -> None:
        self.store = store
        self._bucket, prefix = parse_s3(store)
        self._key = f"{prefix}/{Layout.state_key}" if prefix else Layout.state_key
        self._s3 = S3Client(CONNECTIONS)
        self._version = ""
        self._seen: Seen | None = None

    def read(self) -> Seen | None:
        """The newest; None if nothing was stored yet. One call, with a body only if it's new."""
        client = self._s3_client()
        unless = {"IfNoneMatch": self._version} if self._version else {}
        try:
            with calling(lambda error: error):
                answer = client.get_object(Bucket=self._bucket, Key=self._key, **unless)
                body = answer["Body"].read()
        except AwsError as error:
            if error.code in ("304", "NotModified"):
                return self._seen
            if error.kind is ErrorKind.MISSING and error.code != "NoSuchBucket":
                return None
            if error.kind is ErrorKind.EXPIRED:
                self._s3.forget(client)
            raise
        modified = answer.get("LastModified")
        stored = float(modified.timestamp()) if modified is not None else None
        state = parse_seen(body, self.store)
        self._seen = Seen(state, age_of(answer), time.monotonic(), stored)
        self._version = answer.get("ETag", "")
        return self._seen

    def _s3_client(self) -> Any:
        with calling(lambda error: error):
            return self._s3.get()

    # -- answers -----------------------------------------------------------------------------

    def logs(self, fields: Mapping[str, Any]) -> Answer:
        """Pieces of an attempt's logs as a daemon answers them (service/queries).

        Raises NotFoundError, StoreError.
        """
        from runner.results.download.log_range import Range
        from runner.results.stored_queue import read_queue

        store = open_store(self.store)
        try:
            queue = read_queue(store, Layout())
            job = queue.jobs.get(fields["job"])
            if (elements := queue.arrays.get(fields["job"])) is not None:
                raise UsageError(which_element(fields["job"], len(elements)))
            if job is None:
                raise _no_job(fields["job"], list(queue.jobs), queue.queue_id)
            attempt = fields.get("attempt") or job.attempt
            answer: Answer = {
                "job": fields["job"],
                "attempt": attempt,
                "newest": job.attempt,
                "status": job.status.value,
                # An interrupted queue goes on, here or elsewhere.
                "ended": job.status in ENDED or queue.status in QUEUE_ENDED,
                "attended": False,
                "running": False,
                "streams": {},
            }
            if job.reason:
                answer["why"] = job.reason
            offsets: Mapping[str, int] = fields["offsets"]
            if fields.get("to_come") and attempt in (0, job.attempt + 1):
                nothing = {"data": "", "size": 0}
                answer["streams"] = {name: {**nothing, "offset": 0} for name in offsets}
                return answer
            part = Range(fields.get("lines"), None, fields.get("since"))
            for name, offset in offsets.items():
                log, piece = _piece(store, queue, job, fields.get("attempt"), name, offset, part)
                answer |= {"attempt": log.attempt, "running": log.running}
                answer["streams"][name] = piece
        finally:
            store.close()
        answer["newest"] = max(job.attempt, answer["attempt"])
        return answer


def _piece(
    store: ResultStore,
    queue: StoredQueue,
    job: StoredJob,
    attempt: int | None,
    stream: Any,
    offset: int,
    part: Range,
) -> tuple[StoredLog, Answer]:
    from runner.results.download.stored_log import get_log

    with tempfile.TemporaryFile(buffering=0) as file:
        fd = file.fileno()
        log = get_log(store, queue, job, attempt, stream, fd, tempfile.gettempdir())
        begin = max(0, log.size + offset) if offset < 0 else min(offset, log.size)
        begin = max(begin, part.begin(fd, log.written))
        data = os.pread(fd, LOG_PIECE, begin)
    told = {"data": base64.b64encode(data).decode(), "offset": begin + len(data), "size": log.size}
    return log, told


def parse_seen(body: bytes, where: str) -> Mapping[str, Any]:
    """The state, as it was written; what isn't checked is left out."""
    name = f"{Layout.state_key} in {where} is no queue's state"
    state = decode(body, name)
    queue_name = read_state(state, name).queue_name
    told = _only(keys(StateFile), state)
    told["queue_name"] = queue_name
    of_job = keys(StateFileJob)
    told["jobs"] = [_only(of_job, job) for job in state["jobs"]]
    return told


def _only(known: Set[str], record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name in known}


def summary(seen: Seen) -> Answer:
    """The queue's fields, and how many jobs stand where."""
    state = seen.state
    counts = Counter(job["status"] for job in state["jobs"])
    told = {name: value for name, value in state.items() if name != "jobs"}
    told["counts"] = {status.value: counts[status.value] for status in JobStatus}
    told["jobs_total"] = len(state["jobs"])
    if seen.ended and any(_is_incomplete(job) for job in state["jobs"]):
        told["results_incomplete"] = True
    return told


def _is_incomplete(job: Mapping[str, Any]) -> bool:
    return job.get("results_uploaded") is False or job.get("logs_uploaded") is False


def page(seen: Seen, fields: Mapping[str, Any]) -> Answer:
    """What ``status`` answers."""
    answer: Answer = {"queue": summary(seen)}
    if (limit := fields.get("limit")) == 0:
        return answer
    after, states = fields.get("after") or 0, fields.get("status")
    jobs: list[Answer] = []
    for index, job in enumerate(seen.state["jobs"][after:], after):
        if states and job["status"] not in states:
            continue
        if limit is not None and len(jobs) >= limit:
            answer["after"] = index
            break
        jobs.append(_row(job, seen))
    answer["jobs"] = jobs
    return answer


def _row(job: Mapping[str, Any], seen: Seen) -> Answer:
    row = dict(job)
    if "array" in row:
        row["array"] = {key: value for key, value in row["array"].items() if key != "elements"}
    if row["status"] == "running" and (since := _wall(row.get("started_at"))) is not None:
        written = _wall(seen.state.get("updated_at"))
        row["elapsed_seconds"] = max(0.0, (written or since) - since)
    return row


def _wall(text: Any) -> float | None:
    try:
        return parse_rfc3339(text)
    except (ValueError, TypeError):
        return None


def job(seen: Seen, name: str) -> Answer:
    """What ``job`` answers; its story is on the machine."""
    found = _find(seen, name)
    if found is None:
        raise _no_job(name, [each["job_id"] for each in seen.state["jobs"]], seen.queue_id)
    return {"job": _row(found, seen), "story": []}


def _find(seen: Seen, name: str) -> Mapping[str, Any] | None:
    """The record of a job, or that of an element made of what its array's tells."""
    job_id, index = split_name(name)
    for each in seen.state["jobs"]:
        if each["job_id"] == job_id:
            if index is None:
                return dict(each)
            return _element(each.get("array"), name, index)
    return None


def _element(array: Mapping[str, Any] | None, name: str, index: int) -> Mapping[str, Any] | None:
    for alike in array["elements"] if array is not None else ():
        if any(index in indices for indices in parse_indices(alike["indices"])):
            return {"job_id": name, **_only(keys(StateFileElements) - {"indices"}, alike)}
    return None


def story(store: str, seen: Seen, name: str) -> list[Answer]:
    """What is stored of a job's story, oldest first. Raises StoreError."""
    from runner.results.stored_events import read_events

    opened = open_store(store)
    try:
        found = read_events(opened, Layout(), str(seen.state["run_id"]))
    finally:
        opened.close()
    return [
        {"wall": each.wall, "job": each.job, "event": each.event, **each.detail}
        for each in found.events
        if each.job == name
    ]


def _no_job(name: str, names: Sequence[str], queue_id: str) -> RunnerError:
    hint = did_you_mean(name, names)
    return NotFoundError(f"there is no job {quoted(name)} in '{queue_id}'{hint}")


def plan(where: str | None, fields: Mapping[str, Any]) -> Answer:
    """What ``plan`` answers, of the document that is stored. Raises NotFoundError, StoreError."""
    if where is None:
        raise NotFoundError("it is not known where the queue's results are, and its document")
    from runner.results.journal import read_journal
    from runner.results.stored_growth import read_added
    from runner.results.stored_queue import read_queue
    from runner.service.query_table import page_of
    from runner.service.resume_from_store import stored_document, with_growth

    store = open_store(where)
    try:
        stored = journal = None  # where nothing has begun
        with suppress(NotFoundError):
            stored = read_queue(store, Layout())
        if stored is not None:
            journal = read_journal(store, Layout(), stored.run_id)
        # Of a queue on AWS Batch that was mended it is the corrected one.
        document = stored_document(store, None if journal is None else journal.document)
        if document is not None and stored is not None:
            added = journal.added if journal else read_added(store, Layout(), stored.state)
            document = with_growth(document, added)
    finally:
        store.close()
    if document is None:
        raise NotFoundError(f"there is no {Layout.document_key} in {where}")
    return page_of(document, fields.get("after") or 0, fields.get("limit"))


# -- before there is anything ------------------------------------------------------------------


def nothing_yet(
    request: str, queue_id: str, fields: Mapping[str, Any], before: Seen | None
) -> Answer:
    """What a queue that its machine hasn't begun yet answers to ``status`` or ``logs``.

    ``before``: what a run before it has left; a job of it that isn't completed has another attempt.
    """
    if request == "logs":
        nothing = {name: {"data": "", "offset": 0, "size": 0} for name in fields["offsets"]}
        return {
            "job": fields["job"],
            "attempt": fields.get("attempt") or _next_attempt(fields["job"], before),
            "newest": 0,
            "status": JobStatus.PENDING.value,
            "ended": False,
            "attended": True,
            "running": False,
            "streams": nothing,
        }
    queue: Answer = {
        "queue_id": queue_id,
        "queue_name": queue_id,
        "status": JobStatus.PENDING.value,
        "counts": {},
        "jobs_total": 0,
    }
    return {"queue": queue, "jobs": []}


def _next_attempt(name: str, before: Seen | None) -> int:
    job = _find(before, name) if before is not None else None
    if job is None:
        return 0
    done = job["status"] == JobStatus.COMPLETED.value
    return int(job.get("attempt") or 0) + (not done)
