"""Requests that meet a bug, a stop or a step that can't be stored: nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from runner.core import events as ev
from runner.errors import StateError
from runner.model.document import parse_document
from runner.model.settings import Settings
from runner.service.queue_repository import QueueRepository
from runner.service.read_throttle import ReadThrottle
from runner.service.session import RunContext, Session
from runner.service.views import StoredViews

DOCUMENT = b"""{"queue_id": "q", "queue_name": "q", "global_timeout": "1h", "on_failure": "stop",
    "jobs": [{"job_id": "a", "command": "sleep 60", "timeout": "2m"}]}"""


@pytest.fixture
def repository(tmp_path: Path) -> QueueRepository:
    """A state folder with one queue of one long job."""
    made = QueueRepository(tmp_path / "state", tmp_path / "logs")
    made.create(parse_document(DOCUMENT), "run", anonymous=False)
    return made


def opened(repository: QueueRepository) -> Session:
    folder = repository.paths.root
    settings = Settings(folder, folder, folder, folder, disk_reserve=0)
    return Session(repository, settings, "q", RunContext({"PATH": "/usr/bin:/bin"}, str(folder)))


def with_session(repository: QueueRepository, use: Callable[[Session], Awaitable[None]]) -> None:
    """Use an open session; what it left running is ended."""

    async def both() -> None:
        session = opened(repository)
        try:
            await use(session)
        finally:
            session.close()
        session = opened(repository)
        try:
            await session.run(ev.CancelRequested, hold=True)
        finally:
            session.close()

    asyncio.run(both())


def pause(now: ev.Now) -> ev.PauseRequested:
    return ev.PauseRequested(now, True)


def test_a_bug_in_a_step_ends_the_session_and_stores_nothing(
    repository: QueueRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an event would be stored, the client wait for ever, and the queue stand still."""

    async def use(session: Session) -> None:
        running = asyncio.create_task(session.run())
        engine = session.engine
        await asyncio.wait_for(engine.request(pause(engine.now())), 10)

        def broken(event: ev.Event) -> list[object]:
            session.scheduler.queue = None  # type: ignore[assignment]
            raise RuntimeError("a bug")

        monkeypatch.setattr(session.scheduler, "handle", broken)
        with pytest.raises(StateError, match="a bug"):
            await asyncio.wait_for(engine.request(ev.PauseRequested(engine.now(), False)), 10)
        with pytest.raises(RuntimeError, match="a bug"):
            await asyncio.wait_for(running, 10)

    with_session(repository, use)


def test_a_request_that_comes_too_late_is_refused(repository: QueueRepository) -> None:
    """A client would wait for a queue that no process works on any more."""

    async def late() -> None:
        session = opened(repository)
        waiting = asyncio.create_task(session.engine.request(pause(session.engine.now())))
        # The task begins now, and its step would come after the end.
        asyncio.get_running_loop().call_soon(session.close)
        with pytest.raises(StateError, match="try again"):
            await asyncio.wait_for(waiting, 10)

    asyncio.run(late())


def test_lookers_take_turns_and_leave_most_of_the_time_to_the_queue() -> None:
    """Fifty clients that ask for everything would stop what they look at."""

    async def look(throttle: ReadThrottle, order: list[int], n: int) -> None:
        async with throttle.turn():
            order.append(n)
            await asyncio.sleep(0.01)

    async def all_of_them(busy: bool) -> float:
        throttle, order = ReadThrottle(lambda: busy), list[int]()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await asyncio.gather(*(look(throttle, order, n) for n in range(4)))
        throttle.close()
        assert order == [0, 1, 2, 3]
        return loop.time() - begun

    busy, quiet = asyncio.run(all_of_them(busy=True)), asyncio.run(all_of_them(busy=False))
    assert busy > 0.16 and quiet < busy


def test_a_queue_on_the_disk_is_read_again_when_it_has_changed(repository: QueueRepository) -> None:
    """A page could show yesterday's state, or each page cost the whole queue."""
    stored = StoredViews(repository.paths)
    first = stored.snapshot("q")
    assert stored.snapshot("q", going_on=True) is first

    async def use(session: Session) -> None:
        session.engine.apply_resting(pause)

    with_session(repository, use)
    assert stored.snapshot("q", going_on=True) is first
    assert stored.snapshot("q").queue.status.value == "cancelled"
    stored.forget()
    assert stored.snapshot("q", going_on=True) is not first
