"""The target ``local``: processes of this machine, which the calling process drives."""

from __future__ import annotations

import os

from runner.api.capabilities import Capabilities
from runner.api.job_files import JobFiles
from runner.api.job_target import JobListener
from runner.api.local_jobs import job_of, refusal_here
from runner.api.session_target import SessionTarget
from runner.api.tasks import Task
from runner.model.document import JobSpec
from runner.model.settings import Settings
from runner.service.environment import callers, given
from runner.service.session import RunContext


class LocalTarget(SessionTarget):
    """See JobTarget. Raises LockedError if another process works on the queue, and what opening a
    queue raises.

    ``durable``: its files outlive the process and a power cut; else they are in a folder that goes
    with the executor.
    """

    def __init__(
        self,
        settings: Settings,
        queue_id: str,
        listener: JobListener,
        *,
        name: str = "local",
        max_workers: int,
        durable: bool,
    ) -> None:
        super().__init__(settings, queue_id, listener, name=name, max_parallel=max_workers)
        logs = self._repository.log_paths(queue_id)
        work_dir = os.getcwd()
        self._files = JobFiles(self._payloads, logs, work_dir, durable=durable)
        self._context = RunContext(callers(given(os.environ)), work_dir, max_parallel=max_workers)
        self.open()

    def _enter(self) -> RunContext:
        return self._context

    def _job(self, task: Task) -> JobSpec:
        return job_of(task)

    def refusal(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """See JobTarget."""
        return refusal_here(self.name, capabilities)
