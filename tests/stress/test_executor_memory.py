"""What an Executor costs that has 100,000 Futures, or works for a day."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
from executor_targets import until

from runner import Executor
from runner.api.executor_session import ExecutorSession
from runner.api.job_target import CommandOutput, JobEnd, JobListener
from runner.api.tasks import CommandTask, Task

PATIENCE = 300.0
MIB = 1024 * 1024


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class QuickTarget:
    """Every job has ended a moment after it was taken."""

    name, region, id_prefix = "quick", None, ""

    def __init__(self, listener: JobListener) -> None:
        self._listener = listener
        self._jobs: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (job_id := self._jobs.get()) is not None:
            self._listener.started(job_id)
            self._listener.ended(JobEnd(job_id, "completed", 1, 0))

    def add(self, task: Task) -> None:
        self._jobs.put(task.id)

    def close(self) -> None:
        self._jobs.put(None)

    def join(self, timeout: float | None = None) -> bool:
        self._thread.join(timeout)
        return True

    def first_number(self) -> int:
        return 1

    def output(self, end: JobEnd) -> CommandOutput:
        return CommandOutput("", "", truncated=False)

    def forget(self, end: JobEnd) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@pytest.fixture
def session() -> Iterator[ExecutorSession]:
    made = ExecutorSession(lambda listener: [QuickTarget(listener)], "wait", None)  # type: ignore[list-item]
    yield made
    made.shutdown(wait=True, cancel_futures=False)


def test_a_day_of_jobs_leaves_nothing_behind(
    session: ExecutorSession, scaled: Callable[[int], int]
) -> None:
    """A program that submits a job every 200 ms would be out of memory after some weeks."""
    target = session.targets[0]

    def submit(count: int) -> None:
        futures = [
            session.submit(target, CommandTask(session.next_id("x"), "test", script="true"))
            for _ in range(count)
        ]
        assert not wait(futures, PATIENCE).not_done

    for _ in range(20):
        submit(1000)
    until(lambda: not session._held, PATIENCE)
    before, threads = resident(), threading.active_count()
    rounds = scaled(400)  # of 1,000 jobs: more than a day has of 200 ms
    for _ in range(rounds):
        submit(1000)
    until(lambda: not session._held, PATIENCE)
    grown = resident() - before
    print(f"{rounds * 1000:,} jobs: {grown / MIB:+.1f} MiB, {grown / rounds / 1000:.1f} bytes each")
    assert threading.active_count() == threads
    assert grown < 8 * MIB
    figures = session.metrics.figures()
    assert (figures.waiting, figures.running) == (0, 0)


def test_a_hundred_thousand_futures(scaled: Callable[[int], int]) -> None:
    """Each would have a thread, or so much memory that a laptop has no room for them."""
    count = scaled(100_000)
    with Executor(1) as ex:
        running = ex.submit_command("sleep 600")
        until(running.running, PATIENCE)
        before, threads = resident(), threading.active_count()
        begun = time.monotonic()
        many = [ex.submit_command("true") for _ in range(count)]
        took = time.monotonic() - begun
        target: Any = ex._session.targets[0]
        until(lambda: len(target._session.names) == count + 1, PATIENCE)
        grown = (resident() - before) / count
        print(f"{count:,} Futures: {grown:,.0f} bytes each, {took / count * 1e6:.0f} µs to submit")
        assert threading.active_count() <= threads + 1
        assert grown < 8_000
        ex.shutdown(wait=False, cancel_futures=True)
        running.terminate()
        assert not wait(many, PATIENCE).not_done and all(each.cancelled() for each in many)
