"""How a queue was launched, as a replacement takes it."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import StateError
from runner.targets.ec2.recipe import Recipe, parse_recipe, recipe_of, replacement
from runner.targets.ec2.user_data import Shipped

GIVEN = {
    "instance_type": "g5.xlarge",
    "spot": True,
    "fallback_on_demand": False,
    "ami": "ami-12345678",
    "subnet": "subnet-12345678",
    "tag": ["team=blue", "cost=1"],
    "disk_size": None,
    "batch_queue": "q.json",
    "yes": True,
}


def recipe(workdir: Shipped | None = None) -> Recipe:
    return recipe_of(GIVEN, "eu-west-1", workdir)


def test_what_was_given_comes_back_and_nothing_else() -> None:
    """A replacement would be another machine than the launch's."""
    made = recipe(Shipped("k", "s"))
    assert parse_recipe(made.encode()) == made
    assert set(made.flags) == {"instance_type", "spot", "ami", "subnet", "tag"}
    assert replacement(made, {}, "eu-west-1") == dict(made.flags)


def test_what_is_said_stands_over_it() -> None:
    """A user could not have it otherwise."""
    flags = replacement(recipe(), {"on_demand": True, "tag": ["cost=2"]}, "eu-west-1")
    assert "spot" not in flags and flags["tag"] == ["team=blue", "cost=2"]
    assert replacement(recipe(), {"instance_type": "p5"}, "eu-west-1")["instance_type"] == "p5"


def test_another_region_has_other_subnets() -> None:
    """No resume in another region would ever be accepted."""
    flags = replacement(recipe(), {"subnet": "subnet-87654321"}, "us-east-1")
    assert "ami" not in flags and flags["subnet"] == "subnet-87654321" and flags["spot"] is True


@pytest.mark.parametrize(
    "told",
    [{}, {"region": 1, "flags": {}}, {"region": "r", "flags": []},
     {"region": "r", "flags": {"ami": 3}}, {"region": "r", "flags": {}, "workdir": "x"}],
)  # fmt: skip
def test_what_is_no_recipe_is_said_so(told: dict[str, Any]) -> None:
    """Something else than was launched would be, without a word."""
    with pytest.raises(StateError, match=r"launch\.json of the launch can't be read"):
        parse_recipe(told)


def test_what_a_later_version_adds_is_ignored() -> None:
    """An older laptop could not resume."""
    told = {**recipe().encode(), "more": 1}
    told["flags"] = {**told["flags"], "new_flag": {"a": 1}}
    assert parse_recipe(told) == recipe()
