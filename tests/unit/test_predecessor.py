"""The machine before: ended, or waited for, before another may have its queue."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from runner.aws.ec2 import Ec2, Machine
from runner.aws.errors import AwsError, ErrorKind
from runner.results.store import ResultStore, Versioned
from runner.targets.ec2 import names
from runner.targets.ec2.end.end_marker import Agreed
from runner.targets.ec2.end.termination import EndWait, NotEndedError
from runner.targets.ec2.launch.predecessor import see_ended
from runner.targets.ec2.observe.machines import look
from runner.targets.ec2.observe.queue_machines import Doubt, Holder, Known, Unsure


class Clock:
    """Time that passes when somebody sleeps; ``at`` is called then."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: dict[float, Any] = {}

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for due in [due for due in self.at if due <= self.now]:
            self.at.pop(due)()

    @property
    def waiting(self) -> EndWait:
        return EndWait(self.sleep, lambda: self.now)


class Store:
    """A result store with nothing but a lease."""

    def __init__(self, **told: Any) -> None:
        self.told: dict[str, Any] | None = told or None
        self.version = 0

    def renew(self, **more: Any) -> None:
        self.told = {**(self.told or {}), **more}
        self.version += 1

    def get_versioned(self, key: str) -> Versioned | None:
        if self.told is None:
            return None
        return Versioned(json.dumps(self.told).encode(), str(self.version))


LEASE = {"run_id": "r", "epoch": 1, "holder": "h", "instance_id": "i-1", "valid_for_seconds": 100}


class Fake:
    """A region of EC2 with one machine; ``silent``: it answers nothing."""

    def __init__(self, *, silent: bool = False, keeps: bool = False) -> None:
        self.region = "r"
        self.client = None
        self.silent = silent
        self.keeps = keeps
        self.state = "running"

    def machine(self, instance_id: str) -> Machine | None:
        self._answer()
        tags = {names.QUEUE: "q"}
        return Machine(instance_id, self.state, "t3.micro", "r", tags=tags)

    def machines(self, tags: object, states: object) -> list[Machine]:
        found = self.machine("i-1")
        return [found] if found is not None and not found.gone else []

    def spot_requests(self, **_: Any) -> list[Any]:
        return []

    def terminate(self, instance_id: str) -> None:
        if self.keeps:
            raise AwsError(ErrorKind.DENIED, "UnauthorizedOperation", "not you")
        self.state = "shutting-down"

    def _answer(self) -> None:
        if self.silent:
            raise AwsError(ErrorKind.PASSING, "ConnectTimeoutError", "no answer")


def seen(fake: Fake, store: Store, clock: Clock) -> list[str]:
    said: list[str] = []
    ec2 = cast(Ec2, fake)
    holders, doubts = [], []
    try:
        holders = [Holder(ec2, one, Known.TAG) for one in look(ec2, queue="q")]
    except AwsError as error:
        doubts = [Doubt(Unsure.SILENT, str(error))]
    agreed = {holder.owned.id: Agreed(whole=True) for holder in holders}
    see_ended(holders, agreed, doubts, cast(ResultStore, store), said.append, clock.waiting)
    return said


def test_a_machine_is_ended_and_its_last_words_are_waited_for() -> None:
    """Its successor would begin without what its jobs have saved."""
    clock, fake = Clock(), Fake()
    clock.at[60.0] = lambda: setattr(fake, "state", "terminated")
    said = seen(fake, Store(**LEASE), clock)
    assert clock.now == pytest.approx(60, abs=6)
    assert said == ["i-1: ended", "i-1 shuts down, and stores what its jobs have saved …"]


def test_one_that_never_is_terminated_is_not_waited_for_for_ever() -> None:
    """It can't come back, and holds nobody up."""
    clock = Clock()
    seen(Fake(), Store(**LEASE), clock)
    assert clock.now == pytest.approx(180, abs=6)


def test_one_that_can_not_be_ended_keeps_its_queue() -> None:
    """Two machines would work on one queue."""
    with pytest.raises(NotEndedError, match=r"i-1 could not be ended: not you\nnothing was launch"):
        seen(Fake(keeps=True), Store(), Clock())


def test_where_ec2_can_not_answer_the_lease_is_waited_for() -> None:
    """A machine that EC2 can't speak of may be working."""
    clock, store = Clock(), Store(**LEASE)
    clock.at[60.0] = store.renew
    said = seen(Fake(silent=True), store, clock)
    assert clock.now == pytest.approx(160, abs=6), "from its last sign of life"
    assert "i-1 holds the queue's lease: waiting 100 s for it to run out …" in said


def test_one_that_gives_its_lease_back_is_not_waited_for() -> None:
    """Two minutes of a large machine would be paid for nothing."""
    clock, store = Clock(), Store(**LEASE)
    clock.at[30.0] = lambda: store.renew(released=True)
    seen(Fake(silent=True), store, clock)
    assert clock.now == pytest.approx(30, abs=6)


def test_where_there_is_no_lease_one_that_is_about_to_come_is_waited_for() -> None:
    """A machine that just boots would be taken for none."""
    clock, store = Clock(), Store()
    clock.at[100.0] = lambda: store.renew(**LEASE)
    seen(Fake(silent=True), store, clock)
    assert clock.now == pytest.approx(200, abs=6)


def test_without_a_machine_nothing_is_waited_for() -> None:
    """A resume the day after would wait for nobody."""
    clock, fake = Clock(), Fake()
    fake.state = "terminated"
    assert seen(fake, Store(**LEASE), clock) == [] and clock.now == 0
