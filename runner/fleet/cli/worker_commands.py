"""``worker``, ``workers list|show`` and ``migrate``."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from runner.errors import ExitCode, LockedError, NotFoundError, RunnerError, UsageError
from runner.fleet.cli import fleet_settings
from runner.fleet.cli.fleet_settings import FleetEnvironment, add_database, environment, opened
from runner.fleet.cli.tables import print_json, print_table
from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.records import FleetJob, WorkerRecord
from runner.fleet.sources import DatabaseSource
from runner.fleet.task_document import document_of
from runner.fleet.task_run import TaskPlace, end_orphans
from runner.fleet.task_store import TaskStore, store_address
from runner.fleet.worker import Worker, WorkerOptions
from runner.model.printable import clean
from runner.store.locks import Lock
from runner.timestamps import rfc3339

POLL = 0.5
"""Seconds between two looks whether all workers of this process have ended."""


def configure(nouns: Any) -> None:
    """Add the commands to the command line."""
    what = "take tasks of a job and run them, one after the other"
    worker = nouns.add_parser("worker", help=what, description=what)
    worker.set_defaults(execute=_worker)
    worker.add_argument("--job-name", metavar="JOB", required=True)
    for name, kind, default, told in (
        ("poll-wait", float, 20.0, "seconds that one poll for a task takes"),
        ("visibility-timeout", float, 300.0, "seconds without a sign of life until others take it"),
        ("shutdown-after-empty", int, 6, "end after N empty polls, when nothing is left; 0: never"),
        ("concurrency", int, 1, "so many tasks at once"),
    ):
        worker.add_argument(
            f"--{name}",
            type=kind,
            default=default,
            metavar="N",
            help=f"{told} (default: {default:g})",
        )
    worker.add_argument("--model-path", metavar="FILE", help="(default: BEC_LD_MODEL_PATH)")
    worker.add_argument("--s3-source-bucket", metavar="B", help="told to tasks as S3_SOURCE_BUCKET")
    worker.add_argument("--s3-dest-bucket", metavar="B", help="results go there, not to the job's")
    worker.add_argument("--region", metavar="R", help="(default: BEC_REGION)")
    worker.add_argument("--state-dir", metavar="DIR", help="the state folder")
    add_database(worker)
    workers = nouns.add_parser("workers", help="look at the workers")
    verbs = workers.add_subparsers(metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="list the workers that have not stopped")
    listing.add_argument("--job-name", metavar="JOB", help="only those of this job")
    listing.add_argument("--all", action="store_true", help="those that have stopped, too")
    show = verbs.add_parser("show", help="show a worker")
    show.add_argument("id", type=int, metavar="ID")
    migrate = nouns.add_parser("migrate", help="make the database's schema, or bring it up to date")
    for each, execute in ((listing, _list), (show, _show), (migrate, _migrate)):
        each.set_defaults(execute=execute)
        each.add_argument("--json", action="store_true", help="print JSON")
        add_database(each)


# -- worker ------------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(clean(text), flush=True)


def _worker(arguments: argparse.Namespace) -> int:
    found = environment()
    if sys.platform != "linux":
        raise UsageError(f"tasks run on Linux only, and this is {sys.platform}")
    for name, least in (("poll_wait", 0), ("visibility_timeout", 1), ("shutdown_after_empty", 0)):
        if not least <= getattr(arguments, name) <= 43_200:
            raise UsageError(f"--{name.replace('_', '-')}: must be {least} to 43200")
    if not 1 <= arguments.concurrency <= 256:
        raise UsageError("--concurrency: must be 1 to 256")
    with opened(arguments, found) as database:
        job = database.job(arguments.job_name)
        document_of(job)
        region = arguments.region or found.region
        where = _results(arguments, job, database)
        _say("Starting BEC Worker")
        _say(f"Job: {job.name}")
        _say(f"Region: {region or '-'}")
        _say(f"Dest bucket: {where}")
        _run_workers(arguments, found, database, job, where)
    _say("Worker completed successfully")
    _say("Worker shutdown complete")
    return ExitCode.DONE


def _results(arguments: argparse.Namespace, job: FleetJob, database: FleetDatabase) -> str:
    if arguments.s3_dest_bucket:
        return f"s3://{arguments.s3_dest_bucket}/{job.name}"
    where = store_address(job, database.folder)
    if where is None:
        raise UsageError(f"job {job.name} has no store: `jobs update {job.name} --results …`")
    return where


def _run_workers(
    arguments: argparse.Namespace,
    found: FleetEnvironment,
    database: FleetDatabase,
    job: FleetJob,
    where: str,
) -> None:
    settings = fleet_settings.settings(state_dir=arguments.state_dir)
    environ = dict(found.own)
    for name, value in (
        ("S3_SOURCE_BUCKET", arguments.s3_source_bucket or found.get("SOURCE_S3_BUCKET")),
        ("AWS_REGION", arguments.region or found.get("REGION")),
    ):
        if value:
            environ[name] = value
    model = arguments.model_path or found.get("LD_MODEL_PATH")
    if model is not None and not os.path.exists(model):
        raise UsageError(f"--model-path: there is no {model}")
    options = WorkerOptions(
        arguments.poll_wait, arguments.visibility_timeout, arguments.shutdown_after_empty
    )
    locks: list[Lock] = []
    threads: list[threading.Thread] = []
    workers: list[Worker] = []
    failures: list[BaseException] = []
    stores: list[TaskStore] = []

    def work(worker: Worker) -> None:
        try:
            worker.run()
        except BaseException as error:
            failures.append(error)

    try:
        for _ in range(arguments.concurrency):
            lock, folder = _own_folder(settings.state_dir / "fleet-work")
            locks.append(lock)
            store = TaskStore(where, settings)
            stores.append(store)
            for note in store.prepare():
                _say(note)
            own = database.another()
            name = f"{socket.gethostname()}-{os.getpid()}-{len(locks)}"
            number = own.register(job.id, name)
            _say(f"Worker initialized: worker_id={number}, job_id={job.id}")
            source = DatabaseSource(own, job.id, number, options.lease)
            place = TaskPlace(folder, settings, environ, model)
            workers.append(Worker(own, job, number, name, source, store, place, options, _say))
        _say(f"Queue: {job.queue_url or database.describe()}")
        _say(f"DLQ: {job.dlq_url or '-'}")
        _end_on_signals(workers)
        for worker in workers:
            thread = threading.Thread(target=work, args=(worker,), name="worker", daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            while thread.is_alive():  # a signal's handler runs between two of these
                thread.join(POLL)
    finally:
        for store in stores:
            store.close()
        for lock in locks:
            lock.release()
    for failure in failures:
        raise failure


def _end_on_signals(workers: list[Worker]) -> None:
    def on_signal(number: int, frame: object) -> None:
        reason = f"the worker was stopped by {signal.Signals(number).name}"
        for worker in workers:
            worker.stop(reason)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)


def _own_folder(root: Path) -> tuple[Lock, Path]:
    """A folder that no living worker has; what killed ones have left running in any is ended."""
    root.mkdir(parents=True, exist_ok=True)
    mine: tuple[Lock, Path] | None = None
    known = sorted(int(path.name) for path in root.iterdir() if path.name.isdecimal())
    for number in [*known, max(known, default=0) + 1]:
        folder = root / str(number)
        folder.mkdir(exist_ok=True)
        try:
            lock = Lock(folder / "lock", f"the work folder {folder}", "runner-fleet worker")
        except LockedError:
            continue
        if lived := end_orphans(folder):
            _say(f"Ended {lived} processes that a killed worker had left behind")
        if mine is None:
            mine = lock, folder
        else:
            lock.release()
        if number == max(known, default=0) + 1:
            break
    if mine is None:
        raise RunnerError(f"{root}: there is no free work folder")
    return mine


# -- workers -----------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        job = database.job(arguments.job_name).id if arguments.job_name else None
        found = [each for each in database.workers(job) if arguments.all or each.stopped_at is None]
        now = database.now()
    if arguments.json:
        print_json([_told(each) for each in found])
        return ExitCode.DONE
    rows = [
        (
            str(each.id),
            each.name,
            "stopped" if each.stopped_at is not None else _heard(each, now),
            each.task_key or "-",
        )
        for each in found
    ]
    print_table(("ID", "Worker", "Heard of", "Task"), rows)
    return ExitCode.DONE


def _heard(worker: WorkerRecord, now: float) -> str:
    return f"{max(0.0, now - (worker.beat_at or now)):.0f} s ago"


def _show(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        found = next((each for each in database.workers() if each.id == arguments.id), None)
    if found is None:
        raise NotFoundError(f"there is no worker {arguments.id}")
    told = _told(found)
    if arguments.json:
        print_json(told)
        return ExitCode.DONE
    for name, value in told.items():
        print(f"{name}: {'-' if value is None else value}")
    return ExitCode.DONE


def _told(worker: WorkerRecord) -> dict[str, Any]:
    return {
        "id": worker.id,
        "name": worker.name,
        "job_id": worker.job_id,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "started_at": rfc3339(worker.started_at),
        "last_heartbeat_at": rfc3339(worker.beat_at),
        "stopped_at": rfc3339(worker.stopped_at),
        "task_id": worker.task,
        "task": worker.task_key,
    }


def _migrate(arguments: argparse.Namespace) -> int:
    database = open_database(fleet_settings.address(arguments, environment()))
    try:
        done = database.migrate()
        where = database.describe()
    finally:
        database.close()
    if arguments.json:
        print_json({"database": where, "applied": done})
    else:
        print(f"✓ Migrated {where}: {', '.join(done) or 'it was up to date'}")
    return ExitCode.DONE
