"""``queue-state.json``: the state for people and for S3, in the guide's format.

It is a projection of the database, rendered in chunks that are kept: a large queue costs what has
changed, and between two chunks other work goes on. A snapshot is a copied list of frozen records,
so the file always shows one moment.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.core.states import JobState, NoticeState, QueueState, to_record
from runner.errors import disk_error
from runner.files import replace_file
from runner.model.elements import ArrayUnits
from runner.store.array_view import ArrayPart, file_view, part_of
from runner.timestamps import rfc3339

CHUNK = 64
"""Jobs per chunk: what is rendered anew for one that has changed, in half a millisecond."""

PART = 256
"""Elements of an array that are gone through again for one that has changed, as quickly."""

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
        "released": state.released or None,
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
        "accepts_jobs": queue.accepts_jobs or None,
        "resumed": queue.resumed,
        "worked_seconds": round(queue.worked, 3) or None,
        "notified": [notice_view(notice) for notice in queue.notices] or None,
    }
    return {name: value for name, value in view.items() if value is not None}


def notice_view(notice: NoticeState) -> dict[str, Any]:
    """One line of the outbox as people see it."""
    times = {name: rfc3339(getattr(notice, name)) for name in ("at", "told_at")}
    view = {**to_record(notice), **times}
    return {name: value for name, value in view.items() if value is not None}


class _Chunk:
    """Consecutive units of which one piece of the file is made: plain jobs, or a whole array.

    ``stale``: the parts that have changed since the rendering that ``text`` is of began; a chunk of
    plain jobs is one part. A change in the midst of a rendering belongs to the next one.
    """

    def __init__(self, first: int, array: ArrayUnits | None = None) -> None:
        self.first = first
        self.array = array
        self.text: bytes | None = None
        self.parts: list[ArrayPart | None] = [None] * -(-(array.size if array else 1) // PART)
        self.stale: set[int] = set()

    def begin(self) -> None:
        """A rendering begins: what is stale is made anew."""
        if self.stale:
            self.text = None
            for number in self.stale:
                self.parts[number] = None
            self.stale.clear()


class Projection:
    """Renders one queue's state again and again, each time only the chunks that changed.

    ``names`` are those of the units; the elements of each of ``arrays`` become one record.
    """

    def __init__(
        self,
        queue_id: str,
        queue_name: str,
        names: Sequence[str],
        arrays: Sequence[ArrayUnits] = (),
    ) -> None:
        self._queue_id = queue_id
        self._queue_name = queue_name
        self._names = names
        self._chunks: list[_Chunk] = []
        at = 0
        for array in arrays:
            self._chunks += [_Chunk(first) for first in range(at, array.first, CHUNK)]
            self._chunks.append(_Chunk(array.first, array))
            at = array.units.stop
        self._chunks += [_Chunk(first) for first in range(at, len(names), CHUNK)]
        self._firsts = [chunk.first for chunk in self._chunks]
        self._total = len(names)

    def grow(self) -> None:
        """There are more names at the end now, of plain jobs. Where one is of an array a new
        projection is needed."""
        first, self._total = self._total, len(self._names)
        if self._firsts and first < self._firsts[-1] + CHUNK:
            self._chunks[-1].stale.add(0)
            first = self._firsts[-1] + CHUNK
        for at in range(first, self._total, CHUNK):
            self._chunks.append(_Chunk(at))
            self._firsts.append(at)

    def touch(self, unit: int) -> None:
        """The unit's record has changed since the last rendering."""
        chunk = self._chunks[bisect_right(self._firsts, unit) - 1]
        chunk.stale.add((unit - chunk.first) // PART)

    def render(self, queue: QueueState, jobs: list[JobState]) -> Iterator[list[bytes] | None]:
        """Yield None after each chunk's work, at last the pieces of the file.

        ``jobs`` is a snapshot of the caller's: a list that nobody changes.
        """
        chunks, total = list(self._chunks), min(self._total, len(jobs))
        for chunk in chunks:
            chunk.begin()
        head = _dumps(queue_view(self._queue_id, self._queue_name, queue))
        pieces = [head[:-1].encode("utf-8", "replace") + b',"jobs":[\n']
        for number, chunk in enumerate(chunks):
            text = chunk.text
            if text is None:
                if chunk.array is None:
                    text = self._render_jobs(number, jobs, total)
                else:
                    parts: list[ArrayPart] = []
                    for part in self._parts_of(chunk, chunk.array, jobs):
                        parts.append(part)
                        yield None
                    text = _encoded(file_view(chunk.array.job.job_id, chunk.array.size, parts))
                chunk.text = text
                yield None
            pieces.append(text)
            pieces.append(b",\n")
        pieces[1 if len(pieces) == 1 else -1 :] = [b"\n]}\n"]
        yield pieces

    def _render_jobs(self, number: int, jobs: list[JobState], total: int) -> bytes:
        first = self._firsts[number]
        end = self._firsts[number + 1] if number + 1 < len(self._firsts) else total
        end = min(end, total)
        views = (
            _dumps(job_view(name, state))
            for name, state in zip(self._names[first:end], jobs[first:end], strict=True)
        )
        return ",\n".join(views).encode("utf-8", "replace")

    def _parts_of(
        self, chunk: _Chunk, array: ArrayUnits, jobs: list[JobState]
    ) -> Iterator[ArrayPart]:
        for number, part in enumerate(chunk.parts):
            if part is None:
                index = number * PART
                states = jobs[
                    array.first + index : min(array.first + index + PART, array.units.stop)
                ]
                part = chunk.parts[number] = part_of(index, states)
            yield part


def _encoded(view: Any) -> bytes:
    return _dumps(view).encode("utf-8", "replace")


def write_projection(path: Path, pieces: list[bytes], *, durable: bool = True) -> None:
    """Replace the file. The caller holds the queue's lock. Raises DiskError."""
    try:
        replace_file(path, pieces, durable=durable)
    except OSError as error:
        raise disk_error(path, error) from None
