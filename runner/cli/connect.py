"""Who answers a verb: the daemon, the foreground run that has the queue, or the disk itself."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from runner.cli import options
from runner.cli.text import clean
from runner.control.client import Client, SilentError
from runner.errors import NotFoundError, RunnerError, UnreachableError
from runner.model.settings import Settings
from runner.service.looks import LOOKS
from runner.service.looks import Place as LookPlace
from runner.service.shelf import Shelf
from runner.service.views import Stored

LOOK_TIMEOUT = 10.0
"""Seconds that somebody has for an answer before the disk is asked instead."""

HELD = 20.0
"""Seconds that a ``wait``, or a log that is followed, is held by who answers."""


class _Disk(LookPlace):
    """Looking at the state folder itself."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.who = "nobody"
        self.stored = Stored(shelf.paths)

    def session_of(self, name: str) -> None:
        """See Place: nothing runs in a command that only looks."""

    def outlook(self, name: str, owner: str | None) -> Mapping[str, str]:
        """See Place."""
        return {}


class Connection:
    """Asks whoever is there. ``live`` tells whether that is a process that works on queues."""

    def __init__(self, settings: Settings, queue: str | None) -> None:
        self.settings = settings
        self.queue = queue
        self._shelf = Shelf(settings.state_dir, settings.log_dir)
        self._disk = _Disk(self._shelf)
        self._silent: SilentError | None = None
        self._client = self._find()

    @property
    def live(self) -> bool:
        return self._client is not None

    @property
    def client(self) -> Client | None:
        """Whoever answers, for requests that are not about one queue."""
        return self._client

    def look(self, request: str, **fields: Any) -> dict[str, Any]:
        """The answer to a look; from the disk if nobody answers, also when they just went."""
        for _ in range(2):
            if self._client is None:
                break
            try:
                # What is held is held that much longer.
                held = HELD if fields.get("timeout") or fields.get("follow") else 0.0
                self._client.timeout = LOOK_TIMEOUT + held
                return self._client.ask(request, **self._given(request, fields))
            except UnreachableError as error:
                self.renew(error)
        if request == "wait":
            request, fields = "status", {"limit": 0}
        fields.pop("follow", None)
        found = LOOKS[request](self._disk, self._given(request, fields))
        return found() if callable(found) else found

    def look_at_all(self) -> list[dict[str, Any]]:
        """All queues that are kept."""
        found: list[dict[str, Any]] = self.look("queues")["queues"]
        return found

    def act(self, request: str, **fields: Any) -> dict[str, Any]:
        """The answer to a request that acts. Raises UnreachableError if that is lost."""
        if self._silent is not None:
            raise self._silent
        if self._client is not None:
            # To end jobs takes their grace, and nobody gives up half-way.
            self._client.timeout = None
            return self._client.ask(request, **self._given(request, fields))
        from runner.service.resting import act

        return act(self._shelf, self.settings, request, self._given(request, fields))

    def renew(self, error: UnreachableError | None = None) -> None:
        """Look again for somebody who answers; if he is silent only the disk is left."""
        self.close()
        if isinstance(error, SilentError):
            self._give_up(error)
        else:
            self._client = self._find()

    def _give_up(self, error: SilentError) -> None:
        self._silent = error
        print(f"runner: {clean(str(error))}; this is from the disk", file=sys.stderr)

    def _given(self, request: str, fields: dict[str, Any]) -> dict[str, Any]:
        queue = {} if request == "queues" else {"queue": self.queue}
        return {name: v for name, v in {**queue, **fields}.items() if v is not None}

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _find(self) -> Client | None:
        name = self.queue or self._current()
        client = _open(self._shelf.queue_paths(name).socket) if name else None
        try:
            client = client or find_own_daemon(self.settings)
            if client is None and not self._has_queue():
                client = find_machines_daemon(self.settings)
            return client
        except SilentError as error:
            self._give_up(error)
            return None

    def _has_queue(self) -> bool:
        """Whether what is asked for is in our own state folder."""
        try:
            return self.queue in self._shelf.names() if self.queue else bool(self._shelf.names())
        except RunnerError:
            return True

    def _current(self) -> str | None:
        try:
            return self._shelf.current() or self._shelf.find(None).name
        except (NotFoundError, RunnerError):
            return None


@contextmanager
def connection(arguments: argparse.Namespace) -> Iterator[Connection]:
    """Connect as the flags and settings say, without starting anything."""
    queue = options.queue(arguments)
    there = Connection(options.settings(arguments), queue)
    try:
        yield there
    finally:
        there.close()


def find_daemon(settings: Settings) -> Client | None:
    """A client of our own daemon, else of the machine's. Raises SilentError."""
    return find_own_daemon(settings) or find_machines_daemon(settings)


def find_machines_daemon(settings: Settings) -> Client | None:
    """A client of the daemon that root runs for all users, if there is one."""
    folder = settings.machine_run_dir
    if folder is None:
        return None
    return _open(folder / "runner.sock") or _open(folder / "runner-ro.sock")


def find_own_daemon(settings: Settings) -> Client | None:
    """A client of the daemon of this state folder, if there is one. Raises SilentError."""
    ours = os.path.realpath(settings.state_dir)
    for name in ("runner.sock", "runner-ro.sock"):
        client = _open(settings.run_dir / name)
        if client is None:
            continue
        try:
            if client.ask("ping").get("state_dir") == ours:
                return client
        except SilentError:
            client.close()
            raise
        except UnreachableError:
            # It has just gone, or is something else.
            pass
        # A daemon of another state folder: what is asked about lies elsewhere.
        client.close()
    return None


def _open(path: Any) -> Client | None:
    try:
        return Client(path, LOOK_TIMEOUT)
    except UnreachableError:
        return None
