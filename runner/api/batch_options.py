"""The options of target ``batch``: names, checks, and what they are where nothing is given.

Costs no start-up: it knows the table ``[batch]`` of the settings, and nothing of AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.model.batch_settings import READERS
from runner.model.messages import did_you_mean, one_of
from runner.model.placement import STAGINGS

SETTINGS = (
    "job_queue",
    "image",
    "region",
    "bucket",
    "job_role",
    "execution_role",
    "agent_image",
    "shared",
    "bundle",
    "events",
)
"""As in the table ``[batch]`` of the settings, which has those that are not given."""

OPTIONS = (*SETTINGS, "staging", "share", "every", "max_workers")

_STAGED = tuple(each for each in STAGINGS if each != "none")


def check_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those that are given, checked. Raises ValueError or TypeError, naming one."""
    checked = {name: value for name, value in options.items() if value is not None}
    for name in SETTINGS:
        if name in checked:
            try:
                checked[name] = READERS[name](checked[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    staging = checked.get("staging")
    if staging is not None and staging not in _STAGED:
        near = did_you_mean(str(staging), _STAGED)
        raise ValueError(f"staging: must be {one_of(_STAGED)}, not {staging!r}{near}")
    if not isinstance(checked.get("share", ""), str):
        raise TypeError(f"share must be a share's name, not {checked['share']!r}")
    every = checked.get("every", 1.0)
    if not isinstance(every, int | float) or isinstance(every, bool) or not 0.01 <= every <= 3600:
        raise ValueError(f"every: must be seconds from 0.01 to 3600, not {every!r}")
    count = checked.get("max_workers", 1)
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"max_workers must be a whole number, not {count!r}")
    if count <= 0:
        raise ValueError("max_workers must be greater than 0")
    return checked
