"""Which submitted queues a daemon may take up, in which order, and why it leaves others alone.

Owns what is known against a queue. What may pass (a full disk, a lock, a bucket, a bug that met
one state) is tried again after a while; what is damaged is left alone, by name, until its files
change or it is submitted again. It opens no session.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import structlog

from runner.core.events import Now
from runner.core.states import QueueStatus
from runner.engine.backoff import backoff
from runner.errors import RunnerError, StateError, UsageError
from runner.host.machine_file import this_moment
from runner.model.settings import Settings
from runner.results.store import ResultStore, StoreError
from runner.service.batch_placement import ON_BATCH_KEY
from runner.service.known_elsewhere import check_not_ended
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import AGAIN, QueueRepository
from runner.service.result_stores import opened, prepared, wanted
from runner.service.resume_from_store import StoredRun, find, is_new
from runner.store.change_stamp import Stamp
from runner.store.database import TAKEN_OVER

ASK_FOR = 300.0
"""Seconds after the machine's start for which a new queue waits for a store that doesn't answer."""

LOCKED_RETRY = 5.0
"""Seconds after which a queue that another process holds is tried again."""

LOOK_FOR_MENDED = 10.0
"""Seconds between two looks at whether a damaged queue's files have changed."""

WELL_AFTER = 300.0
"""Seconds of work after which a queue's next trouble is a new one."""

log = structlog.get_logger()


class Trouble(NamedTuple):
    """What keeps a queue from being worked on.

    ``until``: the monotonic time of the next try, the one after ``tries`` in a row; None: it is
    tried when its files have changed, which had ``stamp`` when it was found to be damaged.
    """

    why: str
    until: float | None
    tries: int = 1
    stamp: Stamp | None = None


