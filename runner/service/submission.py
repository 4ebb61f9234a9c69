"""Taking a document in: a queue is created, changed, begun anew, or found to be the same.

Owns what each way of submitting does to a queue that rests, and to one that is worked on: that is
left first, and its jobs go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import structlog

from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.errors import ConflictError, UsageError
from runner.model.document import QueueSpec
from runner.model.settings import Settings
from runner.results.store import ResultStore, StoreError
from runner.service.batch_placement import BatchPlacement, noted, placed_on_batch
from runner.service.batch_queues import BatchQueues, check_same_place
from runner.service.documents import check_same, is_same, mend
from runner.service.garbage_collection import lastingly
from runner.service.known_elsewhere import check_not_ended, reserve
from runner.service.queue_ids import give_back, name_for
from runner.service.queue_repository import QueueRepository
from runner.service.result_stores import opened, wanted
from runner.service.resume_from_store import look
from runner.service.session import RunContext, Session, apply_resting, end_attempts
from runner.store.database import TAKEN_OVER

log = structlog.get_logger()

STORE_ANSWERS = 5.0
"""Seconds in which the store of a new queue is asked what it knows of it. One that is away is asked
again before the queue's first job starts."""

_T = TypeVar("_T")


class Submission:
    """What one daemon does with the documents that are submitted to it.

    ``context``: where jobs run from now on; ``batch``: the same of AWS Batch; ``session_of``: the
    session of a queue that is worked on; ``until_left``: returns once the daemon has left a queue.
    """

    def __init__(
        self,
        repository: QueueRepository,
        settings: Settings,
        context: Callable[[], RunContext],
        batch: BatchQueues,
        session_of: Callable[[str], Session | None],
        until_left: Callable[[str], Awaitable[None]],
    ) -> None:
        self._repository = repository
        self._settings = settings
        self._context = context
        self._batch = batch
        self._session_of = session_of
        self._until_left = until_left
        self._naming = asyncio.Lock()

    @asynccontextmanager
    async def named(
        self, given: QueueSpec, again: RunMode, whole: Callable[[QueueSpec], QueueSpec]
    ) -> AsyncIterator[QueueSpec]:
        """The document with its id, which is no other's as far as its store can tell in time.
        ``whole`` completes it once it has one.

        Raises EndedElsewhereError for a queue that is new here and has ended there, ConflictError
        for one that can't be mended so.
        """
        if given.queue_id is not None:
            new, queue_id = not self._repository.exists(given.queue_id), given.queue_id
            given = whole(given)
            if new and again.mends:
                refused = await self._ask_store(given, lambda store: _refusal(given, again, store))
                if refused is not None:
                    raise refused
            elif new and not again.fresh:
                await self._ask_store(given, lambda store: check_not_ended(store, queue_id))
            yield given
            return
        # One after the other: the same document twice is one queue, once it is accepted.
        async with self._naming:
            while True:
                queue_id = await asyncio.to_thread(name_for, self._repository, given, whole)
                document = whole(given.with_id(queue_id))
                if self._repository.exists(queue_id) or given.result_s3_prefix is not None:
                    break
                if await self._reserved(document):
                    break
            try:
                yield document
            except BaseException:
                give_back(self._repository, queue_id)
                raise

    async def _reserved(self, document: QueueSpec) -> bool:
        return await self._ask_store(document, lambda store: reserve(store, document)) is not False

    async def _ask_store(
        self, document: QueueSpec, ask: Callable[[ResultStore | None], _T]
    ) -> _T | None:
        """What a new queue's store says; None if there is none, or it doesn't say in time."""
        want = wanted(document)
        if want.where is None:
            return None

        def asked() -> _T:
            store = opened(want, self._settings)
            try:
                return ask(store)
            finally:
                if store is not None:
                    store.close()

        with suppress(StoreError, UsageError, TimeoutError):
            return await asyncio.wait_for(asyncio.to_thread(asked), STORE_ANSWERS)
        return None

    async def accept(
        self,
        document: QueueSpec,
        again: RunMode,
        place: BatchPlacement | None = None,
        *,
        anonymous: bool,
    ) -> None:
        """Take it in; it has its id. Nobody else takes a queue up meanwhile. ``place``: on AWS
        Batch, None: here.

        Raises ConflictError for another document than the one that is there, UsageError,
        LockedError, StateError.
        """
        queue_id = _id(document)
        session = self._session_of(queue_id)
        moved = False
        if self._repository.exists(queue_id) and not again.fresh:
            entry = await asyncio.to_thread(self._repository.find, queue_id)
            check_same_place(entry, place)
            moved = placed_on_batch(entry) != place
        if session is not None and not (again.fresh or moved):
            # In a thread: reading the stored document again takes seconds if it is large.
            if await asyncio.to_thread(is_same, self._repository, document):
                if again.retry_failed:
                    await session.request(ev.RetryRequested)
                return
            if not again.mends:
                await asyncio.to_thread(check_same, self._repository, document)
                return
        if session is not None:
            # The queue's loop takes it up again afterwards, and adopts what goes on.
            session.detach()
            await self._until_left(queue_id)
        lock = self._repository.lock(queue_id, "runner daemon")
        try:
            # Of a large queue it takes seconds: on a loop of its own, beside those that run here.
            accepting = self._accept_resting(document, again, place, anonymous=anonymous)
            await asyncio.to_thread(lastingly, asyncio.run, accepting)
        finally:
            lock.release()

    async def _accept_resting(
        self,
        document: QueueSpec,
        again: RunMode,
        place: BatchPlacement | None,
        *,
        anonymous: bool,
    ) -> None:
        repository, settings, context = self._repository, self._settings, self._context()
        queue_id, notes = _id(document), noted(place)
        if repository.exists(queue_id) and again.fresh:
            entry = repository.find(queue_id)
            with self._batch.resting(repository, entry, context) as there:
                await end_attempts(repository, settings, queue_id, there)
            repository.set_aside(queue_id)
        if not repository.exists(queue_id):
            await asyncio.to_thread(
                repository.create, document, "daemon", anonymous=anonymous, again=again, notes=notes
            )
            return
        if (why := repository.find(queue_id).meta.get(TAKEN_OVER)) is not None:
            hint = "--fresh begins anew here, and takes the store back"
            raise ConflictError(f"queue '{queue_id}' is another machine's: {why}\n{hint}")
        mended = False
        if again.mends:
            mended = await asyncio.to_thread(mend, repository, document, again)
        else:
            await asyncio.to_thread(check_same, repository, document)
        repository.give_to(queue_id, "daemon", notes)
        if again.retry_failed and not mended:
            with self._batch.resting(repository, repository.find(queue_id), context) as there:
                apply_resting(repository, settings, queue_id, there, ev.RetryRequested)


def _refusal(
    document: QueueSpec, again: RunMode, store: ResultStore | None
) -> ConflictError | None:
    """Why a run that the store holds can't go on with this document; None if it can."""
    try:
        if store is not None:
            look(document, again, store, lambda note: log.warning("result_store", note=note))
    except ConflictError as error:
        return error
    return None


def _id(document: QueueSpec) -> str:
    assert document.queue_id is not None
    return document.queue_id
