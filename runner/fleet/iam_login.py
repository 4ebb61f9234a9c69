"""A login to PostgreSQL of RDS by an IAM token in place of a password.

A token is a signature that is good for 15 minutes and needed to connect only (RDS User Guide, "IAM
database authentication"), so each connection has a new one. Whoever sees it can log in meanwhile:
it is sent over TLS to a server whose certificate was checked, and over nothing else.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from runner.errors import UsageError
from runner.model.messages import quoted

PARAMETER = "iam"
"""In the query of an address: ``1``, or the region of the database."""

VERIFIED = "verify-full"

_RDS = re.compile(r"\.([a-z]{2,}(?:-[a-z]+)+-[0-9])\.rds\.amazonaws\.com(?:\.cn)?$")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}")


@dataclass(slots=True)
class IamLogin:
    """For any thread. ``region`` None: AWS's own settings name it."""

    host: str
    port: int
    user: str
    region: str | None
    _client: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def token(self) -> str:
        """A new one. No call to AWS but for the credentials of a role. Raises AwsError."""
        from botocore.signers import generate_db_auth_token

        from runner.aws.clients import make_client
        from runner.aws.errors import calling

        with self._lock, calling(lambda error: error):
            if self._client is None:
                # Any client can sign: RDS's own takes 14 MB and half a second (measured).
                self._client = make_client("sts", self.region, own_session=True)
            made = generate_db_auth_token(self._client, self.host, self.port, self.user)
            return str(made)


def split_login(address: str) -> tuple[str, IamLogin | None]:
    """The address for libpq, and the login where it asks for one. Raises UsageError."""
    parts = urlsplit(address)
    query = parse_qsl(parts.query, keep_blank_values=True)
    wanted = [value for name, value in query if name == PARAMETER]
    if not wanted:
        return address, None
    rest = [(name, value) for name, value in query if name != PARAMETER]
    if wanted[-1] in ("0", "false", ""):
        return urlunsplit(parts._replace(query=urlencode(rest, quote_via=quote))), None
    given = dict(rest)
    _check(parts, given)
    host, user = parts.hostname or "", unquote(parts.username or "")
    try:
        port = parts.port or 5432
    except ValueError:
        raise UsageError("the database's address: its port is no number") from None
    region = wanted[-1]
    if region in ("1", "true"):
        region = found[1] if (found := _RDS.search(host)) else ""
    elif not _REGION.fullmatch(region):
        raise UsageError(f"iam: {quoted(region)} is not 1, nor a region")
    given.setdefault("sslmode", VERIFIED)
    made = parts._replace(query=urlencode(list(given.items()), quote_via=quote, safe="/"))
    return urlunsplit(made), IamLogin(host, port, user, region or None)


def _check(parts: Any, given: dict[str, str]) -> None:
    if parts.password is not None or "password" in given:
        raise UsageError("iam: the database's address has a password: a token takes its place")
    if not parts.hostname or not parts.username or "," in parts.netloc:
        raise UsageError("iam: the database's address must name its user and one host")
    if (mode := given.get("sslmode", VERIFIED)) != VERIFIED:
        raise UsageError(
            f"iam: a token is sent with sslmode={VERIFIED} only, and this is {quoted(mode)}"
        )
