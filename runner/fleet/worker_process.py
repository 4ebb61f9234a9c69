"""A process of workers: as many as it is to run at once, each with a row, a folder and a lease of
its own.

Owns the signals that stop it, and the folders in which its tasks run: what a killed process has
left running there is ended before a new one begins.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from runner.errors import LockedError
from runner.fleet.database import FleetDatabase
from runner.fleet.manifests import ManifestSource
from runner.fleet.message_source import MessageSource
from runner.fleet.records import FleetJob
from runner.fleet.sources import DatabaseSource, TaskSource
from runner.fleet.task_queue import of_job
from runner.fleet.task_run import TaskPlace, end_orphans
from runner.fleet.task_store import TaskStore
from runner.fleet.worker import Worker, WorkerOptions
from runner.model.settings import Settings
from runner.store.locks import Lock

POLL = 0.5
"""Seconds between two looks whether all workers have ended."""

Say = Callable[[str], None]
Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """How a process of workers works. ``environ``: what its tasks inherit; ``region``: of the
    queues, None: as AWS's own settings say; ``model``: the path of a model, told to the tasks;
    ``source``: the store of their manifests; ``name``: how the names of its workers begin, None:
    with the host's name and the process id."""

    settings: Settings
    environ: Mapping[str, str]
    options: WorkerOptions
    concurrency: int = 1
    region: str | None = None
    model: str | None = None
    source: str | None = None
    name: str | None = None


def run_workers(
    database: FleetDatabase,
    job: FleetJob,
    results: str,
    setup: WorkerSetup,
    say: Say,
    step: Step = lambda name: None,
) -> None:
    """Work until nothing is left, or a signal comes. Only in a process's main thread.

    ``results``: the store of the job's tasks; ``step``: see Worker. Raises RunnerError.
    """
    failures: list[BaseException] = []
    with ExitStack() as stack:
        workers = [
            _made(database, job, results, setup, number, say, step, stack)
            for number in range(1, setup.concurrency + 1)
        ]
        say(f"Queue: {job.queue_url or database.describe()}")
        say(f"DLQ: {job.dlq_url or '-'}")
        _stop_on_signals(workers)
        threads = [
            threading.Thread(target=_work, args=(each, failures), name="worker", daemon=True)
            for each in workers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # a signal's handler runs between two of these
                thread.join(POLL)
    for failure in failures:
        raise failure


def _work(worker: Worker, failures: list[BaseException]) -> None:
    try:
        worker.run()
    except BaseException as error:
        failures.append(error)


def _made(
    database: FleetDatabase,
    job: FleetJob,
    results: str,
    setup: WorkerSetup,
    number: int,
    say: Say,
    step: Step,
    stack: ExitStack,
) -> Worker:
    settings, options = setup.settings, setup.options
    lock, folder = own_folder(settings.state_dir / "fleet-work", say)
    stack.callback(lock.release)
    store = TaskStore(results, settings)
    stack.callback(store.close)
    for note in store.prepare():
        say(note)
    own = database.another()
    stack.callback(own.close)
    name = f"{setup.name or f'{socket.gethostname()}-{os.getpid()}'}-{number}"
    row = own.register(job.id, name)
    say(f"Worker initialized: worker_id={row}, job_id={job.id}")
    queue = of_job(job, setup.region)
    source: TaskSource
    if queue is None:
        source = DatabaseSource(own, job.id, row, options.lease)
    else:
        source = MessageSource(queue, own, job.id, row, options.lease, say)
    manifests: ManifestSource | None = None
    if setup.source is not None and job.options.manifest_key is not None:
        manifests = ManifestSource(setup.source)
        stack.callback(manifests.close)
    place = TaskPlace(folder, settings, setup.environ, setup.model, manifests)
    stack.callback(place.forkers.close)
    return Worker(own, job, row, name, source, store, place, options, say, step)


def _stop_on_signals(workers: list[Worker]) -> None:
    def on_signal(number: int, frame: object) -> None:
        reason = f"the worker was stopped by {signal.Signals(number).name}"
        # Not in the handler: it may have interrupted the main thread inside a lock.
        for worker in workers:
            threading.Thread(target=worker.stop, args=(reason,), daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)


def own_folder(root: Path, say: Say) -> tuple[Lock, Path]:
    """A folder that no living worker has; what killed ones have left running in any is ended."""
    root.mkdir(parents=True, exist_ok=True)
    mine: tuple[Lock, Path] | None = None
    for number in sorted(int(path.name) for path in root.iterdir() if path.name.isdecimal()):
        if (taken := _locked(root / str(number), say)) is not None:
            if mine is None:
                mine = taken
            else:
                taken[0].release()
    number = 0
    while mine is None:
        number += 1
        mine = _locked(root / str(number), say)
    return mine


def _locked(folder: Path, say: Say) -> tuple[Lock, Path] | None:
    folder.mkdir(exist_ok=True)
    try:
        lock = Lock(folder / "lock", f"the work folder {folder}", "runner-fleet worker")
    except LockedError:
        return None
    if lived := end_orphans(folder):
        say(f"Ended {lived} processes that a killed worker had left behind")
    return lock, folder
