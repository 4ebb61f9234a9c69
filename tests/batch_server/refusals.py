"""What the service answers instead of a result.

Texts marked † are the server's own: the real ones aren't published.
"""

from __future__ import annotations

import uuid


class Refused(Exception):
    """A request is answered with an error; nothing was changed."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def client_error(text: str) -> Refused:
    """The caller's fault, worded as Batch words what its validation finds."""
    request = uuid.uuid4()
    return Refused(
        400, "ClientException", f"Error executing request, Exception : {text}, RequestId: {request}"
    )


def throttled() -> Refused:
    return Refused(429, "TooManyRequestsException", "Too Many Requests")


def broken() -> Refused:
    return Refused(500, "ServerException", "The service is unavailable")


def unsigned() -> Refused:
    return Refused(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
