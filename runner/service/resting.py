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
from runner.core.again import Again
from runner.errors import ConflictError, LockedError, UnreachableError
from runner.model.settings import Settings
from runner.service import requests
from runner.service.desk import Desk
from runner.service.environment import callers
from runner.service.fields import Fields
from runner.service.job_user import job_user
from runner.service.result_stores import prepared, wanted
from runner.service.session import WORK_DIR, Place, Session, apply_resting
from runner.service.shelf import Entry, Shelf
from runner.service.views import Stored


def act(shelf: Shelf, settings: Settings, request: str, fields: Fields) -> dict[str, Any]:
    """Carry out one request in this process. Raises what the daemon would answer.

    Raises UnreachableError if another process has the queue, but doesn't answer on its socket.
    """
    host = _Resting(shelf, settings)
    peer = Peer(os.getpid(), os.geteuid(), may_act=True)
    try:
        return asyncio.run(_answer(host, {"request": request, **fields}, peer))
    except LockedError as error:
        raise UnreachableError(f"{error}, which doesn't answer on its socket") from None
    finally:
        host.desk.close()


async def _answer(host: requests.Host, message: dict[str, Any], peer: Peer) -> dict[str, Any]:
    return await requests.answer(host, message, peer)


class _Resting(requests.Host):
    """A host of queues that nobody works on."""

    def __init__(self, shelf: Shelf, settings: Settings) -> None:
        self.shelf = shelf
        self.who = f"runner (pid {os.getpid()})"
        self.stored = Stored(shelf.paths)
        self.desk = Desk(lambda: False)
        self._settings = settings

    def session_of(self, name: str) -> Session | None:
        """See Place."""
        return None

    def outlook(self, name: str, owner: str | None) -> Mapping[str, str]:
        """See Place."""
        return {}

    def changed(self) -> asyncio.Future[None]:
        """See Host."""
        return asyncio.get_running_loop().create_future()

    async def submit(self, raw: bytes, again: Again) -> dict[str, Any]:
        """See Host."""
        raise UnreachableError("there is no daemon to submit to")

    async def stop(self, *, interrupt: bool) -> None:
        """See Host."""
        raise UnreachableError("there is no daemon to stop")

    async def finish_uploads(self, entry: Entry) -> None:
        """See Host."""
        await finish_uploads(self.shelf, self._settings, entry)

    async def act_on_resting(self, entry: Entry, make: Callable[[ev.Now], ev.Event]) -> None:
        """See Host."""
        if entry.queue is None:
            raise ConflictError(f"queue '{entry.name}' can't be read")
        await act_on_resting(
            self.shelf, self._settings, entry, place_of(self._settings, entry), make
        )


def place_of(settings: Settings, entry: Entry) -> Place:
    """Where a queue's jobs ran, and with whose rights: a daemon's had its user's.

    Raises UsageError where those can't be had.
    """
    rights = job_user(settings).rights if entry.meta.get("owner") == "daemon" else None
    return Place(callers(os.environ), entry.meta.get(WORK_DIR), rights)


async def finish_uploads(shelf: Shelf, settings: Settings, entry: Entry) -> None:
    """Take an ended queue up for nothing but its uploads, into the store it had last.

    Raises UsageError if that store can't be used, or if it never had one.
    """

    def say(note: str) -> None:
        print(f"runner upload: {note}", file=sys.stderr)

    lock = shelf.lock(entry.queue_id, "runner upload")
    try:
        want = wanted(shelf.stored_document(entry.name), entry.meta.get("results"))
        if want.where is None:
            raise ConflictError(f"queue '{entry.name}' stores its results nowhere")
        store = await asyncio.to_thread(prepared, want, settings, say)
        place = replace(place_of(settings, entry), results=store)
        session = Session(shelf, settings, entry.name, place)
        try:
            await session.run()
        finally:
            session.close()
    finally:
        lock.release()


async def act_on_resting(
    shelf: Shelf,
    settings: Settings,
    entry: Entry,
    place: Place,
    make: Callable[[ev.Now], ev.Event],
) -> None:
    """Apply a request to a queue nobody works on: a cancel ends what may still run of it."""
    lock = shelf.lock(entry.queue_id, "runner")
    try:
        if isinstance(make(ev.Now(0, 0)), ev.CancelRequested):
            session = Session(shelf, settings, entry.name, place)
            try:
                await session.run(make, hold=True)
            finally:
                session.close()
        else:
            apply_resting(shelf, settings, entry.name, place, make)
    finally:
        lock.release()
