"""What an ETag of S3 says of an object's bytes. Must not know where they are stored.

S3 API reference, "Object": of a plain upload it is the MD5 in hex; of one in parts the MD5 of the
parts' MD5s, and how many there were (not in the reference, but so since there are parts). Of what
KMS or the customer's key encrypts it is no digest, though it looks like one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable

_ETAG = re.compile(r'"[0-9a-f]{32}(?:-([1-9][0-9]{0,4}))?"')
_CHUNK = 1 << 20


def parts_of(etag: str) -> int | None:
    """How many parts it is made of, 0 for a plain upload; None for what is no digest."""
    found = _ETAG.fullmatch(etag)
    return int(found[1] or 0) if found else None


def plain_etag(fd: int, between: Callable[[], None]) -> str:
    """The ETag of a file that goes up in one piece. `between` may raise, to end it."""
    return f'"{_md5(fd, 0, None, between).hex()}"'


def etag_in_parts(fd: int, size: int, part: int, between: Callable[[], None]) -> str:
    """The ETag of a file that goes up in parts of `part` bytes, the last one smaller."""
    starts = range(0, size, part)
    digests = b"".join(_md5(fd, start, start + part, between) for start in starts)
    return f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(starts)}"'


def _md5(fd: int, at: int, end: int | None, between: Callable[[], None]) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    while data := os.pread(fd, _CHUNK if end is None else min(_CHUNK, end - at), at):
        between()
        digest.update(data)
        at += len(data)
    return digest.digest()
