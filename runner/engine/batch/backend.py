"""Attempts as jobs of AWS Batch: submitted, followed, ended, and what they tell as events.

Owns which job each attempt is, and when the store's records are looked at. Whose an attempt is, and
whether its end or a stop of ours came first, is decided in the store: see ``batch.records``. All
calls are made in threads; everything here runs on the session's loop.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from runner.batch.attempt_records import AttemptFacts, AttemptKey
from runner.batch.job_detail import ENDED, JobDetail, read_job
from runner.batch.names import is_of_run
from runner.batch.records import BatchClaim, Writer
from runner.batch.staging import Staging, staging_of
from runner.batch.submission import (
    AnswerLost,
    JobSubmitted,
    NotSubmitted,
    SubmissionRefused,
    SubmitAnswer,
)
from runner.core import events as ev
from runner.core.actions import StartAttempt
from runner.core.scheduler import Scheduler
from runner.core.states import ON_BATCH
from runner.engine.backend import AttemptFiles, Post, StoreOwnership
from runner.engine.batch.attempts import BatchAttempt
from runner.engine.batch.calls import BatchCalls
from runner.engine.batch.ends import ClaimedEnds, PlainEnds
from runner.engine.batch.files import BatchFiles
from runner.engine.batch.intents import given_job, together
from runner.engine.batch.outputs_before import OutputsBefore
from runner.engine.batch.place import BatchPlace
from runner.engine.batch.stops import BatchStops
from runner.engine.batch.survivors import BatchSurvivors
from runner.engine.batch.verdicts import EndVerdict, log_of
from runner.engine.clock import now
from runner.engine.context import EngineContext, MakeBackend
from runner.errors import RunnerError

CLAIM_AGAIN = 0.7
CLAIM_SELDOM = 15.0
"""Seconds between two looks for the claim of a job that runs, more each time: its files are being
staged."""

UNKNOWN_FOR = 120.0
"""Seconds after which a job that Batch doesn't know is taken for one that it has forgotten. A new
one may be unknown for a while."""

_T = TypeVar("_T")


class BatchBackend:
    """See AttemptBackend. ``place`` is prepared. Attempts are found by their tokens."""

    boot_id = ON_BATCH

    def __init__(
        self, place: BatchPlace, context: EngineContext, scheduler: Scheduler, post: Post
    ) -> None:
        self._place = place
        self._context = context
        self._scheduler = scheduler
        self._post = post
        self._records = place.records
        self._calls = BatchCalls(place.say)
        self._loop = self._calls.loop
        self._no_more = threading.Event()
        self._submitter = place.submitter(self._no_more)
        self._attempts: dict[str, BatchAttempt] = {}
        self._starting: list[StartAttempt] = []
        self._files: BatchFiles | None = None
        self._outputs_before = OutputsBefore(scheduler)
        self._stops = BatchStops(self, self._calls, place, scheduler)
        self._claimed = ClaimedEnds(self, place)
        self._plain = PlainEnds(self)
        self._survivors = BatchSurvivors(self, self._calls, place, scheduler, post)

    @property
    def all_found(self) -> bool:
        """See AttemptBackend."""
        return self._survivors.all_found

    def files(self, ownership: StoreOwnership | None) -> AttemptFiles:
        """See AttemptBackend."""
        self._files = BatchFiles(
            self._records, self._context, self._scheduler, self._post, ownership
        )
        return self._files

    def warm_up(self) -> None:
        """See AttemptBackend."""

    # -- start -------------------------------------------------------------------------------

    def start(self, action: StartAttempt) -> None:
        """Submit it, with the other starts of this step."""
        self.track(action.job, action.attempt, action.token)
        if not self._starting:
            self._loop.call_soon(self._submit_all)
        self._starting.append(action)

    def track(self, job: int, attempt: int, token: str) -> BatchAttempt:
        """Know of an attempt from now on."""
        document = self._scheduler.document
        spec = document.jobs[job]
        plain = staging_of(document, spec) is Staging.NONE
        made = BatchAttempt(job, AttemptKey(spec.job_id, attempt, token), plain)
        self._attempts[token] = made
        return made

    def _submit_all(self) -> None:
        starting, self._starting = self._starting, []
        if self._calls.closed:
            return
        wanted = [action for action in starting if action.token in self._attempts]
        for group in together(self._scheduler, wanted):
            self._submit([self._attempts[action.token] for action in group], group)

    def _submit(self, attempts: list[BatchAttempt], actions: list[StartAttempt]) -> None:
        logs = self._context.logs
        for attempt, action in zip(attempts, actions, strict=True):
            attempt.unanswered = True
            with suppress(OSError):  # they are only for looking at them here
                logs.rotate(attempt.key.job_id, action.previous)
                logs.leave_empty(attempt.key.job_id)
        restore = self._outputs_before.of(given_job(self._scheduler, actions[0]).job_id)
        withdrawn = attempts[0].withdrawn if len(attempts) == 1 else threading.Event()
        intended = self._place.intended(self._context, self._scheduler, restore, actions, withdrawn)
        self._calls.call(
            lambda: self._submitter.submit(intended),
            lambda answer: self._on_answer(attempts, answer),
        )

    def _on_answer(self, attempts: list[BatchAttempt], answer: SubmitAnswer) -> None:
        match answer:
            case JobSubmitted(job_id):
                self.follow_all(attempts, job_id)
            case AnswerLost(why):
                self._survivors.search(attempts, why)
            case NotSubmitted(why, seconds):
                for attempt in attempts:
                    self.voided(attempt, why, seconds)
            case SubmissionRefused(why):
                refused = EndVerdict(ev.NotRunnable(f"AWS Batch refuses it: {why}"))
                for attempt in attempts:
                    self.ended(attempt, refused)

    # -- follow ------------------------------------------------------------------------------

    def follow_all(self, attempts: Sequence[BatchAttempt], job_id: str) -> None:
        """Follow the job of a submission: of several attempts its children, in their order."""
        for place, attempt in enumerate(attempts):
            self.follow(attempt, job_id if len(attempts) == 1 else f"{job_id}:{place}")

    def follow(self, attempt: BatchAttempt, job_id: str) -> None:
        """Have the poller look at a job: it is the attempt's."""
        if self._calls.closed or attempt.over:
            return
        if attempt.batch_job is not None:
            self._place.poller.forget(attempt.batch_job)
        attempt.batch_job, attempt.unanswered = job_id, False
        if attempt.void:
            self._stops.end_void(attempt)
            return
        if attempt.plain and attempt.reason is not None:
            self._stops.end_plain(attempt, attempt.reason)  # it was asked for meanwhile
        self._place.poller.watch(job_id, self._calls.on_loop(partial(self._on_detail, attempt)))

    def _on_detail(
        self, attempt: BatchAttempt, job_id: str, detail: Mapping[str, Any] | None
    ) -> None:
        if attempt.over or self._calls.closed or attempt.batch_job != job_id:
            return
        if detail is None:
            since = attempt.missing_since or self._loop.time()
            attempt.missing_since = since
            if self._loop.time() - since >= UNKNOWN_FOR:
                self._ends_of(attempt).judge(attempt, None)
            return
        attempt.missing_since = None
        if not is_of_run(self._scheduler.queue.run_id, detail):
            why = f"its claim names the job {job_id} of AWS Batch, which is not one of its queue's"
            self.ended(attempt, EndVerdict(ev.Lost(machine=False, why=why)))
            return
        if detail.get("status") in ENDED:
            self._ends_of(attempt).judge(attempt, detail)
        elif detail.get("status") == "RUNNING":
            if attempt.plain:
                self._plain_runs(attempt, read_job(detail))
            else:
                self._look_for_claim(attempt)

    def _plain_runs(self, attempt: BatchAttempt, job: JobDetail) -> None:
        assert self._files is not None
        if (log := log_of(job)) is not None:
            self._files.in_stream(attempt.job, attempt.key.attempt, log)
        self.tell_started(attempt, job.started)

    def _ends_of(self, attempt: BatchAttempt) -> ClaimedEnds | PlainEnds:
        return self._plain if attempt.plain else self._claimed

    def _look_for_claim(self, attempt: BatchAttempt) -> None:
        if attempt.told or attempt.over or attempt.looking or attempt.judging or self._calls.closed:
            return
        attempt.looking = True

        def looked(claim: BatchClaim | None) -> None:
            attempt.looking = False
            if claim is not None:
                self.on_claim(attempt, claim)
                return
            attempt.looks += 1
            wait = min(CLAIM_SELDOM, CLAIM_AGAIN * 1.5**attempt.looks)
            self._loop.call_later(wait, self._look_for_claim, attempt)

        self.insist(attempt, lambda: self._records.claim(attempt.key), looked)

    def on_claim(self, attempt: BatchAttempt, claim: BatchClaim) -> None:
        """The claim was found: a container's means that it runs."""
        if attempt.over or attempt.told or claim.by is Writer.DRIVER:
            return
        attempt.claim = claim
        if claim.batch_job_id and claim.batch_job_id != attempt.batch_job:
            self.follow(attempt, claim.batch_job_id)
        self.tell_started(attempt, claim.at)

    def tell_started(self, attempt: BatchAttempt, at: float | None) -> None:
        """Its command began (wall time; None: now), once."""
        if attempt.told:
            return
        attempt.told = True
        moment = now()
        since = moment.mono - max(0.0, moment.wall - (moment.wall if at is None else at))
        self._post(
            ev.AttemptStarted(
                moment, attempt.job, attempt.token, None, since, attempt.adopted, keeps_time=True
            )
        )
        self._survivors.accounted(attempt)

    # -- the end -----------------------------------------------------------------------------

    def ended(
        self, attempt: BatchAttempt, end: EndVerdict, facts: AttemptFacts | None = None
    ) -> None:
        """Tell of the end of an attempt, once."""
        if not self._close_attempt(attempt):
            return
        assert self._files is not None
        self._files.remember(attempt.job, attempt.key, facts or AttemptFacts(), end.log)
        self._post(
            ev.AttemptEnded(
                now=now(),
                job=attempt.job,
                token=attempt.token,
                outcome=end.outcome,
                ended_at=end.ended_at,
                duration=end.duration,
                draw=random.random(),
                usage=end.usage,
                timed_out=end.timed_out,
                stands=end.stands,
            )
        )
        self._survivors.accounted(attempt)

    def voided(
        self,
        attempt: BatchAttempt,
        reason: str | None,
        delay: float = 0.0,
        error: str | None = None,
    ) -> None:
        """Tell that a start never came about, once."""
        if self._close_attempt(attempt):
            self._post(ev.AttemptVoided(now(), attempt.job, attempt.token, reason, delay, error))
            self._survivors.accounted(attempt)

    def insist(
        self, attempt: BatchAttempt, work: Callable[[], _T], done: Callable[[_T], None]
    ) -> None:
        """Ask until there is an answer, as long as the attempt is not over."""

        def failed(error: RunnerError) -> None:
            attempt.judging = attempt.looking = False
            self.ended(attempt, EndVerdict(ev.Lost(machine=False, why=str(error))))

        self._calls.insist(work, done, lambda: not attempt.over, failed)

    def _close_attempt(self, attempt: BatchAttempt) -> bool:
        if attempt.over or self._calls.closed:
            return False
        attempt.over = True
        if attempt.batch_job is not None:
            self._place.poller.forget(attempt.batch_job)
        self._attempts.pop(attempt.token, None)
        return True

    # -- signals -----------------------------------------------------------------------------

    def signal(self, job: int, token: str, slot: int, kill: bool) -> None:
        """Have its job ended."""
        if (attempt := self._attempts.get(token)) is not None:
            # Else its end is about to be told, or was.
            self._stops.stop(attempt, kill)

    def end_background(self, job: int, token: str) -> None:
        """Nothing outlives its container."""
        self._post(ev.BackgroundEnded(now(), job, token))

    # -- survivors ---------------------------------------------------------------------------

    def newest_start(self) -> int:
        """See AttemptBackend."""
        return self._place.starts

    def find_survivors(self) -> None:
        """See AttemptBackend."""
        self._survivors.find()

    def survivors_may_be_told(self) -> None:
        """See AttemptBackend."""
        self._survivors.may_be_told()

    def ended_already(self, moment: ev.Now) -> Iterator[ev.CommandEnded]:
        """None: whether an end came before a stop is decided by what is on record in the store."""
        return iter(())

    def stop(self) -> None:
        """Let go: jobs in Batch go on."""
        self._no_more.set()
        for attempt in self._attempts.values():
            if attempt.batch_job is not None:
                self._place.poller.forget(attempt.batch_job)
        self._calls.stop()

    def join(self) -> None:
        """See AttemptBackend."""
        self._calls.join()


def backend_of(place: BatchPlace) -> MakeBackend:
    """Makes the backend of a session at this place."""

    def make(
        context: EngineContext,
        scheduler: Scheduler,
        post: Post,
        short_of_space: Callable[[], bool],
    ) -> BatchBackend:
        return BatchBackend(place, context, scheduler, post)

    return make
