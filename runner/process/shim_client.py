"""The daemon's end of one shim's socket: gives it an attempt, splits what it says into lines."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable

from runner.process import tree
from runner.process.identity import Process
from runner.process.shim_records import MalformedError, whole


class ShimClient:
    """One shim, as the daemon sees it.

    ``process`` is None until it has said who it is; ``ran``: the command of its attempt was
    started; ``held``: it is to get no other one.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: socket.socket,
        on_line: Callable[[ShimClient, list[str]], None],
        on_closed: Callable[[ShimClient], None],
    ) -> None:
        self.process: Process | None = None
        self.token: str | None = None
        self.slot = 0
        self.background = False
        self.ran = False
        self.held = False
        self._loop = loop
        self._channel = channel
        self._on_line = on_line
        self._on_closed = on_closed
        self._buffer = b""
        self._unsent = b""
        loop.add_reader(channel, self._on_readable)

    def give(self, token: str, slot: int, data: bytes) -> None:
        """Hand it an attempt."""
        self.token, self.slot, self.ran = token, slot, False
        self._send(data)

    def rest(self) -> None:
        """Its attempt is over; it is ready for the next."""
        self.token = None

    def _send(self, data: bytes) -> None:
        try:
            sent = self._channel.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # Its end is closed: the reader is told of that next, and finds no claim.
            return
        self._unsent = data[sent:]
        if self._unsent:
            self._loop.add_writer(self._channel, self._on_writable)

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._channel)
        self._send(self._unsent)

    def _on_readable(self) -> None:
        try:
            data = self._channel.recv(16384)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._on_closed(self)
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            words = line.decode("utf-8", "replace").split()
            try:
                self._take(words)
            except MalformedError:
                # No shim of ours says that: what it has recorded counts, as if it had died.
                self.kill()
                self._on_closed(self)
                return

    def _take(self, words: list[str]) -> None:
        match words:
            case ["H", pid, start]:
                self.process = Process(whole(pid), whole(start))
            case _:
                self._on_line(self, words)

    def kill(self) -> None:
        """SIGKILL, for one that runs nothing and doesn't answer."""
        if self.process is not None:
            tree.send(self.process, signal.SIGKILL)

    def close(self) -> None:
        """Let go of it: a busy one ends its attempt first. Can be repeated."""
        if self._channel.fileno() >= 0:
            self._loop.remove_reader(self._channel)
            self._loop.remove_writer(self._channel)
            self._channel.close()
