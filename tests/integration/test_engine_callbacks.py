"""What no caller can catch: a queue never waits for a callback, a task or a thread that failed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.core.states import QueueStatus
from runner.engine import backoff, heartbeat, state_file_writer, uploads
from runner.engine.call_threads import CallThreads
from runner.engine.heartbeat import Heartbeat
from runner.engine.state_file_writer import StateFileWriter
from runner.model.document import parse_document
from runner.model.settings import Settings
from runner.results.folder import FolderStore
from runner.results.lease import Lease
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext, Session

DOCUMENT = b"""{"queue_id": "q", "queue_name": "q", "global_timeout": "1h", "on_failure": "stop",
    "jobs": [{"job_id": "a", "command": "true", "timeout": "2m"},
             {"job_id": "b", "command": "true", "timeout": "2m"}]}"""


@pytest.fixture
def work(tmp_path: Path) -> Callable[[], QueueStatus]:
    """Do what there is to do in the queue, with a result store; raises what the session raised."""
    repository = QueueRepository(tmp_path / "state", tmp_path / "logs")
    repository.create(parse_document(DOCUMENT), "run", anonymous=False)
    settings = Settings(tmp_path, tmp_path, tmp_path, tmp_path, disk_reserve=0)

    async def session() -> QueueStatus:
        place = RunContext({"PATH": "/usr/bin:/bin"}, str(tmp_path))
        place = RunContext(
            place.environment, place.work_dir, results=FolderStore(tmp_path / "results")
        )
        made = Session(repository, settings, "q", place)
        try:
            return await asyncio.wait_for(made.run(), 60)
        finally:
            made.close()

    return lambda: asyncio.run(session())


def test_an_upload_that_meets_a_bug_is_tried_again(
    work: Callable[[], QueueStatus], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The queue would stay `running` for ever, its files nowhere, and say nothing."""
    real, left = uploads.upload_job, [RuntimeError("can't start new thread"), ValueError("a bug")]

    def upload_job(*arguments: Any) -> uploads.UploadOutcome:
        if left:
            raise left.pop()
        return real(*arguments)

    monkeypatch.setattr(uploads, "upload_job", upload_job)
    monkeypatch.setattr(backoff, "FIRST_RETRY", 0.01)
    assert work() is QueueStatus.COMPLETED
    assert not left and (tmp_path / "results/jobs/a/stdout.log").exists()


def test_a_thread_that_the_system_does_not_give_is_asked_for_again(
    work: Callable[[], QueueStatus], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A moment without threads would leave a job's files where they are."""
    real, refused = threading.Thread.start, []

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("uploads") and len(refused) < 2:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(backoff, "FIRST_RETRY", 0.01)
    assert work() is QueueStatus.COMPLETED
    assert len(refused) == 2 and (tmp_path / "results/jobs/b/stdout.log").exists()


def test_a_call_that_was_refused_a_thread_is_not_made_later() -> None:
    """Two uploads of one job would go on at once, and take each other's for a killed one's."""
    workers, go, made = CallThreads(2, "test"), threading.Event(), []
    workers.submit(go.wait)
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threading.Thread.start = start  # type: ignore[method-assign]
    try:
        refused = workers.submit(made.append, "refused")
    finally:
        threading.Thread.start = real  # type: ignore[method-assign]
    assert isinstance(refused.exception(), RuntimeError)
    go.set()
    workers.submit(made.append, "next").result(10)
    assert made == ["next"]
    workers.end()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (uploads.Uploads, "_describe"),
        (uploads.Uploads, "_report"),
        (uploads.Uploads, "wake"),
        (StateFileWriter, "changed"),
        (uploads.Uploads, "last_ones"),
    ],
)
def test_a_bug_in_a_callback_ends_the_session_and_the_next_goes_on(
    work: Callable[[], QueueStatus], monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """The queue would wait for ever for what the callback did not do."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        with pytest.raises(ZeroDivisionError, match="a bug"):
            work()
    assert work() is QueueStatus.COMPLETED


def test_a_state_file_that_meets_a_bug_does_not_hold_up_the_end(
    work: Callable[[], QueueStatus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the session would wait for, or raise, what one writing of the file raised."""
    real, left = state_file_writer.write_projection, [ValueError("a bug")]

    def write(*arguments: Any, **options: Any) -> None:
        if left:
            raise left.pop()
        real(*arguments, **options)

    monkeypatch.setattr(state_file_writer, "write_projection", write)
    assert work() is QueueStatus.COMPLETED
    assert not left


def test_a_renewal_that_meets_a_bug_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The lease would run out under a machine that works, and another take the queue over."""
    renewed: Future[None] = Future()
    left = [RuntimeError("can't start new thread"), KeyError("a bug")]

    def renew(lease: Lease, epoch: int, *, released: bool = False) -> None:
        if left:
            raise left.pop()
        if not renewed.done():
            renewed.set_result(None)

    monkeypatch.setattr(Lease, "renew", renew)
    monkeypatch.setattr(heartbeat, "patience_with", lambda store: 2.0)

    async def beat() -> None:
        around = SimpleNamespace(
            results=FolderStore(tmp_path),
            instance=lambda: None,
            holder=lambda run_id: None,
            journal=False,
        )
        scheduler = SimpleNamespace(queue=SimpleNamespace(run_id="r", epoch=0))
        state = SimpleNamespace(epoch=1, succeeded=None)
        made = Heartbeat(around, scheduler, state, 0.01)  # type: ignore[arg-type]
        made.look()
        made.begin()
        try:
            await asyncio.wait_for(asyncio.wrap_future(renewed), 10)
        finally:
            made.stop()
            made.join()

    asyncio.run(beat())
    assert not left
