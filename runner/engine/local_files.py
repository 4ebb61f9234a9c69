"""Files of jobs that run on this machine, on their way from its folders to the store and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.core.states import QueueStatus
from runner.engine.backend import StoreOwnership
from runner.engine.context import EngineContext
from runner.engine.fingerprints import Fingerprints
from runner.engine.input_fetches import InputFetches

if TYPE_CHECKING:
    from runner.engine.uploads import Uploads


class LocalFiles:
    """See AttemptFiles. ``ownership`` None: nothing is stored, only inputs are fetched.
    ``fingerprints`` are this object's own from then on; None: no job is taken as unchanged."""

    def __init__(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        post: Callable[[ev.Event], None],
        ownership: StoreOwnership | None,
        fingerprints: Fingerprints | None = None,
    ) -> None:
        self._fingerprints = fingerprints
        if fingerprints is not None:
            fingerprints.ownership = ownership
        self._input_fetches = InputFetches(context, scheduler, post, fingerprints)
        self._uploads: Uploads | None = None
        if ownership is not None:
            # Imported here: without a store a `run` starts in less time.
            from runner.engine.uploads import Uploads

            self._uploads = Uploads(context, scheduler, post, ownership)

    @property
    def gave_up(self) -> bool:
        """See AttemptFiles."""
        return self._uploads is not None and self._uploads.gave_up

    def wake(self) -> None:
        """See AttemptFiles."""
        if self._uploads is not None:
            self._uploads.wake()
        self._input_fetches.wake()

    def collect(self, job: int) -> None:
        """See AttemptFiles."""
        if self._uploads is not None:
            self._uploads.add(job)

    def restore_outputs(self, job: int, *, rebooted: bool) -> None:
        """See AttemptFiles."""
        if self._uploads is not None:
            self._uploads.restoring.look(job, rebooted=rebooted)

    def fetch_inputs(self, job: int) -> None:
        """See AttemptFiles."""
        self._input_fetches.add(job)

    def save_checkpoint(self, job: int) -> None:
        """See AttemptFiles."""
        if self._uploads is not None:
            self._uploads.checkpoints.add(job)

    def keep_fingerprint(self, job: int) -> None:
        """See AttemptFiles."""
        if self._fingerprints is not None:
            self._fingerprints.keep(job)

    def bring_log(self, job: int, attempt: int) -> None:
        """See AttemptFiles. It is here."""

    async def finish(self, status: QueueStatus, until: float) -> None:
        """See AttemptFiles."""
        if self._uploads is not None:
            await self._uploads.finish(status, until)
        if self._fingerprints is not None:
            await self._fingerprints.finish(until)

    async def let_go(self) -> None:
        """See AttemptFiles. A read may hang for a minute."""
        await self._input_fetches.finish()

    def stop(self) -> None:
        """See AttemptFiles."""
        self._input_fetches.stop()
        if self._fingerprints is not None:
            self._fingerprints.stop()
        if self._uploads is not None:
            self._uploads.stop()

    def join(self) -> None:
        """See AttemptFiles."""
        self._input_fetches.join()
        if self._fingerprints is not None:
            self._fingerprints.join()
        if self._uploads is not None:
            self._uploads.join()
