"""Requests to a driver by way of its result store: answered once, whatever lies there."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.control.protocol import encode_request
from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.engine.clock import now
from runner.engine.simulated_backend import DONE, AttemptPlan, SimulatedMachine
from runner.engine.virtual_time import VirtualLoop
from runner.model.document import JobSpec, QueueSpec, dump_document
from runner.model.settings import Settings
from runner.results.control_channel import MOST_BYTES, ControlChannel
from runner.results.folder import FolderStore
from runner.results.journal import JournalPart, JournalState, put_part, read_journal
from runner.results.layout import Layout
from runner.results.store import StoreError
from runner.service import requests, resume_from_store
from runner.service.control_requests import ANSWERS_STAY, ControlRequests
from runner.service.queue_repository import QueueRepository
from runner.service.read_throttle import ReadThrottle
from runner.service.session import RunContext, Session
from runner.service.views import StoredViews

DOCUMENT = QueueSpec(
    "q",
    "a queue",
    (JobSpec("fails", "false", timeout=60.0), JobSpec("long", "sleep 1000", timeout=2000.0)),
    on_failure="continue",
    global_timeout=90_000.0,
    max_parallel_jobs=2,
)


class Host(requests.Host):
    def __init__(self, repository: QueueRepository) -> None:
        self.repository = repository
        self.who = "driver"
        self.stored = StoredViews(repository.paths)
        self.throttle = ReadThrottle(lambda: True)
        self.session: Session | None = None
        self.stops: list[bool] = []

    def session_of(self, name: str) -> Session | None:
        return self.session if name == "q" else None

    def pending_action(self, name: str, owner: str | None) -> dict[str, str]:
        return {}

    async def stop(self, *, interrupt: bool) -> None:
        self.stops.append(interrupt)


class Driver:
    """A queue that is driven, and may be driven again on another host, in simulated time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FolderStore(folder / "store")
        self.store.put_bytes(Layout.document_key, dump_document(DOCUMENT).encode())
        self.channel = ControlChannel(self.store)
        self.machine = SimulatedMachine(self._plan)
        self.said: list[str] = []
        self.loop = VirtualLoop(time.time(), 100.0)

    def _plan(self, job: int, attempt: int) -> AttemptPlan:
        return AttemptPlan(1.0, ev.Exited(1)) if job == 0 else AttemptPlan(1000.0, DONE, 1.0)

    def live(self, act: Callable[[ControlRequests, Session], Coroutine[Any, Any, None]]) -> None:
        """One life of a driver, on a host that knows nothing; it is lost after ``act``."""
        self.loop.run_until_complete(self._live(act))

    async def _live(
        self, act: Callable[[ControlRequests, Session], Coroutine[Any, Any, None]]
    ) -> None:
        shutil.rmtree(self.folder / "host", ignore_errors=True)
        repository = QueueRepository(self.folder / "host" / "state", self.folder / "host" / "logs")
        repository.create(DOCUMENT, "run", anonymous=False, again=RunMode())
        entry = repository.find("q")
        found = resume_from_store.find(
            repository, entry, self.store, self.said.append, journal=now()
        )
        if found is not None:
            resume_from_store.take_over(repository, entry, found, self.store)
        settings = Settings(repository.paths.root, repository.log_dir, self.folder, None)
        context = RunContext(
            {}, str(self.folder), backend=self.machine.backend, results=self.store, journal=True
        )
        host = Host(repository)
        session = host.session = Session(repository, settings, "q", context, document=DOCUMENT)
        control = ControlRequests(host, session, self.channel, 5.0, self.said.append)
        running = asyncio.create_task(session.run())
        try:
            await asyncio.sleep(10)
            await act(control, session)
        finally:
            running.cancel()
            session.close()
            control.close()
            host.throttle.close()

    def put(self, request_id: str, line: bytes) -> None:
        self.store.put_bytes(Layout().control_request_key(request_id), line)

    def answer(self, request_id: str) -> dict[str, Any]:
        raw = self.channel.answer_to(request_id)
        assert raw is not None
        found: dict[str, Any] = json.loads(raw)
        return found


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path)
    yield made
    made.loop.close()


def test_requests_are_answered_as_on_a_socket(driver: Driver) -> None:
    """`cancel`, `pause` and the like would not reach a queue that no network leads to."""

    async def act(control: ControlRequests, session: Session) -> None:
        asked = driver.channel.ask(encode_request("pause"))
        looked = driver.channel.ask(encode_request("status", status=["failed"]))
        await control.poll()
        assert driver.answer(asked)["ok"] and driver.answer(asked)["queue"]["paused"]
        assert [job["job_id"] for job in driver.answer(looked)["jobs"]] == ["fails"]
        assert session.scheduler.queue.paused
        assert any(line.startswith("pause asked for by request ") for line in driver.said)
        refused = driver.channel.ask(encode_request("cancel", jobs=["logn"]))
        await control.poll()
        error = driver.answer(refused)["error"]
        assert (error["exit_code"], "did you mean" in error["message"]) == (102, True)

    driver.live(act)


