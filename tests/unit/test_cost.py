"""What a machine has cost: known, at least so much, or unknown; never a guess."""

from __future__ import annotations

from typing import Any

import pytest

from runner.aws.ec2 import Machine
from runner.targets.ec2 import names
from runner.targets.ec2.observe.cost import cost_of, price_in

NOW = 1_800_000_000.0


def machine(state: str, **more: Any) -> Machine:
    given = {"launched": NOW - 7200, "began": NOW - 7203, "region": "r", **more}
    return Machine(instance_id="i-1", state=state, instance_type="g5.2xlarge", **given)


@pytest.mark.parametrize(
    ("state", "more", "price", "hours", "dollars"),
    [
        ("running", {}, 1.212, 2.0, 2.424),
        ("stopping", {}, 1.212, 2.0, 2.424),
        ("running", {}, None, 2.0, None),
        ("pending", {}, 1.212, 0.0, 0.0),
        ("pending", {}, None, 0.0, 0.0),
        ("terminated", {}, 1.212, None, None),
        ("stopped", {"transition": "Server.SpotInstanceStopped"}, 1.212, None, None),
        ("terminated", {"launched": 1_768_478_400.0,
                        "transition": "User initiated (2026-01-15 13:00:00 GMT)"},
         1.212, 1.0, 1.212),
    ],
)  # fmt: skip
def test_cost_is_told_or_unknown(
    state: str,
    more: dict[str, Any],
    price: float | None,
    hours: float | None,
    dollars: float | None,
) -> None:
    """A guess would be taken for a bill."""
    spent = cost_of(machine(state, **more), price, NOW)
    assert spent.hours == (None if hours is None else pytest.approx(hours))
    assert spent.dollars == (None if dollars is None else pytest.approx(dollars))


@pytest.mark.parametrize(
    ("began", "noted", "at_least"),
    [
        (NOW - 7203, None, False),
        (NOW - 7203, NOW - 7205, False),
        (NOW - 7203, NOW - 9000, True),
        (NOW - 90_000, None, True),
        (0.0, None, True),
    ],
)
def test_earlier_starts_are_told(began: float, noted: float | None, at_least: bool) -> None:
    """The hours before a restart would be missing, and nobody would know."""
    assert cost_of(machine("running", began=began), 1.0, NOW, noted).at_least is at_least


@pytest.mark.parametrize(
    ("told", "price"),
    [("1.5", 1.5), ("0", 0.0), ("cheap", None), ("nan", None), ("-1", None), ("inf", None)],
)
def test_a_price_is_a_number_or_unknown(told: str, price: float | None) -> None:
    """A tag that somebody wrote by hand would end in a bill that is nonsense."""
    assert price_in({names.PRICE: told}) == price
    assert price_in({}) is None
