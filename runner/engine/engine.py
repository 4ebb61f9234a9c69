"""The engine: one queue, one asyncio loop, one inbox. Only it touches the scheduler.

Every child's end, timer, request and upload becomes an event in the inbox. A step takes all that
are there, lets the scheduler decide, commits, and only then acts. When there is no room to commit
nothing is done: running jobs go on, and the step is tried again until it is on the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from runner.core import events as ev
from runner.core.actions import (
    Action,
    CollectResults,
    EndBackground,
    FetchInputs,
    FinishQueue,
    RestoreOutputs,
    SaveCheckpoint,
    SignalTree,
    StartAttempt,
)
from runner.core.scheduler import Changes, Scheduler, StoryEntry
from runner.core.states import QUEUE_ENDED, JobStatus, QueueStatus
from runner.engine.backend import AttemptBackend
from runner.engine.callbacks import owned
from runner.engine.clock import now
from runner.engine.context import EngineContext
from runner.engine.disk_space import Space
from runner.engine.input_fetches import InputFetches
from runner.engine.process_backend import ProcessBackend
from runner.engine.state_file_writer import StateFileWriter
from runner.engine.state_uploads import StateUploads
from runner.engine.uploads import Uploads
from runner.errors import DiskError, StateError
from runner.results.claim import SucceededError
from runner.store.database import TAKEN_OVER, UNSTORED, Database

FLUSH_AFTER = 0.5
"""Seconds that a change which nothing depends on (a pid, an upload's end) may wait to be stored."""

RETRY_COMMIT = 0.5

LAST_WORDS = 30.0
"""Seconds in which the last logs and the last state of a session get to the store, or don't: of the
two minutes before a spot machine goes, jobs have had up to a minute."""

SPARE = 20.0
"""Seconds before a spot machine's announced end by which all is stored, if jobs ended earlier."""

NOT_LOOKED = "looks first whether the machine is about to be taken away"
NOT_ASKED = "asks the result store first whether another machine works on the queue"
_LOOKING = (NOT_LOOKED, NOT_ASKED)

LET_GO = 2.0
"""The same for a session whose jobs go on: the next one stores what this one hasn't."""


@dataclass(slots=True)
class _Step:
    """Changes and actions that wait for a commit."""

    changes: Changes = field(default_factory=Changes)
    actions: list[Action] = field(default_factory=list)
    done: list[asyncio.Future[None]] = field(default_factory=list)


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
        self._brought_back = brought_back
        self._loop = asyncio.get_running_loop()
        self._context = owned(self._loop, self._on_failed_callback)
        self._job_ids = [job.job_id for job in scheduler.document.jobs]
        self._space = Space(context.paths.root, context.disk_reserve)
        make = context.backend or ProcessBackend
        self.backend: AttemptBackend = make(context, scheduler, self.post, self._space.is_short)
        self._state_file_writer = StateFileWriter(context, scheduler, self._on_written)
        self._input_fetches = InputFetches(context, scheduler, self.post)
        self._uploads: Uploads | None = None
        if context.results is not None:
            self._uploads = Uploads(context, scheduler, self.post)
            if self._uploads.heartbeat is not None:
                self._uploads.state.on_succeeded = self._on_succeeded
        self._inbox: list[ev.Event] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._scheduled = False
        self._held = _Step()
        self._timer: asyncio.TimerHandle | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
        self._put_timer: asyncio.TimerHandle | None = None
        self._hold = False
        self._before_starts: list[tuple[asyncio.Future[None], str]] = []
        self._closed = False
        self._broken = False
        self._finished: asyncio.Future[QueueStatus] = self._loop.create_future()
        self._unwritten: str | None = None

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
        ``starts_after`` is done nothing new starts; all else goes its way. Raises StateError if
        the state can't be written any more.
        """
        # A step is tried again: nobody who holds the database's lock holds up the loop.
        self._database.wait_for_lock(0.0)
        self._context.run(self._take_up, before, hold, starts_after)
        try:
            status = await asyncio.shield(self._finished)
        finally:
            self._stop_timers()
        until = self._loop.time() + self._patience(status)
        if self._uploads is not None:
            await self._uploads.finish(status, until)
        await self._last_words(status, until)
        await self._input_fetches.finish()
        return status

    def _take_up(
        self,
        before: Sequence[Callable[[ev.Now], ev.Event]],
        hold: bool,
        starts_after: asyncio.Future[None] | None,
    ) -> None:
        self._hold = hold
        self._database.keep_room()
        self._wait_with_starts(starts_after, NOT_LOOKED)
        heartbeat = self._uploads.heartbeat if self._uploads is not None else None
        if heartbeat is not None:
            heartbeat.look()
            self._wait_with_starts(heartbeat.first_look, NOT_ASKED)
        self.backend.warm_up()
        store = self.context.results
        described = store.describe() if store is not None else None
        new_store = described is not None and described != self._database.meta().get("results")
        for event in self._opening(
            collects=store is not None, new_store=new_store, resting=hold and store is None
        ):
            self.post(event)
        if hold:
            self.post(ev.StartsBlocked(now(), "nobody works on this queue"))
        self._step()
        if new_store and described is not None and self._unwritten is None:
            with suppress(DiskError):
                self._database.write_meta({"results": described})
        if self._uploads is not None:
            # Not now: of a large queue it takes as long as many jobs' starts.
            self._put_timer = self._later(FLUSH_AFTER, self._put_document)
        self.backend.find_survivors()
        for make in before:
            self.post(make(now()))
        if (why := self._database.meta().get(TAKEN_OVER)) is not None and not hold:
            self.post(ev.InterruptRequested(now(), why, taken_over=True))
        self.backend.survivors_may_be_told()

    def _opening(
        self, *, collects: bool, new_store: bool = False, resting: bool = False
    ) -> list[ev.Event]:
        """The events a session begins with; they belong into one step.

        What ran in another boot went with it, whatever the slot file says: that is never synced,
        so a claim may be missing from it that was there before the power went.
        """
        scheduler, moment = self.scheduler, now()
        opening: list[ev.Event] = [
            ev.SessionOpened(moment, self.backend.boot_id, collects, new_store, resting)
        ]
        went_back = self._went_back(moment)
        if went_back is not None:
            opening.append(went_back)
        if scheduler.queue.boot_id == self.backend.boot_id:
            return opening
        for index in sorted(scheduler.live | scheduler.background):
            state = scheduler.jobs[index]
            if state.live is not None:
                lost = ev.Lost(machine=True)
                opening.append(ev.AttemptEnded(moment, index, state.live.token, lost))
            elif state.token is not None:
                opening.append(ev.BackgroundEnded(moment, index, state.token))
        return opening

    def _went_back(self, moment: ev.Now) -> ev.StateWentBack | None:
        """Whether what was durable once is missing: a lost log, a copy that was restored."""
        queue = self.scheduler.queue
        lost = self._database.missing_events(queue.run_id)
        starts = self.backend.newest_start()
        if not (lost or self._brought_back) and starts <= queue.starts:
            return None
        return ev.StateWentBack(moment, lost, starts, self._brought_back)

    def apply_resting(self, make: Callable[[ev.Now], ev.Event]) -> None:
        """Apply one event and store it; no attempt is looked at and nothing starts."""
        scheduler = self.scheduler
        for event in self._opening(collects=False, resting=True):
            scheduler.handle(event)
        scheduler.handle(make(now()))
        changes = scheduler.take_changes()
        records = [(index, scheduler.jobs[index]) for index in changes.jobs]
        self._database.commit(scheduler.queue, records, changes.story, self._job_ids)
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
        self._refuse_waiters("it was let go just now; try again")
        self._stop_timers()
        self._state_file_writer.stop()
        self.backend.stop()
        self._input_fetches.stop()
        if self._uploads is not None:
            self._uploads.stop()

    def join(self) -> None:
        """Wait for the threads, and give back every descriptor. Blocks, in any thread."""
        self.backend.join()
        self._input_fetches.join()
        if self._uploads is not None:
            self._uploads.join()

    def _patience(self, status: QueueStatus) -> float:
        """Seconds that a store which doesn't answer may hold up the end of a session."""
        if status in QUEUE_ENDED:
            timeout = self.context.upload_timeout
            # One that took all the results is not away: a request or two that hang are no reason.
            away = self._uploads is not None and self._uploads.gave_up
            return min(LAST_WORDS, timeout) if away else timeout
        if status is not QueueStatus.INTERRUPTED:
            return LET_GO
        gone_at = self.scheduler.gone_at
        return (
            LAST_WORDS if gone_at is None else max(LAST_WORDS, gone_at - SPARE - self._loop.time())
        )

    async def _last_words(self, status: QueueStatus, until: float) -> None:
        """Write what is still unwritten; the projection is exact at the end, here and stored."""
        if self._uploads is not None:
            if self._put_timer is not None:
                self._put_timer.cancel()
                self._put_document()
            await self._uploads.state.settle(until)
        self._context.run(self._commit_all)
        last = await self._state_file_writer.finish()
        if self._uploads is not None:
            await self._uploads.state.put_last(last, until)
            self._context.run(self._commit_all)
            self._note_unstored(self._uploads.state, status)
            if self._uploads.heartbeat is not None and status is not QueueStatus.RUNNING:
                await self._uploads.heartbeat.release()

    def _note_unstored(self, state: StateUploads, status: QueueStatus) -> None:
        """An ended queue whose last state isn't stored is taken up again for that."""
        why = state.error if status in QUEUE_ENDED and state.succeeded is None else None
        with suppress(StateError, DiskError):
            if (why or "") != self._database.meta().get(UNSTORED, ""):
                self._database.write_meta({UNSTORED: why or ""})

    def _commit_all(self) -> None:
        self._step()
        self._stop_timers()
        with suppress(DiskError):
            self._commit(force=True)

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
        """Also where another asks: what the engine does is done in its own context."""
        self._loop.call_soon(call, *arguments, context=self._context)

    def _later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, call, context=self._context)

    async def request(self, event: ev.Event) -> None:
        """Post an event and wait until what came of it is durable."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(done)
        self.scheduler.changes.urgent = True
        self.post(event)
        await done

    def _step(self) -> None:
        self._scheduled = False
        inbox, self._inbox = self._inbox, []
        if self._broken:
            return
        held = self._held
        try:
            self._check_starts()
            postponed = self._handle(inbox)
        except Exception as error:
            # Half an event must not be stored: the next session begins with what was before it.
            self._break(error)
            return
        held.done += self._waiters
        self._waiters.clear()
        self._commit()
        if postponed:
            self._inbox[:0] = postponed
            self._later(RETRY_COMMIT, self._wake)
        else:
            self._arm()
        if self._hold and self.backend.all_found and not self._stopping():
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
            self._held.actions += self.scheduler.handle(event)
        return []

    def _stopping(self) -> bool:
        jobs = self.scheduler.jobs
        return any((live := jobs[i].live) and live.stop for i in self.scheduler.live)

    def _commit(self, *, force: bool = False) -> None:
        if self._broken:
            return
        held = self._held
        _merge(held.changes, self.scheduler.take_changes())
        changes = held.changes
        if not (changes.urgent or (force and (changes.jobs or changes.story))):
            if (changes.jobs or changes.story) and self._flush_timer is None and not self._closed:
                self._flush_timer = self._later(FLUSH_AFTER, self._flush)
            return
        scheduler = self.scheduler
        try:
            self._database.commit(
                scheduler.queue,
                [(index, scheduler.jobs[index]) for index in changes.jobs],
                changes.story,
                self._job_ids,
            )
        except DiskError as error:
            self._on_disk_error(str(error))
            return
        except Exception as error:
            self._break(error)
            return
        if self._unwritten is not None:
            self._unwritten = None
            self._say("state_written_again")
            self._database.keep_room()
        self._held = _Step()
        self._state_file_writer.changed(changes.jobs)
        if self._uploads is not None:
            self._uploads.wake()
        self._input_fetches.wake()
        for future in held.done:
            if not future.done():
                future.set_result(None)
        for action in held.actions:
            self._act(action)
        if self._observe is not None and changes.story:
            self._observe(changes.story)

    def _flush(self) -> None:
        self._flush_timer = None
        if not self._closed:
            self._commit(force=True)

    def _say(self, event: str, **detail: str) -> None:
        """Tell whoever watches what can't be, or is not worth being, in the story itself."""
        if self._observe is not None:
            self._observe([StoryEntry(now().wall, None, event, detail or None)])

    def _on_disk_error(self, message: str) -> None:
        """Nothing of the step took effect. Running jobs go on; it is tried again."""
        if self._unwritten is None:
            self._say("state_not_written", why=message)
        self._unwritten = message
        if self._flush_timer is None:
            self._held.changes.urgent = True
            self._flush_timer = self._later(RETRY_COMMIT, self._flush)

    def _break(self, error: BaseException) -> None:
        """The state can't be kept any more: stop working, leave the jobs alone."""
        self._broken = True
        self._refuse_waiters(str(error))
        if not self._finished.done():
            self._finished.set_exception(error)

    def _on_failed_callback(self, error: Exception) -> bool:
        """What it should have done nobody does any more; the next session begins with all of it."""
        if self._finished.done():
            return False
        self._break(error)
        return True

    def _refuse_waiters(self, why: str) -> None:
        """Whoever waits for a step to be durable waits in vain."""
        for future in (*self._held.done, *self._waiters):
            if not future.done():
                future.set_exception(StateError(f"the queue could not be worked on: {why}"))
        self._waiters.clear()

    def _check_starts(self) -> None:
        """Block starts, or let them go on, before the scheduler is told anything else."""
        scheduler = self.scheduler
        if scheduler.finished or self._hold:
            return
        (why, space), told = self._why_no_starts(), scheduler.blocked
        # How full the disk is changes all the time; that it is full is told once.
        other = told in _LOOKING or space is not scheduler.short_of_space
        if bool(why) is not bool(told) or (other and why != told):
            self._held.actions += scheduler.handle(ev.StartsBlocked(now(), why, space))

    def _wait_with_starts(self, until: asyncio.Future[None] | None, why: str) -> None:
        if until is not None and not until.done():
            self._before_starts.append((until, why))
            # By the loop, after what was posted before: that is handled in a step of its own.
            until.add_done_callback(lambda _: self._wake())

    def _why_no_starts(self) -> tuple[str | None, bool]:
        """Why nothing may start now, and whether that is for want of space."""
        for until, why in self._before_starts:
            if not until.done():
                return why, False
        try:
            shortage = self._space.shortage()
        except OSError as error:
            return f"the disk does not tell its free space: {error.strerror}", False
        return shortage, shortage is not None

    def _arm(self) -> None:
        """Set the one timer for the earliest deadline."""
        due = self.scheduler.next_deadline()
        if self.scheduler.blocked:
            due = min(due or float("inf"), self._loop.time() + 1.0)
        if due is None or due == float("inf") or self._closed:
            return
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._on_timer, context=self._context)

    def _on_timer(self) -> None:
        self._timer = None
        due = self.scheduler.next_deadline()
        moment = now()
        if due is not None and due <= moment.mono:
            self._inbox.append(ev.TimerFired(moment))
        self._step()

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._flush_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._flush_timer = None

    # -- actions -----------------------------------------------------------------------------

    def _act(self, action: Action) -> None:
        match action:
            case StartAttempt():
                self.backend.start(action)
            case SignalTree(job, token, slot, kill):
                self.backend.signal(job, token, slot, kill)
            case EndBackground(job, token, _):
                self.backend.end_background(job, token)
            case RestoreOutputs(job, rebooted):
                if self._uploads is not None:
                    self._uploads.restoring.look(job, rebooted=rebooted)
            case CollectResults(job):
                if self._uploads is not None:
                    self._uploads.add(job)
            case FetchInputs(job):
                self._input_fetches.add(job)
            case SaveCheckpoint(job):
                if self._uploads is not None:
                    self._uploads.checkpoints.add(job)
            case FinishQueue(status):
                if not self._finished.done():
                    self._finished.set_result(status)

    def _put_document(self) -> None:
        """Let the store know which queue it holds."""
        self._put_timer = None
        if self._uploads is not None and not self._closed:
            self._uploads.state.put_document(self._database.document())

    def _on_succeeded(self, error: SucceededError) -> None:
        """A thread has called: what follows is done in the engine's context."""
        self._soon(self._end_for_successor, error)

    def _end_for_successor(self, error: SucceededError) -> None:
        """Another machine works on the queue: end what runs, and remember not to begin again."""
        if self.scheduler.finished or self._closed or self._hold:
            return
        why = f"{error}; what is here stays"
        with suppress(DiskError):
            self._database.write_meta({TAKEN_OVER: why})
        self.post(ev.InterruptRequested(now(), why, taken_over=True))

    def _on_written(self) -> None:
        if self._uploads is not None:
            self._uploads.state.changed()

    def rendered(self) -> bytes:
        """queue-state.json as of this moment."""
        return self._state_file_writer.rendered()

    @property
    def trouble(self) -> str | None:
        """What keeps the state from being written, if anything does."""
        return self._unwritten or self._state_file_writer.error

    @property
    def exit_incomplete(self) -> bool:
        """Whether results, or the state, are missing from the store at the end."""
        if self._uploads is not None and self._uploads.state.error:
            return True
        return any(
            state.incomplete and state.status is not JobStatus.PENDING
            for state in self.scheduler.jobs
        )


_MAY_STOP = (ev.TimerFired, ev.CancelRequested, ev.InterruptRequested, ev.SpotNotice)


def _merge(into: Changes, more: Changes) -> None:
    into.jobs |= more.jobs
    into.story += more.story
    into.urgent = into.urgent or more.urgent
