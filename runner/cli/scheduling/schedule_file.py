"""FILE of `schedule create`: a document, or what names one and gives launch's flags as keys.

Owns which keys there are: they are the parser's own flags. What a command line says stands before
what a file says.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runner.cli.parser import Parser
from runner.errors import DocumentError, RecordError, UsageError
from runner.model.in_short import YAML_SUFFIXES
from runner.model.json_reader import MAX_BYTES
from runner.model.json_reader import decode as decode_text
from runner.model.messages import did_you_mean, kind, quoted
from runner.model.records import decode

KEY = "batch_queue"

_NO_KEYS = ("file", "here", "json", "help", "yes", "dry_run", "wait", "sets")
"""Flags that are about one call, and not about the schedule."""


def with_file(
    arguments: argparse.Namespace, configure: Callable[[argparse.ArgumentParser], None]
) -> argparse.Namespace:
    """The arguments, with ``batch_queue`` as `launch` has it, and the file's keys where no flag was
    given. ``configure``: adds the flags. Raises UsageError with all that is wrong."""
    path = Path(arguments.file)
    told = _members(path)
    if told is None or KEY not in told:
        return argparse.Namespace(**{**vars(arguments), KEY: str(path)})
    known = _flags(configure)
    errors: list[str] = []
    found = dict(vars(arguments))
    for key, value in told.items():
        name = key.replace("-", "_")
        if name == KEY:
            if not isinstance(value, str) or not value:
                errors.append(f"{KEY}: must be the path of a queue document")
            else:
                found[KEY] = str(path.parent / value)
        elif name == "set":
            found["sets"] = found.get("sets") or _pairs("set", value, errors)
        elif (action := known.get(name)) is None:
            errors.append(f"{key}: is no flag of a schedule{did_you_mean(key, [*known, KEY])}")
        else:
            read = _value(key, action, value, errors)
            if found.get(name) in (None, False):
                found[name] = read
    if errors:
        raise UsageError("\n".join(f"{path}: {error}" for error in errors))
    return argparse.Namespace(**found)


def _flags(configure: Callable[[argparse.ArgumentParser], None]) -> dict[str, argparse.Action]:
    parser = Parser(prog="schedule create")
    configure(parser)
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    return {name: action for name, action in actions.items() if name not in _NO_KEYS}


def _value(key: str, action: argparse.Action, value: Any, errors: list[str]) -> Any:
    """What argparse would have made of it."""
    if action.nargs == 0:
        if isinstance(value, bool):
            return value
        errors.append(f"{key}: must be true or false, not {kind(value)}")
    elif isinstance(action, argparse._AppendAction):
        return _pairs(key, value, errors) if isinstance(value, dict) else _words(key, value, errors)
    elif isinstance(value, list):
        return ",".join(_words(key, value, errors))
    elif isinstance(value, str | int) and not isinstance(value, bool):
        if action.choices is not None and value not in action.choices:
            errors.append(f"{key}: {quoted(str(value))} is none of {', '.join(action.choices)}")
        return str(value)
    else:
        errors.append(f"{key}: must be a string, not {kind(value)}")
    return None


def _words(key: str, value: Any, errors: list[str]) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    errors.append(f"{key}: must be an array of strings")
    return []


def _pairs(key: str, value: Any, errors: list[str]) -> list[str]:
    if isinstance(value, dict) and all(isinstance(each, str | int) for each in value.values()):
        return [f"{name}={each}" for name, each in value.items()]
    errors.append(f"{key}: must be an object of strings, not {kind(value)}")
    return []


def _members(path: Path) -> Mapping[str, Any] | None:
    """The file's object; None for what is left to the document's own reader to judge."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        return None
    if path.suffix in YAML_SUFFIXES:
        return _of_yaml(raw, path)
    try:
        found = decode(raw, str(path))
    except RecordError:
        return None
    return found if isinstance(found, dict) else None


def _of_yaml(raw: bytes, path: Path) -> Mapping[str, Any] | None:
    from runner.model.expansion.yaml_reader import read_yaml

    try:
        members, _ = read_yaml(decode_text(raw, str(path)), str(path))
    except DocumentError:
        return None
    return {key: value for key, _, value in members}
