"""How a queue stands, as its bucket says, for who waits: cheap, and of any size.

The state's head is enough: it is read only when it has changed, and never more than its first part.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from runner.aws.errors import AwsError, ErrorKind
from runner.core.states import JobStatus, QueueStatus
from runner.errors import StateError
from runner.model.records import decode, read
from runner.results.layout import Layout
from runner.targets.ec2.bucket import LaunchBucket

HEAD = 256 * 1024
"""Bytes: the whole state of a queue of some thousand jobs."""


@dataclass(frozen=True, slots=True)
class _Job:
    status: JobStatus
    results_uploaded: bool | None = None


@dataclass(frozen=True, slots=True)
class _Head:
    """What matters here of a state, of which there may be only the beginning."""

    status: QueueStatus
    reason: str | None = None
    updated_at: str | None = None
    results_incomplete: bool = False
    jobs: tuple[_Job, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueStanding:
    """``jobs``: how many stand where; empty for a queue that is too large to look at as a whole.

    ``incomplete``: it has ended, and not all that should be stored is. ``stored``: when, by S3.
    """

    status: str
    reason: str = ""
    updated_at: str = ""
    jobs: dict[str, int] = field(default_factory=dict)
    incomplete: bool = False
    stored: float | None = None

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")


def standing_of(head: bytes) -> QueueStanding | None:
    """What the first bytes of a queue-state.json say; None if they aren't one's."""
    try:
        state = read(_Head, _decoded(head), Layout.state_key)
    except StateError:
        return None
    jobs = Counter(job.status.value for job in state.jobs)
    # A state of an earlier version says it of its jobs only.
    incomplete = state.results_incomplete or any(j.results_uploaded is False for j in state.jobs)
    reason, updated = state.reason or "", state.updated_at or ""
    return QueueStanding(state.status.value, reason, updated, dict(jobs), incomplete)


def _decoded(head: bytes) -> Any:
    """The whole state, or the queue's own fields where the end of the jobs is missing."""
    try:
        return decode(head, Layout.state_key)
    except StateError:
        own, found, _ = head.partition(b',"jobs":[')
        if not found:
            raise
        return decode(own + b"}", Layout.state_key)


class StateOf:
    """The state below ``prefix``, asked for again and again."""

    def __init__(self, bucket: LaunchBucket, prefix: str) -> None:
        self._bucket = bucket
        self._key = f"{prefix}/{Layout.state_key}" if prefix else Layout.state_key
        self._etag = ""
        self._last: QueueStanding | None = None

    def look(self) -> QueueStanding | None:
        """How it stands now; None before there is a state. Raises AwsError."""
        try:
            head, self._etag, stored = self._bucket.part_of(self._key, HEAD, self._etag)
        except AwsError as error:
            if error.code in ("304", "NotModified"):
                return self._last
            if error.kind is ErrorKind.MISSING and error.code != "NoSuchBucket":
                return None
            raise
        self._last = standing_of(head)
        if self._last is not None:
            self._last = replace(self._last, stored=stored)
        return self._last
