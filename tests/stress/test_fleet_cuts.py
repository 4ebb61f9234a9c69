"""Connections to PostgreSQL that are cut at any byte, reset and frozen: what becomes of a task."""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cutting_proxy import Cut, CuttingProxy, How, Lost
from kill_fleet import COMMAND, PATIENCE, KillFleet, waits_for

from runner.fleet.connection import DatabaseAwayError
from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.records import FleetTask, JobOptions, Metrics, TaskItem, TaskState
from runner.fleet.sources import DatabaseSource

LEASE = 60.0


@pytest.fixture
def proxy(postgres: Any) -> Iterator[CuttingProxy]:
    made = CuttingProxy(postgres.port)
    yield made
    made.close()


@dataclass
class Pair:
    """The same database, directly and by way of the proxy."""

    proxy: CuttingProxy
    direct: FleetDatabase
    cut: FleetDatabase
    job: int
    worker: int

    def patiently(self, call: Callable[[], Any]) -> Any:
        """As a worker calls: again after each time that the database was away."""
        for _ in range(9):
            try:
                return call()
            except DatabaseAwayError:
                continue
        raise AssertionError("the database stays away")

    def take(self) -> FleetTask:
        task = self.direct.tasks.claim_next(self.job, self.worker, uuid.uuid4().hex, LEASE)
        assert task is not None
        return task

    def found(self, task: FleetTask) -> FleetTask:
        found = self.direct.tasks.find(task.id)
        assert found is not None
        return found


@pytest.fixture
def pair(postgres: Any, proxy: CuttingProxy) -> Iterator[Pair]:
    address = postgres.database()
    direct, cut = open_database(address), open_database(proxy.url(address))
    direct.migrate()
    job = direct.create_job("j", "{}", JobOptions(command="true")).id
    direct.tasks.enqueue(job, [TaskItem.volume("W", f"I{n}") for n in range(3)])
    made = Pair(proxy, direct, cut, job, direct.register(job, "w"))
    cut.now()  # the connection is there, and its next statement is the one that is lost
    yield made
    direct.close()
    cut.close()


def claims(pair: Pair) -> None:
    source = DatabaseSource(pair.cut, pair.job, pair.worker, LEASE)
    taken = pair.patiently(lambda: source.take(5.0, threading.Event()))
    assert taken is not None
    backlog = pair.direct.views.backlog(pair.job)
    assert (backlog.running, backlog.due) == (1, 2), "one claim, one task"
    assert (taken.task.epoch, pair.found(taken.task).state) == (1, TaskState.RUNNING)


def claims_within_a_limit(pair: Pair) -> None:
    pair.direct.update_job(pair.job, max_running=1)
    claims(pair)


def enqueues(pair: Pair) -> None:
    items = [TaskItem.volume("W", f"J{n}") for n in range(5)]
    pair.patiently(lambda: pair.cut.tasks.enqueue(pair.job, items))
    assert pair.direct.views.backlog(pair.job).due == 8


def extends(pair: Pair) -> None:
    task = pair.take()
    assert pair.patiently(lambda: pair.cut.tasks.extend(task, 9 * LEASE))
    assert (pair.found(task).lease_until or 0) > pair.direct.now() + 8 * LEASE


def finishes(pair: Pair) -> None:
    task = pair.take()
    assert pair.patiently(lambda: pair.cut.tasks.finish(task, Metrics(5, 1, 7.0)))
    done = next(t for t in pair.direct.views.totals(pair.job) if t.state is TaskState.DONE)
    assert (done.count, done.total_images, done.nb_errors) == (1, 5, 1)


def fails_for_now(pair: Pair) -> None:
    task = pair.take()
    assert pair.patiently(lambda: pair.cut.tasks.retry_later(task, "no", 0.0, Metrics()))
    found = pair.found(task)
    assert (found.state, found.attempts) == (TaskState.RETRYABLE_FAILED, 1), "counted once"


def fails_for_good(pair: Pair) -> None:
    task = pair.take()
    assert pair.patiently(lambda: pair.cut.tasks.fail(task, "no", Metrics()))
    found = pair.found(task)
    assert (found.state, found.attempts, found.dead_epoch) == (TaskState.TERMINAL_FAILED, 1, 1)


def gives_back(pair: Pair) -> None:
    task = pair.take()
    assert pair.patiently(lambda: pair.cut.tasks.give_back(task, "spot", resume=True))
    found = pair.found(task)
    assert (found.state, found.attempts, pair.take().run) == (TaskState.PENDING, 0, task.run)


def reaps(pair: Pair) -> None:
    lost = pair.direct.tasks.claim_next(pair.job, pair.worker, "c", -1.0)
    assert lost is not None
    pair.patiently(lambda: pair.cut.tasks.reap(pair.job))
    assert (pair.found(lost).state, pair.found(lost).lost) == (TaskState.PENDING, 1), "lost once"


OPERATIONS: list[tuple[Callable[[Pair], None], tuple[str, ...]]] = [
    (claims, ("WITH due AS",)),
    (claims_within_a_limit, ("FOR NO KEY UPDATE", "COMMIT")),
    (enqueues, ("COPY incoming", "INSERT INTO task_executions", "COMMIT")),
    (extends, ("SET lease_until",)),
    (finishes, ("UPDATE task_executions",)),
    (fails_for_now, ("UPDATE task_executions",)),
    (fails_for_good, ("UPDATE task_executions",)),
    (gives_back, ("UPDATE task_executions",)),
    (reaps, ("UPDATE task_executions", "COMMIT")),
]
CASES = [
    pytest.param(do, statement, lost, id=f"{do.__name__}-{statement.split()[0]}-{lost.name}")
    for do, statements in OPERATIONS
    for statement in statements
    for lost in (Lost.REQUEST, Lost.ANSWER, Lost.HALF_ANSWER)
]


