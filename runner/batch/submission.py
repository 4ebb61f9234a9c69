"""Submissions on their way to AWS Batch: the intent first, then SubmitJob, once.

Owns what becomes of a SubmitJob that fails: whether it may have happened, is to be tried later, or
never can succeed. It knows no attempts: whoever submits decides what an answer means.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from runner.aws.batch import THROTTLED, Batch, may_have_happened
from runner.aws.errors import AwsError, ErrorKind
from runner.batch.attempt_records import AttemptRecords
from runner.batch.circuit_breaker import Circuit, CircuitBreaker
from runner.batch.names import MAX_OVERRIDES, MAX_SUBMISSION, overrides_length
from runner.batch.rate import CallRate
from runner.batch.records import BatchSubmission
from runner.results.store import RefusedError, StoreError

PER_SECOND = 40.0
"""SubmitJob: 50 a second for an account in a region (Batch User Guide, "Service quotas"), which is
not ours alone."""

AGAIN_AFTER = 10.0
"""Seconds after which a submission is tried again that could not be made."""

_LATER = frozenset({ErrorKind.PASSING, ErrorKind.EXPIRED, ErrorKind.NO_CREDENTIALS})


class JobSubmitted(NamedTuple):
    """Batch has it, under this id."""

    job_id: str


class AnswerLost(NamedTuple):
    """It may have happened: only ListJobs, or a claim, can tell."""

    why: str


class NotSubmitted(NamedTuple):
    """It didn't happen, and is worth another try after so many seconds; None: nobody wants it."""

    why: str | None
    seconds: float = AGAIN_AFTER


class SubmissionRefused(NamedTuple):
    """It didn't happen, and the same request never will."""

    why: str


SubmitAnswer = JobSubmitted | AnswerLost | NotSubmitted | SubmissionRefused


@dataclass(slots=True)
class Intended:
    """A submission to be made. Once ``withdrawn`` is set, what hasn't been sent is not."""

    token: str
    submission: BatchSubmission
    request: dict[str, Any]
    definition: dict[str, Any]
    withdrawn: threading.Event


class DefinitionRegistry:
    """The definitions of one region that are known to be there, by name."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def revision(self, definition: Mapping[str, Any]) -> str:
        """``name:revision`` of a definition, registered if it isn't there. Raises AwsError."""
        name = str(definition["jobDefinitionName"])
        with self._lock:
            if (known := self._known.get(name)) is None:
                found = self._batch.definition(name)
                known = (
                    self._batch.register(definition)
                    if found is None
                    else f"{name}:{found['revision']}"
                )
                self._known[name] = known
            return known

    def forget(self, name: str) -> None:
        """It isn't there any more: somebody has deregistered it."""
        with self._lock:
            self._known.pop(name, None)


class Submitter:
    """``closed``: nothing is sent once it is set. ``submit`` may be called by many threads."""

    def __init__(
        self,
        batch: Batch,
        records: AttemptRecords,
        definitions: DefinitionRegistry,
        rate: SharedRate,
        health: RegionHealth,
        closed: threading.Event,
    ) -> None:
        self._batch = batch
        self._records = records
        self._definitions = definitions
        self._rate = rate
        self._health = health
        self._closed = closed

    def submit(self, intended: Intended) -> SubmitAnswer:
        """Make the intent durable, and submit. Blocks; a throttled call is made again."""
        if (wait := self._health.take()) is not None:
            return NotSubmitted(self._health.away() or _TRIED, wait)
        try:
            self._records.put_submission(intended.token, intended.submission)
            revision = self._definitions.revision(intended.definition)
        except StoreError as error:
            self._health.silent(error)
            return NotSubmitted(f"{error}")
        except AwsError as error:
            return _unsubmitted(error)
        request = {**intended.request, "jobDefinition": revision}
        if (fault := too_long(request)) is not None:
            return SubmissionRefused(fault)
        while self._may_send(intended):
            try:
                job_id = self._batch.submit(request)
            except AwsError as error:
                self._health.told(error)
                if error.code in THROTTLED:
                    self._rate.throttled()
                    continue
                if may_have_happened(error):
                    return AnswerLost(str(error))
                if "JobDefinition" in str(error):
                    self._definitions.forget(str(intended.definition["jobDefinitionName"]))
                    if _is_gone(error):
                        return NotSubmitted(str(error), 0.0)
                return _unsubmitted(error)
            self._rate.went_well()
            self._health.told(None)
            return JobSubmitted(job_id)
        return NotSubmitted(None, 0.0)

    def _may_send(self, intended: Intended) -> bool:
        """Wait for its turn; whether it is still wanted."""
        left = self._rate.take()
        while left > 0:
            begun = time.monotonic()
            if intended.withdrawn.wait(min(left, 1.0)) or self._closed.is_set():
                return False
            left -= time.monotonic() - begun
        return not (self._closed.is_set() or intended.withdrawn.is_set())


