"""One POST to a URL of somebody else's, within a time, and what came of it.

Owns that no word of the URL gets into a message: whoever knows a webhook's URL may write to it. A
redirect is not followed: the body would go to somebody whom nobody has named.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any

READ = 2048
"""Bytes of an answer that are looked at."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` of HTTP, ``text`` the beginning of what came with it; ``retry_after``: seconds
    after which it wants to be asked again."""

    status: int
    text: str
    retry_after: float | None = None


class NoAnswerError(Exception):
    """There was none; says why, and nothing of the URL."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def post(url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> Answer:
    """Post JSON. Proxies are those of the environment. Raises NoAnswerError.

    ``seconds`` are for all of it, however slowly bytes drop in; looking up a name isn't counted.
    """
    connections: list[http.client.HTTPConnection] = []
    over = threading.Event()

    def end() -> None:
        over.set()
        for connection in connections:
            if (opened := connection.sock) is not None:
                try:
                    opened.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    opener = urllib.request.build_opener(
        _NoRedirect(), _watched(urllib.request.HTTPHandler, connections),
        _watched(urllib.request.HTTPSHandler, connections),
    )  # fmt: skip
    request = urllib.request.Request(url, body, dict(headers), method="POST")
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        try:
            answer = opener.open(request, timeout=seconds)
        except urllib.error.HTTPError as error:
            answer = error
        with closing(answer):
            text = answer.read(READ).decode("utf-8", "replace")
            return Answer(answer.status, text, _seconds(answer.headers.get("Retry-After")))
    except Exception as error:
        # Whatever it is, its own words may hold the URL.
        raise NoAnswerError(_why(error, seconds, timed_out=over.is_set())) from None
    finally:
        timer.cancel()


def _watched(
    handler: type[urllib.request.HTTPHandler] | type[urllib.request.HTTPSHandler],
    connections: list[http.client.HTTPConnection],
) -> urllib.request.BaseHandler:
    """A handler whose connections are known to who has to end them."""

    class Watched(handler):  # type: ignore[misc, valid-type]
        def do_open(self, http_class: Any, req: Any, **more: Any) -> Any:
            def made(*args: Any, **named: Any) -> Any:
                connection = http_class(*args, **named)
                connections.append(connection)
                return connection

            return super().do_open(made, req, **more)

    return Watched()


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 7 else None


def _why(error: BaseException, seconds: float, *, timed_out: bool) -> str:
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if timed_out or isinstance(error, TimeoutError):
        return f"no answer within {seconds:.0f} s"
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not valid: {error.verify_message}"
        case ssl.SSLError():
            return f"no TLS with it: {error.reason or 'refused'}"
        case socket.gaierror():
            return "the name of its host is not known"
        case OSError() if error.strerror:
            return f"no connection: {error.strerror.lower()}"
        case http.client.RemoteDisconnected():
            return "it closed the connection without an answer"
        case http.client.HTTPException():
            return f"its answer is not HTTP ({type(error).__name__})"
    return f"it could not be asked ({type(error).__name__})"
