"""What a driver and the containers of its jobs tell each other, as records in the queue's store.

Owns their form; the keys are `Layout`'s. Pure. In the order in which they are written:

- ``BatchSubmission``, the intent: by the driver, before SubmitJob. It is replaced only by a driver
  that adopts it, with its own epoch.
- ``BatchClaim``: by the container, before COMMAND; or by a driver that makes the start void.
- ``BatchEnd``: by the container, as soon as COMMAND has ended; or by a driver that is about to
  have the job ended, with its reason.
- ``BatchStored``: by the container, as its last act: what became of COMMAND, whoever wrote its
  end, and what is stored of it.

Claim and end are never written over: the first writer stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum, StrEnum
from typing import Annotated, Any

from runner.core.attempts import token_of
from runner.core.state_file import Told
from runner.errors import RecordError
from runner.model.fields import check_stored_job_id
from runner.model.records import Count, Name, Rule, Seconds, WallTime, parse, whole

SCHEMA_VERSION = 1

DEFAULT_SHELL = ("/bin/bash", "-c")

JobId = Annotated[str, Rule(check_stored_job_id)]
Version = Annotated[int, Rule(whole(1, SCHEMA_VERSION))]


@dataclass(frozen=True, slots=True)
class SubmissionEntry:
    """One attempt of a submission. ``index``: the array element's; None for a job without."""

    index: int | None
    attempt: int
    token: str
    first_started_at: float | None = None


@dataclass(frozen=True, slots=True)
class EntryRun:
    """``count`` entries in a row, each with the next index and the next number of a start.

    ``first_started_at``: wall time of the first attempt of all of them, None where this is it.
    """

    attempt: Told
    start: Annotated[int, Rule(whole(1))]
    index: Count | None = None
    count: Annotated[int, Rule(whole(1, 10_000))] = 1
    first_started_at: WallTime | None = None

    def entry(self, run_id: str, offset: int) -> SubmissionEntry:
        """The one that is so many after the first."""
        index = None if self.index is None else self.index + offset
        token = token_of(run_id, self.start + offset)
        return SubmissionEntry(index, self.attempt, token, self.first_started_at)


@dataclass(frozen=True, slots=True)
class StoredInput:
    """An element of ``input_paths``, its placeholders not filled in."""

    s3: str
    path: str


@dataclass(frozen=True, slots=True)
class StoredResult:
    """An element of ``result_paths`` or ``output_paths``."""

    path: str
    optional: bool = False
    fresh: str = "keep"


@dataclass(frozen=True, slots=True)
class OutputsOf:
    """A completed job whose files are brought back before COMMAND, as its manifest tells.

    ``indices``: which elements of it, where it is an array; ``elementwise``: the one with the index
    of the element that needs it. ``patterns``: its ``result_paths`` and ``output_paths``; a file
    that none of them matches isn't written. ``working_directory``: as the document names it.
    """

    job_id: JobId
    patterns: tuple[str, ...]
    working_directory: str | None = None
    indices: tuple[Count, ...] = ()
    elementwise: bool = False


@dataclass(frozen=True, slots=True)
class BatchSubmission:
    """All that the containers of a Batch job need to know, for one attempt or an array of them.

    ``store``: the queue's, as ``s3://bucket/prefix``; ``run_id`` and ``epoch`` are its driver's.
    ``timeout`` and ``term_grace`` are in seconds. ``working_directory``: as the document names it;
    None, or a relative one: below the work folder of the volume. ``env``: what the document sets,
    the queue's below the job's; ``secret_env``: the references of secrets. ``restore``: whose
    files COMMAND needs. ``runs``: the attempts, by their place in the array of this submission.
    In an array's paths and working directory ``{array_index}`` isn't filled in.
    """

    store: str
    run_id: Name
    epoch: Told
    queue_id: Name
    job_id: JobId
    runs: tuple[EntryRun, ...]
    command: str
    timeout: Seconds
    term_grace: Seconds
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_env: Mapping[str, str] = field(default_factory=dict)
    shell: tuple[str, ...] = ()
    working_directory: str | None = None
    result_paths: tuple[StoredResult, ...] = ()
    output_paths: tuple[StoredResult, ...] = ()
    checkpoint_paths: tuple[str, ...] = ()
    input_paths: tuple[StoredInput, ...] = ()
    inputs_in_timeout: bool = False
    restore: tuple[OutputsOf, ...] = ()
    image: str | None = None
    job_queue: str | None = None
    live_log_interval: Seconds = 30.0
    schema_version: Version = SCHEMA_VERSION

    @property
    def size(self) -> int:
        """How many attempts."""
        return sum(run.count for run in self.runs)

    def entries(self) -> Iterator[SubmissionEntry]:
        """Every attempt, by its place in the array of this submission."""
        for run in self.runs:
            for offset in range(run.count):
                yield run.entry(self.run_id, offset)

    def entry(self, place: int = 0) -> SubmissionEntry:
        """The attempt of the child with this AWS_BATCH_JOB_ARRAY_INDEX; 0 where there is no array.

        Raises RecordError if there are fewer.
        """
        left = place
        for run in self.runs:
            if left < run.count:
                return run.entry(self.run_id, left)
            left -= run.count
        raise RecordError(f"the submission of {self.job_id}: has {self.size} entries, none {place}")


