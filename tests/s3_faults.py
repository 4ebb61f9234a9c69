"""A proxy before the S3 endpoint that makes the faults which moto doesn't: on order, or as a
test draws them. A thread a connection; each request is read whole, matched, counted, passed on.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

WAIT = 20.0
"""Seconds after which a test that waits for the proxy has failed."""

_PIECE = 64 << 10

BODY_KEPT = 1 << 16
"""Bytes up to which a request's body is kept for a test to look at."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer this instead of asking the endpoint."""

    status: int
    code: str
    message: str = "made by the proxy"


@dataclass(frozen=True, slots=True)
class Canned:
    """Answer as S3 would, instead of asking the endpoint: a store that keeps nothing."""

    body: str = ""
    etag: str = '"e"'


SLOW_DOWN = Answer(503, "SlowDown")
INTERNAL = Answer(500, "InternalError")
EXPIRED = Answer(400, "ExpiredToken")
DENIED = Answer(403, "AccessDenied")
NOT_ALLOWED = Answer(405, "MethodNotAllowed")
NOT_IMPLEMENTED = Answer(501, "NotImplemented")


@dataclass(frozen=True, slots=True)
class ResetRequest:
    """Reset the connection when so much of the request's body has come; nothing is passed on."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class ResetAnswer:
    """Pass the request on, and reset the connection in the middle of the answer's body.

    Without a body: before the answer. What was asked has then been done.
    """


@dataclass(frozen=True, slots=True)
class Stall:
    """Hold the request until `release`; then pass it on. `served`: pass it on before that."""

    served: bool = False


@dataclass(frozen=True, slots=True)
class Hang:
    """Take the request, and never answer it."""


@dataclass(frozen=True, slots=True)
class Slow:
    """Take the request's body at so many bytes a second; all slow requests share one line."""

    rate: float


@dataclass(frozen=True, slots=True)
class Truncate:
    """Answer with the right Content-Length and half of the body."""


@dataclass(frozen=True, slots=True)
class Flip:
    """Change one byte in the middle of the answer's body."""


@dataclass(frozen=True, slots=True)
class WrongETag:
    """Answer with an ETag that nothing has."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Answer 200 with a body that isn't S3's: a captive portal, a broken middle box."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Pass it on as it is: for a rule that only has something to do before."""


