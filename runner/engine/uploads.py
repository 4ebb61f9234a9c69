"""Results on their way to the store: one worker thread, no slot held, told when done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runner.core.scheduler import Scheduler
from runner.core.states import JobStatus, QueueStatus
from runner.engine.surroundings import Surroundings
from runner.errors import RunnerError
from runner.results.layout import Layout
from runner.results.upload import JobUpload, UploadOutcome, upload_job


class Uploads:
    """The uploads of one session. ``report(job, ok, error)`` is called on the loop."""

    def __init__(
        self,
        surroundings: Surroundings,
        scheduler: Scheduler,
        report: Callable[[int, bool, str | None], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._around = surroundings
        self._scheduler = scheduler
        self._report = report
        self._layout = Layout()
        self.state_error: str | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="uploads")

    def add(self, job: int) -> None:
        """Store a job's files as its record stands now."""
        work = self._loop.run_in_executor(self._worker, self._upload, self._describe(job))
        work.add_done_callback(lambda future: self._done(job, future))

    def _done(self, job: int, future: asyncio.Future[UploadOutcome]) -> None:
        if future.cancelled():
            return
        outcome = future.result()
        self._report(job, outcome.ok, "; ".join(outcome.problems) or None)

    def _upload(self, upload: JobUpload) -> UploadOutcome:
        assert self._around.results is not None
        return upload_job(self._around.results, self._layout, upload)

    def _describe(self, job: int) -> JobUpload:
        described = self._scheduler.document.jobs[job]
        state = self._scheduler.jobs[job]
        logs, name = self._around.logs, described.job_id
        named = described.working_directory or self._scheduler.document.working_directory
        base = Path(self._around.work_dir)
        return JobUpload(
            job_id=name,
            run_id=self._scheduler.queue.run_id,
            epoch=1,
            attempt=state.attempt,
            completed=state.status is JobStatus.COMPLETED,
            patterns=described.result_paths,
            working_directory=str(base / named) if named else str(base),
            stdout=Path(logs.newest(name, "stdout")),
            stderr=Path(logs.newest(name, "stderr")),
            earlier_attempts=tuple(
                (n, Path(logs.earlier(name, n, "stdout")), Path(logs.earlier(name, n, "stderr")))
                for n in range(1, state.attempt)
            ),
            durable=bool(described.result_paths),
            logs_final=not described.keep_background,
        )

    def put_queue(self, document: str, state: bytes) -> None:
        """Store the document and the state: from now on the store is known to hold this run."""
        self._loop.run_in_executor(self._worker, self._put_queue, document.encode(), state)

    def put_state(self, state: bytes) -> asyncio.Future[None]:
        """Store the state as it is now."""
        return self._loop.run_in_executor(self._worker, self._put_queue, None, state)

    def _put_queue(self, document: bytes | None, state: bytes) -> None:
        store, layout = self._around.results, self._layout
        assert store is not None
        try:
            store.put_bytes(layout.state_key, state, durable=True)
            if document is not None:
                store.put_bytes(layout.document_key, document)
        except RunnerError as error:
            # The jobs' own uploads tell of a store that fails; the state is tried again later.
            self.state_error = str(error)
        else:
            self.state_error = None

    async def finish(self, status: QueueStatus) -> None:
        """At the end: the logs of what was interrupted too, then wait for the worker."""
        if status is QueueStatus.INTERRUPTED:
            for index, state in enumerate(self._scheduler.jobs):
                if state.status is JobStatus.INTERRUPTED:
                    self.add(index)
        await self._loop.run_in_executor(self._worker, lambda: None)

    def close(self) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)
