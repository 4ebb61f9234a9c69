"""Which submitted queues a daemon may take up, in which order, and why it leaves others alone.

Owns what is known against a queue: it can't be read, or its result store can't be used for now. It
opens no session.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import structlog

from runner.core.states import QueueStatus
from runner.engine.trying import backoff
from runner.errors import RunnerError, StateError
from runner.host.machine_file import this_moment
from runner.model.settings import Settings
from runner.results.store import ResultStore, StoreError
from runner.service.result_stores import opened, prepared, wanted
from runner.service.shelf import Entry, Shelf
from runner.service.taking_over import Found, find
from runner.store.database import TAKEN_OVER

ASK_FOR = 300.0
"""Seconds after the machine's start for which a new queue waits for a store that doesn't answer."""

log = structlog.get_logger()


class _Refusal(NamedTuple):
    """``until``: on the monotonic clock; ``tries``: how often in a row."""

    why: str
    until: float
    tries: int


class Candidates:
    """``finishing``: ended queues that are taken up for nothing but their uploads."""

    def __init__(self, shelf: Shelf, settings: Settings) -> None:
        self.finishing: set[str] = set()
        self._shelf = shelf
        self._settings = settings
        self._broken: dict[str, str] = {}
        self._refused: dict[str, _Refusal] = {}

    def find_incomplete(self) -> None:
        """Take up what ended without its uploads."""
        for entry in self._shelf.entries():
            if entry.ended and entry.queue is not None and entry.queue.incomplete:
                self.finishing.add(entry.name)

    def __iter__(self) -> Iterator[Entry]:
        """Those that may be taken up now; uploads of ended queues are in nobody's way."""
        for entry in sorted(self._shelf.entries(), key=lambda entry: entry.ended):
            if entry.name not in self._broken and self.is_ours(entry) and not self._wait(entry):
                yield entry

    def is_ours(self, entry: Entry) -> bool:
        """Whether there is anything to do for a daemon."""
        if entry.error:
            self.drop(entry.name, entry.error)
            return False
        if entry.meta.get("owner") != "daemon" or entry.aside:
            return False
        if entry.meta.get(TAKEN_OVER) is not None:
            # What still runs of it is to be ended.
            return entry.queue is not None and entry.queue.status is QueueStatus.RUNNING
        return not entry.ended or entry.name in self.finishing

    def _wait(self, entry: Entry) -> float:
        refusal = self._refused.get(entry.name)
        return 0.0 if refusal is None else max(0.0, refusal.until - time.monotonic())

    def wait(self) -> float:
        """Seconds until a queue that was refused is to be tried again."""
        dues = [refusal.until for refusal in self._refused.values()]
        return max(0.0, min(dues, default=float("inf")) - time.monotonic())

    def store_of(self, entry: Entry) -> ResultStore | None:
        """The queue's result store. Blocks: a network may take a minute to say no.

        Raises RunnerError if its first job must not start before something is mended. What has
        started is to be adopted at once, and what it makes is kept until it can be stored.
        """

        def say(note: str) -> None:
            log.warning("result_store", queue=entry.name, note=note)

        want = wanted(self._shelf.stored_document(entry.name))
        if entry.queue is not None and entry.queue.status is QueueStatus.PENDING:
            return prepared(want, self._settings, say)
        return opened(want, self._settings)

    def begun_elsewhere(self, entry: Entry, store: ResultStore | None) -> Found | None:
        """The unfinished run of it in its store, if it is new here. Blocks.

        Raises StoreError where nobody can tell and the machine has just been started: a network
        that comes up late must not cost the work of days.
        """

        def say(note: str) -> None:
            log.warning("result_store", queue=entry.name, note=note)

        try:
            return find(self._shelf, entry, store, say)
        except StoreError as error:
            if this_moment().uptime < ASK_FOR:
                raise StoreError(f"nobody can tell if it was begun elsewhere: {error}") from error
            say(f"begun anew, for nobody can tell if it was begun elsewhere: {error}")
            return None

    def refuse(self, name: str, error: RunnerError) -> None:
        """Leave a queue alone for a while: seconds, growing to a minute.

        A network, a role's keys or a permission may be there in a moment, or when somebody is told.
        """
        if isinstance(error, StateError):
            self.drop(name, str(error))
            return
        self.finishing.discard(name)
        before = self._refused.get(name)
        tries = 1 if before is None else before.tries + 1
        wait = backoff(tries)
        self._refused[name] = _Refusal(str(error), time.monotonic() + wait, tries)
        log.error("queue_refused", queue=name, error=str(error), again_in=round(wait, 1))

    def drop(self, name: str, error: str) -> None:
        """Leave a queue alone until it is submitted again."""
        self._broken[name] = error
        self.finishing.discard(name)
        log.error("queue_unreadable", queue=name, error=error)

    def forgive(self, name: str) -> None:
        """Somebody has asked for the queue again, or it could be taken up."""
        self._broken.pop(name, None)
        self._refused.pop(name, None)

    def broken(self, name: str) -> str | None:
        """Why the queue won't be taken up at all."""
        return self._broken.get(name)

    def refused(self, name: str) -> str | None:
        """Why the queue has to wait for somebody to mend something."""
        refusal = self._refused.get(name)
        return None if refusal is None else refusal.why

    def refusals(self) -> dict[str, str]:
        """The queues that have to wait for somebody to mend something, and why."""
        return {name: refusal.why for name, refusal in self._refused.items()}
