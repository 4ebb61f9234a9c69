"""The engine: one queue, one asyncio loop, one inbox. Only it touches the scheduler.

Every child's end, timer, request and upload becomes an event in the inbox. A step takes all that
are there, lets the scheduler decide, commits, and only then acts. Without room to commit nothing is
done: running jobs go on, and the step is tried again until it is on the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from runner.core import events as ev
from runner.core.actions import (
    Action,
    CollectResults,
    EndBackground,
    FetchInputs,
    FinishQueue,
    KeepFingerprint,
    RestoreOutputs,
    SaveCheckpoint,
    SendNotice,
    SignalTree,
    StartAttempt,
)
from runner.core.scheduler import Scheduler, StoryEntry
from runner.core.states import QueueStatus
from runner.engine.added_jobs import AddedJobs
from runner.engine.backend import AttemptBackend, AttemptFiles
from runner.engine.callbacks import owned
from runner.engine.clock import now
from runner.engine.commits import RETRY_COMMIT, Commits, Step
from runner.engine.context import EngineContext
from runner.engine.deadline_timer import DeadlineTimer
from runner.engine.disk_space import Space
from runner.engine.last_words import end_of_patience
from runner.engine.notices import Notices
from runner.engine.opening import LostSteps, opening_events
from runner.engine.process_backend import ProcessBackend
from runner.engine.start_blocks import NOT_ASKED, NOT_LOOKED, StartBlocks
from runner.engine.state_file_writer import StateFileWriter
from runner.errors import DiskError
from runner.store.database import TAKEN_OVER, Database

if TYPE_CHECKING:
    from runner.engine.queue_uploads import QueueUploads
    from runner.results.claim import SucceededError


class Engine:
    """Runs one queue to its end, to an interruption, or until it is detached."""

    def __init__(
        self,
        context: EngineContext,
        database: Database,
        scheduler: Scheduler,
        observe: Callable[[list[StoryEntry]], None] | None = None,
        *,
        brought_back: bool = False,
    ) -> None:
        self.scheduler = scheduler
        self.context = context
        self._database = database
        self._observe = observe
        self._lost_steps = LostSteps(database, brought_back)
        self._loop = loop = asyncio.get_running_loop()
        self._callback_context = owned(loop, self._on_failed_callback)
        self._space = Space(context.paths.root, context.disk_reserve)
        make = context.backend or ProcessBackend
        self.backend: AttemptBackend = make(context, scheduler, self.post, self._space.is_short)
        self._state_file_writer = StateFileWriter(context, scheduler, self._on_written)
        self._queue_uploads: QueueUploads | None = None
        if context.results is not None:
            from runner.engine.queue_uploads import QueueUploads

            self._queue_uploads = QueueUploads(
                context, scheduler, database, self.post, self._on_succeeded
            )
        ours = None if self._queue_uploads is None else self._queue_uploads.state
        self.files: AttemptFiles = self.backend.files(ours)
        self._inbox: list[ev.Event] = []
        self.notices = Notices(context, scheduler, self.post)
        self.added_jobs = AddedJobs(context, scheduler, self.post, self.request)
        acts = self._on_durable, self._break, self._say, self._on_succeeded
        self._commits = Commits(context, database, scheduler, self._later, *acts)
        at = partial(loop.call_at, context=self._callback_context)
        self._timer = DeadlineTimer(scheduler, at, self._on_deadline)
        self._scheduled = self._hold = self._closed = False
        self._start_blocks = StartBlocks(self._space, self._wake)
        self.succeeded: SucceededError | None = None
        self._finished: asyncio.Future[QueueStatus] = loop.create_future()

    # -- life --------------------------------------------------------------------------------

    async def run(
        self,
        *before: Callable[[ev.Now], ev.Event],
        hold: bool = False,
        starts_after: asyncio.Future[None] | None = None,
    ) -> QueueStatus:
        """Take the queue up and work on it; returns the status it ended or stopped with.

        ``before`` makes events that have to be applied before anything starts. With ``hold``
        nothing starts, and it returns as soon as every stop that was asked for is done. Until
        ``starts_after`` is done nothing new starts. Raises StateError if nothing can be stored.
        """
        # A step is tried again: nobody who holds the database's lock holds up the loop.
        self._database.wait_for_lock(0.0)
        self._callback_context.run(self._take_up, before, hold, starts_after)
        try:
            status = await asyncio.shield(self._finished)
        finally:
            self._stop_timers()
        timeout, away = self.context.upload_timeout, self.files.gave_up
        until = end_of_patience(status, self.scheduler.gone_at, timeout, away)
        await self.files.finish(status, until)
        await self.notices.settle(status, until)
        await self._last_words(status, until)
        await self.files.let_go()
        return status

    def _take_up(
        self,
        before: Sequence[Callable[[ev.Now], ev.Event]],
        hold: bool,
        starts_after: asyncio.Future[None] | None,
    ) -> None:
        self._hold = hold
        self._database.keep_room()
        self._start_blocks.wait_for(starts_after, NOT_LOOKED)
        if self._queue_uploads is not None:
            self._start_blocks.wait_for(self._queue_uploads.look(), NOT_ASKED)
        self.backend.warm_up()
        store = self.context.results
        described = None if store is None else store.describe()
        new_store = described is not None and described != self._database.meta().get("results")
        for event in opening_events(
            self.scheduler,
            self.backend,
            self._lost_steps,
            collects=store is not None,
            new_store=new_store,
            resting=hold and store is None,
        ):
            self.post(event)
        if hold:
            self.post(ev.StartsBlocked(now(), "no process works on this queue"))
        self._step()
        if new_store and described is not None and self._commits.unwritten is None:
            with suppress(DiskError):
                self._database.write_meta({"results": described})
        if self._queue_uploads is not None:
            self._queue_uploads.put_document_soon()
        self.backend.find_survivors()
        for make in before:
            self.post(make(now()))
        if (why := self._database.meta().get(TAKEN_OVER)) is not None and not hold:
            self.post(ev.InterruptRequested(now(), why, taken_over=True))
        self.backend.survivors_may_be_told()

    def apply_resting(self, make: Callable[[ev.Now], ev.Event]) -> None:
        """Apply one event and store it; no attempt is looked at and nothing starts."""
        scheduler = self.scheduler
        more = {"collects": False, "resting": True}
        opening = opening_events(scheduler, self.backend, self._lost_steps, **more)
        for event in (*opening, make(now())):
            scheduler.handle(event)
        changes = scheduler.take_changes()
        records = [(index, scheduler.jobs[index]) for index in changes.jobs]
        added, names = changes.added, scheduler.names
        self._database.commit(scheduler.queue, records, changes.story, names, added=added)
        self._state_file_writer.write_now()

    def detach(self) -> None:
        """Let go: jobs go on, the next session adopts them."""
        if not self._finished.done():
            self._finished.set_result(self.scheduler.queue.status)

    def close(self) -> None:
        """Give back every descriptor. The engine must not be used afterwards. Blocks."""
        self.stop()
        self.join()

    def stop(self) -> None:
        """Begin nothing more. What is under way in threads has been told to end."""
        self._closed = True
        self._commits.refuse("it was let go just now; try again")
        self._stop_timers()
        self._commits.stop()
        self.notices.stop()
        self._state_file_writer.stop()
        self.added_jobs.stop()
        self.backend.stop()
        self.files.stop()
        if self._queue_uploads is not None:
            self._queue_uploads.stop()

    def join(self) -> None:
        """Wait for the threads, and give back every descriptor. Blocks, in any thread."""
        self._commits.join()
        self.backend.join()
        self.files.join()
        if self._queue_uploads is not None:
            self._queue_uploads.join()

    async def _last_words(self, status: QueueStatus, until: float) -> None:
        """Write what is still unwritten; the projection is exact at the end, here and stored."""
        if self._queue_uploads is not None:
            await self._queue_uploads.settle(until)
        self._callback_context.run(self._commit_all)
        await self._commits.settle(until)
        last = await self._state_file_writer.finish()
        if self._queue_uploads is not None:
            await self._queue_uploads.put_last(last, until)
            self._callback_context.run(self._commit_all)
            await self._queue_uploads.let_go(status)

    def _commit_all(self) -> None:
        self._step()
        self._stop_timers()
        self._commits.commit(force=True)

    def now(self) -> ev.Now:
        """The moment, as events carry it."""
        return now()

    # -- the inbox ---------------------------------------------------------------------------

    def post(self, event: ev.Event) -> None:
        """Put an event into the inbox; it is handled in the next step."""
        self._inbox.append(event)
        self._wake()

    def _wake(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._soon(self._step)

    def _soon(self, call: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon(call, *arguments, context=self._callback_context)

    def _later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, call, context=self._callback_context)

    async def request(self, event: ev.Event, request_id: str | None = None) -> None:
        """Post an event and wait until what came of it is durable, with the request's id."""
        durable = self._commits.wait(request_id)
        self.post(event)
        await durable

    def carried_out(self, request_id: str) -> bool:
        """Whether a request with this id has been handled, in this session or before it."""
        return request_id in self._commits.requests

    def _step(self) -> None:
        self._scheduled = False
        inbox, self._inbox = self._inbox, []
        if self._commits.broken:
            return
        try:
            if not (self.scheduler.finished or self._hold):
                for blocked in self._start_blocks.news(self.scheduler):
                    self._commits.step.actions += self.scheduler.handle(blocked)
            postponed = self._handle(inbox)
        except Exception as error:
            # Half an event must not be stored: the next session begins with what was before it.
            self._break(error)
            return
        self._commits.handled()
        self._commits.commit()
        if postponed:
            self._inbox[:0] = postponed
            self._later(RETRY_COMMIT, self._wake)
        elif not self._closed:
            self._timer.arm()
        if self._hold and self.backend.all_found and not self.scheduler.stopping:
            self.detach()

    def _handle(self, inbox: list[ev.Event]) -> list[ev.Event]:
        """Apply events; returns those that have to wait: the record of attempts can't be read.

        An end that came before a stop stands, so nothing is stopped before it was looked for.
        """
        for number, event in enumerate(inbox):
            if isinstance(event, _MAY_STOP):
                try:
                    ended = list(self.backend.ended_already(event.now))
                except OSError:
                    return inbox[number:]
                for each in ended:
                    self.scheduler.handle(each)
            event = self.added_jobs.with_fan_out(event)
            self._commits.step.actions += self.scheduler.handle(event)
        return []

    def _on_durable(self, step: Step) -> None:
        self._state_file_writer.changed(step.changes.jobs, grown=bool(step.changes.added))
        self.files.wake()
        self.notices.noticed(step.changes.story)
        step.tell_waiters()
        for action in step.actions:
            self._act(action)
        if self._observe is not None and step.changes.story:
            self._observe(step.changes.story)

    def _say(self, event: str, **detail: str) -> None:
        """Tell whoever watches what can't be, or is not worth being, in the story itself."""
        if self._observe is not None:
            self._observe([StoryEntry(now().wall, None, event, detail or None)])

    def _break(self, error: BaseException) -> None:
        """The state can't be kept any more: stop working, leave the jobs alone."""
        self._commits.give_up(str(error))
        if not self._finished.done():
            self._finished.set_exception(error)
            self._finished.exception()  # a session that was closed before its run: nobody asks

    def _on_failed_callback(self, error: Exception) -> bool:
        """What it should have done nobody does any more; the next session begins with all of it."""
        if self._finished.done():
            return False
        self._break(error)
        return True

    def _on_deadline(self, due: bool) -> None:
        if due:
            self._inbox.append(ev.TimerFired(now()))
        self._step()

    def _stop_timers(self) -> None:
        self._timer.stop()
        self._commits.stop_timer()

    def _act(self, action: Action) -> None:
        match action:
            case StartAttempt():
                self.backend.start(action)
            case SignalTree(job, token, slot, kill):
                self.backend.signal(job, token, slot, kill)
            case EndBackground(job, token, _):
                self.backend.end_background(job, token)
            case RestoreOutputs(job, rebooted):
                self.files.restore_outputs(job, rebooted=rebooted)
            case CollectResults(job):
                self.files.collect(job)
            case FetchInputs(job):
                self.files.fetch_inputs(job)
            case SaveCheckpoint(job):
                self.files.save_checkpoint(job)
            case SendNotice(notice):
                self.notices.send(notice)
            case KeepFingerprint(job):
                self.files.keep_fingerprint(job)
            case FinishQueue(status):
                if not self._finished.done():
                    self._finished.set_result(status)

    def _on_succeeded(self, error: SucceededError) -> None:
        self._soon(self._end_for_successor, error)  # a thread may have called

    def _end_for_successor(self, error: SucceededError) -> None:
        """Another machine works on the queue: end what runs, and remember not to begin again."""
        if self.scheduler.finished or self._closed or self._hold:
            return
        self.succeeded = error
        if self.context.journal:
            # The attempts don't run here: they are the other driver's now.
            self.detach()
            return
        why = f"{error}; what is here stays"
        with suppress(DiskError):
            self._database.write_meta({TAKEN_OVER: why})
        self.post(ev.InterruptRequested(now(), why, taken_over=True))

    def _on_written(self) -> None:
        if self._queue_uploads is not None:
            self._queue_uploads.changed()

    def rendered(self) -> bytes:
        """queue-state.json as of this moment."""
        return self._state_file_writer.rendered()

    @property
    def trouble(self) -> str | None:
        """What keeps the state from being written, if anything does."""
        return self._commits.trouble or self._state_file_writer.error

    @property
    def exit_incomplete(self) -> bool:
        """Whether results, or the state, are missing from the store at the end."""
        uploads = self._queue_uploads
        return bool(uploads and uploads.error) or self.scheduler.incomplete


_MAY_STOP = (ev.TimerFired, ev.CancelRequested, ev.InterruptRequested, ev.SpotNotice)
