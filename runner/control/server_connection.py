"""One client of the server: reads its lines, bounds everything, answers one request at a time.

A malformed, oversized or slow client gets an error or is dropped, and disturbs nobody: what it
may keep of us is one line, one answer, and one descriptor for a minute.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from runner.control.protocol import (
    HEAD,
    MAX_LINE,
    Peer,
    decode_request,
    encode_answer,
    encode_error,
    line_limit,
)
from runner.errors import RunnerError, UnreachableError, UsageError

IDLE_LIMIT = 60.0
LINE_LIMIT_SECONDS = 20.0
"""Seconds a silent client is kept, and seconds one may take to finish a line it has begun."""

MAX_LONG_LINES = 4
"""Lines of more than 64 KiB that are received at once: so much memory clients may take."""

Handler = Callable[[dict[str, Any], Peer], Awaitable[dict[str, Any]]]


class ServerContext(Protocol):
    """What a server is to its clients."""

    may_act: bool
    max_clients: int
    closed: bool
    clients: set[ServerConnection]
    long_lines: set[ServerConnection]

    def may_ask(self, uid: int) -> bool:
        """Whether this user is answered here."""

    async def answer(self, message: dict[str, Any], peer: Peer) -> dict[str, Any]:
        """Answer a request. RunnerErrors become error answers."""


class ServerConnection(asyncio.Protocol):
    """One connection: the next request is read when the answer to the last has gone out."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._buffer = bytearray()
        self._scanned = 0
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(IDLE_LIMIT, self.drop)
        raw = self._transport.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
        )
        pid, uid, _ = struct.unpack("3i", raw)
        self._peer = Peer(pid, uid, self._context.may_act)
        self._context.clients.add(self)
        if self._context.closed:
            self.drop()
        elif not self._context.may_ask(uid):
            self._refuse(RunnerError(f"user {uid} may not ask here"))
        elif len(self._context.clients) > self._context.max_clients:
            self._refuse(UnreachableError("too many clients; try again later"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._context.clients.discard(self)
        self._context.long_lines.discard(self)
        self._buffer.clear()
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def eof_received(self) -> bool:
        """Half-closed (``echo … | nc -UN``): what was asked is still answered."""
        if _gone(self._transport.get_extra_info("socket").fileno()):
            return False
        self._ended = True
        if self._buffer and not self._buffer.endswith(b"\n"):
            self._buffer += b"\n"
        if self._task is None and self._buffer:
            self._next()
        return self._task is not None

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if not self._buffer and self._task is None:
            self._rearm(LINE_LIMIT_SECONDS)
        self._buffer += data
        self._next()

    def _next(self) -> None:
        """Begin with the next whole line, if there is one and nothing is being answered."""
        if self._task is not None:
            self._transport.pause_reading()
            return
        end = self._buffer.find(b"\n", self._scanned)
        length = end if end >= 0 else len(self._buffer)
        if length > MAX_LINE and (why := self._why_too_long(length)):
            self._refuse(why)
        elif end < 0:
            self._scanned = len(self._buffer)
        else:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._scanned = 0
            self._context.long_lines.discard(self)
            self._timer.cancel()
            self._task = self._loop.create_task(self._answer(line))

    def _why_too_long(self, length: int) -> RunnerError | None:
        if not self._context.may_act:
            return UsageError(
                "the request is too long: at most 64 KiB; permission denied for documents: root "
                "and the members of the group 'runner' may submit"
            )
        if length > line_limit(bytes(self._buffer[:HEAD]), may_act=self._context.may_act):
            return UsageError(
                "the request is too long: at most 64 KiB, or 64 MiB for a line that begins "
                '{"v":1,"request":"submit","document":"'
            )
        self._context.long_lines.add(self)
        if len(self._context.long_lines) > MAX_LONG_LINES:
            return UnreachableError("too many large documents at once; try again later")
        return None

    async def _answer(self, line: bytes) -> None:
        try:
            answer = encode_answer(await self._context.answer(decode_request(line), self._peer))
        except RunnerError as error:
            answer = encode_error(error)
        except Exception as error:
            # A bug, and no reason to leave the client waiting or the queue alone.
            self._loop.call_exception_handler({"message": "a request failed", "exception": error})
            answer = encode_error(RunnerError(f"internal error: {type(error).__name__}"))
        self._transport.write(answer)
        await self._writable.wait()
        self._task = None
        if self._transport.is_closing():
            return
        self._rearm(IDLE_LIMIT)
        self._next()
        if self._task is not None:
            return
        if self._ended:
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self._writable.clear()
        self._rearm(IDLE_LIMIT)

    def resume_writing(self) -> None:
        self._writable.set()

    def _rearm(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.drop)

    def _refuse(self, error: RunnerError) -> None:
        self._buffer.clear()
        self._rearm(IDLE_LIMIT)
        self._transport.write(encode_error(error))
        self._transport.close()

    def drop(self) -> None:
        """End the connection now, whatever is in its buffers."""
        self._transport.abort()


def _gone(fd: int) -> bool:
    """Whether the other end is closed in both directions: nobody waits for an answer."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(flags & select.POLLHUP for _, flags in poll.poll(0))
