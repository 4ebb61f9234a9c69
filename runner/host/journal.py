"""The journal of systemd, spoken to in its own protocol, so that an event keeps its fields.

The protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. It must not know what events mean.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")

LONGEST = 16 * 1024
"""Bytes of one value: a datagram has room for some 200 KiB (the default of net.core.wmem_max)."""

PATIENCE = 1.0
"""Seconds that a journal which doesn't read is waited for; and no more until it reads again."""


def is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether a descriptor leads to the journal, and not elsewhere since (systemd.exec(5))."""
    told = re.fullmatch(r"([0-9]+):([0-9]+)", environ.get("JOURNAL_STREAM", ""))
    if told is None:
        return False
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (int(told[1]), int(told[2]))


class Journal:
    """Sends records. It blocks while the journal is busy: not for the loop's thread."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)

    def send(self, fields: Mapping[str, str]) -> bool:
        """Send one record; whether the journal has taken it."""
        try:
            # By name each time: a journal that was restarted has a new socket.
            self._socket.sendto(encode(fields), self._path)
        except OSError:
            self._socket.settimeout(0.0)
            return False
        self._socket.settimeout(PATIENCE)
        return True

    def close(self) -> None:
        """Send nothing more."""
        self._socket.close()


def encode(fields: Mapping[str, str]) -> bytes:
    """A record as one datagram. Values that are too long are cut, and say so."""
    return b"".join(_field(name, value) for name, value in fields.items())


def field_name(name: str) -> str:
    """The name as a field: A–Z, 0–9 and _, at most 64; a leading _ is the journal's own."""
    made = re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_0123456789")
    return made[:64] or "FIELD"


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if len(data) > LONGEST:
        kept = data[:LONGEST].decode("utf-8", "ignore").encode()
        data = kept + f"… ({len(data) - len(kept)} bytes cut)".encode()
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
