"""A TCP proxy before PostgreSQL that cuts, resets and freezes connections, to the byte.

A fault is of one connection, after so many bytes in one direction, or of one statement: its request
is cut in the middle, or its answer is lost after the server has given it.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

_READY = b"Z\x00\x00\x00\x05"
"""ReadyForQuery: the server has done what it was asked (PostgreSQL manual, "Message Formats")."""


class How(Enum):
    CLOSED = auto()
    """FIN to both: the other end has gone."""
    RESET = auto()
    """RST to both."""
    FROZEN = auto()
    """Nothing passes any more, and nobody is told."""


@dataclass(frozen=True, slots=True)
class Cut:
    """After ``after`` bytes of a connection, ``up`` to the server or down from it."""

    after: int
    up: bool
    how: How = How.RESET


class Lost(Enum):
    """What becomes of the statement."""

    REQUEST = auto()
    """Half of it reaches the server."""
    ANSWER = auto()
    """It is done and, if it commits, committed; no byte of the answer comes back."""
    HALF_ANSWER = auto()
    """It is done, and half of the answer comes back."""
    FROZEN = auto()
    """It is done, and nothing ever comes back on this connection."""


@dataclass(slots=True)
class _Armed:
    statement: bytes
    lost: Lost


@dataclass(slots=True)
class CuttingProxy:
    """Before the server on ``port``; ``plan`` gives each new connection, by number, its cut."""

    port: int
    plan: Callable[[int], Cut | None] = lambda number: None
    cuts: int = 0
    """How many there were."""
    connections: int = 0
    own_port: int = 0
    _armed: list[_Armed] = field(default_factory=list)
    _links: list[_Link] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _listener: socket.socket = field(default_factory=socket.socket)
    _frozen: bool = False

    def __post_init__(self) -> None:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.own_port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, address: str) -> str:
        """The same database by way of here."""
        return address.replace(f":{self.port}/", f":{self.own_port}/")

    def arm(self, statement: str, lost: Lost) -> None:
        """The next statement that holds this text is lost so."""
        with self._lock:
            self._armed.append(_Armed(statement.encode(), lost))

    @property
    def armed(self) -> int:
        """Faults that have not come yet."""
        return len(self._armed)

    def freeze(self, frozen: bool = True) -> None:
        """Nothing passes, on any connection; new ones are accepted, and hear nothing."""
        self._frozen = frozen
        with self._lock:
            for link in self._links:
                link.frozen = frozen

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.port), 5)
            except OSError:
                client.close()
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                link = _Link(self, client, server, self.plan(self.connections), self._frozen)
                self._links = [each for each in self._links if not each.over] + [link]
            threading.Thread(target=link.run, daemon=True).start()

    def take(self, data: bytes) -> Lost | None:
        """The fault of the statement that is among these bytes, if one is armed."""
        with self._lock:
            for each in self._armed:
                if each.statement in data:
                    self._armed.remove(each)
                    return each.lost
        return None

    def count(self) -> None:
        """There was a cut."""
        with self._lock:
            self.cuts += 1

    def close(self) -> None:
        """End it, and all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for link in self._links:
                link.end(How.RESET)


class _Link:
    """One connection: both directions in one thread."""

    def __init__(
        self,
        proxy: CuttingProxy,
        client: socket.socket,
        server: socket.socket,
        cut: Cut | None,
        frozen: bool,
    ) -> None:
        self._proxy, self._client, self._server, self._cut = proxy, client, server, cut
        self._counts = {True: 0, False: 0}
        self._losing: Lost | None = None
        self.frozen = frozen
        self.over = False

    def run(self) -> None:
        try:
            while not self.over:
                found = select.select([self._client, self._server], [], [], 0.02)[0]
                if self.frozen:
                    select.select([], [], [], 0.02)
                    continue
                for each in found:
                    self._pass(each is self._client)
        except (OSError, ValueError):
            pass
        finally:
            self.end(How.CLOSED)

    def _pass(self, up: bool) -> None:
        if self.over or self.frozen:
            return
        source, target = (self._client, self._server) if up else (self._server, self._client)
        data = source.recv(65_536)
        if not data:
            self.end(How.CLOSED)
            return
        if up and (lost := self._proxy.take(data)) is not None:
            self._proxy.count()
            if lost is Lost.REQUEST:
                target.sendall(data[: len(data) // 2])
                self.end(How.RESET)
                return
            self._losing = lost
        if not up and self._losing is not None:
            self._lose(data)
            return
        self._send(target, data, up)

    def _send(self, target: socket.socket, data: bytes, up: bool) -> None:
        cut, before = self._cut, self._counts[up]
        self._counts[up] += len(data)
        if cut is None or cut.up is not up or self._counts[up] < cut.after:
            target.sendall(data)
            return
        target.sendall(data[: cut.after - before])
        self._proxy.count()
        if cut.how is How.FROZEN:
            self.frozen = True
        else:
            self.end(cut.how)

    def _lose(self, data: bytes) -> None:
        """The server's whole answer is read first: what it was asked is done then."""
        while _READY not in data[-6:] and (more := self._server.recv(65_536)):
            data += more
        if self._losing is Lost.FROZEN:
            self.frozen = True
            return
        if self._losing is Lost.HALF_ANSWER:
            self._client.sendall(data[: len(data) // 2])
        self.end(How.RESET)

    def end(self, how: How) -> None:
        if self.over:
            return
        self.over = True
        for each in (self._client, self._server):
            try:
                if how is How.RESET:
                    linger = struct.pack("ii", 1, 0)
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                each.close()
            except OSError:
                pass
