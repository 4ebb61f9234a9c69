"""What daemon and shim say to each other: requests one way, reports the other.

Everything of a request is bytes as the kernel takes them, between NULs, which none of it can
hold: nothing is escaped, nothing depends on a locale, and a shim has nothing to decode. The shim
imports this: standard library only, and little of it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import NamedTuple

from runner.process.shim_records import (
    Exit,
    MalformedError,
    Work,
    checked_exit,
    decode_usage,
    encode_usage,
    moment,
)

SHELL = ("/bin/bash", "-c")

_HEADER = 8
"""Bytes that say how long the message after them is, the highest first."""

Environment = dict[bytes, bytes]


class User(NamedTuple):
    """As whom commands run; ``groups`` are all of them, the first one included."""

    uid: int
    gid: int
    groups: tuple[int, ...]


class Request(NamedTuple):
    """What a shim is to run. ``environment`` comes on top of the base, paths are absolute.

    ``work`` is for the record: whose attempt it is. ``shell``: the program and arguments that the
    command is the last argument of. ``make_cwd``: its folder is made where there is none.
    """

    token: str
    slot: int
    command: str
    cwd: str
    environment: Mapping[str, str]
    stdout: str
    stderr: str
    keep_background: bool
    work: Work | None = None
    shell: tuple[str, ...] = SHELL
    make_cwd: bool = False


class Order(NamedTuple):
    """A request as it arrives at a shim."""

    token: str
    slot: int
    command: bytes
    cwd: bytes
    environment: Environment
    stdout: bytes
    stderr: bytes
    keep_background: bool
    shell: tuple[bytes, ...]
    make_cwd: bool


class ShimReport(NamedTuple):
    """How an attempt ended; ``since`` is the boot's monotonic time of its claim."""

    token: str
    since: float
    end: Exit


def encode_request(request: Request) -> bytes:
    """The message for a request, its length included."""
    return _framed(
        b"\0".join(
            (
                request.token.encode(),
                b"%d" % request.slot,
                b"keep" if request.keep_background else b"",
                b"make" if request.make_cwd else b"",
                _path(request.cwd),
                _path(request.stdout),
                _path(request.stderr),
                _text(request.command),
                b"%d" % len(request.shell),
                *map(_text, request.shell),
                *(_text(f"{name}={value}") for name, value in request.environment.items()),
            )
        )
    )


def decode_request(body: bytes) -> Order:
    """The inverse, without the length."""
    token, slot, keep, make, cwd, stdout, stderr, command, words, *more = body.split(b"\0")
    shell, pairs = more[: int(words)], more[int(words) :]
    return Order(
        token.decode(),
        int(slot),
        command,
        cwd,
        _environment(pairs),
        stdout,
        stderr,
        keep == b"keep",
        tuple(shell),
        make == b"make",
    )


def encode_base(environment: Mapping[str, str]) -> bytes:
    """The message with what all attempts have in their environment, its length included."""
    return _framed(b"\0".join(_path(f"{name}={value}") for name, value in environment.items()))


def decode_base(body: bytes) -> Environment:
    """The inverse, without the length."""
    return _environment(body.split(b"\0")) if body else {}


def encode_unit(unit: str | None) -> bytes:
    """The message with the folder below which attempts have their groups; None: they have none."""
    return _framed(os.fsencode(unit or ""))


def decode_unit(body: bytes) -> str | None:
    """The inverse, without the length."""
    return os.fsdecode(body) or None


def encode_user(user: User | None) -> bytes:
    """The message with the user that commands run as, its length included; None: our own."""
    numbers = (user.uid, user.gid, *user.groups) if user is not None else ()
    return _framed(b" ".join(b"%d" % number for number in numbers))


def decode_user(body: bytes) -> User | None:
    """The inverse, without the length."""
    if not body:
        return None
    uid, gid, *groups = map(int, body.split())
    return User(uid, gid, tuple(groups))


def read_message(channel: socket.socket) -> bytes | None:
    """The next message, without its length; None when the other end is gone."""
    header = _read(channel, _HEADER)
    return None if header is None else _read(channel, int.from_bytes(header, "big"))


def _read(channel: socket.socket, size: int) -> bytes | None:
    """Exactly so many bytes and none of what follows, which may carry descriptors."""
    chunks = []
    while size:
        try:
            chunk = channel.recv(min(size, 1 << 20))
        except OSError:
            return None
        if not chunk:
            return None
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _framed(body: bytes) -> bytes:
    """A message: its length, then itself."""
    return len(body).to_bytes(_HEADER, "big") + body


def encode_report(kind: str, token: str, since: float, end: Exit) -> bytes:
    """One line: ``kind`` is E when all is over, B when a background tree is left."""
    moments = f"{since:.6f} {end.mono:.6f} {end.wall:.6f}"
    text = f"{kind} {token} {moments} {encode_usage(end.usage)} {end.kind} {end.value}"
    return one_line(text).encode("utf-8", "backslashreplace") + b"\n"


def decode_report(words: list[str]) -> ShimReport:
    """The inverse, without the kind. Raises MalformedError."""
    if len(words) < 6:
        raise MalformedError("a report ends early")
    token, since, mono, wall, usage, kind, *value = words
    end = Exit(kind, " ".join(value), moment(mono), moment(wall), decode_usage(usage))
    return ShimReport(token, moment(since), checked_exit(end))


def one_line(text: str) -> str:
    """The words of a text, with nothing between them that would end a line."""
    return " ".join(text.split())


def _environment(pairs: list[bytes]) -> Environment:
    found = {}
    for pair in pairs:
        name, _, value = pair.partition(b"=")
        found[name] = value
    return found


def _text(text: str) -> bytes:
    """A document is UTF-8 whatever the locale."""
    return text.encode("utf-8", "surrogateescape")


def _path(text: str) -> bytes:
    """What came from the system goes back to it byte by byte."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return _text(text)