Fault = (
    Nothing
    | Answer
    | Canned
    | ResetRequest
    | ResetAnswer
    | Stall
    | Hang
    | Slow
    | Truncate
    | Flip
    | WrongETag
    | Garbage
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came; `key` without the bucket, `body` empty if it was large."""

    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    size: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests: method, a regex that the whole key matches, and what is in the query.

    `query`: names that must be there; `without`: names that must not.
    """

    method: str = ""
    key: str = ".*"
    query: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def __call__(self, request: Request) -> bool:
        return (
            self.method in ("", request.method)
            and re.fullmatch(self.key, request.key, re.DOTALL) is not None
            and all(name in request.query for name in self.query)
            and not any(name in request.query for name in self.without)
        )


PUT = Match("PUT", without=("partNumber",))
GET = Match("GET", key=".+")
LIST = Match("GET", key="", query=("list-type",))
DELETE = Match("DELETE", without=("uploadId",))
LIST_UPLOADS = Match("GET", key="", query=("uploads",))
CREATE = Match("POST", query=("uploads",))
PART = Match("PUT", query=("partNumber",))
COMPLETE = Match("POST", query=("uploadId",))
ABORT = Match("DELETE", query=("uploadId",))


@dataclass(slots=True)
class Rule:
    """A fault for the next `left` requests that match; `done` counts them."""

    matching: Match
    fault: Fault
    left: int
    skip: int
    done: int = 0
    before: Callable[[], object] | None = None


@dataclass(slots=True)
class _Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class FaultProxy:
    """Start it before an endpoint's port, point clients at ``url``, give it rules, close it."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._released = threading.Event()
        self._line = threading.Lock()
        self._open: set[socket.socket] = set()
        self.requests: list[Request] = []
        self.draw: Callable[[Request], Fault | None] = lambda request: None
        """What happens to a request that no rule is for. Called by many threads."""
        self.taken = 0
        """Bytes of bodies that have come, of requests that failed too."""
        self.stalled = 0
        self.last_asked = time.monotonic()
        self._listener: socket.socket | None = None
        self.port = 0
        self.open_door()
        self.url = f"http://127.0.0.1:{self.port}"

    # -- what a test tells it ----------------------------------------------------------------

    def fail(
        self,
        matching: Match,
        fault: Fault,
        *,
        times: int = 1,
        skip: int = 0,
        before: Callable[[], object] | None = None,
    ) -> Rule:
        """From now on: the first `skip` requests that match pass, the next `times` fail.

        `before` is called, in a thread of the proxy, when one fails and before it does.
        """
        rule = Rule(matching, fault, times, skip, before=before)
        with self._lock:
            self._rules.append(rule)
        return rule

    def release(self) -> None:
        """Let go what is stalled, and stall nothing from now on."""
        self._released.set()

    def wait_stalled(self, count: int = 1) -> None:
        """Until so many requests have been held."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.stalled >= count, WAIT)

    def close_door(self) -> None:
        """Refuse connections, and reset those that are open."""
        with self._lock:
            listener, self._listener = self._listener, None
            still, self._open = self._open, set()
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
            listener.close()
        for connection in still:
            _reset(connection)

    def open_door(self) -> None:
        """Take connections, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        _start(self._accept, self._listener)

    @contextmanager
    def closed_door(self) -> Iterator[None]:
        """Nobody is in meanwhile."""
        self.close_door()
        try:
            yield
        finally:
            self.open_door()

    def close(self) -> None:
        self.release()
        self.close_door()

    # -- what it has seen --------------------------------------------------------------------

    def seen(self, matching: Match) -> list[Request]:
        """The requests so far that match, failed ones too."""
        with self._lock:
            return [request for request in self.requests if matching(request)]

    # -- how it works ------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                welcome = listener is self._listener
                if welcome:
                    self._open.add(connection)
            if welcome:
                _start(self._serve, connection)
            else:
                _reset(connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream)
        try:
            with connection.makefile("rb") as stream:
                while self._serve_one(connection, stream, upstream):
                    pass
        except (OSError, ValueError, http.client.HTTPException):
            pass  # the client went away, or we sent it away
        finally:
            upstream.close()
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _serve_one(
        self, connection: socket.socket, stream: BinaryIO, upstream: http.client.HTTPConnection
    ) -> bool:
        """Whether the connection can be used again."""
        line = stream.readline().decode("latin-1").split()
        with self._lock:
            sent_away = connection not in self._open  # data may come after a SHUT_RD all the same
        if sent_away or not line:
            return False
        method, target = line[0], line[1]
        headers = _headers(stream)
        if self._listener is None:
            # This thread was already reading when the door was closed.
            _reset(connection)
            return False
        request = _request(method, target, headers)
        rule = self._rule(request)
        fault = rule.fault if rule else None
        if rule and rule.before:
            rule.before()
        asks = headers.get("expect", "").lower() == "100-continue"
        if asks and isinstance(fault, Answer):
            self._note(request, 0, b"")
            _send(connection, method, _page_of(fault), fault)
            return False
        if asks:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if isinstance(fault, ResetRequest):
            self._count(len(stream.read(min(fault.after, int(headers.get("content-length", 0))))))
            self._note(request, 0, b"")
            _reset(connection)
            return False
        slowly = partial(self._take_slowly, fault.rate) if isinstance(fault, Slow) else None
        body = _body(stream, headers, slowly)
        self._count(len(body))
        self._note(request, len(body), body)
        if isinstance(fault, Hang):
            connection.recv(1)  # until the client has enough of it
            return False
        if isinstance(fault, Stall) and not fault.served:
            self._hold()
        reply = _made(fault) or _ask(upstream, method, target, headers, body)
        if isinstance(fault, Stall) and fault.served:
            self._hold()
        return _send(connection, method, reply, fault)

    def _take_slowly(self, rate: float, count: int) -> None:
        with self._line:
            time.sleep(count / rate)

    def _rule(self, request: Request) -> Rule | None:
        with self._lock:
            for rule in self._rules:
                if not (rule.left and rule.matching(request)):
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                rule.left -= 1
                rule.done += 1
                return rule
        drawn = self.draw(request)
        return Rule(Match(), drawn, left=0, skip=0) if drawn else None

    def _count(self, size: int) -> None:
        with self._lock:
            self.taken += size

    def _note(self, request: Request, size: int, body: bytes) -> None:
        kept = body if size <= BODY_KEPT else b""
        whole = Request(request.method, request.key, request.query, request.headers, size, kept)
        with self._lock:
            self.requests.append(whole)
            self.last_asked = time.monotonic()

    def _hold(self) -> None:
        with self._changed:
            self.stalled += 1
            self._changed.notify_all()
        self._released.wait(WAIT)


def _start(target: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, daemon=True, name="s3-faults").start()


def _headers(stream: BinaryIO) -> dict[str, str]:
    headers = {}
    while (line := stream.readline().decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return headers


def _request(method: str, target: str, headers: dict[str, str]) -> Request:
    parts = urlsplit(target)
    key = unquote(parts.path).lstrip("/").partition("/")[2]
    found = parse_qs(parts.query, keep_blank_values=True)
    return Request(method, key, {name: values[0] for name, values in found.items()}, headers, 0)


def _body(
    stream: BinaryIO, headers: dict[str, str], slowly: Callable[[int], None] | None = None
) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        size = int(headers.get("content-length", 0))
        if slowly is None:
            return _exactly(stream, size)
        pieces = []
        for at in range(0, size, _PIECE):
            pieces.append(_exactly(stream, min(_PIECE, size - at)))
            slowly(len(pieces[-1]))
        return b"".join(pieces)
    chunks = []
    while size := int(stream.readline().split(b";")[0], 16):
        chunks.append(_exactly(stream, size))
        stream.readline()
    _headers(stream)  # the trailer
    return b"".join(chunks)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ConnectionError("the client went away")
    return data


_OWN = {"expect", "transfer-encoding", "connection", "content-length"}


def _ask(
    upstream: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: dict[str, str],
    body: bytes,
) -> _Reply:
    upstream.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        if name not in _OWN:
            upstream.putheader(name, value)
    if body or method in ("PUT", "POST"):
        upstream.putheader("content-length", str(len(body)))
    upstream.endheaders(body or None)
    answer = upstream.getresponse()
    told = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OWN]
    data = answer.read()
    size = (answer.getheader("content-length") if method == "HEAD" else None) or str(len(data))
    return _Reply(answer.status, [*told, ("Content-Length", size)], data)


def _made(fault: Fault | None) -> _Reply | None:
    match fault:
        case Answer():
            return _page_of(fault)
        case Canned():
            page = _page(200, "application/xml", fault.body)
            return _Reply(200, [*page.headers, ("ETag", fault.etag)], page.body)
        case Garbage():
            return _page(200, "text/html", "<html><body>Please log in<br></body></html>")
        case _:
            return None


def _page_of(fault: Answer) -> _Reply:
    text = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>"
    return _page(fault.status, "application/xml", f'<?xml version="1.0"?>{text}')


def _page(status: int, kind: str, text: str) -> _Reply:
    body = text.encode()
    headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
    return _Reply(status, headers, body)


def _send(connection: socket.socket, method: str, reply: _Reply, fault: Fault | None) -> bool:
    headers, body = reply.headers, reply.body
    if isinstance(fault, ResetAnswer) and not body:
        _reset(connection)
        return False
    if isinstance(fault, WrongETag):
        headers = [(n, '"' + "0" * 32 + '"' if n.lower() == "etag" else v) for n, v in headers]
    if isinstance(fault, Flip) and body:
        middle = len(body) // 2
        body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
    phrase = http.client.responses.get(reply.status, "")
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{n}: {v}" for n, v in headers), "", ""]
    connection.sendall("\r\n".join(lines).encode("latin-1"))
    if method == "HEAD":
        return True
    if isinstance(fault, ResetAnswer | Truncate):
        connection.sendall(body[: len(body) // 2])
        if isinstance(fault, ResetAnswer):
            _reset(connection)
        return False
    connection.sendall(body)
    return True


def _reset(connection: socket.socket) -> None:
    """Close with a RST and not a FIN: SO_LINGER with no time to linger."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
    connection.close()