class Candidates:
    """``finishing``: ended queues that are taken up for nothing but their uploads."""

    def __init__(self, repository: QueueRepository, settings: Settings) -> None:
        self.finishing: set[str] = set()
        self._repository = repository
        self._settings = settings
        self._troubles: dict[str, Trouble] = {}
        self._held: dict[str, float] = {}
        self._opened: dict[str, tuple[int, float]] = {}

    def find_incomplete(self, entries: Iterable[QueueEntry]) -> None:
        """Take up what ended without its uploads."""
        for entry in entries:
            if entry.unstored:
                self.finishing.add(entry.name)

    def ready(self, entries: Iterable[QueueEntry]) -> Iterator[QueueEntry]:
        """Those that may be taken up now; uploads of ended queues are in nobody's way.

        What has begun goes on before anything begins: its jobs may be running.
        """
        for entry in sorted(entries, key=_turn):
            self._forget_mended(entry)
            if not self._waits(entry.name) and self.is_ours(entry):
                yield entry

    def is_ours(self, entry: QueueEntry) -> bool:
        """Whether there is anything to do for a daemon."""
        if entry.error:
            self._note(entry, entry.error, passing=entry.passing)
            return False
        if entry.meta.get("owner") != "daemon" or entry.aside:
            return False
        if entry.meta.get(TAKEN_OVER) is not None:
            # What still runs of it is to be ended.
            return entry.queue is not None and entry.queue.status is QueueStatus.RUNNING
        return not entry.ended or entry.name in self.finishing

    def _waits(self, name: str) -> bool:
        if self._held.get(name, 0.0) > time.monotonic():
            return True
        trouble = self._troubles.get(name)
        if trouble is None:
            return False
        return trouble.until is None or trouble.until > time.monotonic()

    def _forget_mended(self, entry: QueueEntry) -> None:
        trouble = self._troubles.get(entry.name)
        if trouble is not None and trouble.until is None and trouble.stamp != entry.stamp:
            log.info("queue_changed", queue=entry.name, hint="it is tried again")
            self.forgive(entry.name)

    def wait(self) -> float:
        """Seconds until a queue that was left alone is to be looked at again."""
        now = time.monotonic()
        dues = [trouble.until or now + LOOK_FOR_MENDED for trouble in self._troubles.values()]
        dues += [until for until in self._held.values() if until > now]
        return max(0.0, min(dues, default=float("inf")) - now)

    def store_of(self, entry: QueueEntry) -> ResultStore | None:
        """The queue's result store. Blocks: a network may take a minute to say no.

        Raises RunnerError if its first job must not start before something is mended. What has
        started is to be adopted at once, and what it makes is kept until it can be stored.
        """

        def say(note: str) -> None:
            log.warning("result_store", queue=entry.name, note=note)

        want = wanted(self._repository.stored_document(entry.name))
        if entry.queue is not None and entry.queue.status is QueueStatus.PENDING:
            return prepared(want, self._settings, say)
        return opened(want, self._settings)

    def begun_elsewhere(self, entry: QueueEntry, store: ResultStore | None) -> StoredRun | None:
        """The unfinished run of it in its store, if it is new here. Blocks.

        Raises StoreError where nobody can tell and the machine has just been started: a network
        that comes up late must not cost the work of days. Nor must it where a stored run is to be
        mended, whenever that is.
        """

        def say(note: str) -> None:
            log.warning("result_store", queue=entry.name, note=note)

        try:
            if is_new(entry) and not entry.meta.get(AGAIN):
                check_not_ended(store, entry.queue_id)
            # On AWS Batch attempts go on without us: there is a journal of them.
            there = entry.meta.get(ON_BATCH_KEY)
            moment = Now(time.time(), time.monotonic()) if there else None
            return find(self._repository, entry, store, say, journal=moment)
        except StoreError as error:
            if this_moment().uptime < ASK_FOR or entry.meta.get(AGAIN):
                raise StoreError(
                    f"it is not known whether it was begun elsewhere: {error}"
                ) from error
            say(f"begun anew: it is not known whether it was begun elsewhere: {error}")
            return None

    # -- what is known against a queue -------------------------------------------------------

    def put_off(self, name: str) -> None:
        """Another process holds the queue: that is no trouble."""
        self._held[name] = time.monotonic() + LOCKED_RETRY

    def refuse(self, entry: QueueEntry, error: Exception) -> None:
        """Leave a queue alone because of what it raised: for a while, or until it is mended.

        ``entry``: as it was before that: what was changed since is tried again.

        A disk, a network, a role's keys or a permission may be there in a moment, or when somebody
        is told; of a bug nobody knows.
        """
        if isinstance(error, UsageError):
            # Whoever has asked for its uploads is told.
            self.finishing.discard(entry.name)
        self._note(entry, error_text(error), passing=not isinstance(error, StateError))

    def _note(self, entry: QueueEntry, why: str, *, passing: bool) -> None:
        name = entry.name
        if not passing:
            self.finishing.discard(name)
            self._troubles[name] = Trouble(why, None, stamp=entry.stamp)
            log.error("queue_unreadable", queue=name, error=why)
            return
        tries = self._tries(name) + 1
        wait = backoff(tries)
        self._troubles[name] = Trouble(why, time.monotonic() + wait, tries)
        log.error("queue_refused", queue=name, error=why, again_in=round(wait, 1))

    def _tries(self, name: str) -> int:
        """How often in a row it has been given up."""
        if (trouble := self._troubles.get(name)) is not None:
            return trouble.tries
        tries, opened_at = self._opened.pop(name, (0, 0.0))
        return tries if time.monotonic() - opened_at < WELL_AFTER else 0

    def note_opened(self, name: str) -> None:
        """It could be taken up. If it breaks at once, that was one more try."""
        trouble = self._troubles.get(name)
        self._opened[name] = (0 if trouble is None else trouble.tries, time.monotonic())
        self.forgive(name)

    def forgive(self, name: str) -> None:
        """Somebody has asked for the queue again, or its files have changed."""
        self._troubles.pop(name, None)
        self._held.pop(name, None)

    def trouble(self, name: str) -> Trouble | None:
        """What keeps the queue from being worked on, if anything does."""
        return self._troubles.get(name)

    def troubles(self) -> dict[str, str]:
        """The queues that are left alone for now, and why."""
        return {name: trouble.why for name, trouble in self._troubles.items()}


def _turn(entry: QueueEntry) -> tuple[bool, bool]:
    begun = entry.queue is not None and entry.queue.status is QueueStatus.RUNNING
    return entry.ended, not begun


def error_text(error: Exception) -> str:
    """What went wrong, for people."""
    if isinstance(error, RunnerError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"internal error: {type(error).__name__}: {error}"
