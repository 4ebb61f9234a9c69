"""Prices as AWS tells them, a queue's state by its first bytes, and what is said of both."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from runner.model.document import JobSpec, QueueSpec
from runner.targets.ec2.account.prices import hourly, spot
from runner.targets.ec2.launch.estimate import price_words
from runner.targets.ec2.launch.plan import Facts, Image, InstanceCandidate, Subnet
from runner.targets.ec2.observe.queue_standing import QueueStanding, standing_of

QUEUE = QueueSpec("q", "q", (JobSpec("a", "true", 60.0),), 8 * 3600.0, "stop")
FACTS = Facts("us-east-1", {}, {}, [], {}, "p", unpriced={("m.a", "on-demand"): "denied"})


def product(price: str, unit: str = "Hrs") -> str:
    dimension = {"unit": unit, "pricePerUnit": {"USD": price}}
    return json.dumps({"terms": {"OnDemand": {"x.y": {"priceDimensions": {"x.y.z": dimension}}}}})


def test_an_answer_with_one_price_is_a_price() -> None:
    """What is free, by another unit or no price at all would stand for the machine's."""
    assert hourly([product("0.0416000000"), product("0.0416000000")]) == {0.0416}
    assert (
        hourly([product("0.0000000000"), product("9", "Quantity"), "no JSON", "{}", "[]"]) == set()
    )
    assert hourly([product("1.0"), product("2.0")]) == {1.0, 2.0}


@pytest.mark.parametrize(
    "text",
    ["[" * 50_000, product("inf"), product("nan"), product("-1"), product("1e9"), product("free"),
     '{"terms": {"OnDemand": [1]}}', '{"terms": {"OnDemand": {"x": {"priceDimensions": 1}}}}'],
    ids=range(8),
)  # fmt: skip
def test_what_is_no_price_is_not_known(text: str) -> None:
    """`$inf` would be told, or an internal error instead of the launch."""
    assert hourly([text]) == set()
    assert hourly([text, product("0.5")]) == {0.5}


class OddEc2:
    """A spot history that holds what no price can be."""

    def pages(self, *_: object, **__: object) -> list[dict[str, Any]]:
        told = (("us-east-1a", "0.5"), ("us-east-1b", "cheap"), ("us-east-1c", "inf"))
        since = datetime(2026, 1, 1, tzinfo=UTC)
        return [
            {"InstanceType": "m.a", "AvailabilityZone": zone, "SpotPrice": price,
             "Timestamp": since}
            for zone, price in told
        ]  # fmt: skip


def test_an_odd_spot_price_is_not_known() -> None:
    """One of them would be an internal error, or `$inf`."""
    assert spot(OddEc2(), ["m.a"])[0] == {("m.a", "us-east-1a"): 0.5}  # type: ignore[arg-type]


def candidate(market: str, price: float | None) -> InstanceCandidate:
    image = Image("ami-1", "n", "x86_64", "/dev/xvda", 8, "p")
    return InstanceCandidate("m.a", market, Subnet("s", "us-east-1b", "v"), image, price)


def test_a_price_is_told_with_what_the_queue_may_take() -> None:
    """An hour's price says little of a night's."""
    told = price_words(FACTS, candidate("on-demand", 1.212), QUEUE)
    assert told == "$1.21 an hour, $9.70 for 8h0m0s (global_timeout); disk and traffic apart"
    told = price_words(FACTS, candidate("spot", 0.0125), QUEUE)
    assert told.startswith("$0.0125 an hour in us-east-1b now, $0.10 for")


def test_no_price_is_no_guess() -> None:
    """Somebody would rely on it."""
    assert price_words(FACTS, candidate("on-demand", None), QUEUE) == "not known: denied"


def state(jobs: int) -> bytes:
    head = {"schema_version": 1, "queue_id": "q", "status": "running", "updated_at": "now"}
    some = ",\n".join(f'{{"job_id":"j{n}","status":"completed"}}' for n in range(jobs))
    return (json.dumps(head, separators=(",", ":"))[:-1] + f',"jobs":[\n{some}\n]}}\n').encode()


def test_a_states_head_says_how_the_queue_stands() -> None:
    """Whoever waits for a large queue would fetch megabytes every few seconds, or see nothing."""
    whole = state(3)
    assert standing_of(whole) == QueueStanding("running", "", "now", {"completed": 3})
    assert standing_of(whole[:120]) == QueueStanding("running", "", "now", {})
    incomplete = b'{"status":"completed","results_incomplete":true,"jobs":[\n{"job'
    assert standing_of(incomplete) == QueueStanding("completed", incomplete=True), "105, not 0"
    assert standing_of(b"<html>") is None
    assert standing_of(b'{"status": 7, "jobs": []}') is None
