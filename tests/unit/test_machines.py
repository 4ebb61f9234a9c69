"""What of EC2's records is ours, what it costs, and what is to be ended."""

from __future__ import annotations

import pytest

from runner.aws.ec2 import Machine, SpotRequest
from runner.errors import UsageError
from runner.targets.ec2 import names
from runner.targets.ec2.account.regions import parse_regions
from runner.targets.ec2.observe.machines import Owned, age, join, overdue

NOW = 1_700_000_000.0
HOUR = 3600.0
PAST, FUTURE = "2023-11-14T21:13:20Z", "2023-11-14T23:13:20Z"
"""An hour before and after NOW."""


def machine(name: str = "i-1", **more: object) -> Machine:
    told = {"state": "running", "launched": NOW - 2 * HOUR, "began": NOW - 2 * HOUR, **more}
    return Machine(name, instance_type="t3.micro", region="r", **told)  # type: ignore[arg-type]


def request(name: str = "sir-1", state: str = "active", **more: object) -> SpotRequest:
    told = {"status": "", "message": "", "instance_id": None, **more}
    return SpotRequest(name, state, **told)  # type: ignore[arg-type]


def tagged(**tags: str) -> dict[str, str]:
    keys = {"expires": names.EXPIRES, "price": names.PRICE}
    return {names.QUEUE: "q", **{keys[key]: value for key, value in tags.items()}}


def test_a_machine_has_its_request_and_a_request_without_one_stands_alone() -> None:
    """A machine would be listed twice, or ended without its request."""
    stopped = machine("i-1", state="stopped", spot=True, spot_request="sir-1")
    gone = machine("i-2", state="terminated", spot=True, spot_request="sir-2")
    reopened = request("sir-2", "open", instance_id="i-2")
    found = join("r", [stopped, gone], [request("sir-1"), reopened, request("sir-3", "closed")])
    assert [(one.id, one.alive) for one in found] == [
        ("i-1", True),
        ("i-2", False),
        ("sir-2", True),
    ]
    assert found[0].request is not None and found[2].machine is None


def test_a_request_that_only_knows_the_machine_is_its_own() -> None:
    """RunInstances' answer need not have named the request."""
    (one,) = join("r", [machine("i-1")], [request(instance_id="i-1")])
    assert one.request is not None and one.id == "i-1"


@pytest.mark.parametrize(
    ("expires", "older", "why"),
    [
        (PAST, None, "its lifetime was over 1h ago"),
        (FUTURE, None, None),
        (FUTURE, HOUR, "it is 2h old"),
        (FUTURE, 3 * HOUR, None),
        ("soon", None, None),
        ("2023-11-14T21:13:20", None, None),
    ],
)
def test_what_is_overdue(expires: str, older: float | None, why: str | None) -> None:
    """Living work would be ended, or dead machines kept."""
    owned = Owned("r", machine(tags=tagged(expires=expires)))
    assert overdue(owned, NOW, older) == why


def test_what_has_ended_is_not_overdue() -> None:
    """Reap would end it again and again."""
    assert overdue(Owned("r", machine(state="terminated", tags=tagged(expires=PAST))), NOW) is None
    assert overdue(Owned("r", None, request(state="cancelled", valid_until=1.0)), NOW) is None
    assert overdue(Owned("r", None, request(state="open", valid_until=1.0)), NOW) is not None


def test_a_restarted_machine_is_as_old_as_its_disk() -> None:
    """A spot machine that EC2 restarts every day would never be too old."""
    owned = Owned("r", machine(launched=NOW - HOUR, began=NOW - 50 * HOUR, tags=tagged(price="2")))
    assert overdue(owned, NOW, 24 * HOUR) == "it is 2d2h old"
    assert (owned.cost(NOW).dollars, owned.cost(NOW).at_least) == (2.0, True)


def test_ages() -> None:
    """Nobody could read the list."""
    assert [age(s) for s in (-1, 59.9, 60, 3600, 3660, 90_000)] == [
        "0s", "59s", "1m", "1h", "1h1m", "1d1h",
    ]  # fmt: skip


def test_regions() -> None:
    """A typing error would list nothing, and look like nothing runs."""
    assert parse_regions(None) is None and parse_regions("all") == []
    assert parse_regions("eu-west-1, us-gov-west-1,eu-west-1") == ["eu-west-1", "us-gov-west-1"]
    for wrong in ("", "all,eu-west-1", "eu_west_1", "eu-west-1,"):
        with pytest.raises(UsageError, match="--region"):
            parse_regions(wrong)
