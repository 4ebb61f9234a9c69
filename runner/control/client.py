"""The client's side of the socket: small, synchronous, and quick to import."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runner.control.protocol import decode_answer, encode_request
from runner.errors import SilentError, UnreachableError

LONGEST = 100
"""Bytes of a path that fit into an address: 108 (unix(7)), 104 on a Mac, with a zero."""


class Client:
    """A connection to a daemon or a foreground run; use it as a context manager.

    Raises UnreachableError when nobody listens or no answer comes within ``timeout`` seconds
    (None: however long it takes), and the error an answer carries.
    """

    def __init__(self, path: Path, timeout: float | None = 30.0) -> None:
        self.path = path
        self.timeout = timeout
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._rest = b""
        try:
            with _address(path) as address:
                # A full backlog has a blocking connect wait, and a non-blocking one fail (unix(7)).
                whole, part = divmod(timeout or 0.0, 1)
                patience = struct.pack("@ll", int(whole), int(part * 1e6))
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
                self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise UnreachableError(f"no process answers at {path}: {error.strerror}") from None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def interrupt(self) -> None:
        """Have a call of ``ask`` in another thread, and every later one, raise UnreachableError."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    @property
    def peer(self) -> int:
        """The process that listens (SO_PEERCRED); 0 if it can't be seen from here."""
        if not hasattr(socket, "SO_PEERCRED"):
            return 0
        size = struct.calcsize("3i")
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return int(struct.unpack("3i", raw)[0])

    def ask(self, request: str, /, **fields: Any) -> dict[str, Any]:
        """Send one request and return its answer."""
        from runner.control.answers import checked

        line = encode_request(request, **fields)
        self._socket.settimeout(self.timeout)
        try:
            try:
                self._socket.sendall(line)
            except BrokenPipeError:
                # Refused unread, perhaps with a reason.
                pass
            return checked(request, decode_answer(self._line()))
        except TimeoutError:
            waited = f"within {self.timeout:g} seconds" if self.timeout else "in time"
            raise SilentError(f"no answer from {self.path} {waited}") from None
        except OSError as error:
            raise UnreachableError(f"no answer from {self.path}: {error.strerror}") from None

    def _line(self) -> bytes:
        chunks = [self._rest]
        while b"\n" not in chunks[-1]:
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise UnreachableError(f"{self.path} closed the connection")
            chunks.append(chunk)
        line, _, self._rest = b"".join(chunks).partition(b"\n")
        return line


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """A longer path has no other way than that of a descriptor of its folder."""
    if len(os.fsencode(path)) < LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
