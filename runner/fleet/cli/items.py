"""Items as people write them: volume files, ``--volume W,I``, ``--item KEY=VALUE``, CSV, JSONL."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.errors import RecordError, UsageError
from runner.fleet.records import TaskItem
from runner.fleet.task_document import check_params
from runner.model.messages import kind, quoted
from runner.model.records import decode

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_MOST_ERRORS = 20


def volume(text: str, where: str) -> TaskItem:
    """``W22084,I0886`` or ``W22084 I0886``. Raises UsageError, which begins with ``where``."""
    parts = re.split(r"\s*,\s*|\s+", text.strip())
    if len(parts) != 2:
        raise UsageError(f"{where}: {quoted(text)} is not W_ID,I_ID")
    for part in parts:
        if not _ID.fullmatch(part):
            raise UsageError(f"{where}: {quoted(part)} is no id")
    return TaskItem.volume(*parts)


def item(words: Sequence[str], where: str) -> TaskItem:
    """``KEY=VALUE …``. Raises UsageError."""
    params: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(f"{where}: {quoted(word)} is not KEY=VALUE")
        if name in params:
            raise UsageError(f"{where}: {name} is given twice")
        params[name] = value
    return _checked(params, where)


def _checked(params: dict[str, str], where: str) -> TaskItem:
    try:
        check_params(params)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    if any("\0" in value for value in params.values()):
        raise UsageError(f"{where}: a value holds a NUL character")
    if own := params.get("id"):
        if len(own) > 200 or not own.isprintable():
            raise UsageError(f"{where}: {quoted(own)} is no id: up to 200 printable characters")
    return TaskItem.of(params)


def read_items(path: Path) -> list[TaskItem]:
    """All items of a file: ``.csv`` with a head line, ``.jsonl``, else volumes, one a line.

    Raises UsageError with every line that is wrong, up to twenty of them.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path}: can't be read: {reason}") from None
    read = {".csv": _csv, ".jsonl": _jsonl}.get(path.suffix.lower(), _volumes)
    found: list[TaskItem] = []
    errors: list[str] = []
    for made in read(text, path):
        if isinstance(made, UsageError):
            errors.append(str(made))
        else:
            found.append(made)
    if errors:
        more = [f"… ({len(errors) - _MOST_ERRORS} more)"] if len(errors) > _MOST_ERRORS else []
        raise UsageError("\n".join([*errors[:_MOST_ERRORS], *more]))
    if not found:
        raise UsageError(f"{path}: holds no item")
    return found


Made = Iterator[TaskItem | UsageError]


def _volumes(text: str, path: Path) -> Made:
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if line:
            try:
                yield volume(line, f"{path}:{number}")
            except UsageError as error:
                yield error


def _csv(text: str, path: Path) -> Made:
    rows = csv.reader(text.splitlines())
    heads = next(rows, [])
    if len(set(heads)) < len(heads) or not all(heads):
        yield UsageError(f"{path}:1: the head line must name each column, once")
        return
    for row in rows:
        where = f"{path}:{rows.line_num}"
        if not row:
            continue
        if len(row) != len(heads):
            yield UsageError(f"{where}: has {len(row)} values, and the head line {len(heads)}")
            continue
        try:
            yield _row(dict(zip(heads, row, strict=True)), where)
        except UsageError as error:
            yield error


def _row(params: dict[str, str], where: str) -> TaskItem:
    """A row with the columns W_ID and I_ID, and no other, is a volume."""
    if params.keys() == {"W_ID", "I_ID"}:
        return volume(f"{params['W_ID']},{params['I_ID']}", where)
    return _checked(params, where)


def _jsonl(text: str, path: Path) -> Made:
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            found = decode(line, where)
        except RecordError as error:
            yield UsageError(str(error))
            continue
        if not isinstance(found, dict):
            yield UsageError(f"{where}: must be an object, not {kind(found)}")
            continue
        params = {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in found.items()
        }
        try:
            yield _row(params, where)
        except UsageError as error:
            yield error
