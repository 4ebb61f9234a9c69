"""Jobs added to a running queue, by the engine on real processes and a real database."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.core.states import JobStatus, QueueStatus
from runner.errors import DocumentError, StateError
from runner.model.document import JobSpec, QueueSpec
from runner.model.settings import Settings
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext, Session
from runner.store.database import Database


class Place:
    """A state folder with one queue."""

    def __init__(self, folder: Path, *jobs: JobSpec) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        self.repository = QueueRepository(folder / "state", folder / "logs")
        self.settings = Settings(
            state_dir=folder / "state",
            log_dir=folder / "logs",
            run_dir=folder,
            config_file=None,
            disk_reserve=0,
        )
        queue = QueueSpec("q", "q", jobs, 3600.0, "continue", max_parallel_jobs=4)
        self.repository.create(queue, "run", anonymous=False, again=RunMode())

    def open(self) -> Session:
        context = RunContext({"PATH": os.environ["PATH"]}, str(self.work))
        return Session(self.repository, self.settings, "q", context)

    @property
    def database(self) -> Database:
        return Database(self.repository.queue_paths("q").database, read_only=True)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.repository.queue_paths("q").projection.read_text())
        return found


def job(name: str, command: str = "true", *after: str, **more: Any) -> JobSpec:
    return JobSpec(name, command, 30.0, depends_on=after, **more)


async def until(session: Session, name: str) -> JobStatus:
    while True:
        units = session.scheduler.units_of(name)
        assert units is not None
        status = session.scheduler.jobs[units[0]].status
        if status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.SKIPPED):
            return status
        await asyncio.sleep(0.01)


def test_an_open_queue_begins_without_jobs_and_takes_them(tmp_path: Path) -> None:
    """An executor would need a job to begin with, or lose those of the session before."""
    place = Place(tmp_path)

    async def first() -> None:
        session = place.open()
        running = asyncio.create_task(session.run(lambda now: ev.IntakeChanged(now, True)))
        assert await session.add_jobs([job("a"), job("b", "exit 3", "a")]) == range(2)
        both = await asyncio.gather(
            session.add_jobs([job("c", "true", "a")]), session.add_jobs([job("d", "true", "b")])
        )
        assert both == [range(2, 3), range(3, 4)]
        assert await until(session, "d") is JobStatus.SKIPPED
        with pytest.raises(DocumentError) as caught:
            await session.add_jobs([job("c"), job("e", "true", "aa"), job("e")])
        assert caught.value.errors == (
            'jobs[0].job_id: the queue has a job "c" already',
            'jobs[2].job_id: "e" is also the id of jobs[1]',
            'jobs[1].depends_on[0]: there is no job "aa"; did you mean "a"?',
        )
        session.detach()
        assert await running is QueueStatus.RUNNING
        session.close()

    async def second() -> None:
        session = place.open()
        running = asyncio.create_task(session.run())
        assert session.names == ["a", "b", "c", "d"]
        assert await session.add_jobs([job("e", "echo late", "a")]) == range(4, 5)
        assert await until(session, "e") is JobStatus.COMPLETED
        await session.set_intake(False)
        assert await running is QueueStatus.FAILED
        with pytest.raises(StateError, match="has ended: it takes no more jobs"):
            await session.add_jobs([job("f")])
        session.close()

    asyncio.run(first())
    asyncio.run(second())
    statuses = {each["job_id"]: each["status"] for each in place.state()["jobs"]}
    assert statuses == {
        "a": "completed", "b": "failed", "c": "completed", "d": "skipped", "e": "completed",
    }  # fmt: skip
    assert place.database.outline().units == ["a", "b", "c", "d", "e"]


def test_an_earlier_runner_refuses_a_grown_queue_and_reads_any_other(tmp_path: Path) -> None:
    """It would run the queue without the jobs that were added, and call it completed."""
    place = Place(tmp_path, job("a"))
    assert place.database.meta()["schema_version"] == "1"

    async def grow() -> None:
        session = place.open()
        running = asyncio.create_task(session.run(lambda now: ev.IntakeChanged(now, True)))
        await session.add_jobs([job("b")])
        await session.set_intake(False)
        await running
        session.close()

    asyncio.run(grow())
    assert place.database.meta()["schema_version"] == "2"


@pytest.mark.parametrize("after", ["the end", "the step"])
def test_a_crash_around_the_expansion_loses_and_doubles_nothing(tmp_path: Path, after: str) -> None:
    """The jobs of the file would be missing, or the expanding job run again for them."""
    fan = '{"jobs": [{"job_id": "p", "command": "echo p >> ran", "timeout": "9s"}]}'
    command = f"echo fan >> ran; echo '{fan}' > fan.json"
    place = Place(tmp_path, job("fan", command, expands="fan.json"), job("m", "true", "fan"))

    async def dies() -> None:
        session = place.open()
        added, backend = session.engine.added_jobs, session.engine.backend
        start = backend.start

        def starting(action: Any) -> None:
            # The step with the jobs is durable, and of its effects there is none.
            (start if not action.job else lambda action: session.detach())(action)

        def reading(*_: Any) -> None:
            # The attempt's end is in the record of attempts, and nowhere else.
            session.detach()

        if after == "the end":
            added._read = reading  # type: ignore[method-assign]
        else:
            backend.start = starting  # type: ignore[method-assign]
        assert await session.run() is QueueStatus.RUNNING
        session.close()

    async def resumes() -> QueueStatus:
        session = place.open()
        try:
            return await session.run()
        finally:
            session.close()

    asyncio.run(dies())
    assert asyncio.run(resumes()) is QueueStatus.COMPLETED
    assert (place.work / "ran").read_text().split() == ["fan", "p"]
