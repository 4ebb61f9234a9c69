"""One queue's trouble is its own: whatever breaks in it, the daemon and the others go on.

The real daemon, in this process: what breaks is put in the way of one queue only.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from runner.control.protocol import Peer
from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.core.states import JobStatus
from runner.engine.engine import Engine
from runner.errors import DiskFullError, RunnerError
from runner.model.settings import Settings
from runner.service import candidates, request_table, supervisor
from runner.service.daemon import Daemon
from runner.service.job_user import job_user
from runner.service.queue_repository import QueueRepository
from runner.service.session import Session
from runner.store.database import Database

PEER = Peer(os.getpid(), os.geteuid(), may_act=True)
PATIENCE = 30.0


class House:
    """A daemon in folders of its own, and the queues that it is given."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder = folder
        self.settings = Settings(
            config_file=folder / "runner.toml",
            state_dir=folder / "state",
            log_dir=folder / "log",
            run_dir=folder / "run",
            job_user="root" if os.geteuid() == 0 else None,
            disk_reserve=0,
            **more,
        )
        self.daemon: Daemon

    def gate(self, name: str) -> dict[str, Any]:
        """A job that says `began.<name>`, and ends when there is `go.<name>`."""
        began, go = self.folder / f"began.{name}", self.folder / f"go.{name}"
        command = f"echo $$ >> {began}; until [ -e {go} ]; do sleep 0.02; done"
        return {"job_id": name, "command": command, "timeout": "5m"}

    def starts(self, name: str) -> int:
        """How often a gate was begun."""
        path = self.folder / f"began.{name}"
        return len(path.read_text().split()) if path.exists() else 0

    def release(self, name: str) -> None:
        (self.folder / f"go.{name}").touch()

    async def submit(self, name: str, *jobs: dict[str, Any]) -> dict[str, Any]:
        document = {"queue_id": name, "queue_name": name, "global_timeout": "1h"}
        whole = {**document, "on_failure": "continue", "jobs": list(jobs) or [simple()]}
        return await self.daemon.host.submit(json.dumps(whole).encode(), RunMode())

    async def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        message = {"request": request, **fields}
        answer = await request_table.answer(self.daemon.host, message, PEER)
        return answer.get("queue", answer)

    async def until(self, look: Callable[[], bool]) -> None:
        """Poll until it is so."""
        async with asyncio.timeout(PATIENCE):
            while not look():
                await asyncio.sleep(0.01)  # reason: the poll's own interval

    async def status_is(self, name: str, *wanted: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while (await self.ask("status", queue=name, limit=0)).get("status") not in wanted:
                await asyncio.sleep(0.01)  # reason: the poll's own interval

    async def blocked(self, name: str, word: str) -> dict[str, Any]:
        """The summary, once it says what holds the queue up."""
        async with asyncio.timeout(PATIENCE):
            while word not in (found := await self.ask("status", queue=name, limit=0)).get(
                "blocked", ""
            ):
                await asyncio.sleep(0.01)  # reason: the poll's own interval
        return found

    def live(self, story: Callable[[], Awaitable[None]]) -> None:
        """Have the daemon live for as long as this takes; its jobs end with it."""

        async def both() -> None:
            self.daemon = Daemon(self.settings, job_user(self.settings))
            living = asyncio.create_task(self.daemon.run())
            await self.until((self.settings.run_dir / "runner.sock").exists)
            try:
                await story()
                assert not living.done(), "the daemon goes on"
            finally:
                await self.daemon.host.stop(interrupt=True)
                await asyncio.wait_for(living, PATIENCE)

        asyncio.run(both())


def simple(command: str = "true") -> dict[str, Any]:
    return {"job_id": "ok", "command": command, "timeout": "1m"}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may pass is tried again at once."""
    monkeypatch.setattr(candidates, "backoff", lambda tries: 0.05)
    monkeypatch.setattr(candidates, "LOOK_FOR_MENDED", 0.05)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


class Refusing:
    """Refuses to open one queue for as long as ``error`` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
        self.error: Exception | None = error
        self.tries = 0

        def opened(
            repository: QueueRepository, settings: Settings, asked: str, *rest: Any
        ) -> Session:
            if asked == name and self.error is not None:
                self.tries += 1
                raise self.error
            return Session(repository, settings, asked, *rest)

        monkeypatch.setattr(supervisor, "Session", opened)


@pytest.mark.parametrize(
    "error", [DiskFullError("no room"), OSError(5, "Input/output error"), IndexError("a bug")]
)
def test_what_keeps_a_queue_from_being_opened_passes_by_itself(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A disk that was full for a moment would cost a queue for good, or stop all others."""
    refusing = Refusing(monkeypatch, "a", error)

    async def story() -> None:
        assert (await house.submit("a"))["status"] == "pending"
        told = await house.blocked("a", candidates.error_text(error))
        assert "queued" in told, "it is still to be done"
        (listed,) = (await house.ask("queues"))["queues"]
        assert listed["blocked"] == told["blocked"]
        await house.submit("b")
        await house.status_is("b", "completed")
        await house.until(lambda: refusing.tries > 2)
        refusing.error = None
        await house.status_is("a", "completed")

    house.live(story)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_broken_session_is_opened_again_and_its_jobs_adopted(
    house: House, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    """A job of hours would go on with nobody watching, and the next queue run beside it."""
    refusing = Refusing(monkeypatch, "a", DiskFullError("no room"))
    refusing.error = None

    async def story() -> None:
        await house.submit("a", house.gate("a"))
        await house.until(lambda: house.starts("a") == 1)
        session = house.daemon.host.session_of("a")
        assert session is not None
        jobs = session.scheduler.jobs  # it is told of the start later than the job itself
        await house.until(lambda: jobs[0].status is JobStatus.RUNNING)
        refusing.error = DiskFullError("no room")

        def broken(event: ev.Event) -> list[object]:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(session.scheduler, "handle", broken)
        with pytest.raises(RunnerError):
            await house.ask("pause", queue="a")
        await house.blocked("a", "no room")
        await house.submit("b", house.gate("b"))
        await house.blocked("b", "waits for queue 'a' to end (jobs of 'a' still run)")
        tried = refusing.tries
        await house.until(lambda: refusing.tries > tried + 3)
        assert house.starts("b") == 0
        if damaged:
            # Its jobs end without it, and nobody waits for it any more.
            house.release("a")
            await house.until(lambda: house.starts("b") == 1)
        refusing.error = None
        if not damaged:
            await house.until(lambda: house.daemon.host.session_of("a") is not None)
            assert house.starts("b") == 0
            house.release("a")
        house.release("b")
        await house.status_is("a", "completed")
        await house.status_is("b", "completed")
        assert house.starts("a") == 1, "it was adopted"

    house.live(story)


def test_a_damaged_queue_is_left_alone_by_name_until_its_file_is_mended(house: House) -> None:
    """A person would have to restart the daemon, under all other jobs, to have it noticed."""
    path = house.settings.state_dir / "queues/a/state.db"

    async def story() -> None:
        await house.submit("a", house.gate("a"))
        await house.until(lambda: house.starts("a") == 1)

    house.live(story)
    whole = path.read_bytes()
    assert not path.with_name("state.db-wal").exists()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE queue SET record = '{'")
    connection.close()

    async def again() -> None:
        await house.submit("b")
        await house.status_is("b", "completed")
        with pytest.raises(RunnerError, match=r"state\.db.*--fresh"):
            await house.ask("status", queue="a", limit=0)
        copy = path.with_name("copy")
        copy.write_bytes(whole)
        os.replace(copy, path)
        await house.until(lambda: house.starts("a") == 2)
        house.release("a")
        await house.status_is("a", "completed")

    house.live(again)


def test_a_lock_that_another_holds_holds_up_its_queue_only(house: House) -> None:
    """A backup that holds a database for a while would be taken for damage, or stop the loop."""

    async def story() -> None:
        await house.submit("a", house.gate("a"))
        await house.until(lambda: house.starts("a") == 1)
        path = house.settings.state_dir / "queues/a/state.db"
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        asked = asyncio.create_task(house.ask("pause", queue="a"))
        await house.blocked("a", "lock")
        other.execute("ROLLBACK")
        other.close()
        assert (await asked)["paused"] is True
        await house.ask("unpause", queue="a")
        house.release("a")
        await house.status_is("a", "completed")

    house.live(story)


def test_as_many_queues_as_may_be_are_worked_on_at_once(tmp_path: Path) -> None:
    """A long queue would keep all others waiting though there is room for two."""
    house = House(tmp_path, max_parallel_queues=2)

    async def story() -> None:
        for name in "abc":
            await house.submit(name, house.gate(name))
        await house.until(lambda: house.starts("a") == house.starts("b") == 1)
        await house.blocked("c", "waits for one of the queues 'a', 'b' to end")
        assert house.starts("c") == 0
        house.release("b")
        await house.until(lambda: house.starts("c") == 1)
        house.release("a")
        house.release("c")
        for name in "abc":
            await house.status_is(name, "completed")

    house.live(story)


@pytest.mark.parametrize("slow", ["opening", "stepping", "acting", "creating", "reading"])
def test_what_is_slow_in_one_queue_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """A look at a queue, or its end, would wait seconds for the documents of another."""
    house = House(tmp_path, max_parallel_queues=2)
    go, held = threading.Event(), threading.Event()

    def hold(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def holding(*arguments: Any, **named: Any) -> Any:
            if any(_concerns(each, "slow") for each in (*arguments, *named.values())):
                held.set()
                assert go.wait(PATIENCE)
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, holding)

    async def story() -> None:
        waiting: asyncio.Task[Any] | None = None
        if slow == "opening":
            hold(supervisor, "Session")
            await house.submit("slow", simple("false"))
        elif slow == "creating":
            hold(QueueRepository, "create")
            waiting = asyncio.create_task(house.submit("slow", simple("false")))
        elif slow == "stepping":
            await house.submit("slow", house.gate("slow"), simple("false"))
            await house.until(lambda: house.starts("slow") == 1)
            hold(Database, "commit")
            house.release("slow")
        else:
            await house.submit("slow", simple("false"))
            await house.status_is("slow", "failed")
            await house.until(lambda: house.daemon.host.session_of("slow") is None)
            hold(Database, "commit" if slow == "acting" else "load")
            request = "retry" if slow == "acting" else "status"
            waiting = asyncio.create_task(house.ask(request, queue="slow"))
        await house.until(held.is_set)
        await house.submit("quick")
        await house.status_is("quick", "completed")
        assert (await house.ask("status", queue="quick"))["status"] == "completed"
        go.set()
        if waiting is not None:
            await asyncio.wait_for(waiting, PATIENCE)
        await house.status_is("slow", "failed")

    try:
        house.live(story)
    finally:
        go.set()


def _concerns(argument: Any, name: str) -> bool:
    if isinstance(argument, Database):
        return argument.path.parent.name == name
    return name in (argument, getattr(argument, "queue_id", None))


def test_a_callback_that_fails_ends_its_session_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue would wait for ever for what the callback did not do."""
    house = House(tmp_path, max_parallel_queues=2)
    real, left = Engine._act, [ZeroDivisionError("a bug")]

    def act(engine: Engine, action: Any) -> None:
        if left and engine.context.queue_id == "a":
            raise left.pop()
        real(engine, action)

    monkeypatch.setattr(Engine, "_act", act)

    async def story() -> None:
        await house.submit("b", house.gate("b"))
        await house.until(lambda: house.starts("b") == 1)
        session = house.daemon.host.session_of("b")
        await house.submit("a")
        await house.status_is("a", "completed")
        assert not left and house.daemon.host.session_of("b") is session
        house.release("b")
        await house.status_is("b", "completed")

    house.live(story)


def test_kept_queues_that_rest_are_not_opened_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 500 kept queues each submit, and each look of the idle daemon, would open them all."""
    opened: list[str] = []
    real = Database.__init__

    def note(database: Database, path: Path, **more: bool) -> None:
        opened.append(path.parent.name)
        real(database, path, **more)

    async def story() -> None:
        for number in range(5):
            await house.submit(f"kept{number}")
            await house.status_is(f"kept{number}", "completed")
        repository = house.daemon.host.repository

        def all_settled() -> bool:
            opened.clear()
            repository.entries()
            return not opened

        await house.until(all_settled)
        await house.submit("new")
        await house.status_is("new", "completed")
        assert set(opened) == {"new"}
        connection = sqlite3.connect(repository.queue_paths("kept3").database)
        with connection:
            connection.execute("INSERT INTO meta VALUES ('told', 'elsewhere')")
        opened.clear()
        assert repository.find("kept3").meta["told"] == "elsewhere"
        # The daemon itself may still look at the one that has just ended.
        assert [name for name in opened if name != "new"] == ["kept3"], "while its log is there"
        connection.close()
        assert repository.find("kept3").meta["told"] == "elsewhere"

    monkeypatch.setattr(Database, "__init__", note)
    house.live(story)
