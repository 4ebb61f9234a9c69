"""Requests and answers through a narrow pipe: one word there, one word of bounded length back.

Owns how both are packed (jobs by columns, gzip, base64), and how an answer that is too long is cut.
Made for SSM Run Command, which passes 24,000 characters of output and can't follow. It knows
neither who asks nor who answers.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.control.protocol import decode_request, encode_request
from runner.errors import RecordError, UnreachableError, UsageError
from runner.model.records import decode

Answer = dict[str, Any]

LIMIT = 23_000
"""Characters of an answer, if nothing else is asked for."""

LEAST = 1_000
"""Characters that an answer may need, however little is in it."""

MAX_REQUEST = 8_000
"""Characters of a request: so many jobs can be named at once as a command line may hold."""

MOST = 64 << 20
"""Bytes of an answer, unpacked: a word of some thousand characters may claim to hold any number."""

MOST_ROWS = 100_000

_TEXT = 400
"""Characters that are left of a text which alone is too long."""

_COLUMNS = "columns"

_NO_ANSWER = (ValueError, TypeError, KeyError, AttributeError, zlib.error, RecordError)
"""What comes of unpacking anything else."""


def pack_request(request: str, /, **fields: Any) -> str:
    """A request as one word of ``[A-Za-z0-9_=-]``. Raises UsageError if it's too long."""
    word = base64.urlsafe_b64encode(encode_request(request, **fields).strip()).decode()
    if len(word) > MAX_REQUEST:
        raise UsageError(
            f"the request has {len(word):,} characters: {MAX_REQUEST:,} at most; name fewer jobs"
        )
    return word


def unpack_request(word: str) -> dict[str, Any]:
    """The request in a word. Raises UsageError for what is none."""
    try:
        line = base64.b64decode(word.encode(), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise UsageError("a request is base64 of a JSON object") from None
    return decode_request(line)


def pack(answer: Answer) -> str:
    """An answer as one word."""
    told = dict(answer)
    if "jobs" in told:
        told["jobs"] = _by_columns(told["jobs"])
    # Base64 twice would be a third more, and gzip finds nothing in it.
    if "data" in told:
        told = _plain(told)
    if "streams" in told:
        told["streams"] = {name: _plain(piece) for name, piece in told["streams"].items()}
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(_zipped(text.encode("utf-8", "surrogatepass"))).decode()


def unpack(word: str) -> Answer:
    """The answer in a word. Raises UnreachableError for what no runner says, or was cut."""
    try:
        text = _unzipped(base64.b64decode("".join(word.split()), validate=True))
        answer: Answer = decode(text.decode("utf-8", "surrogatepass"), "an answer")
        if not isinstance(answer, dict):
            raise ValueError("no object")
        if "jobs" in answer:
            answer["jobs"] = _by_rows(answer["jobs"])
        if "data" in answer:
            answer = _encoded(answer)
        if "streams" in answer:
            answer["streams"] = {name: _encoded(p) for name, p in answer["streams"].items()}
    except _NO_ANSWER:
        raise UnreachableError("what answers there is not a runner, or was cut short") from None
    return answer


def _unzipped(data: bytes) -> bytes:
    """What was zipped, if no more of it comes out than an answer may have."""
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    text = unzip.decompress(data, MOST)
    if not unzip.eof:
        raise ValueError("it is cut off, or far too long")
    return text


def _plain(piece: Answer) -> Answer:
    return {**piece, "data": base64.b64decode(piece["data"]).decode("latin-1")}


def _encoded(piece: Answer) -> Answer:
    return {**piece, "data": base64.b64encode(piece["data"].encode("latin-1")).decode()}


def _zipped(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


# -- jobs by columns ---------------------------------------------------------------------------


def _by_columns(jobs: Sequence[Mapping[str, Any]]) -> Answer:
    """What all rows have in a field beside each other: it packs to half. None: it has none."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for job in jobs for name in job):
        values = [job.get(name) for job in jobs]
        same = all(value == values[0] and type(value) is type(values[0]) for value in values)
        columns[name] = {"all": values[0]} if same else values
    return {"rows": len(jobs), _COLUMNS: columns}


def _by_rows(packed: Mapping[str, Any]) -> list[Answer]:
    if not 0 <= packed["rows"] <= MOST_ROWS:
        raise ValueError("more rows than an answer has")
    rows: list[Answer] = [{} for _ in range(packed["rows"])]
    for name, values in packed[_COLUMNS].items():
        each = [values["all"]] * len(rows) if isinstance(values, dict) else values
        for row, value in zip(rows, each, strict=True):
            if value is not None:
                row[name] = value
    return rows


# -- making it fit -----------------------------------------------------------------------------


def fit(answer: Answer, limit: int) -> str:
    """The answer as a word of ``limit`` characters at most.

    What is too long is cut: a log's piece at its end, with the ``offset`` to go on from; lists at
    their beginning, for the newest is last; at last long texts. All but the first are marked
    ``truncated``. Pages of jobs aren't cut here: only who asks for them knows where they go on.
    """
    word = pack(answer)
    if len(word) <= limit:
        return word
    if "data" in answer:
        return _fit_logs([answer], lambda pieces: {**answer, **pieces[0]}, limit)
    if "streams" in answer:
        names, pieces = list(answer["streams"]), list(answer["streams"].values())
        return _fit_logs(
            pieces,
            lambda cut: {**answer, "streams": dict(zip(names, cut, strict=True))},
            limit,
        )
    for name in ("story", "queues"):
        if answer.get(name):
            answer = _fit_list(answer, name, limit)
    word = pack(answer)
    if len(word) > limit:
        word = pack({**_shortened(answer, _TEXT), "truncated": True})
    return word if len(word) <= limit else pack({"ok": False, "truncated": True})


def _fit_list(answer: Answer, name: str, limit: int) -> Answer:
    def fits(count: int) -> bool:
        return len(pack(_last(answer, name, count))) <= limit

    return _last(answer, name, _most(len(answer[name]), fits))


def _last(answer: Answer, name: str, count: int) -> Answer:
    items = answer[name]
    return {**answer, name: items[len(items) - count :], "truncated": True}


def _fit_logs(
    pieces: Sequence[Answer],
    join: Callable[[Sequence[Answer]], Answer],
    limit: int,
) -> str:
    """As much of each piece as fits if all get the same: none may keep another from coming."""
    longest = max(len(base64.b64decode(piece["data"])) for piece in pieces)

    def cut(count: int) -> Answer:
        return join([_cut(piece, count) for piece in pieces])

    return pack(cut(_most(longest, lambda count: len(pack(cut(count))) <= limit)))


def _cut(piece: Answer, count: int) -> Answer:
    data = base64.b64decode(piece["data"])
    begin = piece["offset"] - len(data)
    kept = data[:count]
    return {**piece, "data": base64.b64encode(kept).decode(), "offset": begin + len(kept)}


def _most(count: int, fits: Callable[[int], bool]) -> int:
    """The greatest number up to ``count`` that fits, by halving; 0 if none does."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _shortened(value: Any, length: int) -> Any:
    match value:
        case str() if len(value) > length:
            return value[:length] + "…"
        case dict():
            return {name: _shortened(item, length) for name, item in value.items()}
        case list():
            return [_shortened(item, length) for item in value]
    return value
