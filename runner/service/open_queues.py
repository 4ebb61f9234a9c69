"""A daemon's open queues: those that an Executor has opened, and adds jobs to over the socket.

Owns who has opened which, how one is opened, added to, and closed again when it has had nothing to
do for long. An open queue is worked on beside the queues that were submitted, and holds up none of
them. It stays open when its Executor has gone, however that went: its jobs go on, and another
Executor takes it over. What is idle is closed after ``open_queue_idle``, so that it holds neither a
machine nor its place for ever; the next job that its Executor adds opens it again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from runner.core import events as ev
from runner.core.states import ENDED, QueueState
from runner.engine.disk_space import Space
from runner.errors import (
    ConflictError,
    DocumentError,
    LockedError,
    RunnerError,
    StateError,
    UsageError,
)
from runner.model.document import FIT, JobSpec, QueueSpec
from runner.model.durations import LONGEST, format_duration
from runner.model.fields import ID_PATTERN
from runner.model.messages import quoted
from runner.model.settings import Settings
from runner.service.call_files import CallFiles
from runner.service.job_user import job_user
from runner.service.open_queue import (
    IDLE_KEY,
    MOST_KEY,
    OPEN_KEY,
    OWNER,
    Opener,
    database_of,
    is_open_queue,
    most_of,
)
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository
from runner.service.runs_here import check_runs_here
from runner.service.session import Session
from runner.store.database import Database

MOST_OPEN = 200
"""Open queues at once: each has a thread."""

TRIES = 50
TRY_AGAIN = 0.1
"""How often opening is tried where a session is just being left, and seconds between two tries."""

LOOK_EVERY = 30.0
"""Seconds between two looks at who has nothing to do."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Doors:
    """What open queues need of their daemon.

    ``session_of``: the session that works on a queue; ``act`` applies an event to a queue, whether
    it is worked on or not; ``until_left``: returns once the daemon has left a queue; ``handling``:
    held by whoever creates or changes a queue; ``accepting`` is called before one is created, and
    raises ConflictError on a machine that ends, ``taken_in`` once there is work for the daemon;
    ``changed``: done at the next change of a queue; ``why_not``: why a queue isn't taken up, if so.
    """

    session_of: Callable[[str], Session | None]
    act: Callable[[QueueEntry, Callable[[ev.Now], ev.Event]], Awaitable[None]]
    until_left: Callable[[str], Awaitable[None]]
    handling: Callable[[str], asyncio.Lock]
    accepting: Callable[[], None]
    taken_in: Callable[[str], None]
    changed: Callable[[], asyncio.Future[None]]
    why_not: Callable[[str], str | None]


