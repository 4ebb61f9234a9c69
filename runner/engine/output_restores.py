"""Result files of completed jobs that others need: looked at, and brought back where they are gone.

It goes on trying while the store doesn't answer. What counts as gone is the business of
``results``; when it is looked, of the core.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.engine.backoff import backoff
from runner.engine.call_threads import CallThreads
from runner.engine.clock import now
from runner.engine.context import EngineContext
from runner.results.download.restore import Restored, RestoreRequest, restore_job
from runner.results.layout import Layout
from runner.results.store import ResultStore, StoreError


class OutputRestores:
    """The looks of one session. ``post`` takes the events that come of them.

    ``stores``: the copies that are kept here, then the result store.
    """

    def __init__(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        post: Callable[[ev.Event], None],
        workers: CallThreads,
        stores: tuple[ResultStore, ...],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._scheduler = scheduler
        self._post = post
        self._call_threads = workers
        self._stores = stores
        self._closed = False
        self._given_up = False

    def look(self, job: int, *, rebooted: bool, tries: int = 0) -> None:
        """See whether a job's result files are still there; bring back what is gone.

        ``rebooted``: only a store can tell; otherwise what there is counts while none answers.
        """
        described = self._scheduler.document.jobs[job]
        state = self._scheduler.jobs[job]
        if self._closed or not state.restoring:
            return
        wanted = RestoreRequest(
            described.job_id,
            self._scheduler.queue.run_id,
            state.attempt,
            tuple(result.path for result in described.kept_paths),
            self._context.working_directory(self._scheduler.document, described),
            self._context.rights,
            described.optional_paths,
            self._context.own,
            same_boot=not rebooted,
        )
        work = self._loop.run_in_executor(
            self._call_threads, restore_job, self._stores, Layout(), wanted
        )

        def done(future: asyncio.Future[Restored]) -> None:
            if future.cancelled() or self._closed:
                return
            if isinstance(error := future.exception(), StoreError) and not self._given_up:
                again = tries + 1
                self._loop.call_later(
                    backoff(again), lambda: self.look(job, rebooted=rebooted, tries=again)
                )
                self._post(ev.ResultsDelayed(now(), job, f"not restored yet: {error}"))
            elif error is not None:
                self._post(ev.OutputsChecked(now(), job, 0, f"{error}"))
            else:
                found = future.result()
                self._post(ev.OutputsChecked(now(), job, found.files, found.lost))

        work.add_done_callback(done)

    def give_up(self) -> None:
        """Try no more: what the store doesn't tell now is taken for lost."""
        self._given_up = True

    def stop(self) -> None:
        """Begin nothing more."""
        self._closed = True
