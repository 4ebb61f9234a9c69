"""Acting on queues without a daemon: what `cancel`, `retry`, `pause`, `unpause` do then."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from runner.control.protocol import Peer
from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.errors import ConflictError, LockedError, UnreachableError
from runner.model.settings import Settings
from runner.service import request_table, requests
from runner.service.environment import callers
from runner.service.job_user import job_user
from runner.service.notices.hosts import courier_for
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository
from runner.service.read_throttle import ReadThrottle
from runner.service.request_fields import Fields
from runner.service.result_stores import prepared, wanted
from runner.service.session import WORK_DIR, RunContext, Session, apply_resting
from runner.service.views import StoredViews


def act(
    repository: QueueRepository, settings: Settings, request: str, fields: Fields
) -> dict[str, Any]:
    """Carry out one request in this process. Raises what the daemon would answer.

    Raises UnreachableError if another process has the queue, but doesn't answer on its socket.
    """
    host = _Resting(repository, settings)
    peer = Peer(os.getpid(), os.geteuid(), may_act=True)
    try:
        return asyncio.run(_answer(host, {"request": request, **fields}, peer))
    except LockedError as error:
        raise UnreachableError(f"{error}, which doesn't answer on its socket") from None
    finally:
        host.throttle.close()


async def _answer(host: requests.Host, message: dict[str, Any], peer: Peer) -> dict[str, Any]:
    return await request_table.answer(host, message, peer)


class _Resting(requests.Host):
    """A host of queues that no process works on."""

    def __init__(self, repository: QueueRepository, settings: Settings) -> None:
        self.repository = repository
        self.who = f"runner (pid {os.getpid()})"
        self.stored = StoredViews(repository.paths)
        self.throttle = ReadThrottle(lambda: False)
        self._settings = settings

    def session_of(self, name: str) -> Session | None:
        """See QueryContext."""
        return None

    def pending_action(self, name: str, owner: str | None) -> Mapping[str, str]:
        """See QueryContext."""
        return {}

    def changed(self) -> asyncio.Future[None]:
        """See Host."""
        return asyncio.get_running_loop().create_future()

    async def submit(self, raw: bytes, again: RunMode, batch: Any = None) -> dict[str, Any]:
        """See Host."""
        raise UnreachableError("there is no daemon to submit to")

    async def stop(self, *, interrupt: bool) -> None:
        """See Host."""
        raise UnreachableError("there is no daemon to stop")

    async def finish_uploads(self, entry: QueueEntry) -> None:
        """See Host."""
        await finish_uploads(self.repository, self._settings, entry)

    async def act_on_resting(self, entry: QueueEntry, make: Callable[[ev.Now], ev.Event]) -> None:
        """See Host."""
        if entry.queue is None:
            raise ConflictError(f"queue '{entry.name}' can't be read")
        from runner.service.batch_queues import BatchQueues

        batch = BatchQueues(self._settings, None, _say)
        try:
            plain = run_context_of(self._settings, entry)
            with batch.resting(self.repository, entry, plain) as context:
                await act_on_resting(self.repository, self._settings, entry, context, make)
        finally:
            batch.close()


def _say(note: str) -> None:
    print(f"runner: {note}", file=sys.stderr)


def run_context_of(settings: Settings, entry: QueueEntry) -> RunContext:
    """Where a queue's jobs ran, and with whose rights: a daemon's had its user's.

    Raises UsageError where those can't be had.
    """
    rights = job_user(settings).rights if entry.meta.get("owner") == "daemon" else None
    context = RunContext(callers(os.environ), entry.meta.get(WORK_DIR), rights)
    return replace(context, courier=courier_for(settings, context))


async def finish_uploads(
    repository: QueueRepository, settings: Settings, entry: QueueEntry
) -> None:
    """Take an ended queue up for nothing but its uploads, into the store it had last.

    Raises UsageError if that store can't be used, or if it never had one.
    """

    from runner.service.batch_queues import BatchQueues

    lock = repository.lock(entry.queue_id, "runner upload")
    try:
        want = wanted(repository.stored_document(entry.name), entry.meta.get("results"))
        if want.where is None:
            raise ConflictError(f"queue '{entry.name}' stores its results nowhere")
        store = await asyncio.to_thread(prepared, want, settings, _say)
        batch = BatchQueues(settings, None, _say)
        try:
            with batch.resting(repository, entry, run_context_of(settings, entry)) as context:
                context = replace(context, results=store)
                session = Session(repository, settings, entry.name, context)
                try:
                    await session.run()
                finally:
                    session.close()
        finally:
            batch.close()
    finally:
        lock.release()


async def act_on_resting(
    repository: QueueRepository,
    settings: Settings,
    entry: QueueEntry,
    context: RunContext,
    make: Callable[[ev.Now], ev.Event],
) -> None:
    """Apply a request to a queue no process works on: a cancel ends what may still run of it."""
    lock = repository.lock(entry.queue_id, "runner")
    try:
        if isinstance(make(ev.Now(0, 0)), ev.CancelRequested):
            session = Session(repository, settings, entry.name, context)
            try:
                await session.run(make, hold=True)
            finally:
                session.close()
        else:
            apply_resting(repository, settings, entry.name, context, make)
    finally:
        lock.release()
