"""One run's records of attempts in its result store, as a driver reads and writes them.

Owns that each is written once: what a lost answer leaves in doubt is read back. It knows keys and
records, and nothing of Batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeVar

from runner.batch.records import (
    BatchClaim,
    BatchEnd,
    BatchStored,
    BatchSubmission,
    EndKind,
    Writer,
    parse_claim,
    parse_end,
    parse_stored,
    parse_submission,
    to_bytes,
)
from runner.core.attempts import start_number
from runner.results.layout import Layout
from runner.results.store import ChangedError, ResultStore

_T = TypeVar("_T")


class AttemptKey(NamedTuple):
    """One start of an attempt: the job's name, the attempt's number, the start's token."""

    job_id: str
    attempt: int
    token: str


class AttemptFacts(NamedTuple):
    """What the store tells of a start; None for what isn't there."""

    claim: BatchClaim | None = None
    end: BatchEnd | None = None
    stored: BatchStored | None = None


class AttemptRecords:
    """Every method blocks, and may be called in any thread. All raise StoreError where the store
    doesn't answer, and RecordError for a record that nobody of ours can have written."""

    def __init__(self, store: ResultStore) -> None:
        self.store = store
        self._layout = Layout()

    def put_submission(self, token: str, submission: BatchSubmission) -> None:
        """Make an intent durable, before SubmitJob."""
        self._put_once(self._layout.submission_key(token), to_bytes(submission))

    def submission(self, token: str) -> BatchSubmission | None:
        """The intent of a submission; None: nothing was ever submitted."""
        name = self._layout.submission_key(token)
        data = self.store.get_bytes(name)
        return None if data is None else parse_submission(data, name)

    def renew_submission(self, token: str, epoch: int) -> None:
        """Take over the intent of a driver before: its containers believe a later epoch only."""
        submission = self.submission(token)
        if submission is not None and submission.epoch < epoch:
            renewed = to_bytes(replace(submission, epoch=epoch))
            self.store.put_bytes(self._layout.submission_key(token), renewed)

    def newest_start(self, run_id: str) -> int:
        """The highest number of a start of this run that the store knows; 0 for none."""
        tokens = map(
            self._layout.submission_of,
            (entry.key for entry in self.store.list(self._layout.submissions_prefix)),
        )
        return max((start_number(run_id, token) for token in tokens if token), default=0)

    def claim(self, key: AttemptKey) -> BatchClaim | None:
        """Whose a start is."""
        return self._read(self._layout.claim_key(*key), parse_claim)

    def void(self, key: AttemptKey, reason: str | None) -> BatchClaim:
        """Take a start's claim, so that no container ever runs it; returns whose it is now."""
        ours = BatchClaim(
            Writer.DRIVER, key.token, time.time(), nonce=os.urandom(8).hex(), reason=reason
        )
        if self._put_once(self._layout.claim_key(*key), to_bytes(ours)):
            return ours
        found = self.claim(key)
        assert found is not None  # nothing of ours removes one
        return found

    def end(self, key: AttemptKey) -> BatchEnd | None:
        """How a start ended, or why it is being ended."""
        return self._read(self._layout.end_key(*key), parse_end)

    def put_end(self, key: AttemptKey, reason: str) -> BatchEnd:
        """Make the reason of an end durable, unless it has ended before; returns what stands."""
        ours = BatchEnd(Writer.DRIVER, key.token, EndKind.REASON, time.time(), reason=reason)
        if self._put_once(self._layout.end_key(*key), to_bytes(ours)):
            return ours
        found = self.end(key)
        assert found is not None
        return found

    def facts(self, key: AttemptKey) -> AttemptFacts:
        """All there is. The end is read first: a claim and an end are never taken back."""
        end = self.end(key)
        claim = self.claim(key)
        stored = None
        if claim is not None and claim.by is Writer.CONTAINER:
            stored = self._read(self._layout.stored_key(*key), parse_stored)
        return AttemptFacts(claim, end, stored)

    def newest_token(self, run_id: str, job_id: str, attempt: int) -> str | None:
        """The newest start of an attempt that any container has claimed or ended."""
        found = []
        for entry in self.store.list(self._layout.attempts_prefix(job_id)):
            token = self._layout.record_token(job_id, entry.key)
            of_attempt = entry.key.startswith(f"{self._layout.attempts_prefix(job_id)}{attempt}/")
            if token is not None and of_attempt and (start := start_number(run_id, token)):
                found.append((start, token))
        return max(found)[1] if found else None

    def _read(self, name: str, parsed: Callable[[bytes, str], _T]) -> _T | None:
        data = self.store.get_bytes(name)
        return None if data is None else parsed(data, name)

    def _put_once(self, name: str, data: bytes) -> bool:
        """Whether ``data`` is what stands there: put now, or before an answer that was lost."""
        try:
            self.store.swap_bytes(name, data, None)
        except ChangedError:
            return self.store.get_bytes(name) == data
        return True
