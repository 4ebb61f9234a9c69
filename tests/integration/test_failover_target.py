"""A target of several places, with places that do what the test says: who gets a job, and when."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from runner.api import failover_dispatch, failover_places
from runner.api.capabilities import Capabilities, parse_capabilities
from runner.api.failover_places import FailoverPlace
from runner.api.failover_target import FailoverTarget
from runner.api.job_errors import TargetAwayError
from runner.api.job_target import CommandOutput, JobEnd, JobListener
from runner.api.task_spool import SpoolState
from runner.api.tasks import CommandTask, FunctionTask, PayloadReference, Task
from runner.aws.errors import AwsError, ErrorKind
from runner.errors import LockedError, NotFoundError, UsageError
from runner.results.store import StoreError

PATIENCE = 20


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to it in time"
        time.sleep(0.002)


class StubPlace:
    """Takes jobs, and tells of them what the test has it tell. What it holds outlives a session:
    ``jobs`` by the id they have here, with their state."""

    def __init__(self, name: str, region: str | None = None) -> None:
        self.name = name
        self.region = region
        self.gone: str | None = None
        self.refuses: str | None = None
        self.jobs: dict[str, str] = {}
        self.tasks: dict[str, Task] = {}
        self.bodies: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.open_error: Exception | None = None
        self.add_errors: list[Exception] = []
        self.unsure = False
        """Whether it can't say of what waits that it hasn't begun."""
        self.listener: JobListener

    def place(self, *, reserve: bool = False) -> FailoverPlace:
        def open_(listener: JobListener) -> Any:
            if self.open_error is not None:
                raise self.open_error
            self.listener = listener
            return self

        return FailoverPlace(self.name, self.region, open_, reserve)

    def refusal(self, capabilities: Capabilities, *, function: bool) -> str | None:
        if capabilities.region not in (None, self.region):
            return f'"region": {self.name} is not in {capabilities.region}'
        return self.refuses

    def away(self, capabilities: Capabilities, *, function: bool) -> str | None:
        return self.gone

    def first_number(self) -> int:
        return 3

    def store_call(self, job_id: str, body: bytes, path: Sequence[str]) -> PayloadReference:
        self.bodies[job_id] = body
        return PayloadReference(f"{self.name}/{job_id}", "0", len(body))

    def add(self, task: Task) -> None:
        if self.add_errors:
            raise self.add_errors.pop(0)
        assert task.id not in self.jobs, "the same id twice"
        self.jobs[task.id] = "pending"
        self.tasks[task.id] = task

    def cancel(self, job_id: str) -> bool:
        if self.unsure or self.jobs.get(job_id) not in ("pending", "cancelled"):
            return False
        if self.jobs[job_id] == "pending":
            self.jobs[job_id] = "cancelled"
            self.listener.ended(JobEnd(job_id, "cancelled"))
        return True

    def follow(self, job_id: str) -> None:
        if job_id not in self.jobs:
            raise NotFoundError("no such job")
        self.calls.append(f"follow {job_id}")
        if self.jobs[job_id] == "cancelled":
            self.listener.ended(JobEnd(job_id, "cancelled"))

    def start(self, job_id: str) -> None:
        self.jobs[job_id] = "running"
        self.listener.started(job_id)

    def end(self, job_id: str) -> None:
        self.jobs[job_id] = "completed"
        self.listener.ended(JobEnd(job_id, "completed", 1, 0))

    def run_all(self) -> None:
        for job_id, state in list(self.jobs.items()):
            if state == "pending":
                self.start(job_id)
                self.end(job_id)

    def status(self, job_id: str) -> str:
        return self.jobs.get(job_id, "pending")

    def region_of(self, job_id: str) -> str | None:
        return self.region

    def logs(self, job_id: str, stream: str) -> str:
        return f"{self.name}: {job_id}"

    def output(self, end: JobEnd) -> CommandOutput:
        return CommandOutput(f"{self.name}: {end.job_id}", "", truncated=False)

    def cancel_waiting(self) -> None:
        for job_id in list(self.jobs):
            self.cancel(job_id)

    def join(self, timeout: float | None = None) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.calls.append(name)


class Told:
    """What the Executor's session would hear."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ends: dict[str, str] = {}
        self.errors: dict[str, Exception] = {}
        self.broken: BaseException | None = None

    def started(self, job_id: str) -> None:
        self.begun.append(job_id)

    def ended(self, end: JobEnd) -> None:
        assert end.job_id not in self.ends, "an end was told twice"
        self.ends[end.job_id] = end.status

    def refused(self, job_id: str, error: Exception) -> None:
        self.errors[job_id] = error

    def failed(self, error: BaseException) -> None:
        self.broken = error


