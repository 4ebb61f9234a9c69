"""The lease of a session's store, renewed while the queue is worked on by a machine in the cloud.

Owns when it is renewed and given back, and the first look: before it nothing starts, for a machine
that comes back late may have been succeeded. Without a network the work goes on here.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from runner.core.scheduler import Scheduler
from runner.engine.call_threads import GRACE, CallThreads, patience_with
from runner.engine.context import EngineContext
from runner.engine.state_uploads import StateUploads
from runner.results.claim import SucceededError
from runner.results.lease import Lease
from runner.results.store import StoreError

LOOK_WITHIN = 10.0
"""Seconds that new starts wait for the first look at most: a store that doesn't answer holds up
nothing for longer."""

MISSED = 4
"""Heartbeats without which a lease has run out."""


class Heartbeat:
    """``first_look`` is done when the store has told, or has taken too long to tell, whose it is;
    where there is a journal, when the lease is held: attempts elsewhere believe the lease.

    One thread of its own: an upload that takes minutes must not cost the lease.
    """

    def __init__(
        self, context: EngineContext, scheduler: Scheduler, state: StateUploads, every: float
    ) -> None:
        assert context.results is not None
        self._loop = asyncio.get_running_loop()
        self.first_look: asyncio.Future[None] = self._loop.create_future()
        self._instance = context.instance
        self._scheduler = scheduler
        self._state = state
        self._every = every
        self._needs_lease = context.journal
        run_id = scheduler.queue.run_id
        holder = context.holder(run_id)
        self._lease = Lease(context.results, run_id, holder, MISSED * every)
        self._pool = CallThreads(1, "lease", patience_with(context.results))
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._claimed = False
        self._held = False
        self._closed = False

    def look(self) -> None:
        """Begin to look. Where nothing was ever stored by this run there is nothing to see."""
        epoch = self._scheduler.queue.epoch
        if self._needs_lease:
            return  # it begins once the state is stored
        if not epoch:
            self.first_look.set_result(None)
            return
        self._loop.call_later(LOOK_WITHIN, self._looked)
        self._beat()

    def _check(self, epoch: int) -> bool:
        """See whose the store is, as long as its state isn't ours; whether to go on with that."""
        try:
            self._lease.check(epoch)
            self._state.own()
        except SucceededError as error:
            return not self._confirm(error)
        except StoreError:
            pass  # nobody can tell: the work goes on here
        return True

    def _confirm(self, error: SucceededError) -> bool:
        """Whether we have been succeeded, by the claim's word."""
        with suppress(StoreError):
            if not self._state.still_ours():
                self._state.succeed(error)
                return True
        return False

    def _looked(self) -> None:
        # In a later turn of the loop: what the look found is told before anything starts.
        if not self.first_look.done():
            self._loop.call_soon(self._let_start)

    def _let_start(self) -> None:
        if not self.first_look.done():
            self.first_look.set_result(None)

    def begin(self) -> None:
        """The store is ours now: its state says so."""
        first, self._claimed = not self._claimed, True
        if first and not self._busy and not self._closed:
            if self._timer is not None:
                self._timer.cancel()
            self._beat()

    def _beat(self) -> None:
        self._timer = None
        if self._closed:
            return
        self._busy = True
        self._lease.instance_id = self._instance()
        if self._claimed:
            work = self._loop.run_in_executor(self._pool, self._renew, self._state.epoch)
        else:
            epoch = self._scheduler.queue.epoch
            work = self._loop.run_in_executor(self._pool, self._check, epoch)
        work.add_done_callback(self._renewed)

    def _renew(self, epoch: int) -> bool:
        try:
            self._lease.renew(epoch)
        except SucceededError as error:
            return not self._confirm(error)
        except StoreError:
            pass  # tried again with the next one
        else:
            self._held = True
        return True

    def _renewed(self, future: asyncio.Future[bool]) -> None:
        self._busy = False
        if future.cancelled() or self._closed:
            return
        if self._held or not self._needs_lease:
            self._looked()
        if (error := future.exception()) is not None:
            # No thread, no memory, a bug: the next one is tried all the same. Imported here: with
            # the rich that it imports it would take a third of the start of a `run`.
            import structlog

            log = structlog.get_logger()
            log.error("lease_not_renewed", error=f"{type(error).__name__}: {error}")
        elif not future.result():
            return
        self._timer = self._loop.call_later(self._every, self._beat)

    async def release(self) -> None:
        """Nobody works on it any more: who takes it over need not wait. Tried once."""
        self._end()
        if not self._held or self._state.succeeded is not None:
            return
        work = self._loop.run_in_executor(self._pool, self._give_back, self._state.epoch)
        # It runs out by itself, whatever keeps it from being given back.
        with suppress(Exception):
            await asyncio.wait_for(work, GRACE)

    def _give_back(self, epoch: int) -> None:
        with suppress(StoreError):
            self._lease.renew(epoch, released=True)

    def _end(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Renew nothing more; the lease runs out if nobody goes on with it."""
        self._end()
        self._pool.stop()

    def join(self) -> None:
        """Wait for what is under way. Blocks; after ``stop``."""
        self._pool.join()
