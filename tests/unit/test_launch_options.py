"""How a queue was launched, as a replacement takes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.errors import RecordError, UsageError
from runner.targets.ec2.launch.launch_options import (
    LARGEST,
    LaunchOptions,
    known,
    launch_options_of,
    parse_launch_options,
    replacement,
    sha256_of,
)
from runner.targets.ec2.launch.user_data import Shipped

PLACE = "s3://b/runner/launches/l/launch.json"
PACKED = Shipped("runner/launches/20260101-000000-0a1b2c3d/workdir.tar.gz", "0" * 64)
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


def recipe(workdir: Shipped | None = None) -> LaunchOptions:
    return launch_options_of(GIVEN, "eu-west-1", workdir)


def test_what_was_given_comes_back_and_nothing_else() -> None:
    """A replacement would be another machine than the launch's."""
    made = recipe(PACKED)
    assert parse_launch_options(made.encode(), PLACE) == made
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


def plain(workdir: Shipped | None = None, **flags: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(recipe(workdir).encode())
    made["flags"] |= flags
    return made


DEEP = b'{"version": 1, "region": "r", "flags": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
FOREIGN = {
    "nothing": b"",
    "no object": b"[1]",
    "deep": DEEP,
    "large": json.dumps(plain(key_name="k" * LARGEST)).encode(),
    "not UTF-8": b'{"region": "\xff"}',
    "without flags": b'{"version": 1, "region": "r"}',
    "of another version": json.dumps(plain() | {"version": 99}).encode(),
    "type is true": json.dumps(plain(instance_type=True)).encode(),
    "disk is a number": json.dumps(plain(disk_size=50)).encode(),
    "spot is a word": json.dumps(plain(spot="no")).encode(),
    "subnet is a list": json.dumps(plain(subnet=["a"])).encode(),
    "tag is a word": json.dumps(plain(tag="a=b")).encode(),
    "tag of numbers": json.dumps(plain(tag=[1])).encode(),
    "workdir without key": json.dumps(plain() | {"workdir": {}}).encode(),
    "workdir is a word": json.dumps(plain() | {"workdir": "abc"}).encode(),
    "workdir elsewhere": json.dumps(plain(Shipped("../../x", "0" * 64))).encode(),
    "workdir without hash": json.dumps(plain(Shipped(PACKED.key, "zz"))).encode(),
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=list(FOREIGN))
def test_what_is_no_recipe_is_refused_by_its_place(data: bytes) -> None:
    """An internal error would be told, or something else than was launched be launched."""
    with pytest.raises(RecordError, match=r"^s3://b/runner/launches/l/launch\.json: "):
        parse_launch_options(data, PLACE)


def test_a_recipe_counts_only_if_the_launch_wrote_it() -> None:
    """Who can write to the bucket would choose image, role and key of the next machine."""
    made = recipe(PACKED)
    written = made.encode()
    assert known(written, sha256_of(written), PLACE) == made
    changed = json.dumps(plain(iam_role="admin")).encode()
    with pytest.raises(UsageError, match=r"(?s)not what the launch wrote.*aws s3 rm s3://b"):
        known(changed, sha256_of(written), PLACE)
    with pytest.raises(UsageError, match="record says nothing of it"):
        known(written, None, PLACE)


def test_what_a_later_version_adds_is_ignored() -> None:
    """An older laptop could not resume."""
    told = plain(new_flag={"a": 1}) | {"more": 1}
    assert parse_launch_options(json.dumps(told).encode(), PLACE) == recipe()
