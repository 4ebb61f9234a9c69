"""A Parameter Store and a Secrets Manager that throttle, refuse, hang and break on order.

They speak AWS's JSON protocol. What a well-behaved one says, moto says in the same tests.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from s3_endpoint import env_for

WAIT = 20.0
"""Seconds after which a test that waits for the stub has failed."""

GET_PARAMETERS = "AmazonSSM.GetParameters"
GET_SECRET = "secretsmanager.GetSecretValue"


@dataclass(frozen=True, slots=True)
class Fault:
    """Answer this error."""

    status: int
    code: str
    message: str = "made by the stub"


THROTTLED = Fault(400, "ThrottlingException", "Rate exceeded")
INTERNAL = Fault(500, "InternalServerError")
DENIED = Fault(400, "AccessDeniedException", "User: arn:aws:iam::1:user/me is not authorized")
EXPIRED = Fault(400, "ExpiredTokenException", "The security token included is expired")


@dataclass(frozen=True, slots=True)
class Raw:
    """Answer 200 and this, which isn't the service's."""

    body: bytes


class Hang:
    """Say nothing until ``release``; then answer as if nothing had been."""


HANG = Hang()
Trouble = Fault | Raw | Hang


class SecretsStub:
    """``parameters``: name → value; ``secrets``: name → the answer's own fields.

    ``always``: what requests with this target, or for this name, meet each time.
    """

    def __init__(self) -> None:
        self.parameters: dict[str, str] = {}
        self.secrets: dict[str, dict[str, Any]] = {}
        self.troubles: dict[str, list[Trouble]] = {}
        self.always: dict[str, Trouble] = {}
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._released = threading.Event()
        self._hanging = threading.Semaphore(0)
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                target = self.headers["X-Amz-Target"]
                request = json.loads(self.rfile.read(size))
                status, body = stub._answer(target, request)
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except (ConnectionError, ValueError):
                    pass  # who asked has gone

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def env(self) -> dict[str, str]:
        """What makes boto3 use it for every service."""
        return env_for(self.url)

    def fail(self, target: str, *troubles: Trouble) -> None:
        """The next requests for it meet these, one each."""
        self.troubles.setdefault(target, []).extend(troubles)

    def wait_hanging(self) -> None:
        """Until one more request hangs."""
        assert self._hanging.acquire(timeout=WAIT), "no request came to hang"

    def release(self) -> None:
        """Let all go on that hangs, or would."""
        self._released.set()

    def calls(self, target: str) -> list[dict[str, Any]]:
        """The requests for it so far."""
        return [request for to, request in self.seen if to == target]

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, target: str, request: dict[str, Any]) -> tuple[int, bytes]:
        self.seen.append((target, request))
        match self._trouble(target, request):
            case Fault(status, code, message):
                return status, json.dumps({"__type": code, "message": message}).encode()
            case Raw(body):
                return 200, body
            case Hang():
                self._hanging.release()
                self._released.wait(WAIT * 2)
        status, answer = self._good(target, request)
        return status, json.dumps(answer).encode()

    def _trouble(self, target: str, request: dict[str, Any]) -> Trouble | None:
        if waiting := self.troubles.get(target):
            return waiting.pop(0)
        named = (*request.get("Names", ()), request.get("SecretId"))
        return next((self.always[at] for at in (target, *named) if at in self.always), None)

    def _good(self, target: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if target == GET_PARAMETERS:
            names = request["Names"]
            assert request["WithDecryption"] is True and len(names) <= 10
            found = [
                {"Name": name, "Value": self.parameters[name], "Type": "SecureString"}
                for name in sorted(names)
                if name in self.parameters
            ]
            missing = [name for name in names if name not in self.parameters]
            return 200, {"Parameters": found, "InvalidParameters": missing}
        secret = self.secrets.get(request["SecretId"])
        if secret is None:
            words = "Secrets Manager can't find the specified secret."
            return 400, {"__type": "ResourceNotFoundException", "Message": words}
        return 200, {"Name": request["SecretId"], **secret}
