"""A document's ``defaults``: fields that hold for each job that doesn't have them itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.model.checks import Check
from runner.model.expansion.expressions import holds_expression
from runner.model.in_short import MATRIX_KEYS
from runner.model.json_reader import is_ignored
from runner.model.messages import did_you_mean, kind, step
from runner.model.validation_errors import InvalidError

NOT_IN_DEFAULTS = frozenset({"job_id", "command", "depends_on", *MATRIX_KEYS})


def default_fields(
    value: Any, job_fields: Mapping[str, Check]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The fields as they stand, and what is wrong: (where inside, message).

    What is made with ``${{…}}`` is checked where it is used.
    """
    if not isinstance(value, dict):
        return {}, [("", f"must be an object, not {kind(value)}")]
    found: dict[str, Any] = {}
    faults: list[tuple[str, str]] = []
    known = job_fields.keys() - NOT_IN_DEFAULTS
    for key, given in value.items():
        if is_ignored(key):
            continue
        if key in NOT_IN_DEFAULTS:
            faults.append((step(key), "is each job's own: it has no default"))
        elif key not in known:
            faults.append((step(key), f"unknown key{did_you_mean(key, known)}"))
        else:
            found[key] = given
            if not holds_expression(given):
                faults += [(f".{key}{at}", told) for at, told in _faults(given, job_fields[key])]
    return found, faults


def _faults(value: Any, check: Check) -> list[tuple[str, str]]:
    try:
        check(value)
    except InvalidError as invalid:
        return invalid.faults
    return []


def check_defaults(value: Any, job_fields: Mapping[str, Check]) -> dict[str, Any]:
    """The fields as they stand. Raises InvalidError."""
    found, faults = default_fields(value, job_fields)
    if faults:
        raise InvalidError(faults=faults)
    return found
