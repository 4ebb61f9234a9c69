"""A queue of this machine: by the socket of the process that has it, else by the state folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner.errors import (
    NotFoundError,
    RunnerError,
    SilentError,
    StateError,
    UnreachableError,
    UsageError,
)
from runner.model.messages import did_you_mean, quoted
from runner.model.settings import Settings
from runner.service.queue_repository import QueueRepository
from runner.targets.here import daemons
from runner.targets.here.state_folder import StateFolder
from runner.targets.port import (
    HOLD_SECONDS,
    Answer,
    NoResultsError,
    Say,
    Stopped,
    StoredResults,
    TargetTraits,
)

if TYPE_CHECKING:
    from runner.control.client import Client

TRAITS = TargetTraits(
    name="this machine",
    elsewhere=False,
    returns_within=30.0,
    log_tail=None,
    stored_copy=False,
    sources="this machine",
)

_ABOUT_NO_QUEUE = ("queues", "ping", "stop")


class LocalConnection:
    """See QueueConnection. A daemon or a foreground run is looked for when one is first needed.

    ``queue`` None: the current queue. ``say`` is told when a process doesn't answer.
    """

    traits = TRAITS

    def __init__(self, settings: Settings, queue: str | None, say: Say) -> None:
        self.settings = settings
        self.queue = queue
        self._say = say
        self._repository = QueueRepository(settings.state_dir, settings.log_dir)
        self._folder = StateFolder(self._repository)
        self._silent: SilentError | None = None
        self._client: Client | None = None
        self._searched = False

    @property
    def word(self) -> str:
        """See QueueConnection."""
        return self.queue or ""

    @property
    def live(self) -> bool:
        """See QueueConnection."""
        return self._process is not None

    @property
    def holds_requests(self) -> bool:
        """See QueueConnection: the state folder can't tell when it changes."""
        return self.live

    @property
    def diagnosis(self) -> list[str]:
        """See QueueConnection."""
        return []

    def wait_through_boot(self, say: Say) -> None:
        """See QueueConnection: this machine has booted."""

    def locate(self) -> None:
        """See QueueConnection."""
        self.query("status", limit=0)

    # -- queries -----------------------------------------------------------------------------

    def query(self, request: str, /, **fields: Any) -> Answer:
        """See QueueConnection. A process that ends meanwhile costs a second try."""
        fields.pop("brief", None)  # a socket carries every field as quickly
        for _ in range(2):
            if (client := self._process) is None:
                break
            try:
                # The answer to a request that is held takes that much longer.
                held = HOLD_SECONDS if fields.get("timeout") or fields.get("follow") else 0.0
                client.timeout = daemons.ANSWER_WITHIN + held
                return client.ask(request, **self._given(request, fields))
            except UnreachableError as error:
                self._lost(error)
        if request == "wait":
            request, fields = "status", {"limit": 0}
        fields.pop("follow", None)
        return self._folder.answer(request, self._given(request, fields))

    def stored_status(self, states: Sequence[str] | None) -> None:
        """See QueueConnection: the socket is as quick."""

    def status_despite(self, error: RunnerError) -> Answer:
        """See QueueConnection: here every error tells something."""
        raise error

    # -- actions -----------------------------------------------------------------------------

    def act(self, request: str, /, **fields: Any) -> Answer:
        """See QueueConnection. A queue that no process works on is changed by this process."""
        client = self._process
        if self._silent is not None:
            raise self._silent
        if client is not None:
            # Jobs that end get their grace: the answer takes as long as that.
            client.timeout = None
            return client.ask(request, **self._given(request, fields))
        from runner.service.offline import act

        return act(self._repository, self.settings, request, self._given(request, fields))

    def submit(self, text: str, again: str, batch: Mapping[str, str] | None = None) -> Answer:
        """See QueueConnection."""
        settings = self.settings
        client = daemons.find_daemon(settings)
        if client is None:
            raise UnreachableError(
                f"no daemon of {settings.state_dir} answers at {settings.run_dir / 'runner.sock'}: "
                "start one with `runner daemon`, or run the document here with `runner run`"
            )
        with client:
            # A large document takes its time, and so do jobs that --fresh ends.
            client.timeout = None
            more = {} if batch is None else {"batch": dict(batch)}
            return client.ask("submit", document=text, again=again, **more)

    def keep(self, seconds: float | None, *, release: bool) -> Answer:
        """See QueueConnection. Raises UsageError without a runner, RunnerError without rights."""
        from runner.host.machine_file import this_moment
        from runner.service import machine_view
        from runner.store.paths import StatePaths

        paths = StatePaths(self.settings.state_dir)
        if not paths.root.is_dir():
            raise UsageError(f"there is no runner in {paths.root}")
        if not os.access(paths.root, os.W_OK):
            raise RunnerError(f"{paths.root} can't be written to: this takes root's rights")
        machine = machine_view.release(paths) if release else machine_view.keep(paths, seconds)
        return {"machine": machine_view.describe_end(machine, this_moment())}

    def stop(self, *, detach: bool, say: Say) -> Stopped:
        """See QueueConnection. Without a queue that is the daemon, else the process of the current
        queue."""
        from runner.targets.here.stop import stop_process

        client = daemons.find_daemon(self.settings) if self.queue is None else None
        if client is not None:
            with client:
                return stop_process(client, detach=detach, say=say)
        client = self._process
        if client is None:
            raise UnreachableError("nothing runs here that could be stopped")
        if self.queue and not self.query("status", limit=0)["queue"].get("worker"):
            raise UnreachableError(f"no process works on queue '{self.queue}' now")
        return stop_process(client, detach=detach, say=say)

    # -- results -----------------------------------------------------------------------------

    def results(self) -> StoredResults:
        """See QueueConnection."""
        name, repository = self.queue, self._repository
        if name is not None and not repository.exists(name):
            hint = did_you_mean(name, repository.names())
            if not hint and os.path.isdir(name):
                hint = f"; for the folder, give ./{name}"
            raise NotFoundError(
                f"there is no queue {quoted(name)} in {repository.paths.root}{hint}"
            )
        entry = repository.find(name)
        if entry.error or entry.queue is None:
            raise StateError(entry.error or f"queue '{entry.name}' can't be read")
        if not (where := entry.meta.get("results")):
            raise NoResultsError(
                f"queue '{entry.name}' was run without --results: nothing of it is stored\n"
                f"its logs are here: runner logs JOB --queue {entry.name}\n"
                "the same runner run with --results stores what has ended"
            )
        return StoredResults(where, entry.queue.run_id)

    # -- the process that answers ------------------------------------------------------------

    def reconnect(self) -> None:
        """See QueueConnection."""
        self.close()
        self._searched = False

    def close(self) -> None:
        """See QueueConnection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def _process(self) -> Client | None:
        if not self._searched:
            self._searched = True
            self._client = self._find()
        return self._client

    def _lost(self, error: UnreachableError) -> None:
        """After a silent process only the folder is left; one that ended may have a successor."""
        self.reconnect()
        if isinstance(error, SilentError):
            self._searched = True
            self._give_up(error)

    def _give_up(self, error: SilentError) -> None:
        self._silent = error
        self._say(f"{error}; this is from the disk")

    def _given(self, request: str, fields: dict[str, Any]) -> dict[str, Any]:
        queue = {} if request in _ABOUT_NO_QUEUE else {"queue": self.queue}
        return {name: v for name, v in {**queue, **fields}.items() if v is not None}

    def _find(self) -> Client | None:
        name = self.queue or self._current()
        client = daemons.open_socket(self._repository.queue_paths(name).socket) if name else None
        try:
            client = client or daemons.find_own_daemon(self.settings)
            if client is None and not self._has_queue():
                client = daemons.find_machine_daemon(self.settings)
            return client
        except SilentError as error:
            self._give_up(error)
            return None

    def _has_queue(self) -> bool:
        """Whether the state folder of these settings has the queue."""
        try:
            return (
                self.queue in self._repository.names()
                if self.queue
                else bool(self._repository.names())
            )
        except RunnerError:
            return True

    def _current(self) -> str | None:
        try:
            return self._repository.current() or self._repository.find(None).name
        except RunnerError:
            return None
