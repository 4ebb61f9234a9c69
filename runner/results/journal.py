"""A queue's records in its result store, step by step: the truth of a driver without a disk.

Parts are numbered, and each is stored only where there is none of its number: of two drivers that
go on from the same part, one finds that it has been succeeded. Every so often, and as a session's
first, a part holds all records: to go on, the newest of those and what came after it are read.
Owns the form of a part; nothing of it is trusted when it is read.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any

from runner.core.events import Now
from runner.core.states import (
    JobState,
    QueueState,
    job_from_record,
    queue_from_record,
    to_record,
)
from runner.errors import StateError
from runner.model.queue import AddedJob
from runner.model.records import Count, Name, Rule, WallTime, decode, each_named, number, read
from runner.results.claim import SucceededError
from runner.results.escape import shown
from runner.results.layout import Layout
from runner.results.store import MAX_RECORD, ChangedError, ResultStore

VERSION = 1
GROWN = 2
"""The version of a part of a queue with added jobs, which an earlier runner must not pass over."""

WHOLE_EVERY = 256
"""Parts from one that holds all records to the next, at most."""

KEPT = 4 * WHOLE_EVERY
"""Parts that stay behind the newest: a driver that slept meanwhile is to find its number taken."""

_AT_ONCE = 16
"""Parts that are read at once."""

Jobs = Mapping[int, JobState]


@dataclass(frozen=True, slots=True)
class JournalPart:
    """The records that some steps have changed; where it names the ``document`` that they are of,
    all that differ from the default.

    ``writer``: the holder of the state folder that it is from; ``moment``: when it was made, by its
    driver's clocks.
    ``requests``: the ids of requests that have been carried out, and when (wall).
    """

    writer: str
    moment: Now
    queue: QueueState
    jobs: Jobs
    requests: Mapping[str, float] = field(default_factory=dict)
    document: str | None = None
    added: Mapping[int, AddedJob] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether nothing before it is needed."""
        return self.document is not None

    def encoded(self) -> bytes:
        """As it is stored."""
        told = {
            "version": GROWN if self.added else VERSION,
            "writer": self.writer,
            "wall": self.moment.wall,
            "mono": self.moment.mono,
            "document": self.document,
            "queue": to_record(self.queue),
            "jobs": {str(index): to_record(state) for index, state in self.jobs.items()},
            "requests": dict(self.requests),
        }
        if self.added:
            told["added"] = {str(at): [job.parent, job.text] for at, job in self.added.items()}
        text = json.dumps(told, separators=(",", ":"), ensure_ascii=False)
        return gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)


@dataclass(frozen=True, slots=True)
class _Stored:
    version: Count
    writer: Name
    wall: WallTime
    mono: Annotated[float, Rule(number(-(2**53)))]
    queue: Any
    jobs: Annotated[Mapping[str, Any], Rule(each_named(lambda value: value))]
    requests: Annotated[Mapping[str, float], Rule(each_named(number(0)))]
    document: Name | None = None
    added: Annotated[Mapping[str, Any], Rule(each_named(lambda value: value))] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class JournalState:
    """Where a journal stands after its part number ``last``; ``document``: the digest of the
    document whose jobs' records it has."""

    last: int
    moment: Now
    queue: QueueState
    jobs: dict[int, JobState]
    requests: dict[str, float]
    document: str
    added: tuple[AddedJob, ...] = ()

    def check(self, total: int) -> None:
        """Raise StateError unless the records are of so many jobs, or of fewer."""
        if any(index >= total for index in self.jobs):
            raise StateError("the journal has records of jobs that are not in its document")


def digest_of(document: str) -> str:
    """The name of a document by its content, in canonical form."""
    return hashlib.sha256(document.encode()).hexdigest()


def put_part(store: ResultStore, layout: Layout, run_id: str, seq: int, part: JournalPart) -> None:
    """Store a part, which is the journal's next. Again after a lost answer it is the same part.

    Raises SucceededError where another driver has stored one of this number, StoreError.
    """
    key = layout.journal_key(run_id, seq)
    try:
        store.swap_bytes(key, part.encoded(), None)
    except ChangedError:
        found = _part_at(store, key)
        if found is None or (found.writer, found.moment) != (part.writer, part.moment):
            raise _succeeded(store) from None


def own_last_part(store: ResultStore, layout: Layout, run_id: str, writer: str) -> int:
    """The number of a run's newest part, 0 for none. Raises SucceededError if another than
    ``writer`` has stored it, StoreError."""
    last = last_part(store, layout, run_id)
    if last:
        found = _part_at(store, layout.journal_key(run_id, last))
        if found is None or found.writer != writer:
            raise _succeeded(store)
    return last


def _part_at(store: ResultStore, key: str) -> JournalPart | None:
    raw = store.get_bytes(key)
    return None if raw is None else parse_part(raw, key)


