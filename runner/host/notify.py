"""What the service manager is told (sd_notify(3)): ready, how far, still alive, about to stop.

Owns the socket and the moments; the words are the daemon's. Without a NOTIFY_SOCKET every method
does nothing, and no timer is ever set.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdnotify import SystemdNotifier

STATUS_EVERY = 1.0
"""Seconds between two messages of progress, at least: a queue may do hundreds of jobs in one."""

AGAIN_AFTER = 1.0
"""Seconds after which what the manager had no room for is sent again."""

EXTEND_EVERY = 10.0
EXTENSION = 30.0
"""Seconds for which a stop that takes its time asks, again and again: a job's grace may be long,
but when the loop hangs the manager's patience must end."""

LONGEST = 1000
"""Bytes of a status: systemd drops datagrams above 4096 (NOTIFY_BUFFER_MAX)."""

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Tells of one daemon. ``status`` makes the line of progress, whenever one is to be sent.

    Made, and used, in the running loop: what keeps the watchdog quiet is this loop and no other.
    """

    def __init__(self, status: Callable[[], str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._status = status
        self._told = ""
        self._told_at = float("-inf")
        self._ready = False
        self._ending = False
        self._owed: list[str] = []
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self._every = _half_of_watchdog()
        self._manager = _connect()
        # A helper that the daemon runs (for credentials, say) must not speak in its name.
        for name in _VARIABLES:
            os.environ.pop(name, None)
        if self._manager is not None and self._every is not None:
            self._beat()

    def ready(self) -> None:
        """The daemon does its work from now on. Told once, and not by one that is about to end."""
        if not (self._ready or self._ending):
            self._ready = True
            self._send("READY=1")
            self.changed()

    def ready_within(self, seconds: float) -> None:
        """Whatever it still waits for, it is ready by then."""
        if self._manager is not None and not self._ready:
            self._at(self._loop.time() + seconds, self.ready)

    def changed(self) -> None:
        """There may be something to tell. Cheap: this is called for every step of a queue."""
        if self._manager is not None and self._tell not in self._timers:
            self._at(self._told_at + STATUS_EVERY, self._tell)

    def reloaded(self) -> None:
        """The settings were asked to be read again, and that is over."""
        if not self._ready or self._ending:
            return
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._send("READY=1")

    def stopping(self, *, slowly: bool = False) -> None:
        """The daemon is about to end; ``slowly``: it ends its jobs first."""
        self._ending = True
        self._send("STOPPING=1")
        if self._manager is not None:
            self._tell()
        if slowly and self._manager is not None:
            self._extend()

    def close(self) -> None:
        """Nothing more will be told."""
        for timer in self._timers.values():
            timer.cancel()
        if self._manager is not None:
            self._manager.socket.close()
            self._manager = None

    # -- the moments -------------------------------------------------------------------------

    def _at(self, when: float, what: Callable[[], None]) -> None:
        if (former := self._timers.pop(what, None)) is not None:
            former.cancel()

        def due() -> None:
            del self._timers[what]
            what()

        self._timers[what] = self._loop.call_at(when, due)

    def _beat(self) -> None:
        assert self._every is not None
        self._send("WATCHDOG=1", may_be_lost=True)
        # Some trouble makes no event: a disk without room for the event, for one.
        self.changed()
        self._at(self._loop.time() + self._every, self._beat)

    def _tell(self) -> None:
        if not self._ready:
            # What there is to do isn't known yet.
            return
        text = _one_line(self._status())
        self._told_at = self._loop.time()
        if text != self._told:
            self._told = text
            self._send(f"STATUS={text}")

    def _extend(self) -> None:
        self._send(f"EXTEND_TIMEOUT_USEC={EXTENSION * 1e6:.0f}", may_be_lost=True)
        self._at(self._loop.time() + EXTEND_EVERY, self._extend)

    # -- the socket --------------------------------------------------------------------------

    def _send(self, message: str, *, may_be_lost: bool = False) -> None:
        if self._manager is None or (may_be_lost and self._owed):
            return
        if message.startswith("STATUS="):
            self._owed = [owed for owed in self._owed if not owed.startswith("STATUS=")]
        self._owed.append(message)
        if self._flush not in self._timers:
            self._flush()

    def _flush(self) -> None:
        while self._owed and self._manager is not None:
            # sdnotify encodes as Latin-1, systemd wants UTF-8.
            text = self._owed[0].encode().decode("latin-1")
            try:
                self._manager.notify(text)
            except OSError:
                # Its queue is full, or it is just being executed anew. Never wait for it.
                self._at(self._loop.time() + AGAIN_AFTER, self._flush)
                return
            del self._owed[0]


def _connect() -> SystemdNotifier | None:
    if not os.environ.get("NOTIFY_SOCKET"):
        return None
    from sdnotify import SystemdNotifier

    try:
        manager = SystemdNotifier(debug=True)
    except OSError:
        # A variable that somebody's shell has left over.
        return None
    manager.socket.setblocking(False)
    return manager


def _half_of_watchdog() -> float | None:
    """Seconds between two signs of life; None if nobody waits for them (sd_watchdog_enabled(3))."""
    told, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not told.isdecimal() or pid not in (None, "", str(os.getpid())):
        return None
    return int(told) / 1e6 / 2 or None


def _one_line(text: str) -> str:
    line = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return line.encode()[:LONGEST].decode("utf-8", "ignore")
