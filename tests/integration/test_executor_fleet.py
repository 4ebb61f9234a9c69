"""The Executor's target `fleet` at its database; the tests play the worker.

With real workers: tests/stress/test_executor_on_targets.py and test_executor_fleet_faults.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from runner import Executor, JobError
from runner.api import fleet_poll
from runner.api.fleet_job import next_session
from runner.errors import ConflictError, NotFoundError, RunnerError, UsageError
from runner.fleet.connection import DatabaseAwayError
from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.records import FleetTask, JobOptions, Metrics, TaskItem
from runner.fleet.task_news import TaskNews
from runner.fleet.task_outcome import KEY, TaskOutcome
from runner.fleet.task_table import TaskTable

PATIENCE = 20.0


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "fleet")
    url: str = request.getfixturevalue("postgres").database()
    made = open_database(url)
    made.migrate()
    made.close()
    return url


class Player:
    """What a worker would do, one step at a time."""

    def __init__(self, address: str) -> None:
        self.database = open_database(address)
        self.job = self.database.job("j").id
        self.worker = self.database.register(self.job, "w")

    def take(self) -> FleetTask:
        until(lambda: self.database.views.backlog(self.job).due)
        task = self.database.tasks.claim_next(self.job, self.worker, "c", 60.0)
        assert task is not None
        return task

    def finish(self, task: FleetTask, code: int = 0) -> None:
        status = "failed" if code else "completed"
        told = {KEY: asdict(TaskOutcome(task.run, status, 1, code, message=f"status {code}"))}
        assert self.database.tasks.finish(task, Metrics(more=told))


@pytest.fixture
def executor(address: str, tmp_path: Path) -> Iterator[Callable[..., Executor]]:
    made: list[Executor] = []

    def make(**more: object) -> Executor:
        given = {"database": address, "job": "j", "results": tmp_path / "results", **more}
        made.append(Executor(target="fleet", **given))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each._session.targets[0].cancel_waiting()
        each._session.targets[0].terminate_all()
        each.shutdown()


@pytest.fixture
def ex(executor: Callable[..., Executor]) -> Executor:
    return executor()


@pytest.fixture
def player(address: str, ex: Executor) -> Iterator[Player]:
    made = Player(address)
    yield made
    made.database.close()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to it in time"
        time.sleep(0.01)


def test_futures_are_settled_from_the_database(ex: Executor, player: Player) -> None:
    """A Future would wait for ever, or have another one's result."""
    futures = [ex.submit_command("true") for _ in range(3)]
    tasks = [player.take() for _ in futures]
    until(lambda: all(each.running() for each in futures))
    assert [each.key for each in tasks] == [each.job_id for each in futures]
    assert not futures[0].cancel()
    player.finish(tasks[1], code=7)
    assert futures[1].result(PATIENCE).exit_code == 7 and futures[1].status() == "failed"
    assert not futures[0].done()
    player.finish(tasks[0])
    assert futures[0].result(PATIENCE).ok and futures[0].status() == "completed"
    assert player.database.tasks.retry_later(tasks[2], "its store is away", 0.0, Metrics())
    assert player.database.tasks.fail(player.take(), "lost 5 workers", Metrics())
    with pytest.raises(JobError, match="lost 5 workers"):
        futures[2].result(PATIENCE)


def test_cancel_at_every_state(ex: Executor, player: Player) -> None:
    """What was cancelled would run, or what runs would be lost."""
    first, second, third = (ex.submit_command("true") for _ in range(3))
    task = player.take()
    assert second.cancel() and second.cancelled() and second.cancel()
    until(first.running)
    assert not first.cancel()
    third.terminate()
    with pytest.raises(CancelledError):
        third.result(PATIENCE)
    first.terminate()
    assert first.result(PATIENCE).status == "cancelled"
    assert not player.database.tasks.extend(task, 60.0)
    assert player.database.views.backlog(player.job).empty
    fourth = ex.submit_command("true")
    until(lambda: player.database.views.backlog(player.job).due)
    assert player.database.tasks.cancel(player.job, [fourth.job_id]) == 1
    until(fourth.cancelled)


