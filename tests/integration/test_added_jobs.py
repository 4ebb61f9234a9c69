"""Jobs added to a running queue, by the engine on real processes and a real database."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostless import Elsewhere

from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.core.states import JobStatus, QueueStatus
from runner.engine.added_jobs import read_fan_out
from runner.errors import ConflictError, DocumentError, StateError
from runner.model.document import JobSpec, QueueSpec
from runner.model.settings import Settings
from runner.service import resume_from_store
from runner.service.documents import check_same, mend
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext, Session
from runner.store.database import Database


class Place:
    """A state folder with one queue."""

    def __init__(self, folder: Path, *jobs: JobSpec, store: Path | None = None) -> None:
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        self.store = store
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
        results = None if self.store is None else Elsewhere(self.store)
        context = RunContext({"PATH": os.environ["PATH"]}, str(self.work), results=results)
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


FAN = """echo '{"jobs": [
 {"job_id": "a", "command": "echo a >> ran", "timeout": "9s"},
 {"job_id": "b", "command": "echo b >> ran; test -e go || sleep 60", "timeout": "90s",
  "depends_on": ["a"]}
]}' > fan.json; echo fan >> ran"""


async def run(place: Place) -> QueueStatus:
    session = place.open()
    try:
        return await session.run()
    finally:
        session.close()


def test_another_machine_goes_on_with_all_that_was_added(tmp_path: Path) -> None:
    """A spot machine's end would cost what the queue had grown by, or refuse the run."""
    jobs = (job("fan", FAN, expands="fan.json"), job("m", "echo m >> ran", "fan"))
    first = Place(tmp_path / "1", *jobs, store=tmp_path / "store")

    async def interrupted() -> None:
        session = first.open()
        running = asyncio.create_task(session.run())
        while session.scheduler.units_of("fan.b") is None:
            await asyncio.sleep(0.01)
        await until(session, "fan.a")
        session.tell(lambda now: ev.InterruptRequested(now, "away"))
        await running
        session.close()

    asyncio.run(interrupted())
    second = Place(tmp_path / "2", *jobs, store=tmp_path / "store")
    (second.work / "go").touch()
    store, entry = Elsewhere(tmp_path / "store"), second.repository.find("q")
    found = resume_from_store.find(second.repository, entry, store, print)
    assert found is not None
    resume_from_store.take_over(second.repository, entry, found, store)
    assert asyncio.run(run(second)) is QueueStatus.COMPLETED
    assert (second.work / "ran").read_text().split() == ["b", "m"]
    assert [each["job_id"] for each in second.state()["jobs"]] == ["fan", "m", "fan.a", "fan.b"]


def test_a_grown_queue_takes_its_own_document_and_a_corrected_one(tmp_path: Path) -> None:
    """The same command again would be refused for jobs that the queue itself had added."""
    jobs = (job("fan", FAN, expands="fan.json"), job("m", "false", "fan"), job("n"))
    place = Place(tmp_path, *jobs)
    (place.work / "go").touch()
    assert asyncio.run(run(place)) is QueueStatus.FAILED
    queue = QueueSpec("q", "q", jobs, 3600.0, "continue", max_parallel_jobs=4)
    check_same(place.repository, queue)
    corrected = replace(queue, jobs=(jobs[0], job("m", "echo m >> ran", "fan")))
    with pytest.raises(ConflictError, match='job "n" was removed'):
        check_same(place.repository, corrected)
    assert mend(place.repository, corrected, RunMode(update=True))
    assert asyncio.run(run(place)) is QueueStatus.COMPLETED
    assert (place.work / "ran").read_text().split() == ["fan", "a", "b", "m"]
    # Another fan is to expand again, and its jobs are no longer those of the former one.
    again = replace(corrected, jobs=(replace(jobs[0], timeout=20.0), corrected.jobs[1]))
    assert mend(place.repository, again, RunMode(rerun_changed=True))
    assert place.database.outline().units == ["fan", "m"]
    assert asyncio.run(run(place)) is QueueStatus.COMPLETED
    assert (place.work / "ran").read_text().split()[4:] == ["fan", "a", "b", "m"]


BAD = {
    '{"jobs": [{"job_id": "a", "command": "x"}]}': "jobs[0].timeout: is required",
    '{"jobs": [{"job_id": "a", "comand": "x", "timeout": "1s"}]}': "jobs[0].comand: unknown key",
    '{"jobs": [], "env": {}}': 'env: only "jobs"',
    '{"job": []}': "jobs: is missing",
    "[]": "line 1, column 1",
    '{"jobs": [{"job_id": "' + "a" * 128 + '", "command": "x", "timeout": "1s"}]}': "its id is too",
    '{"jobs": [{"job_id": "a", "command": "x", "timeout": "1s", "depends_on": ["fan"]}]}': (
        'jobs[0].depends_on[0]: there is no job "fan"'
    ),
}


@pytest.mark.parametrize(("text", "told"), BAD.items(), ids=range(len(BAD)))
def test_a_bad_file_fails_the_job_and_says_where(tmp_path: Path, text: str, told: str) -> None:
    """Nobody would know what is wrong with a file that a program has written."""
    (tmp_path / "fan.json").write_text(text)
    queue = QueueSpec("q", "q", (), 3600.0, "stop")
    found = read_fan_out(str(tmp_path / "fan.json"), job("fan", expands="fan.json"), queue, None)
    assert found.fault is not None and found.fault.startswith("fan.json: "), found
    assert told in found.fault


def test_what_is_no_file_fails_the_job_at_once(tmp_path: Path) -> None:
    """A pipe would hold the queue for ever."""
    queue, described = QueueSpec("q", "q", (), 3600.0, "stop"), job("fan", expands="f")
    os.mkfifo(tmp_path / "f")
    for path, told in (("f", "is no regular file"), ("g", "no such file"), (".", "irectory")):
        found = read_fan_out(str(tmp_path / path), described, queue, None)
        assert told in (found.fault or ""), found


def test_a_file_may_say_it_in_short(tmp_path: Path) -> None:
    """What a person may write in a document a program would have to write out."""
    fan = {
        "defaults": {"timeout": "5s"},
        "jobs": [
            {"job_id": "f", "matrix": {"n": ["1", "2"]}, "command": "echo ${{n}}"},
            {"job_id": "all", "command": "true", "depends_on": ["f"]},
        ],
    }
    (tmp_path / "fan.json").write_text(json.dumps(fan))
    queue = QueueSpec("q", "q", (), 3600.0, "stop")
    found = read_fan_out(str(tmp_path / "fan.json"), job("x"), queue, None)
    assert [each.job_id for each in found.jobs] == ["x.f.1", "x.f.2", "x.all"]
    assert found.jobs[0].command == "echo 1"
    assert found.jobs[2].depends_on == ("x", "x.f.1", "x.f.2")


def test_a_look_at_a_queue_that_grows_is_of_one_moment(tmp_path: Path) -> None:
    """`status` would call a state damaged in which jobs came between two of its questions."""
    place = Place(tmp_path, job("a"))

    async def grows() -> None:
        session = place.open()
        running = asyncio.create_task(session.run(lambda now: ev.IntakeChanged(now, True)))
        await until(session, "a")
        looking = place.database
        with looking.one_moment():
            outline = looking.outline()
            await session.add_jobs([job("b")])
            await until(session, "b")
            assert looking.load(len(outline.units)).jobs.keys() == {0}
        assert looking.load().jobs.keys() == {0, 1}
        await session.set_intake(False)
        await running
        session.close()

    asyncio.run(grows())
