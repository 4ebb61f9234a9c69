"""Whose containers these are: the submission, the attempt in it, and the store of its records.

Owns what is read of the environment, and the order in which claims and ends are written: once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runner.batch.records import (
    BatchClaim,
    BatchEnd,
    BatchStored,
    BatchSubmission,
    SubmissionEntry,
    Writer,
    parse_claim,
    parse_end,
    parse_submission,
    to_bytes,
)
from runner.errors import RecordError, RunnerError, UsageError
from runner.model.elements import INDEX
from runner.results.layout import Layout, element
from runner.results.lease import parse_lease
from runner.results.store import ChangedError, RefusedError, ResultStore, StoreError
from runner.results.stores import is_s3, open_store

T = TypeVar("T")

LONGEST_PAUSE = 20.0
"""Seconds between two tries of what the store refused for now."""


class OvertakenError(RunnerError):
    """The attempt is not ours to run: another has its claim, or a later driver the queue."""

    def __init__(self, message: str, *, superseded: bool = False) -> None:
        super().__init__(message)
        self.superseded = superseded


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt, and the Batch job that is to run it."""

    submission: BatchSubmission
    entry: SubmissionEntry
    store: ResultStore
    token: str
    batch_job_id: str
    batch_attempt: int

    @property
    def name(self) -> str:
        """The job's id, of an array's element with its index."""
        return element(self.submission.job_id, self.entry.index)

    def filled(self, path: str) -> str:
        """A path of the job's with its array's index."""
        index = self.entry.index
        return path if index is None else path.replace(INDEX, str(index))

    def working_directory(self, work: Path) -> str:
        """Where COMMAND runs; ``work``: the folder of a job that names none."""
        named = self.submission.working_directory
        return os.path.join(work, self.filled(named)) if named else str(work)

    @property
    def results(self) -> tuple[str, ...]:
        """The patterns of result files."""
        return tuple(self.filled(each.path) for each in self.submission.result_paths)

    @property
    def kept(self) -> tuple[str, ...]:
        """These, and behind them the patterns of files that other jobs need."""
        outputs = (self.filled(each.path) for each in self.submission.output_paths)
        return (*self.results, *outputs)

    @property
    def optional(self) -> frozenset[str]:
        """Those of the patterns that may match nothing."""
        kept = (*self.submission.result_paths, *self.submission.output_paths)
        required = {self.filled(each.path) for each in kept if not each.optional}
        return frozenset(self.kept) - required

    def fresh_paths(self, fresh: str) -> tuple[str, ...]:
        """Those of the patterns with this word about files that were there before the job."""
        kept = (*self.submission.result_paths, *self.submission.output_paths)
        return tuple(self.filled(each.path) for each in kept if each.fresh == fresh)

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The patterns of what an attempt saves for the next."""
        return tuple(map(self.filled, self.submission.checkpoint_paths))

    # -- records ------------------------------------------------------------------------------

    def check_epoch(self) -> int:
        """The epoch of the intent as it is stored now. Raises OvertakenError, StoreError.

        A driver that takes the queue over stores its own epoch in the intents that it adopts.
        """
        held = parse_lease(self.store.get_versioned(Layout.lease_key))
        epoch = self.epoch()
        if held is not None and not held.released and held.epoch > epoch:
            raise OvertakenError(
                f"the queue is managed by a later driver (epoch {held.epoch}, and this submission "
                f"is of {epoch})",
                superseded=True,
            )
        return epoch

    def epoch(self) -> int:
        """The epoch of the intent as it is stored now. Raises StoreError."""
        data = self.store.get_bytes(Layout().submission_key(self.token))
        if data is None:
            raise StoreError(f"the submission {self.token} has gone from {self.store.describe()}")
        return parse_submission(data, self.token).epoch

    def look_at_claim(self, nonce: str) -> bool:
        """Whether it is claimed already, by us. Raises OvertakenError, StoreError."""
        key = Layout().claim_key(self.name, self.entry.attempt, self.entry.token)
        data = self.store.get_bytes(key)
        if data is None:
            return False
        found = parse_claim(data, key)
        if found.by is Writer.CONTAINER and found.nonce == nonce:
            return True
        who = f"Batch job {found.batch_job_id}" if found.batch_job_id else "its driver"
        raise OvertakenError(f"attempt {self.entry.attempt} of {self.name} is claimed by {who}")

    def claim(self, nonce: str) -> None:
        """Have the attempt. Raises OvertakenError, StoreError."""
        claim = BatchClaim(
            Writer.CONTAINER,
            self.entry.token,
            time.time(),
            nonce,
            self.batch_job_id,
            self.batch_attempt,
        )
        key = Layout().claim_key(self.name, self.entry.attempt, self.entry.token)
        try:
            self.store.swap_bytes(key, to_bytes(claim), None)
        except ChangedError:
            # Also after an answer that was lost.
            if not self.look_at_claim(nonce):
                raise StoreError(f"the claim of {self.name} came and went") from None

    def put_end(self, end: BatchEnd) -> BatchEnd:
        """The end that stands: this one, or that of who was first. Raises StoreError."""
        key = Layout().end_key(self.name, self.entry.attempt, self.entry.token)
        try:
            self.store.swap_bytes(key, to_bytes(end), None)
        except ChangedError:
            data = self.store.get_bytes(key)
            if data is None:
                raise StoreError(f"the end of {self.name} came and went") from None
            return parse_end(data, key)
        return end

    def put_stored(self, stored: BatchStored) -> None:
        """The last word. Raises StoreError."""
        key = Layout().stored_key(self.name, self.entry.attempt, self.entry.token)
        self.store.put_bytes(key, to_bytes(stored), durable=True)


def load_task(environment: Mapping[str, str], kept: Path) -> Task:
    """The task that the environment names; its intent is read from ``kept``, once it is there.

    Raises UsageError for an environment that can't be meant, RecordError, StoreError.
    """
    url = environment.get("RUNNER_SUBMISSION", "")
    where, mark, name = url.rpartition(f"/{Layout.submissions_prefix}")
    token = Layout().submission_of(f"{Layout.submissions_prefix}{name}")
    if not mark or token is None or not is_s3(where):
        raise UsageError(
            "RUNNER_SUBMISSION: is s3://bucket/prefix/submissions/TOKEN.json of the driver's"
        )
    store = open_store(where)
    data = kept.read_bytes() if kept.exists() else store.get_bytes(Layout().submission_key(token))
    if data is None:
        raise RecordError(f"{url}: there is no such submission")
    submission = parse_submission(data, url)
    place = _number(environment, "AWS_BATCH_JOB_ARRAY_INDEX") or 0
    return Task(
        submission,
        submission.entry(place),
        store,
        token,
        environment.get("AWS_BATCH_JOB_ID", ""),
        _number(environment, "AWS_BATCH_JOB_ATTEMPT") or 1,
    )


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise UsageError(f"{name}: is no number")
    return int(text)


def patiently(call: Callable[[], T], say: Callable[[str], None], until: float | None = None) -> T:
    """What the call gives, however often it has to be tried while the store is away.

    ``until``: monotonic time of the last try. Raises what is no store's error, and RefusedError.
    """
    tries, told = 0, ""
    while True:
        try:
            return call()
        except RefusedError:
            raise
        except StoreError as error:
            if until is not None and time.monotonic() > until:
                raise
            if str(error) != told:
                told = str(error)
                say(f"{told}; it is tried again")
        tries += 1
        time.sleep(min(0.5 * 2.0 ** min(tries, 10), LONGEST_PAUSE))


def say(text: str) -> None:
    """For people: a container's stderr is in its log."""
    os.write(2, f"runner: {text}\n".encode("utf-8", "backslashreplace"))
