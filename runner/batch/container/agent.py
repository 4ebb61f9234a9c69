"""The container beside COMMAND's: its clock, its live logs, and what is stored of it at the end.

It is the essential one: the Batch job ends with it, with COMMAND's exit code.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from runner.batch.container.staged import Staged, read_staged
from runner.batch.container.storing import store_attempt
from runner.batch.container.task import Task, load_task, patiently, say
from runner.batch.container.volume import Volume
from runner.batch.container.watch import CommandWatch
from runner.batch.records import BatchEnd, EndKind
from runner.errors import RecordError, RunnerError
from runner.results.layout import STREAMS
from runner.results.store import StoreError
from runner.results.upload.log_tail import LogTail

LOOK_EVERY = 0.1
"""Seconds."""

ECHO = 1 << 16
"""Bytes of COMMAND's output that are passed on at once."""

TIMED_OUT, STOPPED, NOT_RUNNABLE, KILLED = 124, 143, 1, 137
"""Exit codes of ends that are none of COMMAND's own."""

_LOG = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LiveLog:
    """What COMMAND writes: to the store part by part, and to this container's own output.

    In a thread of its own: a store that is away must not stop the clock.
    """

    def __init__(self, task: Task, folder: Path, every: float) -> None:
        self._every = every
        self._ended = threading.Event()
        self._logs = []
        for stream, own in zip(STREAMS, (1, 2), strict=True):
            tail = LogTail(task.store, task.name, task.entry.attempt, stream)
            with suppress(OSError):
                self._logs.append((os.open(folder / stream, _LOG), own, tail))
        self._echoed = dict.fromkeys((fd for fd, _, _ in self._logs), 0)
        self._echo = threading.Thread(target=self._pass_on, name="echo", daemon=True)
        self._store = threading.Thread(target=self._follow, name="live-log", daemon=True)
        self._echo.start()
        self._store.start()

    def end(self) -> None:
        """No part is on its way any more when this returns: the whole log comes."""
        self._ended.set()
        self._store.join()
        self._echo.join()
        for fd, _, _ in self._logs:
            os.close(fd)

    def _follow(self) -> None:
        while not self._ended.wait(self._every):
            for fd, _, tail in self._logs:
                # What is missing is stored with the next look, or as a whole.
                with suppress(StoreError, OSError):
                    while tail.has_more(fd) and tail.put_next(fd) and not self._ended.is_set():
                        pass

    def _pass_on(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(0.5)
            for fd, own, _ in self._logs:
                with suppress(OSError):
                    while data := os.pread(fd, ECHO, self._echoed[fd]):
                        self._echoed[fd] += os.write(own, data)


def attend(
    environment: Mapping[str, str],
    volume: Volume,
    stopping: threading.Event,
    *,
    in_image: bool = False,
) -> int:
    """Watch COMMAND to its end, and store what is to be stored; the exit code.

    ``stopping`` is set once this container has been asked to end. Raises RunnerError, OSError.
    """
    task = patiently(lambda: load_task(environment, volume.root / "submission.json"), say)
    submission = task.submission
    timeout = submission.timeout
    if submission.inputs_in_timeout:
        timeout = max(0.0, timeout - _staged(volume).input_seconds)
    stop_seconds = _seconds(environment, "RUNNER_STOP_SECONDS", 30.0)
    watch = CommandWatch(volume, environment, timeout, submission.term_grace, stop_seconds)
    log = LiveLog(task, volume.main, submission.live_log_interval)
    try:
        end = _watch(watch, task, volume, stopping)
    finally:
        log.end()
        watch.close()
    stands = store_attempt(task, volume, end, say, in_image=in_image)
    task.store.close()
    return exit_code(end, stands)


def _watch(watch: CommandWatch, task: Task, volume: Volume, stopping: threading.Event) -> BatchEnd:
    """How COMMAND ended, once main has nothing more to tell; the end is stored as soon as it is
    known."""
    first: BatchEnd | None = None
    while True:
        asked = stopping.is_set()
        if asked and volume.status() is None:
            with suppress(OSError):
                (volume.root / "spot-notice").touch()
        watch.look(stopping=asked)
        end = watch.end(task.entry.token, stopping=asked)
        if end is not None and first is None:
            first = end
            with suppress(StoreError):  # it is stored in any case, in a moment
                task.put_end(end)
        if first is not None and end is not None and watch.over:
            return replace(first, usage=end.usage)
        time.sleep(LOOK_EVERY)


def exit_code(end: BatchEnd, stands: BatchEnd) -> int:
    """What Batch is told; 0 only for an exit with 0 that nobody had a reason to end."""
    match end.kind:
        case EndKind.EXIT if stands.by is end.by:
            return end.code or 0
        case EndKind.TIMED_OUT:
            return end.code or TIMED_OUT
        case EndKind.NOT_RUNNABLE:
            return NOT_RUNNABLE
        case EndKind.KILLED:
            return KILLED
        case EndKind.SIGNAL:
            number = getattr(signal, end.signal or "", None)
            return 128 + number if isinstance(number, signal.Signals) else KILLED
        case _:
            return end.code or STOPPED


def _staged(volume: Volume) -> Staged:
    try:
        return read_staged(volume)
    except (OSError, RecordError):
        return Staged()


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    return float(text) if text.isascii() and text.isdigit() else default


def main() -> int:
    """The container's process."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    os.umask(0o022)
    try:
        return attend(os.environ, Volume.from_environment(os.environ), stopping)
    except (RunnerError, OSError) as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
