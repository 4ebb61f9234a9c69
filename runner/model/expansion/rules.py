"""The rule of each field that is written out, imported when a document has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.model.checks import Check


def matrix_rule(key: str) -> Check:
    """The check of ``matrix`` or one of its companions."""

    def check(value: Any) -> Any:
        from runner.model.expansion.matrix import MATRIX_FIELDS

        return MATRIX_FIELDS[key](value)

    return check


def check_params(value: Any) -> dict[str, str]:
    """The check of ``params``."""
    from runner.model.expansion import parameters

    return parameters.check_params(value)


def defaults_rule(job_fields: Mapping[str, Check]) -> Check:
    """The check of ``defaults``, whose values are those of a job's fields."""

    def check(value: Any) -> Any:
        from runner.model.expansion.defaults import check_defaults

        return check_defaults(value, job_fields)

    return check
