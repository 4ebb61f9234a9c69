"""The fleet's task table, on both databases: who has a task, and what becomes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from runner.errors import ConflictError, NotFoundError, RunnerError
from runner.fleet import task_views
from runner.fleet.connection import Row, migrations, schema_text
from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.lease_keeper import LeaseKeeper
from runner.fleet.records import (
    LOST_LIMIT,
    FleetTask,
    JobOptions,
    MachineRecord,
    Metrics,
    TaskItem,
    TaskState,
)

LEASE = 60.0
SMALL = ("CONSTANT", "due", "CTE", "(subquery")
"""What may be scanned: what a statement itself has made."""

OVER = -1.0
"""A lease that is over when it begins."""


@dataclass
class Fleet:
    database: FleetDatabase
    job: int
    worker: int

    def add(self, *keys: str) -> None:
        items = [TaskItem.volume("W1", key) for key in keys]
        self.database.tasks.enqueue(self.job, items)

    def take(self, lease: float = LEASE) -> FleetTask:
        task = self.database.tasks.claim_next(self.job, self.worker, "claim", lease)
        assert task is not None
        return task

    def state(self, task: FleetTask) -> TaskState:
        found = self.database.tasks.find(task.id)
        assert found is not None
        return found.state


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "fleet")
    url: str = request.getfixturevalue("postgres").database()
    return url


@pytest.fixture
def fleet(address: str) -> Iterator[Fleet]:
    database = open_database(address)
    database.migrate()
    job = database.create_job("ldv1", "{}", JobOptions(command="true")).id
    yield Fleet(database, job, database.register(job, "w"))
    database.close()


def test_migrations_are_made_once(address: str) -> None:
    """Each command would make the tables anew, or find another's half made."""
    database = open_database(address)
    several = [database.another() for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        done = list(threads.map(FleetDatabase.migrate, several))
    for each in several:
        each.close()
    dialect = "postgresql" if address.startswith("postgresql") else "sqlite"
    assert sorted(map(len, done)) == [0, 0, len(migrations(dialect))]
    assert database.migrate() == []
    database.check_schema()
    database.close()


def test_jobs_are_made_once_found_changed_and_deleted(fleet: Fleet) -> None:
    """Two people would each have half of the tasks."""
    database = fleet.database
    with pytest.raises(ConflictError, match="jobs update ldv1"):
        database.create_job("ldv1", "{}", JobOptions())
    options = JobOptions(command="false", terminal_codes=(3, 4), max_attempts=7)
    database.update_job(fleet.job, config='{"a": "ü"}', options=options)
    assert (database.job("ldv1").config, database.job("ldv1").options) == ('{"a": "ü"}', options)
    fleet.add("I1")
    assert database.delete_job(fleet.job) == 1
    with pytest.raises(NotFoundError, match="ldv1"):
        database.job("ldv1")


def test_an_item_is_a_task_once(fleet: Fleet) -> None:
    """A list that is enqueued again would be worked on twice."""
    items = [TaskItem.of({"set": "a b", "n": "1"}), TaskItem.volume("W1", "I1")]
    assert fleet.database.tasks.enqueue(fleet.job, [*items, items[0]]).new == 2
    again = fleet.database.tasks.enqueue(fleet.job, [*items, TaskItem.volume("W1", "I2")])
    assert (again.new, again.known) == (1, 2)
    task = fleet.take()
    assert (task.params, task.w_id) == ({"set": "a b", "n": "1"}, None)


def test_a_task_has_one_holder(fleet: Fleet) -> None:
    """Two workers would run it at once."""
    fleet.add("I1", "I2")
    first, second = fleet.take(), fleet.take()
    assert (first.key, second.key, first.epoch) == ("W1/I1", "W1/I2", 1)
    tasks = fleet.database.tasks
    assert tasks.claim_next(fleet.job, fleet.worker, "other", LEASE) is None
    assert tasks.claim(first.id, fleet.job, fleet.worker, "other", LEASE) is None
    assert tasks.held(fleet.worker, "claim") in (first, second)
    assert tasks.held(fleet.worker, "other") is None


def test_eight_workers_at_once_take_each_task_once(address: str, fleet: Fleet) -> None:
    """Claims that overlap would give one task to two."""
    fleet.add(*map(str, range(40)))

    def take(number: int) -> list[int]:
        database, found = open_database(address), []
        worker = database.register(fleet.job, str(number))
        while (t := database.tasks.claim_next(fleet.job, worker, "c", LEASE)) is not None:
            found.append(t.id)
        database.close()
        return found

    with ThreadPoolExecutor(8) as threads:
        taken = [task for some in threads.map(take, range(8)) for task in some]
    assert len(taken) == 40 and len(set(taken)) == 40


def test_a_lease_that_is_over_is_not_extended(fleet: Fleet) -> None:
    """A worker that was frozen would go on beside the one that has its task now."""
    fleet.add("I1")
    old = fleet.take(OVER)
    tasks = fleet.database.tasks
    assert not tasks.extend(old, LEASE)
    new = tasks.claim(old.id, fleet.job, fleet.worker, "other", LEASE)
    assert new is not None and (new.epoch, new.lost, new.run) == (2, 1, 2)
    assert not tasks.finish(old, Metrics()) and not tasks.fail(old, "x", Metrics())
    assert not tasks.give_back(old, "x", resume=True)
    assert tasks.extend(new, LEASE) and tasks.finish(new, Metrics())
    assert tasks.finish(new, Metrics()), "the answer may have been lost"
    assert fleet.state(new) is TaskState.DONE


def test_a_task_that_loses_five_workers_in_a_row_fails(fleet: Fleet) -> None:
    """A task that kills its machine would kill all of them."""
    fleet.add("I1")
    for count in range(1, LOST_LIMIT):
        fleet.take(OVER)
        (task,) = fleet.database.tasks.reap(fleet.job)
        assert (task.state, task.lost) == (TaskState.PENDING, count)
    last = fleet.take(OVER)
    assert fleet.database.tasks.claim(last.id, fleet.job, fleet.worker, "o", LEASE) is None
    (task,) = fleet.database.tasks.reap(fleet.job)
    assert (task.state, task.error) == (TaskState.TERMINAL_FAILED, "lost 5 workers")
    assert task.dead_epoch == task.epoch
    assert fleet.database.tasks.reap(fleet.job) == []


def test_interruptions_are_not_counted(fleet: Fleet) -> None:
    """A spot machine that goes away three times would make a task fail."""
    fleet.add("I1")
    for _ in range(2 * LOST_LIMIT):
        task = fleet.take()
        assert fleet.database.tasks.give_back(task, "spot", resume=True)
    task = fleet.take()
    assert (task.attempts, task.lost, task.run) == (0, 0, 1)
    assert fleet.database.tasks.give_back(task, "spot", resume=False)
    assert fleet.take().run == task.epoch + 1


def test_a_failure_waits_and_counts(fleet: Fleet) -> None:
    """It would be tried at once, for ever; or never again."""
    fleet.add("I1")
    tasks = fleet.database.tasks
    task = fleet.take()
    assert tasks.retry_later(task, "exit status 3", 3600, Metrics(7, 7, 5.0))
    assert tasks.claim_next(fleet.job, fleet.worker, "x", LEASE) is None
    assert tasks.claim(task.id, fleet.job, fleet.worker, "x", LEASE) is None
    backlog = fleet.database.views.backlog(fleet.job)
    assert (backlog.due, backlog.waiting, backlog.running) == (0, 1, 0)
    found = tasks.named(fleet.job, "W1/I1")
    assert found is not None and (found.attempts, found.error) == (1, "exit status 3")


def test_failed_tasks_are_redriven_and_cancelled_ones_enqueued_again(fleet: Fleet) -> None:
    """What was mended could not be run again."""
    fleet.add("I1", "I2")
    tasks = fleet.database.tasks
    for _ in range(2):
        assert tasks.fail(fleet.take(), "no", Metrics())
    assert [t.key for t in tasks.missing_dead_letters(fleet.job, 9)] == ["W1/I1", "W1/I2"]
    failed = tasks.named(fleet.job, "W1/I1")
    assert failed is not None and failed.dead_epoch is not None
    assert not tasks.revive(failed.id, failed.dead_epoch + 1), "told of another failure"
    assert tasks.revive(failed.id, failed.dead_epoch)
    assert not tasks.revive(failed.id, failed.dead_epoch), "a duplicate"
    assert len(tasks.redrive(fleet.job, 9)) == 1
    assert fleet.take().attempts == 0
    assert tasks.cancel(fleet.job) == 1
    assert tasks.enqueue(fleet.job, [TaskItem.volume("W1", "I2")]).new == 1


def test_failures_count_anew_when_a_job_is_resumed(fleet: Fleet) -> None:
    """The next failure of a job that was mended would pause it again."""
    fleet.add("I1", "I2", "I3")
    for _ in range(2):
        fleet.database.tasks.fail(fleet.take(), "bad", Metrics())
    views = fleet.database.views
    assert views.newest_ends(fleet.job, 9) == [TaskState.TERMINAL_FAILED] * 2
    fleet.database.pause(fleet.job, None)
    assert views.newest_ends(fleet.job, 9) == []
    time.sleep(0.005)  # reason: what ends in the millisecond of the resume counts as before it
    fleet.database.tasks.finish(fleet.take(), Metrics())
    assert views.newest_ends(fleet.job, 9) == [TaskState.DONE]


def test_machines_are_remembered_with_their_prices(fleet: Fleet) -> None:
    """What a task costs would be known until EC2 forgets the machine; or a later look, at which no
    price was told, erase it."""
    database, now = fleet.database, fleet.database.now()
    database.note_machines(fleet.job, [MachineRecord("m-1", "i-1", None, now - 60.0)])
    database.note_machines(fleet.job, [MachineRecord("m-1", "i-1", 0.5, now)])
    database.note_machines(fleet.job, [MachineRecord("m-1", "i-1", None, now)])
    (found,) = database.machines(fleet.job)
    assert (found.name, found.instance_id, found.price) == ("m-1", "i-1", 0.5)
    assert found.launched_at == pytest.approx(now - 60.0, abs=2.0)
    database.delete_job(fleet.job)
    assert database.machines(fleet.job) == []


def test_a_report_has_the_failed_tasks_first_and_no_more_than_asked(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed would be cut off where there are many tasks, or a task be told of twice."""
    fleet.add(*(f"I{number}" for number in range(7)))
    failed = fleet.take()
    fleet.database.tasks.fail(failed, "bad", Metrics(3, 1, 20.0))
    done = fleet.take()
    fleet.database.tasks.finish(done, Metrics(4, 0, 30.0))
    later = fleet.take()
    fleet.database.tasks.finish(later, Metrics())
    views = fleet.database.views
    keys = [failed.key, later.key, done.key, *(f"W1/I{number}" for number in range(6, 2, -1))]
    found = views.reported(fleet.job, 100)
    assert [each.key for each in found] == keys
    for page in (1, 2, 3):
        monkeypatch.setattr(task_views, "PAGE", page)
        assert views.reported(fleet.job, 100) == found
    first, last = found[0], found[2]
    assert (first.state, first.reason, first.worker) == (TaskState.TERMINAL_FAILED, "bad", "w")
    assert (last.state, last.duration_ms, last.ended is not None) == (TaskState.DONE, 30.0, True)
    assert [each.key for each in views.reported(fleet.job, 2)] == keys[:2]


def test_a_paused_job_starts_nothing(fleet: Fleet) -> None:
    """Ten thousand tasks would fail of one bad setting."""
    fleet.add("I1")
    fleet.database.pause(fleet.job, "ten failed")
    assert fleet.database.tasks.claim_next(fleet.job, fleet.worker, "x", LEASE) is None
    fleet.database.pause(fleet.job, None)
    fleet.take()


def test_totals_are_right_to_the_row(fleet: Fleet) -> None:
    """`jobs stats` would tell of other tasks than there are."""
    fleet.add("I1", "I2", "I3", "I4", "I5")
    tasks = fleet.database.tasks
    tasks.finish(fleet.take(), Metrics(10, 1, 100.0, {"x": 1}))
    tasks.finish(fleet.take(), Metrics(30, 0, 300.0))
    tasks.fail(fleet.take(), "no", Metrics(duration_ms=5.0))
    fleet.take()
    totals = {each.state.value: each for each in fleet.database.views.totals(fleet.job)}
    assert {name: each.count for name, each in totals.items()} == {
        "pending": 1, "running": 1, "done": 2, "terminal_failed": 1
    }  # fmt: skip
    done = totals["done"]
    assert (done.total_images, done.nb_errors, done.mean_ms) == (40, 1, 200.0)
    assert fleet.database.views.recent(fleet.job, 2)[0].state is TaskState.RUNNING
    assert [
        t.key for t in fleet.database.views.recent(fleet.job, 9, TaskState.TERMINAL_FAILED)
    ] == ["W1/I3"]
    assert [s.value for s in fleet.database.views.newest_ends(fleet.job, 2)] == [
        "terminal_failed",
        "done",
    ]


def test_two_workers_of_one_machine_have_a_row_each(fleet: Fleet) -> None:
    """One's beats would hide that the other is stuck, and its end that the other lives."""
    ids = [fleet.database.register(fleet.job, "host-1") for _ in range(2)]
    assert len({*ids, fleet.worker}) == 3
    fleet.database.stop_worker(ids[0])
    stopped = {each.id: each.stopped_at is not None for each in fleet.database.workers(fleet.job)}
    assert stopped == {fleet.worker: False, ids[0]: True, ids[1]: False}


def test_no_look_at_a_job_reads_its_whole_table(tmp_path: Path) -> None:
    """A claim, or a look at a job of a million tasks, would take longer with each task."""
    database = open_database(str(tmp_path))
    database.migrate()
    job = database.create_job("ldv1", "{}", JobOptions(command="true")).id
    database.tasks.enqueue(job, [TaskItem.volume("W1", f"I{number}") for number in range(3)])
    sql, asked = database._sql, list[tuple[str, Mapping[str, Any]]]()
    query = sql.query

    def noted(text: str, values: Mapping[str, Any] = MappingProxyType({})) -> list[Row]:
        asked.append((text, values))
        return query(text, values)

    worker = database.register(job, "w")
    sql.query = noted  # type: ignore[method-assign]
    held = database.tasks.claim_next(job, worker, "c", LEASE)
    assert held is not None
    database.views.totals(job)
    database.views.backlog(job)
    database.views.newest_ends(job, 10)
    database.views.failure_reasons(job, 10)
    plans = [
        row[3] for text, values in asked for row in query(f"EXPLAIN QUERY PLAN {text}", values)
    ]
    database.close()
    whole = [plan for plan in plans if plan.startswith("SCAN") and plan.split()[1] not in SMALL]
    assert not whole, whole
    used = " ".join(plans)
    assert "USING COVERING INDEX task_executions_totals (job_id=?)" in used
    assert "INDEX task_executions_due (job_id=? AND not_before<?)" in used


def test_one_idle_worker_is_the_first(fleet: Fleet) -> None:
    """All would stay for one task that runs, or none."""
    second = fleet.database.register(fleet.job, "w2")
    assert fleet.database.is_first_idle(fleet.job, second, LEASE), "both are of this process"
    fleet.database._sql.change("UPDATE workers SET pid = pid + 1 WHERE id = :id", {"id": second})
    assert fleet.database.is_first_idle(fleet.job, fleet.worker, LEASE)
    assert not fleet.database.is_first_idle(fleet.job, second, LEASE)
    assert fleet.database.is_first_idle(fleet.job, second, 0.0), "the other may have been killed"
    fleet.add("I1")
    task = fleet.take()
    assert fleet.database.is_first_idle(fleet.job, second, LEASE)
    assert [w.task_key for w in fleet.database.workers(fleet.job)] == ["W1/I1", None]
    fleet.database.tasks.finish(task, Metrics())
    fleet.database.stop_worker(fleet.worker)
    assert fleet.database.is_first_idle(fleet.job, second, LEASE)


@pytest.mark.long
def test_the_seeds_sql_runs(postgres: object) -> None:
    """Dashboards and runbooks of before would break; `schema.sql` would not load."""
    url = postgres.database()  # type: ignore[attr-defined]
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(schema_text().encode())
        database = open_database(url)
        database.check_schema()
        assert database.migrate() == []
        job = database.create_job("ldv1", "{}", JobOptions(command="true")).id
        database.tasks.enqueue(job, [TaskItem.volume("W1", "I1"), TaskItem.volume("W1", "I2")])
        worker = database.register(job, "w")
        task = database.tasks.claim_next(job, worker, "c", LEASE)
        assert task is not None and database.tasks.fail(task, "no", Metrics())
        rows = connection.execute(
            """SELECT * FROM task_executions
            WHERE job_id = 1 AND status IN ('retryable_failed', 'terminal_failed')
            ORDER BY done_at DESC"""
        ).fetchall()
        assert len(rows) == 1
        database.close()


def test_no_more_of_a_job_run_than_may(address: str, fleet: Fleet) -> None:
    """Claims at the same moment would each find one place left: a licence would be overdrawn."""
    fleet.database.update_job(fleet.job, max_running=3)
    fleet.add(*map(str, range(24)))
    most: list[int] = []

    def work(number: int) -> int:
        database, done = open_database(address), 0
        worker = database.register(fleet.job, str(number))
        while database.views.backlog(fleet.job).due:
            task = database.tasks.claim_next(fleet.job, worker, f"{number}-{done}", LEASE)
            if task is None:
                task_id = done + 1  # by a message: the same limit
                task = database.tasks.claim(task_id, fleet.job, worker, f"m{done}", LEASE)
            if task is not None:
                most.append(database.views.backlog(fleet.job).running)
                assert database.tasks.finish(task, Metrics())
                done += 1
        database.close()
        return done

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(work, range(6))) == 24
    assert max(most) <= 3


def test_a_limit_can_be_changed_while_tasks_run(fleet: Fleet) -> None:
    """A limit would hold for workers only that began after it; or one could never be rid of it."""
    tasks, fleet_job = fleet.database.tasks, fleet.job
    fleet.add("I1", "I2", "I3", "I4")
    held = fleet.take()
    fleet.database.update_job(fleet_job, max_running=1)
    assert fleet.database.job("ldv1").max_running == 1
    assert tasks.at_limit(fleet_job)
    assert tasks.claim_next(fleet_job, fleet.worker, "b", LEASE) is None
    assert tasks.claim(held.id + 1, fleet_job, fleet.worker, "b", LEASE) is None
    fleet.database.update_job(fleet_job, max_running=2)
    second = tasks.claim_next(fleet_job, fleet.worker, "b", OVER)
    assert second is not None
    again = tasks.claim(second.id, fleet_job, fleet.worker, "c", LEASE)
    assert again is not None, "it takes the place of its own lost holder"
    fleet.database.update_job(fleet_job, max_running=0)
    assert (fleet.database.job("ldv1").max_running, tasks.at_limit(fleet_job)) == (None, False)
    assert tasks.claim_next(fleet_job, fleet.worker, "d", LEASE) is not None


@pytest.mark.long
def test_a_lease_is_extended_while_the_queue_hangs(tmp_path: Path) -> None:
    """A task would be ended, and done twice, because SQS takes its time to answer."""
    database = open_database(str(tmp_path / "fleet"))
    database.migrate()
    job = database.create_job("j", "{}", JobOptions(command="true")).id
    worker = database.register(job, "w")
    database.tasks.enqueue(job, [TaskItem("a")])
    since = time.monotonic()
    task = database.tasks.claim_next(job, worker, "c", 4.0)
    assert task is not None and task.lease_until is not None
    hangs, lost = threading.Event(), list[str]()
    keeper = LeaseKeeper(database.another(), worker, 4.0, print)
    keeper.hold(task, since, lost.append, lambda: hangs.wait(30) and None)
    until = time.monotonic() + 30

    def lease() -> float:
        found = database.tasks.find(task.id)
        return (found and found.lease_until) or 0.0

    while lease() < task.lease_until + 2:
        assert time.monotonic() < until, "only the first time"
        time.sleep(0.05)  # reason: the keeper's threads tell nobody
    hangs.set()
    keeper.close()
    assert lost == []
    database.close()


def test_a_step_that_was_left_out_is_missed(fleet: Fleet) -> None:
    """A step that was merged after a later one would never be made where that one was."""
    sql, number = fleet.database._sql, migrations(fleet.database._sql.dialect)[0][0]
    sql.change("UPDATE schema_migrations SET version = -1 WHERE version = :n", {"n": number})
    with pytest.raises(RunnerError, match=r"runner-fleet migrate|already exists"):
        fleet.database.check_schema()
