"""Signed calls to AWS, and the metadata service, with what Python 3.6 brings along."""

import hashlib
import hmac
import json
import os
import re
import socket
import time
import urllib.request
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, Dict, Optional
from urllib.error import HTTPError
from urllib.parse import urlsplit

from .patience import Again, Failed, Missing
from .telling import say

METADATA = "http://169.254.169.254"
SKEW = 60.0
"""Seconds by which a clock may be wrong before it is told. S3 refuses after 15 minutes."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A signature is for one host."""

    def redirect_request(self, *_: Any) -> None:
        return None


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)
OPENER = urllib.request.build_opener(NoRedirect)


class Metadata:
    """The instance's metadata, IMDSv2."""

    def __init__(self) -> None:
        told = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
        self._base = (told or METADATA).rstrip("/")
        self._token = ""

    def get(self, path: str) -> str:
        """Raises Again; also for what is not there (yet)."""
        try:
            if not self._token:
                age = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
                self._token = self._ask("PUT", "/latest/api/token", age)
            token = {"X-aws-ec2-metadata-token": self._token}
            return self._ask("GET", "/latest/meta-data/" + path, token)
        except (OSError, HTTPException) as error:
            if getattr(error, "code", 0) == 404:
                raise Again("metadata", f"the metadata service has no {path} yet")
            self._token = ""
            raise Again("metadata", f"the metadata service: {error}")

    def _ask(self, method: str, path: str, headers: Dict[str, str]) -> str:
        request = urllib.request.Request(self._base + path, headers=headers, method=method)
        with DIRECT.open(request, timeout=3) as answer:
            return str(answer.read().decode())


class Aws:
    """Signed calls with the credentials of the instance's role."""

    def __init__(self, metadata: Metadata, region: str) -> None:
        self.metadata = metadata
        self.region = region
        self._keys: Dict[str, str] = {}
        self._skew = 0.0

    def keys(self) -> Dict[str, str]:
        """Raises Again as long as there are none."""
        if not self._keys:
            path = "iam/security-credentials/"
            try:
                role = self.metadata.get(path).split()[0]
                told = json.loads(self.metadata.get(path + role))
                keys = {name: told[name] for name in ("AccessKeyId", "SecretAccessKey")}
                keys["Token"] = told.get("Token", "")
                if not all(isinstance(value, str) for value in keys.values()):
                    raise ValueError("they are no text")
                self._keys = keys
            except (LookupError, ValueError, TypeError, RecursionError) as error:
                raise Again("credentials", f"the role has no credentials yet ({error!r})")
        return self._keys

    def open(
        self,
        service: str,
        method: str,
        url: str,
        body: Optional[bytes] = None,
        patience: float = 60,
    ) -> Any:
        """The answer of one call, to be read and closed. Raises Again, Failed."""
        headers = self._signed(service, method, url, body or b"")
        request = urllib.request.Request(url, data=body, headers=headers, method=method)
        try:
            return OPENER.open(request, timeout=patience)
        except HTTPError as error:
            self._refused(error)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            kind = "names" if isinstance(reason, socket.gaierror) else "away"
            raise Again(kind, f"{urlsplit(url).netloc}: {reason}")

    def _refused(self, error: HTTPError) -> None:
        try:
            text = error.read(65536).decode(errors="replace")
        except (OSError, HTTPException):
            text = ""
        code, message = tag(text, "Code"), tag(text, "Message")
        why = " ".join(filter(None, (str(error.code), code, message)))
        region = error.headers.get("x-amz-bucket-region")
        if self._learn_time(error.headers.get("Date")):
            raise Again("clock", "this machine's clock was wrong")
        if region and region != self.region:
            self.region = region
            raise Again("region", f"the bucket is in {region}")
        if code in ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "RequestExpired"):
            self._keys = {}
            raise Again("stale keys", why)
        if error.code in (401, 403):
            raise Again("denied", why + " (the instance's role has to allow it)")
        if error.code >= 500 or error.code in (408, 409, 429) or "SlowDown" in code:
            raise Again("away", why)
        raise Missing(why) if error.code == 404 else Failed(why)

    def _learn_time(self, date: Optional[str]) -> bool:
        """Whether the clock turns out to be another one than was thought."""
        try:
            theirs = parsedate_to_datetime(date or "").timestamp()
        except (TypeError, ValueError):
            return False
        skew = theirs - time.time()
        if abs(skew - self._skew) < SKEW:
            return False
        self._skew = skew
        way = "behind" if skew > 0 else "ahead of"
        say(f"this machine's clock is {abs(skew):.0f} s {way} the server's")
        return True

    def _signed(self, service: str, method: str, url: str, body: bytes) -> Dict[str, str]:
        """AWS Signature Version 4 (AWS General Reference, "Signing AWS API requests")."""
        keys, parts = self.keys(), urlsplit(url)
        now = time.gmtime(time.time() + self._skew)
        stamp, day = time.strftime("%Y%m%dT%H%M%SZ", now), time.strftime("%Y%m%d", now)
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": parts.netloc, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        kind = (
            "application/x-www-form-urlencoded; charset=utf-8" if service == "ec2" else "text/plain"
        )
        headers["content-type"] = kind  # without one urllib says that it is a form
        if keys["Token"]:
            headers["x-amz-security-token"] = keys["Token"]
        names = ";".join(sorted(headers))
        lines = [method, parts.path or "/", parts.query]
        lines += [f"{name}:{headers[name]}" for name in sorted(headers)]
        canonical = "\n".join([*lines, "", names, digest])
        scope = "/".join((day, self.region, service, "aws4_request"))
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        key = ("AWS4" + keys["SecretAccessKey"]).encode()
        for word in scope.split("/"):
            key = hmac.new(key, word.encode(), "sha256").digest()
        told = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashed))
        signature = hmac.new(key, told.encode(), "sha256").hexdigest()
        headers["authorization"] = (
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}".format(
                keys["AccessKeyId"], scope, names, signature
            )
        )
        del headers["host"]  # urllib writes the same one
        return headers

    def endpoint(self, service: str) -> Optional[str]:
        """What stands in for AWS's own endpoint."""
        own = os.environ.get("AWS_ENDPOINT_URL_" + service.upper())
        told = own or os.environ.get("AWS_ENDPOINT_URL")
        return told.rstrip("/") if told else None

    def domain(self) -> str:
        return "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"


def tag(text: str, name: str) -> str:
    """The content of the first element of that name; "" without one."""
    found = re.search(f"<{name}>(.*?)</{name}>", text, re.DOTALL)
    return found.group(1) if found else ""
