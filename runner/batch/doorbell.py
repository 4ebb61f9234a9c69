"""EventBridge's events of jobs, out of a queue of SQS: a doorbell that says which to look at.

An event is believed for nothing but that: DescribeJobs tells what has become of the job, and one
that is lost costs time only. Owns what becomes of messages that are about no job that is followed
here. Facts: Batch User Guide, "Batch job state change events".
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated

from runner.aws.errors import AwsError
from runner.aws.sqs import BATCH, LONGEST_POLL, Sqs
from runner.batch.names import PREFIX
from runner.errors import RecordError
from runner.model.records import Rule, parse, text

HIDDEN = 10
"""Seconds for which a message is ours alone."""

GIVEN_BACK = 5
"""Receives after which a message about another driver's job is dropped: the queue may have one
driver only, and Batch's own looks go on."""

FIRST_RETRY = 2.0
LONGEST_RETRY = 60.0


@dataclass(frozen=True, slots=True)
class _Job:
    """``detail`` of an event."""

    job_id: Annotated[str, Rule(text, "jobId")]
    name: Annotated[str, Rule(text, "jobName")] = ""


@dataclass(frozen=True, slots=True)
class _Event:
    """What counts of one; those of other kinds have no such detail."""

    detail: _Job


class Doorbell:
    """``ring`` is told ids, and answers those that are followed here; ``hears`` is told whether
    events come. Both are called in the doorbell's thread. ``say`` takes why none come."""

    def __init__(
        self,
        sqs: Sqs,
        url: str,
        ring: Callable[[Collection[str]], Collection[str]],
        hears: Callable[[bool], None],
        say: Callable[[str], None],
        wait: int = LONGEST_POLL,
    ) -> None:
        self._sqs = sqs
        self._url = url
        self._ring = ring
        self._hears = hears
        self._say = say
        self._wait = wait
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batch-doorbell", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear nothing more. A poll under way is not waited for: what it is given comes again."""
        self._closed.set()

    def _run(self) -> None:
        delay, hears = FIRST_RETRY, False
        while not self._closed.is_set():
            try:
                self._take()
            except AwsError as error:
                if hears or delay == FIRST_RETRY:
                    self._say(f"no events of jobs: {error}; they are looked at as without them")
                self._hears(False)
                hears = False
                self._closed.wait(delay)
                delay = min(2 * delay, LONGEST_RETRY)
            else:
                delay = FIRST_RETRY
                if not hears and not self._closed.is_set():
                    hears = True
                    self._hears(True)

    def _take(self) -> None:
        """Raises AwsError."""
        # The first answer says whether there are rights: it isn't waited for.
        messages = self._sqs.receive(self._url, BATCH, self._wait, HIDDEN)
        if self._closed.is_set():
            for message in messages:
                self._sqs.keep(self._url, message.handle, 0)
            return
        jobs = {message.id: _job_of(message.body) for message in messages}
        ours = set(self._ring([job.job_id for job in jobs.values() if job is not None]))
        for message in messages:
            job = jobs[message.id]
            others = job is not None and job.job_id not in ours and job.name.startswith(PREFIX)
            if others and message.receives < GIVEN_BACK:
                self._sqs.keep(self._url, message.handle, 0)
            else:
                self._sqs.delete(self._url, message.handle)


def _job_of(body: str) -> _Job | None:
    try:
        return parse(_Event, body, "an event").detail
    except RecordError:
        return None
