"""A request's body that tells how far it has been sent.

Must not know what is sent, nor where to.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

_PIECE = 256 << 10
"""Bytes that are handed over at a time, whatever was asked for: http.client asks for 16 KiB, and
each would cost a system call and a turn of the interpreter's lock."""


class Body:
    """``data`` as a file. ``sent`` is told, while it goes out, how many bytes of it have gone.

    botocore asks the server first whether it wants a body that is a file (Expect: 100-continue):
    what is refused at once costs no bytes. It also reads a file to sign it, which isn't sending.
    """

    def __init__(self, data: bytes | bytearray, sent: Callable[[int], None]) -> None:
        self._data = memoryview(data)
        self._sent = sent
        self._at = 0
        self._sending = False

    def __len__(self) -> int:
        return len(self._data)

    def read(self, size: int = -1) -> bytes:
        """The next bytes; more than ``size`` if that is very few."""
        count = len(self._data) if size < 0 else max(size, _PIECE)
        piece = self._data[self._at : self._at + count]
        if self._sending and self._at:
            self._sent(self._at)
        self._at += len(piece)
        return bytes(piece)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go there; it is to be sent anew."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence]
        self._at = base + offset
        self._sending = False
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def begin(self) -> None:
        """From now on what is read is sent."""
        self._sending = True


def begin_sending(request: Any, **_: object) -> None:
    """For botocore's event ``before-send``: the request has been signed, and goes out now."""
    if isinstance(request.body, Body):
        request.body.begin()
