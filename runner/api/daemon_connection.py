"""A connection to the machine's daemon that outlives the daemon's restart.

Owns finding it, and asking again when it went away in the middle: every request that is made here
may be made twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.control.client import Client
from runner.errors import UnreachableError
from runner.model.settings import Settings
from runner.targets.here import daemons

ANSWER_WITHIN = 60.0
"""Seconds that a daemon has for an answer before it is taken for gone."""

SHORTEST, LONGEST = 0.05, 2.0
"""Seconds between two tries to reach a daemon, at first and at last."""


def find_daemon(settings: Settings, socket: Path | None) -> Client:
    """A client of the daemon at ``socket``, else of the one of the settings' folders, else of the
    machine's. Raises UnreachableError that says how to start one."""
    if socket is not None:
        try:
            return Client(socket, ANSWER_WITHIN)
        except UnreachableError as error:
            told = f"{error}: the daemon isn't running: start it with `runner daemon`"
            raise UnreachableError(told) from None
    client = daemons.find_daemon(settings)
    if client is None:
        where = settings.run_dir / "runner.sock"
        raise UnreachableError(
            f"no daemon of {settings.state_dir} answers at {where}: the daemon isn't running: "
            "start it with `runner daemon`"
        )
    return client


class DaemonConnection:
    """``find`` makes a client, or raises UnreachableError. ``patience``: seconds for which a daemon
    that went away is looked for. One request at a time; in any thread."""

    def __init__(self, find: Callable[[], Client], patience: float) -> None:
        self._find = find
        self._patience = patience
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._stopped = threading.Event()

    def ask(
        self, request: str, /, *, held: float = 0.0, patience: float | None = None, **fields: Any
    ) -> dict[str, Any]:
        """The answer. ``held``: seconds for which the daemon may wait before it gives one;
        ``patience``: in place of the connection's. Raises UnreachableError when the daemon stays
        away, or after ``stop``, and the error that an answer carries."""
        until = time.monotonic() + (self._patience if patience is None else patience)
        wait = SHORTEST
        while True:
            try:
                with self._lock:
                    client = self._connected()
                    client.timeout = ANSWER_WITHIN + held
                    return client.ask(request, **fields)
            except UnreachableError:
                self.close()
                if self._stopped.is_set() or time.monotonic() + wait > until:
                    raise
            self._stopped.wait(wait)
            wait = min(2 * wait, LONGEST)

    def _connected(self) -> Client:
        if self._stopped.is_set():
            raise UnreachableError("the connection was given up")
        if self._client is None:
            self._client = self._find()
        return self._client

    def stop(self) -> None:
        """Ask no more: what waits for an answer gets none."""
        self._stopped.set()
        if (client := self._client) is not None:
            client.interrupt()

    def close(self) -> None:
        """Hang up; the next request connects again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()
