"""How a queue was launched: the flags as they were given, kept in the bucket beside its document.

What a replacement is like, where nothing else is asked for. Who reads it ignores what he doesn't
know. It has no secrets: a command line shows more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.errors import StateError
from runner.targets.ec2.user_data import Shipped

NAME = "launch.json"
"""Below names.launch_key."""

VERSION = 1

FLAGS = (
    "instance_type",
    "spot",
    "fallback_on_demand",
    "disk_size",
    "ami",
    "security_group",
    "subnet",
    "no_public_ip",
    "iam_role",
    "key_name",
    "job_user",
    "tag",
    "on_complete",
    "keep_on_failure",
    "max_lifetime",
)
"""Of `launch`, that a replacement has too."""

OF_REGION = ("ami", "security_group", "subnet", "key_name")
"""Those that mean nothing in another region."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One launch as it was asked for. ``flags`` by their long names, with ``_`` for ``-``."""

    region: str
    flags: Mapping[str, Any] = field(default_factory=dict)
    workdir: Shipped | None = None

    def encode(self) -> dict[str, Any]:
        """As it is stored."""
        told: dict[str, Any] = {"version": VERSION, "region": self.region, "flags": self.flags}
        if self.workdir is not None:
            told["workdir"] = {"key": self.workdir.key, "sha256": self.workdir.sha256}
        return told


def recipe_of(given: Mapping[str, Any], region: str, workdir: Shipped | None) -> Recipe:
    """The recipe of a command line; flags that were not given are left out."""
    flags = {name: given[name] for name in FLAGS if given.get(name) not in (None, False)}
    return Recipe(region, flags, workdir)


def parse_recipe(told: Mapping[str, Any]) -> Recipe:
    """What was stored. Raises StateError for what no runner has written."""
    try:
        region, flags, packed = told["region"], told["flags"], told.get("workdir")
        if not isinstance(region, str) or not isinstance(flags, dict):
            raise ValueError("its region or flags")
        known = {name: value for name, value in flags.items() if name in FLAGS}
        if not all(map(_is_flag, known.values())):
            raise ValueError("a flag's value")
        workdir = None if packed is None else Shipped(str(packed["key"]), str(packed["sha256"]))
        return Recipe(region, known, workdir)
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"{NAME} of the launch can't be read: {json.dumps(str(error))}") from None


def _is_flag(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, str | bool)


def replacement(recipe: Recipe, given: Mapping[str, Any], region: str) -> dict[str, Any]:
    """The flags of a replacement: the recipe's, and over them what is ``given``.

    ``on_demand`` in ``given`` takes back what the recipe says of the market.
    """
    moved = region != recipe.region
    flags = {n: v for n, v in recipe.flags.items() if not (moved and n in OF_REGION)}
    if given.get("on_demand"):
        flags = {n: v for n, v in flags.items() if n not in ("spot", "fallback_on_demand")}
        if flags.get("on_complete") == "stop" and recipe.flags.get("spot"):
            del flags["on_complete"]
    for name in FLAGS:
        value = given.get(name)
        if name == "tag" and value:
            value = _tags(flags.get("tag", ()), value)
        if value not in (None, False):
            flags[name] = value
    return flags


def _tags(before: list[str], given: list[str]) -> list[str]:
    """Given ones stand in for those of the same key."""
    keys = {text.partition("=")[0] for text in given}
    return [text for text in before if text.partition("=")[0] not in keys] + list(given)
