"""Queues run on AWS Batch, in this process: the real engine, a Batch server, an S3 endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import batch_stand_in
from batch_account import BatchAccount
from batch_server import Delays, KeptLogs, MotoServices, Processes, Settings
from s3_endpoint import Endpoint

from runner.core.run_mode import RunMode
from runner.core.scheduler import StoryEntry
from runner.engine.batch.intents import BatchDefaults
from runner.model import settings as model_settings
from runner.model.document import parse_document
from runner.service.batch_place import BatchRun, BatchRunOptions
from runner.service.foreground import RunOutcome, RunRequest, run
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext, Session

ROLE = "arn:aws:iam::123456789012:role/jobs"
LOGS = KeptLogs()


def instant(second_s: float = 0.01) -> Delays:
    """Delays of 10 ms at most, where a second of Batch takes so many real ones."""
    soon = (0, 0.01 / second_s)
    return Delays(submitted=soon, runnable=soon, starting=soon, ended=soon)


def account_with(endpoint: Endpoint, *, second_s: float = 0.01) -> BatchAccount:
    """A Batch whose jobs begin at once, and find S3.

    ``second_s``: real seconds that a second takes there, such as those between TERM and KILL: real
    containers need all of it.
    """
    settings = Settings(second_s=second_s, delays=instant(second_s), rates={})
    return BatchAccount(Processes(LOGS), settings, MotoServices(endpoint.url))


def job(name: str, command: str = "true", **more: Any) -> dict[str, Any]:
    return {"job_id": name, "command": command, "timeout": "1m", **more}


def real_commands(_: object) -> Any:
    """What the containers of a queue run; runner is there, as in an image that has it."""
    from runner.batch.container import commands
    from runner.batch.definitions import Commands

    return Commands(
        commands.stage_command(),
        commands.main_command(),
        commands.agent_command(),
        commands.in_image_command(),
    )


class Reacting:
    """A watcher that does something the first time an event of a job is told."""

    def __init__(self, event: str = "", do: Callable[[Session], None] | None = None) -> None:
        self.said: list[str] = []
        self.told: list[str] = []
        self._event = event
        self._do = do
        self._session: Session | None = None

    def opened(self, session: Session) -> None:
        self._session = session

    def story(self, entries: Sequence[StoryEntry]) -> None:
        for entry in entries:
            self.told.append(entry.event)
            if entry.event == self._event and self._do is not None and self._session is not None:
                do, self._do = self._do, None
                do(self._session)

    def say(self, message: str) -> None:
        self.said.append(message)

    def closed(self) -> None:
        self._session = None


class OnBatch:
    """Runs documents on the account's Batch, in a state folder of their own."""

    def __init__(
        self,
        account: BatchAccount,
        bucket: str,
        folder: Path,
        commands: Callable[[Any], Any] = batch_stand_in.commands,
    ) -> None:
        self._commands = commands
        self.target = BatchDefaults("queue", image="local/deb", job_role=ROLE)
        self.account = account
        self.bucket = bucket
        self.folder = folder
        self.repository = QueueRepository(folder / "state", folder / "logs")
        self.settings = model_settings.Settings(
            state_dir=folder / "state",
            log_dir=folder / "logs",
            run_dir=folder / "run",
            config_file=None,
            disk_reserve=0,
        )

    def run(
        self,
        *jobs: dict[str, Any],
        again: RunMode | None = None,
        watcher: Reacting | None = None,
        max_parallel: int | None = None,
        **queue: Any,
    ) -> RunOutcome:
        base = {"queue_name": "q", "global_timeout": "1h", "on_failure": "stop"}
        document = {**base, **queue, "jobs": list(jobs)}
        return self.run_document(document, again, watcher, max_parallel)

    def run_document(
        self,
        document: dict[str, Any],
        again: RunMode | None = None,
        watcher: Reacting | None = None,
        max_parallel: int | None = None,
    ) -> RunOutcome:
        told = {"queue_id": "q", "result_s3_bucket": self.bucket, **document}
        request = RunRequest(
            parse_document(json.dumps(told).encode()),
            again or RunMode(),
            RunContext({}, "/"),
            batch=BatchRun(self.options(max_parallel), self.settings),
        )
        return run(self.repository, self.settings, request, watcher or Reacting())

    def options(self, max_parallel: int | None = None) -> BatchRunOptions:
        """How a queue runs there."""
        return BatchRunOptions(self.target, self._commands, max_parallel, every=0.05)

    def whole_state(self) -> dict[str, Any]:
        """queue-state.json."""
        found: dict[str, Any] = json.loads(
            (self.repository.queue_paths("q").projection).read_text()
        )
        return found

    def state(self) -> dict[str, dict[str, Any]]:
        """The jobs as queue-state.json tells of them."""
        return {job["job_id"]: job for job in self.whole_state()["jobs"]}

    @property
    def submitted(self) -> int:
        """How many SubmitJobs had their effect."""
        return len([each for each in self.account.server.jobs() if each.parent is None])

    def records(self) -> dict[str, bytes]:
        """What is stored below the queue's prefix."""
        from runner.results.s3.store import S3Store

        store = S3Store(self.bucket, "queues/q")
        try:
            return {each.key: store.get_bytes(each.key) or b"" for each in store.list("")}
        finally:
            store.close()

    def log(self, name: str) -> str:
        """Its newest stdout, here."""
        return Path(self.repository.log_paths("q").newest(name, "stdout")).read_text()
