"""Datagram sockets as systemd has them: for notifications, and for the journal."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path


class Datagrams:
    """A socket that somebody sends to, and all that has come so far."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self._all: list[bytes] = []

    @property
    def all(self) -> list[bytes]:
        """Every datagram, in order."""
        while True:
            try:
                self._all.append(self._socket.recv(1 << 20))
            except BlockingIOError:
                return self._all

    def close(self) -> None:
        self._socket.close()


class Manager(Datagrams):
    """What a service manager is told."""

    @property
    def told(self) -> list[str]:
        """Every message, in order."""
        return [data.decode() for data in self.all]

    @property
    def status(self) -> str:
        """What `systemctl status` would show now."""
        said = [text for text in self.told if text.startswith("STATUS=")]
        return said[-1].removeprefix("STATUS=") if said else ""


class Journal(Datagrams):
    """What a journal gets."""

    @property
    def records(self) -> list[dict[str, str]]:
        """Every record; a field that comes twice in one is an error."""
        return [_fields(data) for data in self.all]


def _fields(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert rest[:1] == b"\n", "the framing of a binary value"
            rest = rest[1:]
        assert name.decode() not in found, name
        found[name.decode()] = value.decode()
        data = rest
    return found


def stream_of(path: Path) -> str:
    """JOURNAL_STREAM for a stderr that goes to this file."""
    found = os.stat(path)
    return f"{found.st_dev}:{found.st_ino}"