class SharedRate:
    """A CallRate for several threads, with the clock's time and some jitter."""

    def __init__(
        self, per_second: float, burst: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = CallRate(per_second, burst)
        self._clock = clock
        self._lock = threading.Lock()

    def take(self) -> float:
        """Reserve a call: seconds until it may be made."""
        with self._lock:
            wait = self._rate.take(self._clock())
            return wait + (random.uniform(0, 0.5 / self._rate.per_second) if wait else 0.0)

    def throttled(self) -> None:
        """See CallRate."""
        with self._lock:
            self._rate.throttled()

    def went_well(self) -> None:
        """See CallRate."""
        with self._lock:
            self._rate.went_well()


_TRIED = "one submission is made first, to see whether AWS Batch answers"


class RegionHealth:
    """Whether a region answers: a CircuitBreaker for several threads, with the clock's time."""

    def __init__(
        self, breaker: CircuitBreaker, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._breaker = breaker
        self._clock = clock
        self._lock = threading.Lock()

    def take(self) -> float | None:
        """None: a call is to be made now; else seconds until another try, with some jitter."""
        with self._lock:
            now = self._clock()
            if self._breaker.take(now):
                return None
            return self._breaker.wait(now) + random.uniform(0, AGAIN_AFTER)

    def away(self) -> str | None:
        """Why nothing is to be submitted now; None: it may be."""
        with self._lock:
            now = self._clock()
            if self._breaker.circuit(now) is not Circuit.OPEN:
                return None
            wait = self._breaker.wait(now)
            return f"no answer: {self._breaker.why}; tried again in {wait:.0f} s"

    def told(self, error: Exception | None) -> None:
        """How a submission went: one that was throttled or refused was answered."""
        if error is not None and is_silence(error):
            self.silent(error)
        else:
            with self._lock:
                self._breaker.succeeded()

    def silent(self, error: Exception) -> None:
        """How another call failed: that such calls are answered tells nothing of submissions."""
        with self._lock:
            if is_silence(error):
                self._breaker.failed(self._clock(), str(error))


def is_silence(error: Exception) -> bool:
    """Whether a call has failed because a service wasn't there, or could not do it for now."""
    if isinstance(error, AwsError):
        return error.kind is ErrorKind.PASSING and error.code not in THROTTLED
    return isinstance(error, StoreError) and not isinstance(error, RefusedError)


def too_long(request: Mapping[str, Any]) -> str | None:
    """What Batch would refuse for its size, or accept and then fail: in words, with the limit."""
    told = request.get("ecsPropertiesOverride") or request.get("containerOverrides") or {}
    length = overrides_length(told)
    if length > MAX_OVERRIDES:
        return f"its overrides have {length:,} characters; AWS Batch takes {MAX_OVERRIDES:,}"
    size = overrides_length(request)
    if size > MAX_SUBMISSION:
        return f"its submission has {size:,} bytes; AWS Batch takes {MAX_SUBMISSION:,}"
    return None


def _unsubmitted(error: AwsError) -> SubmitAnswer:
    return NotSubmitted(str(error)) if error.kind in _LATER else SubmissionRefused(str(error))


def _is_gone(error: AwsError) -> bool:
    """Batch says it in a ClientException, which has no code of its own for it."""
    return "ACTIVE" in str(error) or "does not exist" in str(error)