def test_sessions_of_one_job_have_ids_of_their_own(
    ex: Executor, executor: Callable[..., Executor], player: Player
) -> None:
    """Two programs at once would each get the other's results."""
    other = executor()
    mine, theirs = ex.submit_command("true"), other.submit_command("true")
    assert (mine.job_id, theirs.job_id) == ("true-1-1", "true-2-1")
    for _ in range(2):
        task = player.take()
        player.finish(task, code=4 if task.key == mine.job_id else 5)
    assert (mine.result(PATIENCE).exit_code, theirs.result(PATIENCE).exit_code) == (4, 5)
    assert other.attach(mine.job_id).result(PATIENCE).exit_code == 4
    with pytest.raises(NotFoundError, match='no job "nothing-1"'):
        other.attach("nothing-1")
    waiting = ex.submit_command("true")
    until(lambda: player.database.views.backlog(player.job).due)
    attached = other.attach(waiting.job_id)
    player.finish(player.take())
    assert attached.result(PATIENCE).ok and waiting.result(PATIENCE).ok


def test_a_job_of_another_kind_is_refused(executor: Callable[..., Executor], address: str) -> None:
    """Its tasks would be mixed with calls that they know nothing of."""
    database = open_database(address)
    database.check_schema()
    database.create_job("j", "{}", JobOptions(command="true"))
    database.close()
    with pytest.raises(ConflictError, match="another template"):
        executor()
    with pytest.raises(ValueError, match="no name of a fleet job"):
        executor(job="a b")


def test_what_does_not_fit_is_refused_at_once(ex: Executor) -> None:
    """It would be dropped in silence, or fail on a machine far away."""
    for wanted in ({"region": "us-east-1"}, {"queue": "q"}, {"image": "x"}):
        (name,) = wanted
        with pytest.raises(ValueError, match=f'"{name}".*target "fleet"'):
            ex.submit_command("true", wanted)
    with pytest.raises(ValueError, match='"image"'):
        ex.options(image="x").submit(int)


@pytest.mark.long
def test_a_server_must_be_ready_and_says_what_is_missing(postgres: Any) -> None:
    """People would have to read a traceback of a driver."""
    url = postgres.database()
    with pytest.raises(UsageError, match="runner-fleet migrate"):
        Executor(target="fleet", database=url)
    database = open_database(url)
    database.migrate()
    with pytest.raises(ValueError, match="results: must say where"):
        Executor(target="fleet", database=url)
    assert not database.jobs()
    database.close()


def test_logs_can_be_read_after_the_end(ex: Executor, player: Player, tmp_path: Path) -> None:
    """What failed could not be looked into once its program has let go."""
    future = ex.submit_command("true")
    with pytest.raises(NotFoundError, match="no log"):
        future.logs()
    task = player.take()
    where = Path(player.database.job("j").options.results or "")
    folder = where / "_items" / future.job_id / str(task.run) / "jobs" / future.job_id
    folder.mkdir(parents=True)
    (folder / "stdout.log").write_text("said\n")
    player.finish(task)
    assert future.result(PATIENCE).stdout == "said\n" == future.logs()
    ex.shutdown()
    assert future.logs() == "said\n" and future.status() == "unknown"


