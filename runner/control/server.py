"""The server's side of the socket: where it listens, who is let in, and how many.

What a client may take of us is ``server_connection``'s business, what requests mean is service's.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any

from runner.control.protocol import Peer
from runner.control.server_connection import Handler, ServerConnection
from runner.errors import LockedError, StateError

MAX_CLIENTS = 2000
ANSWERED = 5
"""Turns of asyncio's loop: a task is done, who shields it is told, who waits for that answers."""
ARRIVAL = 5
"""The same: accept, make the transport, tell its protocol, abort, tell the loss."""

KEPT_DESCRIPTORS = 256
"""Descriptors that are left to everything else: jobs, logs, the database."""


class Server:
    """One listening socket. Answers through ``handler``; RunnerErrors become error answers.

    ``uids`` are the users that are answered; None leaves that to the socket's mode.
    """

    def __init__(
        self,
        handler: Handler,
        path: Path,
        *,
        mode: int,
        may_act: bool,
        uids: Collection[int] | None = None,
    ) -> None:
        self.may_act = may_act
        self.max_clients = _room()
        self.closed = False
        self.clients: set[ServerConnection] = set()
        self.long_lines: set[ServerConnection] = set()
        self._handler = handler
        self._path = path
        self._mode = mode
        self._uids = uids
        self._server: asyncio.Server | None = None
        self._inode = 0

    async def start(self, group: int | None = None) -> None:
        """Listen. Raises StateError if the socket can't be made, LockedError if one is alive."""
        loop = asyncio.get_running_loop()
        try:
            _check_stale(self._path)
            listener = _bind(self._path, self._mode, group)
            self._inode = os.stat(self._path).st_ino
        except OSError as error:
            raise StateError(f"{self._path}: {error.strerror}") from None
        self._server = await loop.create_unix_server(
            lambda: ServerConnection(self), sock=listener, backlog=1024
        )

    def may_ask(self, uid: int) -> bool:
        """See ServerContext."""
        return self._uids is None or uid in self._uids

    async def answer(self, message: dict[str, Any], peer: Peer) -> dict[str, Any]:
        """See ServerContext."""
        return await self._handler(message, peer)

    async def close(self) -> None:
        """Stop listening, drop every client, remove the socket if it is still ours.

        What is decided is still answered: `runner stop` above all, which is why we close.
        """
        self.closed = True
        if self._server is None:
            return
        loop = asyncio.get_running_loop()
        for listener in self._server.sockets:
            loop.remove_reader(listener.fileno())
        for _ in range(ANSWERED):
            await asyncio.sleep(0)
        for client in list(self.clients):
            client.drop()
        # Who was just let in must arrive first: a closed asyncio.Server would forget the socket.
        for _ in range(ARRIVAL):
            await asyncio.sleep(0)
        self._server.close()
        try:
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except OSError:
            # Removed already, or its folder: there is nothing left to clean up.
            pass


def _room() -> int:
    """How many clients there may be: a thousand is normal, and jobs need descriptors as well."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CLIENTS if soft < 0 else min(MAX_CLIENTS, max(16, (soft - KEPT_DESCRIPTORS) // 2))


def _check_stale(path: Path) -> None:
    """Raise LockedError if somebody listens there: taking the name would cut them off."""
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            probe.connect(f"/proc/self/fd/{folder}/{path.name}")
        except BlockingIOError:
            raise LockedError(f"{path} is in use by another process") from None
        except OSError:
            return
        finally:
            os.close(folder)
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        raise LockedError(f"{path} is in use by process {struct.unpack('3i', raw)[0]}")


def _bind(path: Path, mode: int, group: int | None) -> socket.socket:
    """A listening socket that appears under its name with its rights, replacing a stale one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    # Always the same: the caller holds a lock, and what a killed start has left is in its way.
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # By way of the descriptor: sun_path holds 108 bytes (unix(7)), a state folder may not fit.
        listener.bind(f"/proc/self/fd/{folder}/{temporary.name}")
        os.chmod(temporary, mode)
        if group is not None:
            os.chown(temporary, -1, group)
        # Before it has its name: whoever finds it can connect.
        listener.listen(1024)
        os.replace(temporary, path)
    except BaseException:
        listener.close()
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(folder)
    return listener
