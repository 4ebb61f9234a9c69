"""Somebody who is told: a web server that counts, and is as rude as those of the world."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: no time for the rest, so the other end gets a reset (socket(7))."""


@dataclass(frozen=True, slots=True)
class Received:
    """One POST. ``accepted``: the sender was told so."""

    path: str
    key: str
    data: bytes
    headers: dict[str, str]
    accepted: bool

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.data)
        return found


Manner = str | int
"""``ok``, a status to answer, ``reset`` after the body was taken, ``close`` without an answer,
``hang`` until the receiver is closed, ``drip`` an answer byte by byte, ``garbage``."""


class Receiver:
    """``manner`` says for a path and a notice's id how its n-th try, from 0, is met."""

    def __init__(self, manner: Callable[[str, str, int], Manner] = lambda *_: "ok") -> None:
        self.manner = manner
        self.received: list[Received] = []
        self._tries: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with suppress(OSError):
                    receiver._meet(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )
        self._thread.start()

    def url(self, path: str = "hook") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def at(self, path: str) -> list[Received]:
        with self._lock:
            return [each for each in self.received if each.path == f"/{path}"]

    def _meet(self, handler: BaseHTTPRequestHandler) -> None:
        data = handler.rfile.read(int(handler.headers["Content-Length"]))
        path, key = handler.path, handler.headers["Idempotency-Key"]
        with self._lock:
            number = self._tries.get((path, key), 0)
            self._tries[path, key] = number + 1
            manner = self.manner(path.removeprefix("/"), key, number)
            told = Received(path, key, data, dict(handler.headers), manner == "ok")
            self.received.append(told)
        handler.close_connection = True
        match manner:
            case "ok":
                handler.send_response(200)
                handler.send_header("Content-Length", "2")
                handler.end_headers()
                handler.wfile.write(b"ok")
            case int():
                handler.send_response(manner)
                if 300 <= manner < 400:
                    handler.send_header("Location", self.url("elsewhere"))
                said = f"sorry, {path}".encode()
                handler.send_header("Content-Length", str(len(said)))
                handler.end_headers()
                handler.wfile.write(said)
            case "reset":
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # Before the server says in an orderly way that it is done.
                os.close(handler.connection.detach())
            case "hang":
                self._over.wait()
            case "drip":
                for each in b"HTTP/1.1 200 OK\r\n" * 1000:
                    handler.connection.sendall(bytes([each]))
                    if self._over.wait(0.05):
                        return
            case "garbage":
                handler.wfile.write(b"\0\1\2 this is no HTTP\r\n\r\n")

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