def test_what_is_no_request_gets_an_error_and_disturbs_nothing(driver: Driver) -> None:
    """One bad object would keep all others from being answered, or end the queue."""
    bad = {
        "a": (b"", "not a JSON object"),
        "b": (b"\xff{", "not a JSON object"),
        "c": (b'{"request": "cancl"}', 'did you mean "cancel"'),
        "d": (b'{"request": "submit", "document": "{}"}', "can't be asked by way of"),
        "e": (b'{"request": "cancel", "jbos": ["long"]}', 'knows no "jbos"'),
        "f": (b'{"request": "cancel", "queue": "other"}', 'there is no queue "other"'),
        "g": (b"[" * 60_000, "not a JSON object"),
        "h": (b'{"request": "cancel", "x": "' + b"x" * MOST_BYTES + b'"}', "at most 64 KiB"),
        "i": (b'{"v": 9, "request": "cancel"}', "speaks version 1"),
    }

    async def act(control: ControlRequests, session: Session) -> None:
        for request_id, (line, _) in bad.items():
            driver.put(request_id, line)
        driver.store.put_bytes("control/no request.json", b"{}")
        driver.store.put_bytes("control/deep/er.json", b"{}")
        driver.put("z", encode_request("pause"))
        await control.poll()
        for request_id, (_, why) in bad.items():
            assert why in driver.answer(request_id)["error"]["message"], request_id
        assert driver.answer("z")["ok"] and session.scheduler.queue.paused
        assert session.scheduler.counts["running"] == 1

    driver.live(act)


def test_a_request_is_carried_out_once_over_a_restart(driver: Driver) -> None:
    """A retry whose answer was lost with its driver would run the job once more."""

    async def carried_out(control: ControlRequests, session: Session) -> None:
        driver.put("once", encode_request("retry", jobs=["fails"]))
        answer = driver.channel.answer

        def lost(request_id: str, line: bytes) -> None:
            raise StoreError("no network")

        driver.channel.answer = lost  # type: ignore[method-assign]
        await control.poll()
        await asyncio.sleep(5)
        driver.channel.answer = answer  # type: ignore[method-assign]
        assert driver.channel.answer_to("once") is None
        assert session.scheduler.jobs[0].attempt == 2

    async def answered(control: ControlRequests, session: Session) -> None:
        await control.poll()
        assert driver.answer("once")["queue"]["queue_id"] == "q"
        await control.poll()
        await asyncio.sleep(5)
        assert session.scheduler.jobs[0].attempt == 2

    driver.live(carried_out)
    driver.live(answered)
    assert len([tree for tree in driver.machine.trees.values() if tree.job == 0]) == 2
    assert len([tree for tree in driver.machine.trees.values() if tree.job == 1]) == 1


def test_answers_are_removed_in_time_and_not_before(driver: Driver) -> None:
    """Each request would stay for ever, or a slow client find no answer."""

    async def act(control: ControlRequests, session: Session) -> None:
        asked = driver.channel.ask(encode_request("ping"))
        await control.poll()
        await control.poll()
        await asyncio.sleep(ANSWERS_STAY - 10)
        await control.poll()
        assert driver.answer(asked)["who"] == "driver"
        await asyncio.sleep(20)
        await control.poll()
        assert list(driver.store.list("control/")) == []

    driver.live(act)


def test_after_the_end_nothing_acts(driver: Driver) -> None:
    """A cancel that came too late would be left without an answer, or be taken for done."""

    async def act(control: ControlRequests, session: Session) -> None:
        asked = driver.channel.ask(encode_request("pause"))
        looked = driver.channel.ask(encode_request("status", limit=0))
        await control.finish("queue 'q' has ended")
        assert driver.answer(asked)["error"]["message"] == "queue 'q' has ended"
        assert driver.answer(looked)["queue"]["queue_id"] == "q"
        assert not session.scheduler.queue.paused

    driver.live(act)


def test_a_driver_that_was_succeeded_lets_go_of_the_jobs(driver: Driver) -> None:
    """Of two coordinators the old one would end, or start, jobs that are the new one's."""

    async def act(control: ControlRequests, session: Session) -> None:
        moved = journal_of(session)
        put_part(
            driver.store, Layout(), session.scheduler.queue.run_id, moved.last + 1, other(moved)
        )
        asked = driver.channel.ask(encode_request("cancel"))
        poll = asyncio.create_task(control.poll())
        await asyncio.sleep(5)
        assert session.engine.succeeded is not None
        assert driver.channel.answer_to(asked) is None
        poll.cancel()

    def journal_of(session: Session) -> JournalState:
        found = read_journal(driver.store, Layout(), session.scheduler.queue.run_id)
        assert found is not None
        return found

    def other(found: JournalState) -> JournalPart:
        return JournalPart("another", now(), found.queue, found.jobs, {}, found.document)

    driver.live(act)
    (long,) = [tree for tree in driver.machine.trees.values() if tree.job == 1]
    assert long.plan.seconds == long.ends - (long.claimed or 0.0), "it was ended"
