"""The HTTP side (the AWS JSON 1.0 protocol), and what a test does with the server."""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from service_shapes import problems, service_model

from . import refusals
from .operations import Document, Operations
from .refusals import Refused
from .rudeness import CALM, Rudeness

ACCOUNT = "123456789012"
REGION = "us-east-1"


class Fault(Enum):
    THROTTLED = auto()
    """Refused, and nothing happens."""
    UNAVAILABLE = auto()
    """503, and nothing happens."""
    LOST_REQUEST = auto()
    """The connection is closed, and nothing happens."""
    LOST_ANSWER = auto()
    """It happens, and the connection is closed without an answer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in, and the code of its refusal, if any."""

    operation: str
    request: Document
    error: str | None


class SqsServer:
    """An SQS of its own on loopback; ``close`` ends it.

    ``seen``: all requests, in order. ``seed``: of everything it draws.
    """

    def __init__(self, rude: Rudeness = CALM, seed: int = 0) -> None:
        self.seen: list[Seen] = []
        self._faults: dict[str, deque[Fault]] = {}
        self._allowed: frozenset[str] | None = None
        self._away = False
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._operations = Operations(self.url, ACCOUNT, REGION, seed)
        self._operations.rude = rude
        self._errors: list[str] = []
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.05,), name="sqs-http", daemon=True
        )
        self._thread.start()

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {
            "AWS_ENDPOINT_URL_SQS": self.url,
            "AWS_ACCESS_KEY_ID": "AKIATESTS",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def behave(self, rude: Rudeness) -> None:
        """From now on."""
        with self._operations.lock:
            self._operations.rude = rude

    def allow_only(self, actions: Iterable[str]) -> None:
        """Whatever isn't among them (``SendMessage``, …) is denied from now on.

        A batch needs the action of one message, as in the Service Authorization Reference.
        """
        self._allowed = frozenset(actions)

    def go_away(self, away: bool = True) -> None:
        """Whether every request meets a connection that is closed."""
        self._away = away

    def fault(self, operation: str, fault: Fault, times: int = 1) -> None:
        """The operation's next requests meet it, after those that were added before."""
        self._faults.setdefault(operation, deque()).extend([fault] * times)

    def advance(self, seconds: float) -> None:
        """The server's clock jumps: visibility ends, retention does, a purge is over."""
        with self._operations.lock:
            self._operations.offset += seconds

    def limit_in_flight(self, most: int) -> None:
        """Messages of a queue that may be in flight."""
        self._operations.in_flight_limit = most

    def lag_counts(self, seconds: float) -> None:
        """How old the numbers of messages may be."""
        self._operations.counts_lag = seconds

    def bodies(self, queue: str) -> list[str]:
        """Of all messages of a queue, visible or not, in the order they were sent."""
        with self._operations.lock:
            found = self._operations.queues[queue].messages.values()
            return [each.body for each in sorted(found, key=lambda each: each.sent)]

    def calls(self, operation: str) -> int:
        """How often it was called, whatever came of it."""
        return sum(each.operation == operation for each in self.seen)

    def errors(self) -> list[str]:
        """Mistakes of the server itself: a test that finds one has failed."""
        return list(self._errors)

    def close(self) -> None:
        self._operations.closed = True
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    # -- for the handler ---------------------------------------------------------------------

    def answer(self, operation: str, body: bytes) -> tuple[Document, Fault | None]:
        """Raises ``Refused``. With ``LOST_REQUEST`` nothing was done."""
        request: Document = {}
        fault = self._fault(operation)
        try:
            if fault is Fault.LOST_REQUEST:
                return {}, fault
            if fault is Fault.THROTTLED:
                raise refusals.throttled()
            if fault is Fault.UNAVAILABLE:
                raise refusals.unavailable()
            request = json.loads(body or b"{}")
            shape = service_model("sqs").operation_model(operation).input_shape
            if found := list(problems(shape, request, "request")):
                raise refusals.invalid("; ".join(found))
            action = operation.removesuffix("Batch")
            if self._allowed is not None and action not in self._allowed:
                raise refusals.denied(action)
            answer = self._operations.call(operation, request)
        except Refused as refused:
            self.seen.append(Seen(operation, request, refused.code))
            raise
        self.seen.append(Seen(operation, request, None))
        shape = service_model("sqs").operation_model(operation).output_shape
        if shape is not None and (found := list(problems(shape, answer, "answer"))):
            self._errors.append(f"{operation} answered: {'; '.join(found)}")
        return answer, fault

    def failed(self, text: str) -> None:
        """A request met a mistake of the server."""
        self._errors.append(text)

    def _fault(self, operation: str) -> Fault | None:
        if self._away:
            return Fault.LOST_REQUEST
        with self._operations.lock:
            if waiting := self._faults.get(operation):
                return waiting.popleft()
            draw, rude = self._operations.rng.random(), self._operations.rude
        if draw < rude.lost:
            return Fault.LOST_ANSWER
        return Fault.UNAVAILABLE if draw < rude.lost + rude.refused else None


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or that hangs up, is none of the tests' business."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _handler(server: SqsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            try:
                if operation not in service_model("sqs").operation_names:
                    raise Refused("InvalidAction", f"{operation!r} is no action of SQS")
                answer, fault = server.answer(operation, body)
            except Refused as refused:
                told = {
                    "__type": f"com.amazonaws.sqs#{refused.code}",
                    "message": refused.message,
                }
                self._send(refused.status, told, refused.query_code)
                return
            except Exception as error:
                server.failed(f"{operation}: {error!r}")
                self._send(500, {"__type": "InternalFailure", "message": repr(error)}, None)
                return
            if fault in (Fault.LOST_REQUEST, Fault.LOST_ANSWER):
                self.close_connection = True
                return
            self._send(200, answer, None)

        def _send(self, status: int, answer: Document, code: str | None) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(data)))
            if code is not None:
                fault = "Receiver" if status >= 500 else "Sender"
                self.send_header("x-amzn-query-error", f"{code};{fault}")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
