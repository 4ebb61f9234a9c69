"""The launch's bucket."""

import errno
import hashlib
import os
import re
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException
from typing import List, Tuple
from urllib.parse import quote, urlencode

from .aws import Aws, tag
from .disks import full_disks
from .patience import Again, Failed, Missing, patiently

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Of our own disk, and never of the network."""


class Bucket:
    """The launch's bucket."""

    def __init__(self, aws: Aws, name: str) -> None:
        self._aws = aws
        self._name = name

    def fetch(self, key: str, sha256: str, target: str) -> int:
        """Bring an object, which must be what the launch has sent; its size. Raises Failed."""
        return int(patiently(f"s3://{self._name}/{key}", lambda: self._fetch(key, sha256, target)))

    def _fetch(self, key: str, sha256: str, target: str) -> int:
        size, expected, digest = 0, -1, hashlib.sha256()
        try:
            with self._aws.open("s3", "GET", self._url(key)) as answer, open(target, "wb") as file:
                expected = int(answer.headers.get("Content-Length", -1))
                for block in iter(lambda: answer.read(1 << 20), b""):
                    file.write(block)
                    digest.update(block)
                    size += len(block)
        except (OSError, HTTPException) as error:
            number = getattr(error, "errno", None)
            if getattr(error, "filename", None) == target or number in DISK_ERRORS:
                why = f"{target}: {error}, after {size} of {expected} bytes{full_disks()}"
                _remove(target)
                raise Failed(why)
            raise Again("broken off", f"broken off after {size} bytes: {error}")
        if 0 <= expected != size:
            raise Again("broken off", f"broken off after {size} of {expected} bytes")
        if digest.hexdigest() != sha256:
            told = "isn't what was launched: its sha256 is {}, not {}"
            raise Again("damaged", told.format(digest.hexdigest(), sha256))
        return size

    def text(self, key: str) -> bytes:
        """What a small object holds; nothing where there is none. Raises Failed."""
        return bytes(patiently(f"s3://{self._name}/{key}", lambda: self._text(key)))

    def _text(self, key: str) -> bytes:
        try:
            with self._aws.open("s3", "GET", self._url(key)) as answer:
                return bytes(answer.read())
        except Missing:
            return b""
        except (OSError, HTTPException) as error:
            raise Again("broken off", f"broken off: {error}")

    def aged(self, key: str) -> Tuple[bytes, float]:
        """The same, and how many seconds ago it was stored, by S3's clock. Raises Failed."""
        body, date, stored = patiently(f"s3://{self._name}/{key}", lambda: self._aged(key))
        if not date or not stored:
            return bytes(body), 0.0
        ago = parsedate_to_datetime(date) - parsedate_to_datetime(stored)
        return bytes(body), ago.total_seconds()

    def _aged(self, key: str) -> Tuple[bytes, str, str]:
        try:
            with self._aws.open("s3", "GET", self._url(key)) as answer:
                headers = answer.headers
                return answer.read(), headers.get("Date", ""), headers.get("Last-Modified", "")
        except Missing:
            return b"", "", ""
        except (OSError, HTTPException) as error:
            raise Again("broken off", f"broken off: {error}")

    def folders(self, prefix: str) -> List[str]:
        """What begins so and goes on to a slash, each once. Raises Failed."""
        found: List[str] = []
        after = ""
        while True:
            asked = {"list-type": "2", "prefix": prefix, "delimiter": "/"}
            if after:
                asked["continuation-token"] = after
            query = urlencode(sorted(asked.items()), quote_via=quote, safe="-_.~")
            what = f"s3://{self._name}/{prefix}"
            told = patiently(what, partial(self._listed, query)).replace("&amp;", "&")
            found += re.findall("<CommonPrefixes><Prefix>(.*?)</Prefix>", told)
            after = tag(told, "NextContinuationToken")
            if not after:
                return found

    def _listed(self, query: str) -> str:
        try:
            with self._aws.open("s3", "GET", self._url("") + "?" + query) as answer:
                return str(answer.read().decode())
        except (OSError, HTTPException) as error:
            raise Again("broken off", f"broken off: {error}")

    def stored_at(self, key: str) -> float:
        """When an object was stored, by S3's clock. Raises Failed."""
        return float(patiently(f"s3://{self._name}/{key}", lambda: self._stored_at(key)))

    def _stored_at(self, key: str) -> float:
        try:
            with self._aws.open("s3", "HEAD", self._url(key)) as answer:
                return parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
        except (TypeError, ValueError, Missing) as error:
            raise Failed(f"{key}: no time of it: {error}")
        except (OSError, HTTPException) as error:
            raise Again("broken off", f"broken off: {error}")

    def store(self, key: str, body: bytes) -> None:
        """Raises Failed."""
        what = f"storing s3://{self._name}/{key}"
        patiently(what, lambda: self._aws.open("s3", "PUT", self._url(key), body).close())

    def offer(self, key: str, body: bytes) -> None:
        """Store it if that can be had with one try: something newer comes soon."""
        try:
            self._aws.open("s3", "PUT", self._url(key), body, 10).close()
        except (Again, Failed):
            pass

    def _url(self, key: str) -> str:
        path = quote(key, safe="/-_.~")
        base = self._aws.endpoint("s3")
        if base is None and "." not in self._name:
            host = f"{self._name}.s3.{self._aws.region}.{self._aws.domain()}"
            return f"https://{host}/{path}"
        base = base or f"https://s3.{self._aws.region}.{self._aws.domain()}"
        return f"{base}/{self._name}/{path}"


def _remove(path: str) -> None:
    """Make the room again that it took: the log and what else is to come needs some."""
    try:
        os.remove(path)
    except OSError:
        pass
