"""The queue's own files in the result store: its document, its state, and with it the claim.

Owns when the state is stored anew, and whether the store is still ours to write to.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.engine.call_threads import GRACE, CallThreads, patience_with
from runner.engine.clock import now
from runner.engine.context import EngineContext
from runner.engine.event_uploads import EventUploads
from runner.engine.growth_uploads import GrowthUploads
from runner.errors import RunnerError
from runner.model.queue import GIVEN_PREFIX
from runner.model.serialization import given_part
from runner.results.claim import StoreClaim, SucceededError
from runner.results.layout import Layout
from runner.results.store import StoreError

EVERY = 3.0
"""Seconds between two uploads of the state, at least; they never take over 1/20 of the time."""

NOT_WRITTEN = 0.1
"""Seconds until a state is looked for that isn't written yet."""

FIRST_RETRY = 1.0
LONGEST_RETRY = 30.0


class StateUploads:
    """``error`` tells why the last state couldn't be stored, if so. One thread: ``pool``.

    ``stored`` is called each time the state was; ``on_succeeded`` once, on the loop, when another
    has taken the store over.
    """

    def __init__(
        self, context: EngineContext, scheduler: Scheduler, post: Callable[[ev.Event], None]
    ) -> None:
        self.stored: Callable[[], None] = lambda: None
        self.on_succeeded: Callable[[SucceededError], None] = lambda error: None
        assert context.results is not None
        self.error: str | None = None
        self._context = context
        self._scheduler = scheduler
        self._post = post
        self._store = context.results
        self.pool = CallThreads(1, "upload-state", patience_with(self._store))
        self._layout = Layout()
        self._loop = asyncio.get_running_loop()
        queue = scheduler.queue
        holder = context.holder(queue.run_id)
        self._claim = StoreClaim(self._store, self._layout, queue.run_id, queue.epoch, holder)
        self._claiming = threading.Lock()
        self._claimed_until = 0.0
        self._succeeded: SucceededError | None = None
        self._events = EventUploads(context, queue.run_id)
        self._growth = GrowthUploads(context, queue.run_id)
        self._document: bytes | None = None
        self._unstored: bytes | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._due = 0.0
        self._settled = False

    @property
    def epoch(self) -> int:
        """The claim's, as far as it is known."""
        return self._claim.epoch

    @property
    def succeeded(self) -> SucceededError | None:
        """Who has the store now, if it isn't ours any more."""
        return self._succeeded

    def succeed(self, error: SucceededError) -> None:
        """Another has the store now, for good. Called in any thread."""
        if self._succeeded is None:
            self._succeeded = error
            with suppress(RuntimeError):  # a thread that was left behind; the loop is gone
                self._loop.call_soon_threadsafe(self.on_succeeded, error)

    def still_ours(self) -> bool:
        """Whether the claim, looked at now, is ours. Raises StoreError. Called in a thread."""
        with self._claiming:
            try:
                self._claim.check()
            except SucceededError:
                return False
            return True

    def own(self) -> int:
        """The epoch in which the store is ours. Raises StoreError. Called in a thread.

        It is looked at again after a while: somebody may have taken it over while a job ran for
        hours, and what he has stored since is not to be replaced.
        """
        with self._claiming:
            if self._succeeded is not None:
                raise self._succeeded
            if self._loop.time() >= self._claimed_until:
                with self._looking():
                    self._claim.check()
            return self._claim.epoch

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Believe for a while what comes of it; the state of many jobs is large."""
        begun = self._loop.time()
        try:
            yield
        except SucceededError as error:
            self.succeed(error)
            raise
        ended = self._loop.time()
        self._claimed_until = ended + max(EVERY, 4 * (ended - begun))

    def put_document(self, document: str) -> None:
        """Have the document stored with the next state, and again if it went with its bucket.

        No other machine could go on with the queue without it.
        """
        self._document = self._unstored = document.encode()
        self.changed()

    def _put_document(self) -> None:
        """Called in a thread. Raises StoreError."""
        if (document := self._unstored) is not None:
            if document.startswith(GIVEN_PREFIX.encode()):
                given = given_part(document.decode())
                self._store.put_bytes(self._layout.given_key, given.encode())
            self._store.put_bytes(self._layout.document_key, document)
            self._unstored = None

    def changed(self) -> None:
        """Have the state stored soon, as queue-state.json shows it then."""
        if self._timer is None and self._task is None and not self._settled:
            self._timer = self._loop.call_at(max(self._loop.time(), self._due), self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._task = self._loop.create_task(self._store_now())

    async def _store_now(self) -> None:
        begun, every = self._loop.time(), EVERY
        try:
            state = await self._loop.run_in_executor(self.pool, self._read)
            if state is not None:
                await self.put(state)
            else:
                every = NOT_WRITTEN
        finally:
            took = self._loop.time() - begun
            self._due = self._loop.time() + max(every, 20 * took)
            self._task = None
        unstored = self.error is not None or self._unstored is not None
        if unstored and self._succeeded is None:
            self.changed()

    def _read(self) -> bytes | None:
        try:
            return self._context.paths.projection.read_bytes()
        except OSError:
            return None

    async def put(self, state: bytes) -> None:
        """Store the state as it is now."""
        self.error = await self._loop.run_in_executor(self.pool, self._put, state)
        epoch = self._claim.epoch
        if self.error is None and epoch != self._scheduler.queue.epoch:
            self._post(ev.StoreClaimed(now(), epoch))
        if self.error is None:
            self.stored()

    def _put(self, state: bytes) -> str | None:
        try:
            self.own()
            self._put_document()
            self._growth.put()
            with self._claiming, self._looking():
                self._claim.put_state(state)
            if self._claim.emptied:
                self._claim.emptied, self._unstored = False, self._document
                self._put_document()
                self._growth.forget()
                self._growth.put()
                self._events.forget()
            self._events.put(last=self._settled)
        except RunnerError as error:
            # The jobs' own uploads tell of a store that fails; this is tried again later.
            return str(error)
        except Exception as error:
            return _as_trouble(error)
        return None

    async def discard_unfinished(self, threads: CallThreads) -> None:
        """All is stored: end what killed sessions left open of jobs that are no longer there.

        Not in the thread of the state, which is stored next.
        """

        def discard() -> None:
            with suppress(StoreError):  # the next session ends it, or the bucket's own rule
                self.own()
                self._store.discard_unfinished("")

        if self._store.local_folder is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._loop.run_in_executor(threads, discard), GRACE)

    async def settle(self, until: float) -> None:
        """Begin nothing more by itself; what it posts has been posted when this returns."""
        self._settled = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            left = max(0.0, until - self._loop.time())
            await asyncio.wait([self._task], timeout=left + GRACE)

    async def put_last(self, state: bytes, until: float) -> None:
        """Store the state for the last time, tried again until then, and once in any case."""
        delay = FIRST_RETRY
        while True:
            try:
                left = max(0.0, until - self._loop.time())
                await asyncio.wait_for(self.put(state), left + GRACE)
            except TimeoutError:
                self.error = f"{self._store.describe()} did not answer in time"
                return
            if self.error is None or self._succeeded is not None:
                return
            if self._loop.time() + delay > until:
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_RETRY)

    def stop(self) -> None:
        """Begin nothing more."""
        self._settled = True
        if self._timer is not None:
            self._timer.cancel()
        self.pool.stop()

    def join(self) -> None:
        """Wait for what is under way. Blocks; after ``stop``."""
        self.pool.join()


def _as_trouble(error: Exception) -> str:
    """A bug, or no memory: told and tried again, as what the store refuses is."""
    return f"internal error: {type(error).__name__}: {error}"