class World:
    """Two regions and this machine, and the FailoverTargets over them."""

    def __init__(self, folder: Path) -> None:
        self.us, self.eu = StubPlace("us-east-1", "us-east-1"), StubPlace("eu-west-1", "eu-west-1")
        self.local = StubPlace("local")
        self.folder = folder
        self.told = Told()
        self.open: list[FailoverTarget] = []
        self.numbers = itertools.count(1)

    def target(self, *fallback: str, regions: int = 1) -> FailoverTarget:
        self.told = Told()
        places = [each.place() for each in (self.us, self.eu)[:regions]]
        if "eu-west-1" in fallback:
            places.append(self.eu.place(reserve=True))
        if "local" in fallback:
            places.append(self.local.place(reserve=True))
        made = FailoverTarget("batch", places, fallback, self.folder, self.told, durable=False)
        self.open.append(made)
        return made

    def close(self, target: FailoverTarget) -> None:
        target.detach()
        assert target.join(PATIENCE) and self.told.broken is None
        self.open.remove(target)

    def command(self, target: FailoverTarget, **wanted: Any) -> str:
        task = CommandTask(
            f"true-{next(self.numbers)}",
            "test",
            script="true",
            capabilities=parse_capabilities(wanted),
        )
        target.add(task)
        return task.id


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(failover_dispatch, "POLL", 0.01)
    monkeypatch.setattr(failover_places, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(failover_places, "TRIAL", 0.05)
    made = World(tmp_path / "spool")
    yield made
    for target in list(made.open):
        made.close(target)


def test_jobs_go_to_the_least_loaded_region_or_to_the_one_that_is_named(world: World) -> None:
    """One region would do all the work, or the wrong one."""
    target = world.target(regions=2)
    ids = [world.command(target) for _ in range(4)]
    named = [world.command(target, region="eu-west-1") for _ in range(2)]
    assert (len(world.us.jobs), len(world.eu.jobs)) == (2, 4) and {*named} <= {*world.eu.jobs}
    assert target.region_of(named[0]) == "eu-west-1" and target.region == "us-east-1"
    assert target.first_number() == 7
    world.eu.run_all()
    assert world.told.begun and world.told.ends.keys() == {*world.eu.jobs}
    assert [each.load for each in target._board.places] == [2, 0]
    world.us.gone = "no answer"
    assert world.command(target) in world.eu.jobs
    with pytest.raises(TargetAwayError, match="us-east-1: no answer"):
        world.command(target, region="us-east-1")
    assert "not in ap-south-1" in str(
        target.refusal(Capabilities(region="ap-south-1"), function=True)
    )
    assert len(ids) == 4


@pytest.mark.parametrize("fallback", ["eu-west-1", "local"])
def test_another_place_stands_in(world: World, fallback: str) -> None:
    """Nothing would run while a region is away; or what waits there, never."""
    target = world.target(fallback)
    other = world.eu if fallback == "eu-west-1" else world.local
    running, waiting, early = (world.command(target) for _ in range(3))
    world.us.start(running)
    assert other.jobs == {}
    world.us.gone = "no answer"
    until(lambda: len(other.jobs) == 2)  # taken back from there
    late = world.command(target)
    assert {*other.jobs} == {f"{waiting}.1", f"{early}.1", late}
    assert target.cancel(early) and world.told.ends == {early: "cancelled"}
    other.run_all()
    assert world.told.ends == {early: "cancelled", waiting: "completed", late: "completed"}
    end = JobEnd(waiting, "completed", 1, 0)
    assert target.output(end).stdout == f"{other.name}: {waiting}.1"
    assert target.logs(waiting, "stdout") == f"{other.name}: {waiting}.1"
    target.forget(end)
    assert target.logs(waiting, "stdout") == f"{other.name}: {waiting}.1"  # from the spool
    assert world.us.jobs[running] == "running"  # it stays where it runs
    world.us.end(running)
    assert world.told.ends[running] == "completed" and other.calls == ["forget"]


def test_what_may_have_been_submitted_stays(world: World) -> None:
    """The work would be done twice: in the region that seemed away, and in the other one."""
    target = world.target("local")
    job_id = world.command(target)
    world.us.unsure, world.us.gone = True, "no answer"
    marker = world.command(target)
    until(lambda: marker in world.local.jobs)
    time.sleep(0.1)  # reason: some rounds in which it could be moved
    assert list(world.local.jobs) == [marker] and target.status(job_id) == "pending"
    world.us.run_all()
    assert world.told.ends[job_id] == "completed"


def test_a_spool_sends_in_order_and_tries_one_job_first(world: World) -> None:
    """Jobs would be lost while a region is away, or all be thrown at one that isn't back."""
    target = world.target("spool")
    world.us.gone = "no answer"
    ids = [world.command(target) for _ in range(50)]
    assert target.status(ids[0]) == "pending" and target.region_of(ids[0]) is None
    with pytest.raises(NotFoundError):
        target.logs(ids[0], "stdout")
    assert target.cancel(ids[7]) and world.told.ends == {ids[7]: "cancelled"}
    target.terminate(ids[8])
    world.us.gone = None
    until(lambda: world.us.jobs)
    assert list(world.us.jobs) == [ids[0]]
    world.us.gone = "no answer again"
    time.sleep(0.1)  # reason: some rounds in which more could be sent
    assert list(world.us.jobs) == [ids[0]]
    world.us.gone = None
    until(lambda: len(world.us.jobs) == 48)
    assert list(world.us.jobs) == [*ids[:7], *ids[9:]]


def test_a_trial_that_is_over_before_the_next_look_holds_up_no_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All jobs but the first would stay in the spool for good, though the region is back."""
    monkeypatch.setattr(failover_dispatch, "POLL", 0.1)
    monkeypatch.setattr(failover_places, "TRIAL", 0.08)
    target = world.target("spool")
    world.us.gone = "no answer"
    ids = [world.command(target) for _ in range(20)]
    world.us.gone = None
    until(lambda: list(world.us.jobs) == ids)


def test_functions_are_kept_with_their_payloads(world: World) -> None:
    """A call would come back from the spool without its arguments."""
    target = world.target("spool")
    world.us.gone = "no answer"
    reference = target.store_call("f-1", b"the call", ["/lib"])
    target.add(FunctionTask("f-1", "test", "f", reference))
    world.us.gone = None
    until(lambda: world.us.jobs)
    task = world.us.tasks["f-1"]
    assert isinstance(task, FunctionTask) and task.payload.where == "us-east-1/f-1"
    assert world.us.bodies == {"f-1": b"the call"}
    assert (world.folder / "f-1.call").exists()
    world.us.start("f-1")
    until(lambda: not (world.folder / "f-1.call").exists())


def test_another_session_finds_every_job_where_it_is(world: World) -> None:
    """After a crash a job would be sent to a second place, or to none."""
    first = world.target("spool", regions=2)
    known = world.command(first, region="us-east-1")
    lost = world.command(first, region="us-east-1")
    begun = world.command(first, region="eu-west-1")
    world.eu.start(begun)
    world.us.gone = world.eu.gone = "no answer"
    kept = world.command(first)
    until(lambda: first._spool.find(begun).task is None)  # type: ignore[union-attr]
    world.close(first)
    del world.us.jobs[lost]  # as if the crash had come before it was there
    world.us.gone = world.eu.gone = None
    second = world.target("spool", regions=2)
    until(lambda: lost in world.us.jobs or lost in world.eu.jobs)
    until(lambda: kept in world.us.jobs or kept in world.eu.jobs)
    assert f"follow {known}" in world.us.calls and second.first_number() == 5
    for job_id in (known, kept, begun):
        second.follow(job_id)
    with pytest.raises(NotFoundError):
        second.follow("true-99")
    world.us.run_all()
    world.eu.run_all()
    world.eu.end(begun)
    assert world.told.ends.keys() >= {known, kept, begun}
    with pytest.raises(LockedError, match="an Executor"):
        world.target("spool")


def test_a_crash_while_a_job_is_taken_back(world: World) -> None:
    """It would be cancelled where it was, and be sent nowhere; or be at two places."""
    first = world.target("local")
    back, stays = world.command(first), world.command(first)
    for job_id in (back, stays):
        first._spool.mark(job_id, SpoolState.RECALLED, "us-east-1", 0)
    world.us.jobs[back] = "cancelled"
    world.close(first)
    world.us.gone = "no answer"
    world.us.unsure = True
    world.target("local")
    until(lambda: world.local.jobs)
    assert list(world.local.jobs) == [f"{back}.1"]
    assert world.us.jobs == {back: "cancelled", stays: "pending"}


def test_a_region_that_is_away_at_the_start_is_opened_later(world: World) -> None:
    """A program could not be started while a region is away, though it may spool."""
    passing = AwsError(ErrorKind.PASSING, "EndpointConnectionError", "could not connect")
    world.us.open_error = passing
    with pytest.raises(AwsError, match="could not connect"):
        world.target()
    target = world.target("spool")
    job_id = world.command(target)
    assert target.status(job_id) == "pending"
    world.us.open_error = None
    until(lambda: job_id in world.us.jobs)
    world.close(target)
    world.us.open_error = passing
    again = world.target("spool")
    again.follow(job_id)
    world.us.open_error = None
    until(lambda: world.us.calls.count(f"follow {job_id}") == 1)
    world.us.run_all()
    until(lambda: world.told.ends == {job_id: "completed"})
    world.close(again)
    world.us.open_error = UsageError("there is no job queue q")
    with pytest.raises(UsageError, match="no job queue"):
        world.target("spool")


def test_a_place_that_fails_to_take_a_job(world: World) -> None:
    """A job would be lost with the first error of a network; or be tried for ever."""
    target = world.target()
    world.us.add_errors = [StoreError("no network")]
    job_id = world.command(target)
    until(lambda: job_id in world.us.jobs)
    world.us.add_errors = [ValueError("never")]
    wrong = world.command(target)
    until(lambda: wrong in world.told.errors)
    assert str(world.told.errors[wrong]) == "never" and not target.cancel(wrong)
    world.us.listener.refused(job_id, ValueError("nor this"))
    assert str(world.told.errors[job_id]) == "nor this"


def test_the_end_waits_for_what_is_kept(world: World) -> None:
    """`shutdown` would leave jobs behind that were never sent, or never return."""
    target = world.target("spool")
    world.us.gone = "no answer"
    kept, cancelled = world.command(target), world.command(target)
    target.close()
    assert not target.join(0.05) and world.us.calls == []
    assert target.cancel(cancelled)
    world.us.gone = None
    until(lambda: kept in world.us.jobs)
    world.us.run_all()
    assert target.join(PATIENCE) and world.us.calls == ["close"]
    assert target.logs(kept, "stdout") == f"us-east-1: {kept}"  # the spool is closed
    world.open.remove(target)


def test_all_that_waits_is_cancelled(world: World) -> None:
    """`shutdown(cancel_futures=True)` would leave jobs in the spool."""
    target = world.target("spool")
    there = world.command(target)
    world.us.gone = "no answer"
    kept = world.command(target)
    target.cancel_waiting()
    until(lambda: world.told.ends == {there: "cancelled", kept: "cancelled"})
    target.close()
    assert target.join(PATIENCE)
    world.open.remove(target)


def test_many_threads_cancel_while_jobs_move(world: World) -> None:
    """A job that was cancelled would run, or one that runs be told as cancelled."""
    target = world.target("local", "spool")
    ids = [world.command(target) for _ in range(200)]
    results: dict[str, bool] = {}

    def cancel() -> None:
        for job_id in ids[::2]:
            results[job_id] = target.cancel(job_id)

    threads = [threading.Thread(target=cancel) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        world.us.gone = None if world.us.gone else "no answer"
        time.sleep(0.005)
    world.us.gone = "no answer"
    for thread in threads:
        thread.join()

    def all_ended() -> bool:
        world.local.run_all()
        return len(world.told.ends) == 200

    until(all_ended)
    assert {*world.us.jobs.values()} == {"cancelled"}
    assert all(world.told.ends[each] == "cancelled" for each in ids[::2])
    assert all(world.told.ends[each] == "completed" for each in ids[1::2])
