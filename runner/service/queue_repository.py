"""The queues that are kept on this machine: found, accepted, moved aside.

Owns what may happen to a queue between two sessions of work on it. It starts nothing. `status`
begins here: what only accepting a document needs is imported there.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from runner.core.run_mode import RESUMED, RunMode
from runner.core.states import QueueState
from runner.errors import LockedError, NotFoundError, RunnerError, disk_error
from runner.files import sync_folder
from runner.service.log_folders import LOG_DIR, LogFolders
from runner.service.queue_entry import QueueEntry, read_entry
from runner.store import database
from runner.store.change_stamp import Stamp, stamp_of
from runner.store.database import Database
from runner.store.locks import Lock, holder_of
from runner.store.paths import (
    LogPaths,
    QueuePaths,
    StatePaths,
    replace_link,
)

if TYPE_CHECKING:
    from runner.model.document import QueueSpec

AGAIN = "again"
NO_REUSE = "no_reuse"
"""In a queue's meta: its run takes nothing from the runs before it."""
"""The key under which it is kept how a run that another machine has stored is to be mended."""


class QueueRepository:
    """All queues under one state folder. ``durable``: see StatePaths."""

    def __init__(self, state_dir: Path, log_dir: Path, *, durable: bool = True) -> None:
        self.paths = StatePaths(state_dir, durable)
        self.log_dir = log_dir
        self.log_folders = LogFolders(self.paths, log_dir, self._meta)
        self._kept: dict[str, tuple[Stamp, QueueEntry]] = {}
        self._ordering = threading.Lock()
        self._last_order = 0
        self._ordered: set[str] = set()

    def queue_paths(self, name: str) -> QueuePaths:
        return self.paths.queue(name)

    def log_paths(self, name: str) -> LogPaths:
        return self.log_folders.of(name)

    # -- looking -----------------------------------------------------------------------------

    def entries(self) -> list[QueueEntry]:
        """Every queue, in the order they came in; one that can't be read says so.

        Those whose files haven't changed since the last look are not opened. In any thread.
        """
        names = self.names()
        found = [self.entry(name) for name in names]
        for name in self._kept.keys() - set(names):
            self._kept.pop(name, None)
        return sorted(found, key=lambda entry: (entry.order, entry.name))

    def entry(self, name: str) -> QueueEntry:
        """The queue of this name; one that can't be read says so. In any thread."""
        database = self.paths.database_of(name)
        stamp = stamp_of(database)
        kept = self._kept.get(name)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        entry = replace(read_entry(name, Path(database)), stamp=stamp)
        if stamp.settled and not entry.passing:
            self._kept[name] = (stamp, entry)
        return entry

    def _meta(self, name: str) -> Mapping[str, str] | None:
        """None for a queue that can't be read."""
        entry = self.entry(name)
        return entry.meta if entry.error is None else None

    def find(self, queue_id: str | None) -> QueueEntry:
        """The queue asked for; without an id the current one, else the newest.

        Raises NotFoundError, or what made the queue unreadable.
        """
        if queue_id is None:
            queue_id = self.current()
        if queue_id is None:
            entries = [e for e in self.entries() if not e.aside and not e.error]
            if not entries:
                raise NotFoundError(f"there is no queue in {self.paths.root}")
            return entries[-1]
        if not self.queue_paths(queue_id).root.is_dir():
            raise NotFoundError(f"there is no queue '{queue_id}' in {self.paths.root}")
        return self.entry(queue_id)

    def names(self) -> list[str]:
        """The names of all queues, in no order."""
        try:
            return [n for n in os.listdir(self.paths.queues) if not n.startswith(".")]
        except FileNotFoundError:
            return []
        except PermissionError:
            raise RunnerError(
                f"{self.paths.queues}: permission denied: only a daemon that runs can tell of it"
            ) from None
        except OSError as error:
            raise disk_error(self.paths.queues, error) from None

    def current(self) -> str | None:
        """The name of the queue that was taken up last, if it is still there."""
        try:
            name = Path(os.readlink(self.paths.current_state)).parent.name
        except OSError:
            return None
        return name if self.queue_paths(name).database.is_file() else None

    def set_current(self, name: str) -> None:
        """Point the links for people at this queue, as far as there is room for links."""
        logs = self.log_paths(name)
        logs.jobs.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            replace_link(self.paths.current_state, self.queue_paths(name).projection)
        with suppress(OSError):
            replace_link(logs.current, logs.jobs)

    # -- accepting ---------------------------------------------------------------------------

    def stored_document(self, name: str) -> QueueSpec:
        """The document a queue was accepted with."""
        opened = Database(self.queue_paths(name).database, read_only=True)
        try:
            return opened.read_document()
        finally:
            opened.close()

    def stored_text(self, name: str) -> str:
        """The same as it is stored, in canonical form."""
        opened = Database(self.queue_paths(name).database, read_only=True)
        try:
            return opened.document()
        finally:
            opened.close()

    def lock(self, queue_id: str, holder: str) -> Lock:
        """Own a queue. Raises LockedError naming who does."""
        lock = Lock(self.paths.queue_lock(queue_id), f"queue '{queue_id}'", holder)
        with suppress(OSError):
            os.utime(self.paths.locks)
        return lock

    def touched(self) -> tuple[int, ...]:
        """Changes when a queue is created, removed or locked by anybody: two calls of stat(2).

        As long as it is the same, and no queue was locked before, no queue has been worked on.
        """
        found = []
        for folder in (self.paths.queues, self.paths.locks):
            with suppress(OSError):
                found.append(os.stat(folder).st_mtime_ns)
        return tuple(found)

    def check_daemon(self, queue_id: str) -> None:
        """Raise LockedError if a living daemon has this queue to do."""
        holder = holder_of(self.paths.daemon_lock)
        if holder is None or not self.queue_paths(queue_id).database.is_file():
            return
        entry = self.entry(queue_id)
        if entry.meta.get("owner") == "daemon" and not entry.ended:
            raise LockedError(f"queue '{queue_id}' is managed by {holder}")

    def exists(self, queue_id: str) -> bool:
        return self.queue_paths(queue_id).root.is_dir()

    def create(
        self,
        document: QueueSpec,
        owner: str,
        *,
        anonymous: bool,
        again: RunMode = RESUMED,
        notes: Mapping[str, str] = MappingProxyType({}),
        accepts_jobs: bool = False,
    ) -> None:
        """Create a queue durably; the caller holds its lock.

        ``again``: what is to become of a run of it that another machine has stored; ``notes``: what
        is kept of it beside that; ``accepts_jobs``: it is open from the beginning.
        """
        from runner.model.document import dump_document

        queue_id = document.queue_id
        assert queue_id is not None
        self._set_stale_logs_aside(queue_id)
        meta = {
            "queue_id": queue_id,
            "owner": owner,
            "order": str(self._next_order()),
            "submitted_at": f"{time.time():.3f}",
            LOG_DIR: self.log_folders.recorded,
            **notes,
        }
        if anonymous:
            meta["anonymous"] = "1"
        if again.fresh:
            meta["anew"] = "1"
            if not again.reuse:
                meta[NO_REUSE] = "1"
        elif again.mends:
            meta[AGAIN] = again.word
        self.log_folders.forget(queue_id)
        self.paths.queues.mkdir(parents=True, exist_ok=True)
        state = QueueState(run_id=os.urandom(8).hex(), accepts_jobs=accepts_jobs)
        database.create(self.queue_paths(queue_id), dump_document(document), state, meta)
        self.log_folders.own(queue_id)

    def _next_order(self) -> int:
        """A place behind all others, also behind those that are being created just now."""
        with self._ordering:
            names = self.names()
            # A queue keeps its place for good: only those that are new are looked at.
            for name in set(names) - self._ordered:
                self._last_order = max(self._last_order, self.entry(name).order)
            self._ordered = set(names)
            self._last_order += 1
            return self._last_order

    def give_to(
        self, queue_id: str, owner: str, notes: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Say whose business a queue is: the daemon's, or a foreground run's; ``notes``: see
        ``create``."""
        self.note(queue_id, {"owner": owner, **notes})

    def note(self, queue_id: str, notes: Mapping[str, str]) -> None:
        """Keep this of a queue; the caller holds its lock. Raises StateError, DiskError."""
        opened = Database(self.queue_paths(queue_id).database)
        try:
            meta = opened.meta()
            if any(meta.get(name, "") != value for name, value in notes.items()):
                opened.write_meta(dict(notes))
        finally:
            opened.close()

    # -- setting aside -----------------------------------------------------------------------

    def set_aside(self, queue_id: str) -> str:
        """Move a queue's state, then its logs, to ``<queue_id>.<started_at>``; returns that name.

        A crash in between leaves logs without a queue: ``create`` moves those after it.
        """
        name, logs = self._aside_name(queue_id), self.log_paths(queue_id)
        os.rename(self.queue_paths(queue_id).root, self.queue_paths(name).root)
        sync_folder(self.paths.queues)
        self.log_folders.move(logs, name)
        return name

    def _aside_name(self, queue_id: str) -> str:
        try:
            queue = self.entry(queue_id).queue
            moment = queue.started_at if queue else None
        except RunnerError:
            moment = None
        if moment is None:
            moment = os.stat(self.queue_paths(queue_id).root).st_mtime
        return self._free_name(queue_id, moment)

    def _free_name(self, queue_id: str, moment: float) -> str:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))
        name, again = f"{queue_id}.{stamp}", 2
        while self.queue_paths(name).root.exists() or self.log_paths(name).root.exists():
            name, again = f"{queue_id}.{stamp}-{again}", again + 1
        return name

    def _set_stale_logs_aside(self, queue_id: str) -> None:
        logs = LogPaths(self.log_dir, queue_id)
        if not logs.root.is_dir():
            return
        self.log_folders.check_own(logs)
        for entry in reversed(self.entries()):
            is_former = entry.queue_id == queue_id and entry.aside
            if is_former and not self.log_paths(entry.name).root.exists():
                self.log_folders.move(logs, entry.name)
                return
        self.log_folders.move(logs, self._free_name(queue_id, time.time()))
