"""What EC2 tells a machine about itself: a client of the instance metadata service, IMDSv2 only.

Owns the session token and how long a call may take. A failed call changes nothing: each later one
tries again. It never asks for a public address. Any thread may call it.
"""

from __future__ import annotations

import io
import re
import socket
import threading
import time
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from runner.aws.platform import ENDPOINT_VARIABLE
from runner.errors import RunnerError

ENDPOINT = "http://169.254.169.254"
DISABLED_VARIABLE = "AWS_EC2_METADATA_DISABLED"

TOKEN_TTL = 21_600
"""Seconds; the longest that EC2 grants (User Guide, "Use IMDSv2")."""
RENEW_BEFORE = 60.0
"""Seconds before its end from which a token is not used any more."""

CONNECT_TIMEOUT = 1.0
READ_TIMEOUT = 1.0
"""Seconds for a whole answer, however slowly it comes. Each call is at most four such pairs."""
MAX_ANSWER = 256 * 1024

_TOKEN_PATH = "/latest/api/token"
_DATA_PATH = "/latest/meta-data/"


class MetadataError(RunnerError):
    """The service did not answer, or not as EC2 does. Raised by ``get`` and ``probe``."""


class InstanceMetadata:
    """A client for one endpoint; ``endpoint`` None: there is none, and nothing is asked."""

    def __init__(self, endpoint: str | None = ENDPOINT) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._token = ""
        self._token_until = 0.0
        self._ahead: float | None = None

    @property
    def now(self) -> float | None:
        """Seconds since the epoch by the service's own clock (the `Date` of its answers), counted
        on from its last answer by the boot's; None where it doesn't tell."""
        ahead = self._ahead
        return None if ahead is None else ahead + time.clock_gettime(time.CLOCK_BOOTTIME)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> InstanceMetadata:
        """As the AWS SDKs read it: another endpoint, or none at all."""
        if environ.get(DISABLED_VARIABLE, "").lower() == "true":
            return cls(None)
        return cls(environ.get(ENDPOINT_VARIABLE) or ENDPOINT)

    @property
    def disabled(self) -> bool:
        """Whether it was switched off by whoever set our environment."""
        return self._endpoint is None

    def get(self, path: str) -> str | None:
        """What is at ``path`` below ``meta-data/``; None if it is not set. Raises MetadataError."""
        if "public-" in path:
            raise ValueError(f"{path}: we never ask for a public address")
        status, body = self._call("GET", _DATA_PATH + path, self._header())
        if status == 401:
            self._forget_token()
            status, body = self._call("GET", _DATA_PATH + path, self._header())
        if status == 404:
            return None
        if status != 200:
            raise MetadataError(f"{path}: status {status}")
        return body.decode("utf-8", "replace")

    def probe(self) -> None:
        """Raise MetadataError unless the service is there; costs next to nothing if it isn't."""
        self._header()

    def instance_id(self) -> str | None:
        """``i-…``; None, as for all of these: not on EC2, or nobody can say for now."""
        return self._look("instance-id")

    def instance_type(self) -> str | None:
        """``g5.xlarge``."""
        return self._look("instance-type")

    def availability_zone(self) -> str | None:
        """``eu-west-1a``."""
        return self._look("placement/availability-zone")

    def region(self) -> str | None:
        """``eu-west-1``."""
        return self._look("placement/region")

    def market(self) -> str | None:
        """``spot`` or ``on-demand`` (or ``scheduled``, ``capacity-block``)."""
        return self._look("instance-life-cycle")

    def tag(self, key: str) -> str | None:
        """A tag of the instance, if its metadata options allow them to be seen."""
        return self._look(f"tags/instance/{key}")

    def _look(self, path: str) -> str | None:
        try:
            return self.get(path)
        except MetadataError:
            return None

    # -- the token ---------------------------------------------------------------------------

    def _header(self) -> dict[str, str]:
        with self._lock:
            if time.monotonic() >= self._token_until:
                self._renew()
            return {"X-aws-ec2-metadata-token": self._token}

    def _renew(self) -> None:
        asked = time.monotonic()
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL)}
        status, body = self._call("PUT", _TOKEN_PATH, ttl)
        token = body.decode("latin-1").strip()
        if status != 200 or not token.isascii() or not token.isprintable() or not token:
            raise MetadataError(f"no token: status {status}")
        self._token, self._token_until = token, asked + TOKEN_TTL - RENEW_BEFORE

    def _forget_token(self) -> None:
        with self._lock:
            self._token_until = 0.0

    # -- one call ----------------------------------------------------------------------------

    def _call(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body. http.client knows no proxies, which is what is wanted here."""
        if self._endpoint is None:
            raise MetadataError(f"switched off by {DISABLED_VARIABLE}")
        import http.client

        host, port = _address(self._endpoint)
        connection = http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT)
        try:
            connection.request(method, path, headers={**headers, "Connection": "close"})
            raw = _read_all(connection.sock, time.monotonic() + READ_TIMEOUT)
            # Parsed only when it is all there: http.client waits anew for each piece.
            response = http.client.HTTPResponse(cast(socket.socket, _Answer(raw)), method=method)
            response.begin()
            self._learn_time(response.getheader("Date"))
            return response.status, response.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise MetadataError(f"{path}: {type(error).__name__}: {error}") from None
        finally:
            connection.close()

    def _learn_time(self, date: str | None) -> None:
        from email.utils import parsedate_to_datetime

        try:
            theirs = parsedate_to_datetime(date or "").timestamp()
        except (TypeError, ValueError):
            return
        self._ahead = theirs - time.clock_gettime(time.CLOCK_BOOTTIME)


def _address(endpoint: str) -> tuple[str, int]:
    """A wrong one is trouble like any other: a daemon starts all the same."""
    try:
        parts = urlsplit(endpoint)
        if parts.hostname and parts.scheme == "http":
            return parts.hostname, parts.port or 80
    except ValueError:
        pass
    raise MetadataError(f"{ENDPOINT_VARIABLE}: {endpoint!r} is no address such as {ENDPOINT}")


class _Answer:
    """As much of a socket as a response needs that is already there."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


def _read_all(sock: socket.socket, until: float) -> bytes:
    """A whole answer. Raises OSError if it takes too long."""
    pieces: list[bytes] = []
    size = 0
    while size <= MAX_ANSWER:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("no whole answer in time")
        sock.settimeout(left)
        piece = sock.recv(65_536)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if _is_whole(answer := b"".join(pieces)):
            return answer
    raise OSError("an endless answer")


def _is_whole(answer: bytes) -> bool:
    """Whether it says how long it is, and is: a service may keep its connection open."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *([0-9]{1,9})", head)
    return length is not None and bool(end) and len(body) >= int(length[1])
