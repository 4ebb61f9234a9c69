"""``queue-state.json``: the state for people and for S3, in the guide's format.

It is a projection of the database, rendered in chunks that are kept: a large queue costs what has
changed, and between two chunks other work goes on. A snapshot is a copied list of frozen records,
so the file always shows one moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.core.states import JobState, QueueState
from runner.errors import disk_error
from runner.files import replace_file
from runner.timestamps import rfc3339

CHUNK = 64
"""Jobs per chunk: what is rendered anew for one that has changed, in half a millisecond."""

_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def job_view(job_id: str, state: JobState) -> dict[str, Any]:
    """One job as people see it: a field that says nothing is left out."""
    view = {
        "job_id": job_id,
        "status": state.status.value,
        "attempt": state.attempt,
        "started_at": rfc3339(state.started_at),
        "first_started_at": rfc3339(state.first_started_at),
        "completed_at": rfc3339(state.completed_at),
        "exit_code": state.exit_code,
        "signal": state.signal,
        "timed_out": state.timed_out or None,
        "pid": state.pid,
        "error_message": state.error_message,
        "reason": state.reason,
        "next_attempt_at": rfc3339(state.next_attempt_at),
        "interruptions": state.interruptions or None,
        "unannounced": state.unannounced or None,
        "duration_seconds": None if state.duration is None else round(state.duration, 3),
        "cpu_seconds": None if state.cpu_seconds is None else round(state.cpu_seconds, 3),
        "max_rss_bytes": state.max_rss_bytes,
        "oom_killed": state.oom_killed or None,
        "results_uploaded": state.results_uploaded,
        "logs_uploaded": state.logs_uploaded,
        "result_error": state.result_error,
        "stale_results": state.stale_results or None,
    }
    return {name: value for name, value in view.items() if value is not None}


def queue_view(queue_id: str, queue_name: str, queue: QueueState) -> dict[str, Any]:
    """The queue's own fields, without its jobs."""
    view = {
        "schema_version": 1,
        "queue_id": queue_id,
        "queue_name": queue_name,
        "run_id": queue.run_id,
        "status": queue.status.value,
        "reason": queue.reason,
        "started_at": rfc3339(queue.started_at),
        "updated_at": rfc3339(queue.updated_at),
        "completed_at": rfc3339(queue.completed_at),
        "results_incomplete": queue.incomplete or None,
        "paused": queue.paused or None,
        "resumed": queue.resumed,
        "worked_seconds": round(queue.worked, 3) or None,
    }
    return {name: value for name, value in view.items() if value is not None}


class Projection:
    """Renders one queue's state again and again, each time only the chunks that changed."""

    def __init__(self, queue_id: str, queue_name: str, job_ids: Sequence[str]) -> None:
        self._queue_id = queue_id
        self._queue_name = queue_name
        self._job_ids = job_ids
        self._chunks: list[bytes | None] = [None] * (-(-len(job_ids) // CHUNK))

    def touch(self, job: int) -> None:
        """The job's record has changed since the last rendering."""
        self._chunks[job // CHUNK] = None

    def render(self, queue: QueueState, jobs: list[JobState]) -> Iterator[list[bytes] | None]:
        """Yield None after each chunk's work, at last the pieces of the file.

        ``jobs`` is a snapshot of the caller's: a list that nobody changes.
        """
        head = _dumps(queue_view(self._queue_id, self._queue_name, queue))
        pieces = [head[:-1].encode("utf-8", "replace") + b',"jobs":[\n']
        for number in range(len(self._chunks)):
            chunk = self._chunks[number]
            if chunk is None:
                chunk = self._chunks[number] = self._render_chunk(number, jobs)
                yield None
            pieces.append(chunk)
            pieces.append(b",\n")
        pieces[-1] = b"\n]}\n"
        yield pieces

    def _render_chunk(self, number: int, jobs: list[JobState]) -> bytes:
        first = number * CHUNK
        ids = self._job_ids[first : first + CHUNK]
        views = (
            _dumps(job_view(job_id, state))
            for job_id, state in zip(ids, jobs[first : first + CHUNK], strict=True)
        )
        return ",\n".join(views).encode("utf-8", "replace")


def write_projection(path: Path, pieces: list[bytes]) -> None:
    """Replace the file, durably. The caller holds the queue's lock. Raises DiskError."""
    try:
        replace_file(path, pieces)
    except OSError as error:
        raise disk_error(path, error) from None