def _succeeded(store: ResultStore) -> SucceededError:
    where = shown(store.describe())
    return SucceededError(f"another driver has gone on with the queue in {where}")


def last_part(store: ResultStore, layout: Layout, run_id: str) -> int:
    """The number of a run's newest part, 0 for none. Raises StoreError."""
    return max(_numbers(store, layout, run_id), default=0)


def _numbers(store: ResultStore, layout: Layout, run_id: str) -> set[int]:
    keys = (entry.key for entry in store.list(layout.journal_prefix(run_id)))
    # Deeper keys are no parts: a job's role may be able to write such (permissions.yaml).
    return {
        number
        for key in keys
        if (number := layout.journal_part_of(key)) and key == layout.journal_key(run_id, number)
    }


def read_journal(store: ResultStore, layout: Layout, run_id: str) -> JournalState | None:
    """Where a run stands; None if it has no journal. Blocks.

    Raises StateError for what no driver has written, or where a part is missing; StoreError.
    """
    last = last_part(store, layout, run_id)
    if not last:
        return None
    parts: list[JournalPart | None] = []

    def fetch(seq: int) -> JournalPart | None:
        key = layout.journal_key(run_id, seq)
        raw = store.get_bytes(key)
        if raw is None:
            return None  # an old one may have been removed
        return parse_part(raw, f"{key} in {store.describe()}")

    with ThreadPoolExecutor(min(_AT_ONCE, store.parallel + 1), "journal") as threads:
        below = last
        while below > 0 and not any(part is None or part.whole for part in parts):
            numbers = range(max(0, below - _AT_ONCE) + 1, below + 1)
            parts[:0] = threads.map(fetch, numbers)
            below = numbers[0] - 1
    begin = max((at for at, part in enumerate(parts) if part is not None and part.whole), default=0)
    needed = [part for part in parts[begin:] if part is not None]
    if len(needed) < len(parts) - begin:
        seq = below + 1 + next(at for at, part in enumerate(parts) if at >= begin and part is None)
        key = layout.journal_key(run_id, seq)
        raise StateError(f"{key} in {store.describe()} is missing: a part of the journal")
    jobs: dict[int, JobState] = {}
    requests: dict[str, float] = {}
    added: dict[int, AddedJob] = {}
    for part in needed:
        jobs |= part.jobs
        requests |= part.requests
        added |= part.added
    newest = needed[-1]
    document = needed[0].document
    if document is None:
        raise StateError(f"the journal in {store.describe()} does not say of which document it is")
    return JournalState(
        last, newest.moment, newest.queue, jobs, requests, document, _in_order(added)
    )


def parse_part(raw: bytes, name: str) -> JournalPart:
    """The part in stored bytes. Raises StateError, which begins with ``name``."""
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        text = unzip.decompress(raw, MAX_RECORD)
    except zlib.error:
        raise StateError(f"{name}: is not gzip") from None
    if not unzip.eof:
        raise StateError(f"{name}: is cut off, or far too long")
    told = read(_Stored, decode(text, name), name)
    if told.version not in (VERSION, GROWN):
        raise StateError(f"{name}: has version {told.version}, and this runner knows {GROWN}")
    queue = queue_from_record(told.queue, f"{name}: queue")
    moment = Now(told.wall, told.mono)
    jobs = _jobs(told.jobs, name)
    added = _added(told.added, name)
    return JournalPart(told.writer, moment, queue, jobs, told.requests, told.document, added)


def _jobs(told: Mapping[str, Any], name: str) -> dict[int, JobState]:
    found = {}
    for word, record in told.items():
        if not (word.isascii() and word.isdecimal()) or len(word) > 9:
            raise StateError(f"{name}: jobs: {shown(word)} is no job's number")
        found[int(word)] = job_from_record(record, f"{name}: job {word}")
    return found


def _added(told: Mapping[str, Any], name: str) -> dict[int, AddedJob]:
    found = {}
    for word, record in told.items():
        match record:
            case [str() | None as parent, str() as text] if word.isascii() and word.isdecimal():
                found[int(word[:9])] = AddedJob(text, parent)
            case _:
                raise StateError(f"{name}: added: {shown(word)} is no job that was added")
    return found


def _in_order(added: Mapping[int, AddedJob]) -> tuple[AddedJob, ...]:
    return tuple([added[at] for at in sorted(added)])


def remove_old_parts(store: ResultStore, layout: Layout, run_id: str, whole: int) -> None:
    """Remove what nobody needs behind the part number ``whole``, which holds all records.

    Raises StoreError.
    """
    for seq in sorted(_numbers(store, layout, run_id)):
        if seq <= whole - KEPT:
            store.delete(layout.journal_key(run_id, seq))
