"""What a daemon does on request: it accepts documents, and acts on queues that it works on or not.

Owns the answers of Host. It opens no session: what it has accepted, the service loop takes up.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.core.states import QueueStatus
from runner.errors import ConflictError, EndedElsewhereError, ExitCode, UsageError
from runner.model.document import QueueSpec, parse_document
from runner.model.settings import Settings
from runner.service import requests
from runner.service.batch_placement import BatchPlacement
from runner.service.batch_queues import BatchQueues, read_request
from runner.service.candidates import Candidates
from runner.service.garbage_collection import lastingly
from runner.service.machine_end import MachineEnd
from runner.service.offline import act_on_resting
from runner.service.open_queues import Doors, OpenQueues
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository
from runner.service.read_throttle import ReadThrottle
from runner.service.runs_here import check_runs_here
from runner.service.service_changes import ServiceChanges
from runner.service.service_stop import ServiceStop
from runner.service.session import RunContext, Session
from runner.service.spot_watch import SpotWatch
from runner.service.submission import Submission
from runner.service.supervisor import Supervisor, is_beside
from runner.service.views import StoredViews


class DaemonHost(requests.Host):
    """The host of all submitted queues of one state folder. ``context``: where jobs run now."""

    def __init__(
        self,
        repository: QueueRepository,
        settings: Settings,
        context: Callable[[], RunContext],
        batch: BatchQueues,
        candidates: Candidates,
        supervisor: Supervisor,
        spot: SpotWatch,
        end: MachineEnd,
        stop: ServiceStop,
        changes: ServiceChanges,
    ) -> None:
        self.repository = repository
        self.who = f"the daemon (pid {os.getpid()})"
        self.stored = StoredViews(repository.paths)
        self.throttle = ReadThrottle(lambda: bool(supervisor.sessions))
        self._settings = settings
        self._context = context
        self._batch = batch
        self._candidates = candidates
        self._supervisor = supervisor
        self._spot = spot
        self._end = end
        self._stop = stop
        self._changes = changes
        self._opened = self.open_queues = OpenQueues(
            repository,
            settings,
            Doors(
                session_of=self.session_of,
                act=self.act_on_resting,
                until_left=self._until_left,
                handling=supervisor.handling,
                accepting=end.call_off,
                taken_in=self._taken_in,
                changed=self.changed,
                why_not=self._why_not,
            ),
        )
        self._intake = Submission(
            repository, settings, context, batch, self.session_of, self._until_left
        )

    def session_of(self, name: str) -> Session | None:
        """See Host."""
        return self._supervisor.session_of(name)

    def pending_action(self, name: str, owner: str | None) -> Mapping[str, str]:
        """See QueryContext. Called in the reader's thread: it only looks things up."""
        if (trouble := self._candidates.trouble(name)) is not None:
            # What is damaged waits for a person, and not in the line.
            queued = {} if trouble.until is None else {"queued": self.who}
            return {**queued, "blocked": trouble.why}
        if owner != "daemon":
            return {}
        if (why := self._machine_leaves()) is not None:
            return {"blocked": why}
        behind = self._supervisor.behind
        if not behind or name in behind or is_beside(self.repository.entry(name).meta):
            return {"queued": self.who}
        one = "queue" if len(behind) == 1 else "one of the queues"
        names = ", ".join(f"'{each}'" for each in behind)
        broken = [f"'{each}'" for each in behind if not self._supervisor.attends(each)]
        more = f" (jobs of {', '.join(broken)} still run)" if broken else ""
        return {"queued": self.who, "blocked": f"waits for {one} {names} to end{more}"}

    def changed(self) -> asyncio.Future[None]:
        """See Host."""
        return self._changes.next()

    def news_of(self, name: str) -> asyncio.Future[None]:
        """See Host."""
        return self._changes.next_of(name)

    def close_idle_queues(self) -> asyncio.Task[None]:
        """The task that closes open queues which have had nothing to do for long."""
        return asyncio.create_task(self._opened.close_idle(lambda: self._supervisor.sessions))

    def _taken_in(self, name: str) -> None:
        self._candidates.forgive(name)
        self._changes.wake.set()

    def _why_not(self, name: str) -> str | None:
        if self._stop.stopping:
            return "the service ends"
        if (trouble := self._candidates.trouble(name)) is not None:
            return trouble.why
        return self._machine_leaves()

    async def submit(self, raw: bytes, again: RunMode, batch: Any = None) -> dict[str, Any]:
        """See Host."""
        place = None if batch is None else self._batch.wanted(read_request(batch))
        # A large document takes seconds: not on the loop.
        given = await asyncio.to_thread(lastingly, _accepted, raw, place is None)
        whole = _as_given if place is None else self._batch.stored_in
        try:
            async with self._intake.named(given, again, whole) as document:
                notes: list[str] = []
                if place is not None:
                    notes = await asyncio.to_thread(self._batch.check, document, place)
                anonymous = given.queue_id is None
                answer = await self._accept(document, again, place, anonymous=anonymous)
                return {**answer, "notes": notes} if place is not None else answer
        except EndedElsewhereError as error:
            # Not as an error: the outcome's code may be 0, and no error's is.
            return {
                "queue_id": given.queue_id,
                "created": False,
                "status": error.status,
                "elsewhere": str(error),
                "results_incomplete": error.exit_code is ExitCode.RESULTS_INCOMPLETE,
            }

    async def _accept(
        self, document: QueueSpec, again: RunMode, place: BatchPlacement | None, *, anonymous: bool
    ) -> dict[str, Any]:
        queue_id = str(document.queue_id)
        async with self._supervisor.handling(queue_id):
            # Before it is accepted: afterwards nobody may end the machine for want of work.
            self._end.call_off()
            created = again.fresh or not self.repository.exists(queue_id)
            await self._intake.accept(document, again, place, anonymous=anonymous)
        self._candidates.forgive(queue_id)
        self._changes.wake.set()
        # It is accepted, whatever the disk gives of it in this moment.
        entry = await asyncio.to_thread(self.repository.find, queue_id)
        status = entry.queue.status if entry.queue is not None else QueueStatus.PENDING
        work = str(self.repository.queue_paths(queue_id).work)
        answer = {"queue_id": queue_id, "created": created, "status": status.value}
        return {**answer, "work_dir": document.working_directory or work}

    async def _until_left(self, name: str) -> None:
        while self.session_of(name) is not None:
            change = self.changed()
            if self.session_of(name) is not None:
                await change

    async def finish_uploads(self, entry: QueueEntry) -> None:
        """See Host."""
        if entry.meta.get("owner") != "daemon":
            raise ConflictError(
                f"queue '{entry.name}' was run in the foreground: the same command finishes it"
            )
        self._candidates.forgive(entry.name)
        self._candidates.finishing.add(entry.name)
        self._changes.wake.set()
        while entry.name in self._candidates.finishing and not self._stop.stopping:
            if (why := self._machine_leaves()) is not None:
                raise ConflictError(f"nothing is taken up any more: {why}")
            if self._candidates.trouble(entry.name) is not None:
                break
            await self.changed()
        if (trouble := self._candidates.trouble(entry.name)) is not None:
            raise UsageError(trouble.why)

    async def act_on_resting(self, entry: QueueEntry, make: Callable[[ev.Now], ev.Event]) -> None:
        """See Host."""
        await self._act(entry, make, calls_off=True)

    async def note_on_resting(self, entry: QueueEntry, make: Callable[[ev.Now], ev.Event]) -> None:
        """Apply an event that is no work: the machine's end stays as it was planned."""
        await self._act(entry, make, calls_off=False)

    def store_again(self, name: str) -> None:
        """Have an ended queue taken up for its last state, which has changed since."""
        self._candidates.finishing.add(name)
        self._changes.wake.set()

    async def _act(
        self, entry: QueueEntry, make: Callable[[ev.Now], ev.Event], *, calls_off: bool
    ) -> None:
        async with self._supervisor.handling(entry.name):
            session = self.session_of(entry.name)
            if session is None:
                if calls_off:
                    self._end.call_off()
                # Of a large queue it takes seconds: on a loop of its own, beside those that run.
                await asyncio.to_thread(lastingly, asyncio.run, self._act_on_resting(entry, make))
        if session is not None:
            # It was taken up while we waited.
            await session.request(make)
            return
        self._changes.wake.set()
        self._changes.tell()

    async def _act_on_resting(self, entry: QueueEntry, make: Callable[[ev.Now], ev.Event]) -> None:
        with self._batch.resting(self.repository, entry, self._context()) as context:
            await act_on_resting(self.repository, self._settings, entry, context, make)

    async def stop(self, *, interrupt: bool) -> None:
        """See Host."""
        if interrupt:
            self._stop.end_jobs("interrupted by runner stop")
        else:
            self._stop.detach()

    def _machine_leaves(self) -> str | None:
        """Why nothing is taken up any more on this machine, if so."""
        return self._spot.leaving or self._end.over


def _accepted(raw: bytes, here: bool) -> QueueSpec:
    """The document, if it can run: where that is ``here``, on this machine. Raises
    DocumentError."""
    document = parse_document(raw, now=time.time())
    if here:
        check_runs_here(document)
    return document


def _as_given(document: QueueSpec) -> QueueSpec:
    return document
