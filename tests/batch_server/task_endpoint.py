"""What a task's containers ask the ECS agent by HTTP, and nothing of what it is.

The agent's own address is 169.254.170.2; the tests' is on loopback, where every container of theirs
finds it: they share the machine's network.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .jobs import Document

REAL = ("169.254.170.2", 80)
"""Where SDKs look for a relative URI (ECS Developer Guide, "Task IAM role")."""

Answer = Callable[[], Document]


class TaskEndpoint:
    """``asked``: paths that were asked for, in order."""

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.asked: list[str] = []
        self._answers: dict[str, Answer] = {}
        self._lock = threading.Lock()
        self._http = _Http(address, _handler(self))
        host, port = self._http.server_address[:2]
        self.url = f"http://{host!s}:{port}"
        self.real = (host, port) == REAL
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.05,), name="batch-tasks", daemon=True
        )
        self._thread.start()

    def add(self, path: str, answer: Answer) -> None:
        with self._lock:
            self._answers[path] = answer

    def remove(self, path: str) -> None:
        with self._lock:
            del self._answers[path]

    def answer(self, path: str) -> Document | None:
        with self._lock:
            self.asked.append(path)
            found = self._answers.get(path.rstrip("/"))
        return None if found is None else found()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or that hangs up, is none of the tests' business."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _handler(endpoint: TaskEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = endpoint.answer(self.path.partition("?")[0])
            unknown = {"code": "InvalidIdInRequest", "message": "unknown ID in the request"}
            data = json.dumps(unknown if answer is None else answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
