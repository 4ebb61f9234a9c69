"""What a service tells when the queue's session is over, and that its state comes to say so.

Owns which queues have something left to tell at the service's start, and how what came of it gets
into the state of a queue that no session has open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import closing

import structlog

from runner.core import events as ev
from runner.core.notice_forms import Message
from runner.errors import DocumentError, RunnerError
from runner.model.notify import joined
from runner.model.settings import Settings
from runner.service.candidates import error_text
from runner.service.daemon_host import DaemonHost
from runner.service.notices.courier import RetryingCourier
from runner.service.notices.hosts import daemons_courier
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext
from runner.store.database import UNSTORED, Database

TOLD_SINCE = "its notices were told since"
"""Why the last state of a queue is to be stored once more."""

log = structlog.get_logger()


class LateNotices:
    """Of one daemon. Made in its loop."""

    def __init__(
        self, repository: QueueRepository, settings: Settings, context: RunContext
    ) -> None:
        self.courier: RetryingCourier = daemons_courier(settings, context, self._on_told)
        self._repository = repository
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._host: DaemonHost | None = None

    def note_in(self, host: DaemonHost) -> None:
        """Who applies what came of it, and has the states of ended queues stored."""
        self._host = host

    def tell_again(self, entries: Iterable[QueueEntry]) -> None:
        """What ended queues have not told. Those that go on tell it themselves. Blocks."""
        for entry in entries:
            ours = entry.meta.get("owner") == "daemon" and not entry.aside
            if ours and entry.ended and entry.queue is not None:
                waiting = [notice for notice in entry.queue.notices if notice.waits]
                if not waiting:
                    self._withdraw(entry)
                    continue
                try:
                    document = self._repository.stored_document(entry.name)
                except (RunnerError, DocumentError) as error:
                    log.warning("notices_unknown", queue=entry.name, why=error_text(error))
                    continue
                targets = joined(document.notify, self._settings.notify)
                known = {target.label: target.to for target in targets}
                results = entry.meta.get("results")
                for notice in waiting:
                    if (target := known.get(notice.to)) is not None:
                        message = Message(
                            notice,
                            entry.queue_id,
                            document.queue_name,
                            entry.queue.run_id,
                            results,
                        )
                        self.courier.send(entry.name, target, message, None)
                self._withdraw(entry)

    def _withdraw(self, entry: QueueEntry) -> None:
        if (results := entry.meta.get("results")) is not None:
            self.courier.ended(entry.name, results)

    def close(self) -> None:
        """Tell nothing more."""
        self.courier.close()

    def _on_told(self, queue: str, notice_id: str, to: str, error: str | None, final: bool) -> None:
        """In any thread."""

        def begin() -> None:
            task = self._loop.create_task(self._note(queue, notice_id, to, error, final))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(begin)

    async def _note(
        self, queue: str, notice_id: str, to: str, error: str | None, final: bool
    ) -> None:
        if error is None:
            log.info("notice_told", queue=queue, to=to)
        else:
            log.warning("notice_given_up", queue=queue, to=to, why=error)
        host = self._host
        if host is None or not self._repository.exists(queue):
            return
        try:
            entry = await asyncio.to_thread(self._repository.find, queue)
            await host.note_on_resting(
                entry, lambda now: ev.NoticeTried(now, notice_id, to, error, final)
            )
            if entry.ended and entry.meta.get("results"):
                await asyncio.to_thread(self._store_again, queue)
                host.store_again(queue)
        except (RunnerError, OSError) as error_:
            # It is told again, under the same id, after the next start.
            log.warning("notice_not_noted", queue=queue, to=to, why=error_text(error_))

    def _store_again(self, queue: str) -> None:
        with closing(Database(self._repository.queue_paths(queue).database)) as database:
            database.write_meta({UNSTORED: TOLD_SINCE})
