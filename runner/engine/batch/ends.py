"""The ends of attempts on AWS Batch, judged once their jobs have ended.

Owns the two ways: by the claims and ends in the store that a job's containers keep, and by Batch's
word alone, of a job that carries no files (``staging: none``). Whoever follows the jobs is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner.batch.attempt_records import AttemptFacts
from runner.batch.job_detail import read_job
from runner.batch.records import Writer
from runner.engine.batch.attempts import BatchAttempt
from runner.engine.batch.place import BatchPlace
from runner.engine.batch.verdicts import (
    ClaimVerdict,
    EndVerdict,
    FollowVerdict,
    Verdict,
    VoidVerdict,
    judge,
    judge_plain,
)

if TYPE_CHECKING:
    from runner.engine.batch.backend import BatchBackend


class ClaimedEnds:
    """Of attempts whose containers keep records: see ``batch.records``."""

    def __init__(self, backend: BatchBackend, place: BatchPlace) -> None:
        self._backend = backend
        self._records = place.records

    def judge(self, attempt: BatchAttempt, detail: Mapping[str, Any] | None) -> None:
        """Its job has ended, or is forgotten: see what the store tells."""
        if attempt.judging:
            return
        attempt.judging = True
        job_id = attempt.batch_job

        def look() -> tuple[AttemptFacts, Verdict]:
            facts = self._records.facts(attempt.key)
            verdict = judge(facts, job_id, None if detail is None else read_job(detail))
            if not isinstance(verdict, ClaimVerdict):
                return facts, verdict
            # Nobody may begin it any more once that is decided.
            claim = self._records.void(attempt.key, attempt.reason)
            if claim.by is Writer.DRIVER:
                return facts, verdict.then
            return facts, FollowVerdict(claim.batch_job_id)

        self._backend.insist(attempt, look, lambda found: self._on_verdict(attempt, *found))

    def _on_verdict(self, attempt: BatchAttempt, facts: AttemptFacts, verdict: Verdict) -> None:
        attempt.judging = False
        match verdict:
            case FollowVerdict(job_id):
                self._backend.follow(attempt, job_id)
            case VoidVerdict():
                _void(self._backend, attempt, verdict)
            case EndVerdict():
                if facts.claim is not None:
                    self._backend.tell_started(attempt, facts.claim.at)
                self._backend.ended(attempt, verdict, facts)


class PlainEnds:
    """Of attempts that only Batch knows of."""

    def __init__(self, backend: BatchBackend) -> None:
        self._backend = backend

    def judge(self, attempt: BatchAttempt, detail: Mapping[str, Any] | None) -> None:
        """Its job has ended, or is forgotten: Batch's word stands."""
        job = None if detail is None else read_job(detail)
        verdict = judge_plain(job, asked=attempt.asked is not None)
        match verdict:
            case VoidVerdict():
                _void(self._backend, attempt, verdict)
            case EndVerdict():
                if job is not None and job.started is not None:
                    self._backend.tell_started(attempt, job.started)
                self._backend.ended(attempt, verdict)


def _void(backend: BatchBackend, attempt: BatchAttempt, verdict: VoidVerdict) -> None:
    if attempt.asked is not None:
        backend.voided(attempt, None)
    else:
        backend.voided(attempt, verdict.reason, verdict.delay, verdict.error)
