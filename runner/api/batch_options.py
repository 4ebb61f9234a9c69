"""The options of target ``batch``: names, checks, and what they are where nothing is given.

Costs no start-up: it knows the table ``[batch]`` of the settings, and nothing of AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.api.failover import SPOOL
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

OPTIONS = (*SETTINGS, "staging", "share", "every", "max_workers", "regions", "fallback")

_STAGED = tuple(each for each in STAGINGS if each != "none")


def check_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those that are given, checked. Raises ValueError or TypeError, naming one."""
    checked = _settings({name: value for name, value in options.items() if value is not None})
    if "regions" in checked or "fallback" in checked:
        checked |= check_places(checked)
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


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    checked = dict(options)
    for name in SETTINGS:
        if name in checked:
            try:
                checked[name] = READERS[name](checked[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return checked


LOCAL = "local"
"""In place of a region: this machine."""


def check_places(options: Mapping[str, Any]) -> dict[str, Any]:
    """``regions`` as a dict of each one's own options, ``fallback`` as a tuple. Raises ValueError
    or TypeError."""
    regions = _check_regions(options)
    fallback = options.get("fallback", ())
    fallback = (fallback,) if isinstance(fallback, str) else fallback
    if not isinstance(fallback, list | tuple):
        raise TypeError(f"fallback: must be a name or a list of names, not {fallback!r}")
    for each in fallback:
        if each in (SPOOL, LOCAL):
            continue
        _check_region("fallback", each, (SPOOL, LOCAL))
        if each in regions or each == options.get("region"):
            raise ValueError(f"fallback: {each} is a region that jobs go to anyway")
    if len(set(fallback)) != len(fallback):
        raise ValueError(f"fallback: names one twice: {', '.join(fallback)}")
    return {"regions": regions, "fallback": tuple(fallback)}


def _check_regions(options: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    given = options.get("regions", ())
    if isinstance(given, str) or not isinstance(given, Mapping | list | tuple):
        raise TypeError(f"regions: must be a list of regions or a dict of their options: {given!r}")
    if given and "region" in options:
        raise ValueError("regions: names all of them, so give no region beside it")
    if "regions" in options and not given:
        raise ValueError("regions: must name at least one")
    regions: dict[str, Mapping[str, Any]] = {}
    for name in given:
        _check_region("regions", name, ())
        own = given[name] if isinstance(given, Mapping) else {}
        if not isinstance(own, Mapping):
            raise TypeError(f"regions: {name}: must be a dict of options, not {own!r}")
        for key in own:
            if key not in SETTINGS or key == "region":
                near = did_you_mean(str(key), SETTINGS)
                raise TypeError(f'regions: {name}: "{key}" is not an option of a region{near}')
        regions[name] = _settings(own)
    if len(regions) != len(given):
        raise ValueError(f"regions: names one twice: {', '.join(given)}")
    return regions


def _check_region(option: str, name: Any, others: tuple[str, ...]) -> None:
    try:
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is not a region")
        READERS["region"](name)
    except ValueError as error:
        near = did_you_mean(str(name), others)
        raise ValueError(f"{option}: {error}{near}") from None
