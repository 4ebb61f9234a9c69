"""A metadata service as EC2 has it, on loopback: IMDSv2 only, and rude on demand.

It knows what the User Guide says; it must not look into the product.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def in_seconds(seconds: float) -> str:
    """A time as the service writes it; whole seconds, rounded up."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds + 1)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Imds:
    """Close it. ``data``: text by path below meta-data; what is not there is 404.

    Folders are listed. ``user_data`` and ``document`` (of the instance's identity) are served, all
    of it under every version: cloud-init asks for several.

    ``ahead``: its clock, in seconds.

    ``mood``: ``well``; ``hang`` (accepts, says nothing), ``held`` (answers once ``go_on`` is
    set), ``drip`` (a byte now and then), ``500``, ``no-tokens`` (403 for a token), ``kept-open``
    (never closes a connection). ``lose``: so many of the next calls get no answer, and their
    connection is closed. ``asked`` holds every (method, path, status).
    """

    def __init__(self, *, start: bool = True, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.data: dict[str, str] = {}
        self.user_data: bytes | None = None
        self.document: dict[str, str] | None = None
        self.mood = "well"
        self.ahead = 0.0
        self.lose = 0
        self.asked: list[tuple[str, str, int]] = []
        self.token = self.forgotten = 0
        self.ttls: list[str] = []
        self.closed = threading.Event()
        self.go_on = threading.Event()
        self._server = _Server(address, _Handler, bind_and_activate=False)
        self._server.imds = self
        self._server.server_bind()
        self.host, self.port = address[0], self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        if start:
            self.start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """What makes a process use it."""
        return {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url,
            "AWS_EC2_METADATA_DISABLED": "false",
        }

    def start(self) -> None:
        """Until then its port refuses connections."""
        self._server.server_activate()
        self._thread.start()

    def announce_spot(self, seconds: float, action: str = "stop") -> str:
        """A spot notice for so many seconds from now; the time as it is told."""
        moment = in_seconds(seconds)
        self.data["spot/instance-action"] = json.dumps({"action": action, "time": moment})
        return moment

    def announce_rebalance(self) -> None:
        told = json.dumps({"noticeTime": in_seconds(0)})
        self.data["events/recommendations/rebalance"] = told

    def forget_tokens(self) -> None:
        """As after a restart of the service: those it gave are refused from now on."""
        self.forgotten = self.token

    def times(self, path: str, method: str = "GET") -> int:
        """How often something was asked for."""
        return sum(1 for asked in list(self.asked) if asked[:2] == (method, path))

    def close(self) -> None:
        self.closed.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    imds: Imds


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        imds = self.server.imds
        imds.ttls.append(self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", ""))
        if self.path != "/latest/api/token":
            self._answer(404)
        elif imds.mood == "no-tokens":
            self._answer(403)
        else:
            imds.token += 1
            self._answer(200, f"token-{imds.token}".encode())

    def do_GET(self) -> None:
        imds = self.server.imds
        number = (self.headers.get("X-aws-ec2-metadata-token") or "").removeprefix("token-")
        if not number.isdigit() or not imds.forgotten < int(number) <= imds.token:
            self._answer(401)
            return
        found = self._find()
        self._answer(404 if found is None else 200, found or b"")

    def _find(self) -> bytes | None:
        imds = self.server.imds
        _, _, path = self.path.lstrip("/").partition("/")
        if path == "user-data":
            return imds.user_data
        if path.startswith("dynamic/instance-identity") and imds.document is not None:
            return json.dumps(imds.document).encode() if "document" in path else b"document"
        if not path.startswith("meta-data/"):
            return None
        return self._meta_data(path.removeprefix("meta-data/"))

    def _meta_data(self, path: str) -> bytes | None:
        """The text of a path, or what is below it, a line each."""
        data = self.server.imds.data
        if path in data:
            return data[path].encode()
        if path and not path.endswith("/"):
            return None
        below = sorted(key.removeprefix(path) for key in data if key.startswith(path))
        names = dict.fromkeys(name.partition("/")[0] + "/" * ("/" in name) for name in below)
        return "\n".join(names).encode() if names else None

    def _answer(self, status: int, body: bytes = b"") -> None:
        imds = self.server.imds
        if imds.mood == "500":
            status, body = 500, b"<html>it is us"
        path = self.path.removeprefix("/latest/meta-data/")
        imds.asked.append((self.command, path, status))
        if imds.mood == "hang":
            imds.closed.wait(20)
            self.close_connection = True
            return
        if imds.mood == "held":
            imds.go_on.wait(20)
        self.close_connection = imds.mood != "kept-open"
        if imds.lose:
            imds.lose -= 1
            return
        closes = "Connection: close\r\n" if self.close_connection else ""
        date = formatdate(time.time() + imds.ahead, usegmt=True)
        head = f"HTTP/1.1 {status} X\r\nDate: {date}\r\n{closes}".encode()
        head += f"Content-Length: {len(body)}\r\n\r\n".encode()
        if imds.mood == "drip":
            self._drip(head + body)
        else:
            self.wfile.write(head + body)

    def _drip(self, answer: bytes) -> None:
        for byte in answer:
            if self.server.imds.closed.is_set():
                return
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return
            time.sleep(0.1)

    def log_message(self, *args: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True
