"""What travels from an Executor to a target: one record, of a function call or of a command.

Owns its JSON: a version, a kind, and nothing that isn't known. A function's code and arguments are
not in it, but in a payload file that it names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.api.capabilities import NOTHING_SAID, Capabilities
from runner.errors import RecordError
from runner.model.records import Count, Name, decode, keys, read

TASK_VERSION = 1

FUNCTION = "function"
COMMAND = "command"


@dataclass(frozen=True, slots=True)
class PayloadReference:
    """Where a payload is, and the sha256 that it must have. ``size`` is in bytes."""

    where: str
    sha256: str
    size: Count


@dataclass(frozen=True, slots=True)
class FunctionTask:
    """A call of a function. ``source``: who submitted it; ``name``: the function's, for people."""

    id: Name
    source: str
    name: str
    payload: PayloadReference
    capabilities: Capabilities = NOTHING_SAID


@dataclass(frozen=True, slots=True)
class InputFile:
    """An object to fetch before the command runs, as a document's `input_paths` has it."""

    s3: str
    path: str


@dataclass(frozen=True, slots=True)
class CommandTask:
    """A command: of ``argv``, or for bash in ``script``; exactly one of them is given."""

    id: Name
    source: str
    script: str | None = None
    argv: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    input_paths: tuple[InputFile, ...] = ()
    result_paths: tuple[str, ...] = ()
    capabilities: Capabilities = NOTHING_SAID

    def __post_init__(self) -> None:
        if (self.script is None) is (self.argv is None):
            raise ValueError("a command is either a script or an argv")


Task = FunctionTask | CommandTask

_KINDS: dict[str, type[Any]] = {FUNCTION: FunctionTask, COMMAND: CommandTask}


def task_to_json(task: Task) -> str:
    """One line of JSON, which ``task_from_json`` reads back as an equal record."""
    kind = FUNCTION if isinstance(task, FunctionTask) else COMMAND
    body = {name: _plain(getattr(task, name)) for name in sorted(keys(type(task)))}
    return json.dumps({"version": TASK_VERSION, "kind": kind, **body})


def task_from_json(text: str | bytes, name: str = "task") -> Task:
    """The record. Raises RecordError for another version, an unknown key, a wrong value."""
    value = decode(text, name)
    if type(value) is not dict:
        raise RecordError(f"{name}: is no object")
    version = value.pop("version", None)
    if type(version) is not int or version != TASK_VERSION:
        told = f"version {version!r}, and this runner reads version {TASK_VERSION}"
        raise RecordError(f"{name}: is a task of {told}")
    kind = value.pop("kind", None)
    known = _KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise RecordError(f'{name}: kind: must be "{FUNCTION}" or "{COMMAND}", not {kind!r:.60}')
    try:
        task: Task = read(known, value, name, strict=True)
    except ValueError as error:
        raise RecordError(f"{name}: {error}") from None
    return task


def _plain(value: Any) -> Any:
    match value:
        case Capabilities():
            return value.as_json()
        case PayloadReference() | InputFile():
            return {key: getattr(value, key) for key in keys(type(value))}
        case tuple():
            return [_plain(each) for each in value]
        case Mapping():
            return dict(value)
        case _:
            return value
