"""Jobs of AWS Batch that sessions before this one have submitted: found, adopted, or ended.

Owns when every attempt of the session before is accounted for, and what becomes of a submission
whose answer was lost. Jobs are found by their names, which hold the number of the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.batch.attempt_records import AttemptKey
from runner.batch.job_detail import ENDED
from runner.batch.names import job_prefix, start_of
from runner.batch.records import BatchClaim, Writer
from runner.core import events as ev
from runner.core.attempts import start_number, token_of
from runner.core.scheduler import Scheduler
from runner.engine.backend import Post
from runner.engine.batch.attempts import BatchAttempt
from runner.engine.batch.calls import BatchCalls
from runner.engine.batch.place import BatchPlace
from runner.engine.clock import now
from runner.model.elements import element_name

if TYPE_CHECKING:
    from runner.engine.batch.backend import BatchBackend

PATIENCE = 60.0
"""Seconds that a job may take to be listed after it was submitted. After that its start is made
void: if it appears all the same, its container finds no claim to take."""

SEARCH_AGAIN = 2.0
"""Seconds between two looks for a job that may have been submitted."""

RENEW_AFTER = (0.0, 5.0, 30.0)
"""Seconds after which the intent of a job that was adopted is looked at: it is to have our epoch,
which is known once the state was stored."""

STRAY = "the state of its queue knows nothing of it"


class ListedJob(NamedTuple):
    """A Batch job of the run: its own id, or a child's; ``parent``: the one that is ended;
    ``submission``: the token of its intent."""

    job_id: str
    parent: str
    submission: str
    ended: bool


class BatchSurvivors:
    """Of one session. ``backend`` follows and tells of what is found here."""

    def __init__(
        self,
        backend: BatchBackend,
        calls: BatchCalls,
        place: BatchPlace,
        scheduler: Scheduler,
        post: Post,
    ) -> None:
        self.all_found = False
        self._backend = backend
        self._calls = calls
        self._place = place
        self._scheduler = scheduler
        self._post = post
        self._waiting: set[str] = set()
        self._kept_up: set[str] = set()
        self._listing = True
        self._may_tell = False

    def find(self) -> None:
        """Account for every attempt of the session before; the state's first."""
        live = {}
        for index in sorted(self._scheduler.live):
            state = self._scheduler.jobs[index].live
            assert state is not None
            attempt = self._backend.track(index, state.attempt, state.token)
            attempt.adopted = True
            live[state.token] = attempt
        self._waiting = set(live)
        self._calls.insist(self._list, lambda found: self._on_listed(live, found))

    def _list(self) -> dict[str, ListedJob]:
        """The jobs of the run by the tokens of their attempts. Called in a thread. Raises AwsError,
        StoreError, RecordError."""
        scheduler, run_id = self._scheduler, self._scheduler.queue.run_id
        target = self._place.target
        queues = {target.queue_of(scheduler, job) for job in scheduler.given.jobs}
        found: dict[str, ListedJob] = {}
        for queue in sorted({target.job_queue, *queues}):
            for summary in self._place.batch.named(queue, job_prefix(run_id)):
                if start := start_of(run_id, str(summary.get("jobName", ""))):
                    found |= self._listed(token_of(run_id, start), summary)
        return found

    def _listed(self, token: str, summary: Mapping[str, Any]) -> dict[str, ListedJob]:
        job_id, ended = str(summary["jobId"]), summary.get("status") in ENDED
        if not summary.get("arrayProperties", {}).get("size"):
            return {token: ListedJob(job_id, job_id, token, ended)}
        submission = self._place.records.submission(token)
        entries = [] if submission is None else submission.entries()
        return {
            entry.token: ListedJob(f"{job_id}:{place}", job_id, token, ended)
            for place, entry in enumerate(entries)
        }

    def _on_listed(self, live: Mapping[str, BatchAttempt], listed: Mapping[str, ListedJob]) -> None:
        for token, attempt in live.items():
            self._adopt(attempt, listed.get(token))
        known = {listed[token].parent for token in live.keys() & listed.keys()}
        for token, job in listed.items():
            if job.parent not in known and not job.ended:
                known.add(job.parent)
                self._waiting.add(token)
                self._end_stray(token, job.parent)
        self._listing = False
        self._tell_if_all_found()

    def _adopt(self, attempt: BatchAttempt, job: ListedJob | None) -> None:
        records = self._place.records

        def look() -> tuple[BatchClaim | None, bool]:
            claim = records.claim(attempt.key)
            if claim is not None or job is not None:
                return claim, True
            # Of an array's elements only the first one's token is an intent's.
            return None, records.submission(attempt.token) is not None

        def looked(found: tuple[BatchClaim | None, bool]) -> None:
            claim, intended = found
            if claim is not None and claim.by is Writer.DRIVER:
                self._backend.voided(attempt, None)
            elif claim is not None:
                # Where it has ended its end is told instead.
                if job is None or not job.ended:
                    self._backend.on_claim(attempt, claim)
                self._backend.follow(attempt, claim.batch_job_id)
            elif job is not None:
                self._backend.follow(attempt, job.job_id)
                if not job.ended:
                    self._keep_up(job.submission)
                    self.accounted(attempt)
            elif intended or attempt.element:
                self.search([attempt], "the driver was killed while it was submitted")
            else:
                self._backend.voided(attempt, None)

        self._calls.insist(look, looked, lambda: not attempt.over)

    def _keep_up(self, submission: str) -> None:
        """A job that hasn't begun finds the intent of the driver before: it is ours once our epoch
        is known, which it is soon."""
        if submission in self._kept_up:
            return
        self._kept_up.add(submission)
        for seconds in RENEW_AFTER:
            self._calls.loop.call_later(seconds, self._renew, submission)

    def _renew(self, submission: str) -> None:
        epoch, records = self._scheduler.queue.epoch, self._place.records
        if not self._calls.closed:
            self._calls.insist(lambda: records.renew_submission(submission, epoch), lambda _: None)

    def _end_stray(self, token: str, job_id: str) -> None:
        """A job that the state knows nothing of: its start is made void, and it is ended."""
        batch, records = self._place.batch, self._place.records

        def end() -> None:
            if (submission := records.submission(token)) is not None:
                for entry in submission.entries():
                    index = entry.index
                    job = submission.job_id
                    name = job if index is None else element_name(job, index)
                    key = AttemptKey(name, entry.attempt, entry.token)
                    if records.void(key, STRAY).by is Writer.CONTAINER:
                        records.put_end(key, STRAY)
            batch.terminate(job_id, STRAY)

        def ended(_: None) -> None:
            self._post(ev.StrayEnded(now(), token, None))
            self._waiting.discard(token)
            self._tell_if_all_found()

        self._calls.insist(end, ended)

    # -- submissions whose answer was lost -----------------------------------------------------

    def search(
        self, attempts: Sequence[BatchAttempt], why: str, since: float | None = None
    ) -> None:
        """Look for the job of starts that may have been submitted together, for a while."""
        wanted = [attempt for attempt in attempts if not attempt.over]
        if not wanted:
            return
        loop, records = self._calls.loop, self._place.records
        begun = loop.time() if since is None else since
        for attempt in wanted:
            attempt.unanswered = True
        patience_over = loop.time() - begun >= PATIENCE

        def look() -> tuple[dict[str, ListedJob], list[BatchClaim | None]]:
            listed = (
                self._list()
                if len(attempts) > 1 or attempts[0].element
                else self._named(attempts[0])
            )
            found = {each.token: listed[each.token] for each in wanted if each.token in listed}
            if found:
                return found, []
            look_at = records.claim if not patience_over else partial(records.void, reason=why)
            return {}, [look_at(each.key) for each in wanted]

        def looked(answer: tuple[dict[str, ListedJob], list[BatchClaim | None]]) -> None:
            found, claims = answer
            for attempt in wanted:
                if (job := found.get(attempt.token)) is not None:
                    self._backend.follow(attempt, job.job_id)
                    self.accounted(attempt)
            for attempt, claim in zip(wanted, claims, strict=False):
                if claim is not None and claim.by is Writer.CONTAINER:
                    self._backend.on_claim(attempt, claim)
                elif claim is not None and (patience_over or not attempt.void):
                    self._backend.voided(attempt, why)
            if not found and not patience_over:
                loop.call_later(SEARCH_AGAIN, self.search, wanted, why, begun)

        self._calls.insist(look, looked, lambda: any(not each.over for each in wanted))

    def _named(self, attempt: BatchAttempt) -> dict[str, ListedJob]:
        """The job of one start, by its name."""
        run_id = self._scheduler.queue.run_id
        start = start_number(run_id, attempt.token)
        job = self._scheduler.document.jobs[attempt.job]
        queue = self._place.target.queue_of(self._scheduler, job)
        for summary in self._place.batch.named(queue, f"{job_prefix(run_id)}{start:x}-"):
            return self._listed(attempt.token, summary)
        return {}

    def accounted(self, attempt: BatchAttempt) -> None:
        """It is known what became of an attempt, or that its job still waits."""
        if attempt.token in self._waiting:
            self._waiting.discard(attempt.token)
            self._tell_if_all_found()

    def may_be_told(self) -> None:
        """What must come before SurvivorsTold has been posted."""
        self._may_tell = True
        self._tell_if_all_found()

    def _tell_if_all_found(self) -> None:
        if self._may_tell and not (self._listing or self._waiting or self.all_found):
            self.all_found = True
            self._post(ev.SurvivorsTold(now()))
