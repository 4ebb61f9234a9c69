"""The options of an Executor's target ``fleet``: names and values, nothing opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

OPTIONS = ("database", "job", "results", "region", "workers")

MOST_WORKERS = 256


def check_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """``database``: a folder, or `postgresql://…`; ``job``: the name of the fleet job, by default
    the Executor's; ``results``: where calls and results are stored, a folder or `s3://…`;
    ``region``: the job gets SQS queues there; ``workers``: processes to start here.

    Raises TypeError, ValueError.
    """
    checked: dict[str, Any] = dict.fromkeys(OPTIONS)
    for name in ("database", "job", "results", "region"):
        value = options.get(name)
        if isinstance(value, os.PathLike) and name in ("database", "results"):
            value = os.fspath(value)
        if value is not None and (not isinstance(value, str) or not value):
            raise TypeError(f"{name} must be a string, not {value!r}")
        checked[name] = value
    count = options.get("workers")
    count = 0 if count is None else count
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"workers must be a whole number, not {count!r}")
    if not 0 <= count <= MOST_WORKERS:
        raise ValueError(f"workers must be 0 to {MOST_WORKERS}, not {count}")
    return {**checked, "workers": count}
