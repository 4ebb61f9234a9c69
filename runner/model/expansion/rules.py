"""The rule of each field that is written out, by its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.model.checks import Check
from runner.model.expansion.defaults import check_defaults
from runner.model.expansion.matrix import MATRIX_FIELDS
from runner.model.expansion.parameters import check_params
from runner.model.in_short import DEFAULTS, PARAMS


def check_field(key: str, value: Any, job_fields: Mapping[str, Check]) -> Any:
    """What the value holds. ``job_fields``: the rules of a job's fields. Raises InvalidError."""
    if key == DEFAULTS:
        return check_defaults(value, job_fields)
    return check_params(value) if key == PARAMS else MATRIX_FIELDS[key](value)