class OpenQueues:
    """Of one daemon. On its loop."""

    def __init__(self, repository: QueueRepository, settings: Settings, doors: Doors) -> None:
        self._repository = repository
        self._settings = settings
        self._doors = doors
        self._openers: dict[str, Opener] = {}

    # -- opening -----------------------------------------------------------------------------

    async def open(self, queue_id: str, opener: Opener, most: int | None) -> dict[str, Any]:
        """Have a queue of this id that takes jobs, durably. Raises ConflictError for one that was
        made from a document, LockedError while another Executor has it."""
        if not re.fullmatch(ID_PATTERN, queue_id):
            raise UsageError(f"{quoted(queue_id)} is not an id: letters, digits, '.', '_' and '-'")
        notes = {MOST_KEY: "" if most is None else str(most), IDLE_KEY: ""}
        async with self._doors.handling(queue_id):
            self._claim(queue_id, opener)
            self._doors.accepting()
            created = not self._repository.exists(queue_id)
            if created:
                await asyncio.to_thread(self._check_room)
                await asyncio.to_thread(self._create, queue_id, notes)
            else:
                await self._check_open_queue(queue_id)
        if not created:
            await self._accept_jobs(queue_id, most, notes)
        self._doors.taken_in(queue_id)
        return await self._about(queue_id, created=created)

    def _claim(self, queue_id: str, opener: Opener) -> None:
        held = self._openers.get(queue_id)
        if held is not None and held.token != opener.token and held.alive:
            raise LockedError(
                f"queue '{queue_id}' is in use by an Executor (pid {held.pid}): give this one "
                "another name"
            )
        self._openers[queue_id] = opener

    def _check_room(self) -> None:
        entries = self._repository.entries()
        count = sum(is_open_queue(each.meta) and not each.ended for each in entries)
        if count >= MOST_OPEN:
            raise ConflictError(
                f"there are {count} open queues: at most {MOST_OPEN}; `runner close --queue ID` "
                "closes one"
            )

    async def _check_open_queue(self, queue_id: str) -> None:
        entry = await asyncio.to_thread(self._repository.find, queue_id)
        if entry.error:
            raise ConflictError(entry.error)
        if not is_open_queue(entry.meta):
            owner = entry.meta.get("owner")
            made = "made by a local Executor" if owner == OWNER else "made from a document"
            raise ConflictError(f"queue '{queue_id}' was {made}: give the Executor another name")

    def _create(self, queue_id: str, notes: Mapping[str, str]) -> None:
        document = QueueSpec(
            queue_id=queue_id,
            queue_name=queue_id,
            jobs=(),
            global_timeout=LONGEST,
            on_failure="continue",
            max_parallel_jobs=FIT,
        )
        repository = self._repository
        lock = repository.lock(queue_id, "runner daemon")
        try:
            more = {OPEN_KEY: OWNER, **notes}
            repository.create(document, "daemon", anonymous=False, notes=more, accepts_jobs=True)
            self.files_of(queue_id).prepare()
        finally:
            lock.release()

    async def _note(self, queue_id: str, notes: Mapping[str, str]) -> None:
        session = self._doors.session_of(queue_id)
        if session is not None:
            await session.look(lambda: database_of(session).write_meta(dict(notes)))
            return
        lock = self._repository.lock(queue_id, "runner daemon")
        try:
            await asyncio.to_thread(self._repository.note, queue_id, notes)
            await asyncio.to_thread(self.files_of(queue_id).prepare)
        finally:
            lock.release()

    async def _accept_jobs(self, queue_id: str, most: int | None, notes: Mapping[str, str]) -> None:
        """Open it, whatever becomes of the session that works on it meanwhile."""
        for tries in range(TRIES, 0, -1):
            try:
                session = self._doors.session_of(queue_id)
                if session is not None and await session.look(partial(_set_most, session, most)):
                    await self._doors.until_left(queue_id)
                    continue
                async with self._doors.handling(queue_id):
                    await self._note(queue_id, notes)
                entry = await asyncio.to_thread(self._repository.find, queue_id)
                await self._doors.act(entry, lambda now: ev.IntakeChanged(now, accepts=True))
            except (StateError, LockedError):
                # A session of it is just being left, and holds its lock for a moment.
                if tries == 1:
                    raise
                await asyncio.sleep(TRY_AGAIN)
                continue
            entry = await asyncio.to_thread(self._repository.find, queue_id)
            if entry.queue is not None and entry.queue.accepts_jobs and not entry.ended:
                return
        raise ConflictError(f"queue '{queue_id}' ends again and again: try later")

    async def _about(self, queue_id: str, *, created: bool) -> dict[str, Any]:
        return await asyncio.to_thread(self._read_about, queue_id, created)

    def _read_about(self, queue_id: str, created: bool) -> dict[str, Any]:
        paths = self._repository.queue_paths(queue_id)
        opened = Database(paths.database, read_only=True)
        try:
            jobs, event, run = opened.count_added(), opened.last_event(), opened.queue().run_id
        finally:
            opened.close()
        return {
            "queue_id": queue_id,
            "created": created,
            "jobs_total": jobs,
            "after": event,
            "run_id": run,
            "payloads": str(paths.payloads),
            "work_dir": str(paths.work),
            "job_user": job_user(self._settings).account.pw_name,
        }

    # -- adding ------------------------------------------------------------------------------

    async def add(self, name: str, opener: Opener, text: str) -> int:
        """Add jobs, durably; how many of them are new. Raises DocumentError with every fault,
        ConflictError where the queue takes none or has another job of the same id."""
        self._claim(name, opener)
        jobs = await asyncio.to_thread(_parsed, text)
        for tries in range(TRIES, 0, -1):
            session = await self._attended(name)
            state = await self._intake_of(session)
            if state is not None and state.accepts_jobs:
                try:
                    return await session.inside(partial(session.engine.added_jobs.add_once, jobs))
                except StateError:
                    if tries == 1:
                        raise
            elif await self._open_again(name, opener):
                continue
            # Its session is just being left.
            await asyncio.sleep(TRY_AGAIN)
        raise ConflictError(f"queue '{name}' ends again and again: try later")

    async def _intake_of(self, session: Session) -> QueueState | None:
        """The queue's state; None once its session has gone."""
        try:
            return await session.look(lambda: session.scheduler.queue)
        except StateError:
            return None

    async def _open_again(self, name: str, opener: Opener) -> bool:
        """Open what was closed when idle; False if it is open. Raises ConflictError for a queue
        that was closed because it was asked to be."""
        entry = await asyncio.to_thread(self._repository.find, name)
        if entry.error is None and entry.queue is not None and entry.queue.accepts_jobs:
            return False
        _check_opened(entry)
        if not entry.meta.get(IDLE_KEY):
            raise ConflictError(f"queue '{name}' is closed: it takes no more jobs")
        await self.open(name, opener, most_of(entry.meta))
        return True

    async def _attended(self, name: str) -> Session:
        """The queue's session, once it is there."""
        while True:
            changed = self._doors.changed()
            if (session := self._doors.session_of(name)) is not None:
                return session
            entry = await asyncio.to_thread(self._repository.find, name)
            _check_opened(entry)
            if entry.ended:
                await self._open_again(name, self._openers[name])
            elif (why := self._doors.why_not(name)) is not None:
                raise ConflictError(f"queue '{name}' takes no jobs now: {why}")
            else:
                # What comes to be between the look and the wait is seen in the next one.
                await asyncio.wait([changed], timeout=TRY_AGAIN)

    # -- closing -----------------------------------------------------------------------------

    def release(self, name: str) -> None:
        """Its Executor has closed it: another one may open it."""
        self._openers.pop(name, None)

    async def close_idle(self, sessions: Callable[[], list[Session]]) -> None:
        """Close what has had nothing to do for long, again and again."""
        idle = self._settings.open_queue_idle
        while True:
            await asyncio.sleep(min(LOOK_EVERY, idle / 4))
            for session in sessions():
                try:
                    await self._close_if_idle(session, idle)
                except (RunnerError, OSError) as error:
                    log.warning("open_queue_not_closed", queue=session.name, why=str(error))

    async def _close_if_idle(self, session: Session, idle: float) -> None:
        entry = await asyncio.to_thread(self._repository.entry, session.name)
        if not is_open_queue(entry.meta):
            return
        if await session.look(lambda: _close(session, idle)):
            told = f"nothing to do for {format_duration(idle)}"
            log.info("open_queue_closed", queue=session.name, why=told)

    # -- files -------------------------------------------------------------------------------

    def files_of(self, name: str) -> CallFiles:
        """The files of a queue's calls."""
        rights = job_user(self._settings).rights
        folder = self._repository.queue_paths(name).payloads
        space = Space(folder, self._settings.disk_reserve)
        return CallFiles(folder, rights, space.shortage)