@pytest.mark.parametrize(("do", "statement", "lost"), CASES)
def test_a_call_that_was_cut_is_made_again(
    pair: Pair, do: Callable[[Pair], None], statement: str, lost: Lost
) -> None:
    """A COMMIT whose answer is lost would count a failure twice, or leave a task to nobody."""
    pair.proxy.arm(statement, lost)
    do(pair)
    assert pair.proxy.armed == 0, "the statement is none of this call's"


@pytest.fixture
def chaotic(postgres: Any, proxy: CuttingProxy, tmp_path: Path) -> Iterator[KillFleet]:
    """Its workers reach the database by way of the proxy, its test directly."""
    address = postgres.database()
    database = open_database(address)
    database.migrate()
    env = {**os.environ, "SCRATCH": str(tmp_path)}
    made = KillFleet(proxy.url(address), tmp_path, database, env, None)
    yield made
    made.close()


def test_cuts_at_any_byte(
    chaotic: KillFleet, proxy: CuttingProxy, seed: int, scaled: Callable[[int], int]
) -> None:
    """What no list of statements holds would lose a task, or do it twice in effect."""
    dice, wanted = random.Random(seed), scaled(160)

    def plan(number: int) -> Cut | None:
        if number > wanted:
            return None
        how = dice.choice([How.CLOSED, How.RESET, How.RESET, How.FROZEN])
        if how is How.FROZEN and dice.random() < 0.7:
            how = How.RESET  # each costs the time until it is found out
        # What a connection begins with is some 300 bytes up, and 400 down.
        after = dice.choice([dice.randrange(1, 900), dice.randrange(400, 4000)])
        return Cut(after, dice.random() < 0.5, how)

    proxy.plan = plan
    items = [f"n{number}" for number in range(max(6, wanted // 6))]
    chaotic.begin(*items, "terminal", "once", command=f'echo "$I_ID" >> "$SCRATCH/ran"\n{COMMAND}')
    workers: dict[str, Any] = {}
    until = time.monotonic() + PATIENCE + 3 * wanted
    while set(chaotic.states().values()) - {TaskState.DONE, TaskState.TERMINAL_FAILED}:
        assert time.monotonic() < until, chaotic.states()
        for name in ("m1", "m2"):
            # A connection that is cut at its start ends its worker; its unit begins it again.
            if name not in workers or workers[name].poll() is not None:
                if name in workers:
                    told = workers[name].communicate()[0]
                    assert "Traceback" not in told, told
                workers[name] = chaotic.worker(machine=name, concurrency=2)
        time.sleep(0.2)  # reason: the workers tell nobody
    for each in workers.values():
        told = each.communicate(timeout=PATIENCE)[0]
        assert "Traceback" not in told, told
    proxy.plan = lambda number: None
    chaotic.works_to_the_end()
    chaotic.check()
    totals = {each.state.value: each.count for each in chaotic.database.views.totals(1)}
    assert totals == {"done": len(items) + 1, "terminal_failed": 1}
    print(f"seed {seed}: {proxy.cuts} cuts of {proxy.connections} connections")
    assert proxy.cuts >= min(10, wanted // 4)


def test_a_database_that_says_nothing_holds_no_tree_beyond_its_lease(
    chaotic: KillFleet, proxy: CuttingProxy
) -> None:
    """A load balancer that swallows all would keep a worker waiting for an answer, and its task's
    processes alive beside those of the task's next holder."""
    (chaotic.folder / "hold").touch()
    chaotic.begin("slow")
    frozen = chaotic.worker(machine="m1", lease="4")
    pids = chaotic.folder / "slow"
    waits_for(lambda: pids.exists() and pids.read_text().strip())
    first = int(pids.read_text())
    proxy.freeze()
    waits_for(lambda: not Path(f"/proc/{first}").exists())
    task = chaotic.database.tasks.named(1, "W/slow")
    assert task is not None and (task.lease_until or 0) > chaotic.database.now() - 0.5
    waits_for(lambda: chaotic.database.tasks.reap(1))
    direct = chaotic.address.replace(f":{proxy.own_port}/", f":{proxy.port}/")
    other = replace(chaotic, address=direct).worker(machine="m2")
    waits_for(lambda: len(pids.read_text().split()) == 2)
    proxy.freeze(False)
    (chaotic.folder / "hold").unlink()
    told = frozen.communicate(timeout=PATIENCE)[0]
    assert frozen.returncode == 0 and "Lost message" in told, told
    other.communicate(timeout=PATIENCE)
    assert len(pids.read_text().split()) == 2, "once by each"
    chaotic.check()


def test_a_worker_goes_on_after_an_answer_that_never_comes(
    chaotic: KillFleet, proxy: CuttingProxy
) -> None:
    """One connection that hangs would keep its worker, and its machine, for ever."""
    proxy.arm("WITH due AS", Lost.FROZEN)
    proxy.arm("SET state", Lost.FROZEN)
    chaotic.begin("good", "n1")
    told = chaotic.works_to_the_end()
    assert proxy.armed == 0 and "The database is away" in told, told
    chaotic.check()
