"""A document's ``params``: names and values, those that a flag sets, and their variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runner.errors import UsageError
from runner.model.expansion.matrix import check_name, check_value
from runner.model.in_short import PARAMS
from runner.model.json_reader import is_ignored
from runner.model.messages import did_you_mean, kind, quoted, step
from runner.model.validation_errors import InvalidError

PREFIX = f"{PARAMS}."
"""What the name of a parameter begins with in an expression."""

VARIABLE_PREFIX = "PARAM_"
MAX_PARAMS = 1000


def check_params(value: Any) -> dict[str, str]:
    """Names and values. Raises InvalidError."""
    if not isinstance(value, dict):
        raise InvalidError(f"must be an object of names and strings, not {kind(value)}")
    given = {name: text for name, text in value.items() if not is_ignored(name)}
    if len(given) > MAX_PARAMS:
        raise InvalidError(f"has too many names: {len(given):,}, at most {MAX_PARAMS:,}")
    found: dict[str, str] = {}
    variables: dict[str, str] = {}
    faults: list[tuple[str, str]] = []
    for name, text in given.items():
        if fault := check_name(name):
            faults.append((step(name), fault))
            continue
        other = variables.setdefault(name.upper(), name)
        if other != name:
            variable = VARIABLE_PREFIX + name.upper()
            faults.append((step(name), f"and {quoted(other)} would both be {variable}"))
        try:
            found[name] = check_value(text)
        except InvalidError as invalid:
            faults.append((step(name), str(invalid)))
    if faults:
        raise InvalidError(faults=faults)
    return found


def check_sets(sets: Mapping[str, str], names: Iterable[str]) -> None:
    """Raise UsageError for a value that was set of a parameter that the document doesn't have."""
    known = list(names)
    for name in sets:
        if name not in known:
            why = did_you_mean(name, known) if known else ": it has no params"
            raise UsageError(f"--set {name}: the document has no such parameter{why}")


def variables_of(params: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that jobs find the parameters in."""
    return {f"{VARIABLE_PREFIX}{name.upper()}": value for name, value in params.items()}
