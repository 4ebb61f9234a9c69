"""What an answer out of S3 says about its age, its machine, and what works on the queue."""

from __future__ import annotations

import time
from typing import Any

import pytest

from runner.aws.ec2 import Machine
from runner.aws.errors import AwsError, ErrorKind
from runner.targets.ec2 import names
from runner.targets.ec2.observe.answer_origin import instance_view, origin_of
from runner.targets.ec2.observe.machine_lookup import ResolvedTarget, Target
from runner.targets.ec2.observe.reachability import Reachability
from runner.targets.stored_status import Seen

NOW = 1_800_000_000.0
NAME = "i-0123456789abcdef0"


def found(state: str | None, trouble: AwsError | None = None, **more: Any) -> ResolvedTarget:
    machine = None
    if state is not None:
        given: dict[str, Any] = {"launched": NOW - 7200, "tags": {names.PRICE: "2"}, **more}
        machine = Machine(NAME, state, "g5.2xlarge", "us-east-1", **given)
    return ResolvedTarget(Target("q"), "us-east-1", machine, NAME, "q", trouble=trouble)


def seen(status: str = "running") -> Seen:
    return Seen({"queue_id": "q", "status": status, "jobs": []}, 12.0, time.monotonic())


DENIED = AwsError(ErrorKind.DENIED, "UnauthorizedOperation", "denied")


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (None, {"worker": "its machine (EC2 is being asked)"}),
        (found(None, DENIED), {"worker": "its machine, for all that is known"}),
        (found(None), {}),
        (found("running"), {"worker": f"{NAME}, as far as S3 and EC2 know"}),
        (found("pending"), {"worker": f"{NAME}, as far as S3 and EC2 know"}),
        (found("stopped"), {}),
        (found("stopped", spot=True), {"queued": f"EC2, for {NAME}"}),
        (found("terminated", spot=True), {}),
    ],
)
def test_what_works_on_a_queue_is_told_as_far_as_ec2_knows(
    there: ResolvedTarget | None, told: dict[str, str]
) -> None:
    """`wait` would give up on a queue that goes on, or wait for a machine that is gone."""
    answer = origin_of(seen(), there, None, NOW)
    assert {name: answer[name] for name in ("worker", "queued") if name in answer} == told


def test_nothing_works_on_a_queue_that_has_ended() -> None:
    """`wait` would wait on beside a machine that is kept."""
    assert set(origin_of(seen("failed"), found("running"), None, NOW)) == {"source", "instance"}


def test_the_source_has_its_age_and_what_to_do() -> None:
    """An old state would be read as the present one."""
    source = origin_of(seen(), None, Reachability("SSM is down", ("ask again",)), NOW)["source"]
    assert source["from"] == "s3" and 12 <= source["age_seconds"] < 20
    assert (source["why"], source["next"]) == ("SSM is down", ["ask again"])
    assert "why" not in origin_of(seen(), None, None, NOW)["source"]


def test_an_instance_is_told_without_what_is_not_known() -> None:
    """A program would read a price of null as free."""
    view = instance_view(found("running"), NOW)
    assert (view["instance_id"], view["state"], view["price_per_hour"]) == (NAME, "running", 2.0)
    assert (view["hours"], view["cost"]) == (2.0, 4.0)
    assert instance_view(found(None), NOW) == {"instance_id": NAME, "region": "us-east-1"}