def _check_opened(entry: QueueEntry) -> None:
    """Raise ConflictError for a queue that nobody has opened, or that can't be read for good."""
    if entry.error and not entry.passing:
        raise ConflictError(entry.error)
    if not (entry.error or is_open_queue(entry.meta)):
        raise ConflictError(f"queue '{entry.name}' was made from a document: it takes no jobs")


def _set_most(session: Session, most: int | None) -> bool:
    """Between two steps; whether the session has finished, and is about to be left."""
    if most is not None:
        session.scheduler.most = most
    return session.scheduler.finished


def _close(session: Session, idle: float) -> bool:
    """Between two steps: close the queue if it has been idle for so long; whether it has."""
    scheduler = session.scheduler
    queue = scheduler.queue
    busy = any(count for status, count in scheduler.counts.items() if status not in ENDED)
    if not queue.accepts_jobs or busy or time.monotonic() - queue.mono < idle:
        return False
    database_of(session).write_meta({IDLE_KEY: "1"})
    session.tell(lambda now: ev.IntakeChanged(now, accepts=False))
    return True


def _parsed(text: str) -> tuple[JobSpec, ...]:
    from runner.model.expansion.fan_out import parse_added

    empty = QueueSpec(
        queue_name="open", jobs=(), global_timeout=LONGEST, on_failure="continue", queue_id="open"
    )
    jobs = parse_added(text.encode("utf-8", "surrogatepass"), empty)
    check_runs_here(replace(empty, jobs=jobs))
    if any(job.array is not None or job.expands is not None for job in jobs):
        raise DocumentError(["jobs: arrays, and jobs that expand, can't be added"])
    return jobs