def test_a_database_that_is_away_is_waited_for(
    ex: Executor, player: Player, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All Futures would fail for a restart of the database, or jobs be lost, or added twice."""
    away = iter([True, True])
    real = TaskTable.enqueue

    def enqueue(table: TaskTable, job: int, items: object) -> object:
        done = real(table, job, items)  # type: ignore[arg-type]
        if next(away, False):
            raise DatabaseAwayError("the answer was lost")
        return done

    monkeypatch.setattr(TaskTable, "enqueue", enqueue)
    monkeypatch.setattr("runner.api.fleet_target.AWAY", 0.05)
    future = ex.submit_command("true")
    until(lambda: "database is back" in caplog.text)
    assert next(away, None) is None and "is away" in caplog.text
    player.finish(player.take())
    assert future.result(PATIENCE).ok
    assert player.database.views.backlog(player.job).empty


def test_an_end_that_was_committed_late_is_found(
    ex: Executor, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that jumps, or a commit that hangs, would leave a Future waiting for ever."""
    monkeypatch.setattr(fleet_poll, "CHECK_EVERY", 0.2)
    monkeypatch.setattr(TaskNews, "ended_within", lambda news, job, seconds: [])
    future = ex.submit_command("true")
    player.finish(player.take())
    assert future.result(PATIENCE).ok


def test_a_person_is_told_that_there_are_no_workers(
    executor: Callable[..., Executor],
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A newcomer would wait for results, and not know what is missing."""
    monkeypatch.setattr(fleet_poll, "QUIET", 0.1)
    caplog.set_level(logging.WARNING)
    ex = executor()
    future = ex.submit_command("true")
    until(lambda: "no worker of job j is heard of" in caplog.text)
    assert "runner-fleet worker --job-name j" in caplog.text
    database = open_database(address)
    database.pause(database.job("j").id, "by hand")
    database.close()
    monkeypatch.setattr(fleet_poll, "NOTE_EVERY", 0.0)
    until(lambda: "job j is paused: by hand" in caplog.text)
    assert future.cancel()


def test_shutdown_without_waiting_and_detach(
    address: str, executor: Callable[..., Executor], ex: Executor, player: Player
) -> None:
    """Work would be dropped, or be waited for though it was let go of."""
    detached = Executor(target="fleet", database=address, job="j", on_exit="detach")
    kept = [detached.submit_command("true") for _ in range(2)]
    detached._session.leave()
    assert detached._session.targets[0].join(0)
    assert player.database.views.backlog(player.job).due == 2
    last = [ex.submit_command("true"), ex.attach(kept[0].job_id)]
    ex.shutdown(wait=False)
    for _ in range(3):
        player.finish(player.take())
    assert [each.result(PATIENCE).ok for each in last] == [True, True]
    ex.shutdown()
    assert ex._session.targets[0].join(0)
    cancelling = executor()
    waiting = [cancelling.submit_command("true") for _ in range(1200)]
    cancelling.shutdown(cancel_futures=True)
    assert all(each.cancelled() for each in waiting)


def test_the_database_alone_tells_what_ended(address: str) -> None:
    """The poller would be told of tasks that wait for their next attempt, or of another job's."""
    database = open_database(address)
    database.check_schema()
    jobs = [database.create_job(name, "{}", JobOptions(command="true")) for name in "ab"]
    for job in jobs:
        database.tasks.enqueue(job.id, [TaskItem(f"{job.name}{at}") for at in range(4)])
    job, worker = jobs[0], database.register(jobs[0].id, "w")
    tasks = [database.tasks.claim_next(job.id, worker, str(at), 60.0) for at in range(3)]
    assert all(tasks) and sorted(database.news.running(job.id)) == ["a0", "a1", "a2"]
    first, second, third = (task for task in tasks if task is not None)
    database.tasks.finish(first, Metrics(more={KEY: {"run": "x"}}))
    database.tasks.retry_later(second, "later", 5.0, Metrics())
    database.tasks.give_back(third, "interrupted", resume=False)
    database.tasks.cancel(job.id, ["a3"])
    found = database.news.ended_within(job.id, 60.0)
    assert [each.key for each in found] == ["a0", "a3"]
    assert found[0].outcome is None and "the metrics of task a0" in (found[0].error or "")
    assert database.news.ended_within(job.id, -60.0) == []
    named = database.news.ended_among(job.id, [f"{name}{at}" for at in range(900) for name in "ab"])
    assert sorted(each.key for each in named) == ["a0", "a3"]
    assert database.news.missing_among(job.id, ["a0", "x", "b1"]) == ["x", "b1"]
    assert not list(database.news.ended_among(jobs[1].id, ["a0"]))
    database.close()


def test_two_sessions_never_have_one_number(address: str) -> None:
    """Two that are opened at the same moment would share ids."""
    database = open_database(address)
    database.check_schema()
    database.create_job("j", '{"mine": 1}', JobOptions(command="true"))

    def take(at: int) -> list[int]:
        own: FleetDatabase = database.another()
        try:
            return [next_session(own, "j") for _ in range(5)]
        finally:
            own.close()

    with ThreadPoolExecutor(4) as threads:
        numbers = [number for some in threads.map(take, range(4)) for number in some]
    assert sorted(numbers) == list(range(1, 21))
    assert database.job("j").config == '{"mine": 1, "executor_sessions": 20}'
    database.close()


def test_a_job_that_is_deleted_leaves_no_future_waiting(
    ex: Executor, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Futures of tasks that are gone, and all that are submitted after it, would wait for ever."""
    monkeypatch.setattr(fleet_poll, "CHECK_EVERY", 0.2)
    future = ex.submit_command("true")
    until(lambda: player.database.views.backlog(player.job).due)
    player.database.delete_job(player.job)
    with pytest.raises(NotFoundError, match='fleet job "j" was deleted'):
        future.result(PATIENCE)
    with pytest.raises(RunnerError, match="deleted"):
        ex.submit_command("true").result(PATIENCE)