def runs_of(numbered: Iterable[tuple[int | None, int, int, float | None]]) -> tuple[EntryRun, ...]:
    """The runs of attempts that are given as (index, attempt, start number, first start)."""
    runs: list[EntryRun] = []
    for index, attempt, start, first in numbered:
        if (
            runs
            and index is not None
            and _continues(last := runs[-1], index, attempt, start, first)
        ):
            grown = EntryRun(attempt, last.start, last.index, last.count + 1, first)
            runs[-1] = grown
        else:
            runs.append(EntryRun(attempt, start, index, 1, first))
    return tuple(runs)


def _continues(run: EntryRun, index: int, attempt: int, start: int, first: float | None) -> bool:
    expected = (run.attempt, run.start + run.count, run.first_started_at)
    return (
        run.index is not None
        and index == run.index + run.count
        and (attempt, start, first) == expected
    )


class Writer(StrEnum):
    """Who wrote a claim or an end."""

    CONTAINER = "container"
    DRIVER = "driver"


@dataclass(frozen=True, slots=True)
class BatchClaim:
    """Whose the attempt is. A driver's makes the start void: no container runs it any more.

    ``nonce``: the container's own, so that it knows its claim after an answer that was lost.
    ``batch_job_id``: the Batch job (``parent:i`` for an array's child) that the driver follows.
    ``at``: wall time.
    """

    by: Writer
    token: str
    at: WallTime
    nonce: str = ""
    batch_job_id: str = ""
    batch_attempt: Count = 0
    reason: str | None = None


class EndKind(StrEnum):
    """How COMMAND ended, or why a driver has it ended.

    ``killed``: its container went without a word, as for want of memory; ``stopped``: Batch asked
    for it (SIGTERM), and nobody had said why; ``unstaged``: an input can't be had, so there was no
    attempt, and nothing of one is stored.
    """

    EXIT = "exit"
    SIGNAL = "signal"
    TIMED_OUT = "timed_out"
    NOT_RUNNABLE = "not_runnable"
    UNSTAGED = "unstaged"
    KILLED = "killed"
    STOPPED = "stopped"
    REASON = "reason"


@dataclass(frozen=True, slots=True)
class CommandUsage:
    """Processor seconds, bytes of memory at the peak, processes killed for want of memory."""

    cpu_seconds: Seconds
    max_rss: Count
    oom_kills: Count = 0


@dataclass(frozen=True, slots=True)
class BatchEnd:
    """``code`` is the exit's, also of a command that was ended for its timeout or a reason, where
    it is known; ``signal`` likewise. ``message``: for people, of what could not be run or was
    killed. ``reason``: a driver's (``timeout``, ``cancelled``, ``interrupted`` …: its own words).
    ``ended_at`` is wall time; ``duration`` seconds since COMMAND began.
    """

    by: Writer
    token: str
    kind: EndKind
    ended_at: WallTime
    code: Annotated[int, Rule(whole(0, 255))] | None = None
    signal: str | None = None
    message: str | None = None
    reason: str | None = None
    started_at: WallTime | None = None
    duration: Seconds | None = None
    usage: CommandUsage | None = None


@dataclass(frozen=True, slots=True)
class BatchStored:
    """``end``: as the container saw it. ``ok``: logs and, after an exit with 0, results are stored.

    ``error``, ``missing``, ``stale``: as of an upload. ``checkpoint_files``: of the newest
    checkpoint, None where none was to be stored; ``checkpoint_error``: why it isn't this attempt's.
    ``restored``: files brought back before COMMAND; ``input_seconds``: what its inputs took.
    """

    token: str
    end: BatchEnd
    ok: bool
    error: str | None = None
    missing: bool = False
    stale: tuple[str, ...] = ()
    checkpoint_files: Count | None = None
    checkpoint_bytes: Count = 0
    checkpoint_error: str | None = None
    checkpoint_lost: str | None = None
    checkpoint_restored: Count = 0
    restored: Count = 0
    input_seconds: Seconds = 0.0
    only_volume: bool = False


def parse_submission(data: bytes, name: str = "a submission") -> BatchSubmission:
    """Raises RecordError, which begins with ``name``; also for one of a later version's."""
    return parse(BatchSubmission, data, name)


def parse_claim(data: bytes, name: str = "a claim") -> BatchClaim:
    """Raises RecordError, which begins with ``name``."""
    return parse(BatchClaim, data, name)


def parse_end(data: bytes, name: str = "an end") -> BatchEnd:
    """Raises RecordError, which begins with ``name``."""
    return parse(BatchEnd, data, name)


def parse_stored(data: bytes, name: str = "what is stored") -> BatchStored:
    """Raises RecordError, which begins with ``name``."""
    return parse(BatchStored, data, name)


def to_bytes(record: BatchSubmission | BatchClaim | BatchEnd | BatchStored) -> bytes:
    """The record as it is stored; what has its default is left out."""
    return json.dumps(_plain(record), ensure_ascii=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        told = ((each.name, getattr(value, each.name)) for each in fields(value))
        return {name: _plain(item) for name, item in told if item not in (None, (), {})}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
