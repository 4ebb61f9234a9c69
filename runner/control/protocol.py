"""The messages: how a request and an answer look on the line, and what is refused unread.

A request is ``{"v": 1, "request": "status", …}``, an answer ``{"v": 1, "ok": true, …}`` or
``{"v": 1, "ok": false, "error": {"code": …, "message": …}}``. Made so that ``nc -U`` will do.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from runner.errors import (
    ConflictError,
    ExitCode,
    LockedError,
    NotFoundError,
    RecordError,
    RunnerError,
    UnreachableError,
    UsageError,
)
from runner.model.records import decode

VERSION = 1
MAX_LINE = 64 * 1024
MAX_SUBMIT_LINE = 64 * 1024 * 1024

HEAD = 200
"""So many first bytes of a line decide how long it may become."""

MAX_ADD_LINE = 8 * 1024 * 1024

_LONG = re.compile(
    rb'\s*\{\s*("v"\s*:\s*1\s*,\s*)?"request"\s*:\s*"'
    rb'(submit"\s*,\s*("again"\s*:\s*"[a-z_,]{1,60}"\s*,\s*)?"document"'
    rb'|(?P<add>add_jobs)"\s*,\s*"jobs")\s*:\s*"'
)
"""A long line says at its start that it is a submit's, or one of jobs that are added, and is one
long string: nothing else is read past 64 KiB. To build millions of values out of rubbish would hold
up the queue for seconds."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asks, as the kernel says (SO_PEERCRED); ``may_act`` by the socket it came through."""

    pid: int
    uid: int
    may_act: bool


def line_limit(head: bytes, *, may_act: bool) -> int:
    """How long the line that begins with ``head`` (HEAD bytes) may become, in bytes."""
    found = _LONG.match(head) if may_act else None
    if found is None:
        return MAX_LINE
    return MAX_ADD_LINE if found["add"] else MAX_SUBMIT_LINE


def encode_request(request: str, /, **fields: Any) -> bytes:
    """One request line. Fields that are None are left out. Raises UsageError if it's too long."""
    given = {name: value for name, value in fields.items() if value is not None}
    head = {"v": VERSION, "request": request}
    line = _encode({**head, **given, **head}).encode() + b"\n"
    limit = line_limit(line[:HEAD], may_act=True)
    if len(line) > limit:
        size = f"{len(line) / 2**20:.1f} MiB" if limit > MAX_LINE else f"{len(line) >> 10} KiB"
        raise UsageError(f"the request has {size}: at most 64 KiB, 64 MiB for a document")
    return line


def decode_request(line: bytes) -> dict[str, Any]:
    """The request in a line. Raises UsageError for what is not one."""
    try:
        message = _decode(line.decode())
    except (ValueError, RecursionError):
        raise UsageError("not a JSON object on one line") from None
    if not isinstance(message, dict) or not isinstance(message.get("request"), str):
        raise UsageError('a request is an object with a "request", a string')
    version = message.get("v", VERSION)
    if type(version) is not int or version != VERSION:
        raise UsageError(f"this runner speaks version {VERSION} of the protocol")
    return message


def encode_answer(fields: dict[str, Any]) -> bytes:
    """What was asked for, on a line."""
    return _encode({"v": VERSION, "ok": True, **fields}).encode() + b"\n"


def encode_error(error: RunnerError) -> bytes:
    """An error as its reader needs it: a code to test, a message to show, the exit code."""
    body = {
        "code": ExitCode(error.exit_code).name.lower(),
        "message": str(error),
        "exit_code": int(error.exit_code),
    }
    for kind, raised in _KINDS.items():
        if isinstance(error, raised):
            body["kind"] = kind
    return _encode({"v": VERSION, "ok": False, "error": body}).encode() + b"\n"


_KINDS: dict[str, type[RunnerError]] = {"locked": LockedError, "conflict": ConflictError}
"""Errors that a program may want to tell from others of the same exit code."""


def decode_answer(line: bytes) -> dict[str, Any]:
    """The answer in a line; a refusal is raised as the error it carries.

    Raises UnreachableError for a line that no runner says: something else listens there.
    """
    try:
        message = decode(line, "an answer")
    except RecordError:
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("ok"), bool):
        raise UnreachableError("what answers there is not a runner")
    if message["ok"]:
        return message
    raise carried(message.get("error"))


_CLASSES: dict[ExitCode, type[RunnerError]] = {
    ExitCode.USAGE: UsageError,
    ExitCode.NOT_FOUND: NotFoundError,
    ExitCode.UNREACHABLE: UnreachableError,
}


def carried(body: Any) -> RunnerError:
    """The error that an answer carries: of the class and with the exit code it was raised with."""
    told = body if isinstance(body, dict) else {}
    try:
        code = ExitCode(told.get("exit_code", ExitCode.ERROR)) or ExitCode.ERROR
    except (ValueError, TypeError):
        # A later version's: a failure is all that this one can say of it.
        code = ExitCode.ERROR
    kind = told.get("kind")
    raised = _KINDS.get(kind) if isinstance(kind, str) else None
    error = (raised or _CLASSES.get(code, RunnerError))(
        str(told.get("message", "refused without a reason"))
    )
    error.exit_code = code
    return error
