"""Opens the target ``fleet``: its database, its job, which is made if there is none, its store."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.api.executor_place import ExecutorPlace
from runner.api.fleet_files import FleetFiles
from runner.api.fleet_job import (
    check_job,
    check_name,
    check_results,
    found_job,
    next_session,
    options_of,
)
from runner.api.fleet_target import FleetPlace, FleetTarget
from runner.api.fleet_workers import LocalWorkers
from runner.api.job_target import JobListener
from runner.errors import ConflictError, disk_error
from runner.fleet.cli.fleet_settings import DATABASE, FleetEnvironment, address, environment
from runner.fleet.database import POSTGRES, FleetDatabase, open_database
from runner.fleet.records import FleetJob, JobOptions
from runner.fleet.task_queue import TaskQueue, of_job
from runner.model.settings import Settings

VISIBILITY = 300
"""Seconds, of a new queue: the worker's own default."""


def open_fleet(
    executor: ExecutorPlace, options: Mapping[str, Any], listener: JobListener
) -> FleetTarget:
    """``options``: checked ones, see ``fleet_options``.

    Raises ValueError, UsageError (ConflictError, a schema that is too old), DatabaseAwayError,
    DiskError, StoreError.
    """
    settings, job_name = executor.settings, options["job"] or executor.queue_id
    check_name(job_name)
    results = None if options["results"] is None else check_results(options["results"])
    found = environment()
    where = _address(options["database"], found, settings, durable=executor.durable)
    database = open_database(where)
    try:
        database.check_schema()
        job = _opened_job(database, job_name, results, options["region"], found)
        assert job.options.results is not None
        files = FleetFiles(job.options.results, settings)
        files.prepare()
        session = next_session(database, job.name)
        workers = None
        full = where if where.startswith(POSTGRES) else str(database.folder)
        if options["workers"]:
            folder = settings.state_dir / "fleet-workers" / f"{job.name}-{session}"
            workers = LocalWorkers(options["workers"], job.name, full, folder)
    except BaseException:
        database.close()
        raise
    queue = of_job(job, options["region"] or found.region)
    hint = _hint(job, database)
    place = FleetPlace(database, job, session, files, queue, workers, hint, executor.code)
    return FleetTarget(place, listener)


def _address(
    given: str | None, found: FleetEnvironment, settings: Settings, *, durable: bool
) -> str:
    """Which database: the option, else as the fleet's commands have it, else the state folder's."""
    named = found.all.get(DATABASE) or found.get("DATABASE") or found.get("SQL_HOST")
    if given is None and durable and not named:
        return str(settings.state_dir / "fleet")
    return address(argparse.Namespace(database=given), found)


def _opened_job(
    database: FleetDatabase,
    name: str,
    results: str | None,
    region: str | None,
    found: FleetEnvironment,
) -> FleetJob:
    """The job, made if there is none. Raises ValueError, ConflictError."""
    if (job := found_job(database, name)) is None:
        options = options_of(results or _default_results(database, found), name)
        urls: tuple[str, str] | tuple[None, None] = (None, None)
        where = region or (None if database.folder is not None else found.region)
        if where is not None:
            urls = _queues(where, name)
        try:
            job = _created(database, name, options, urls)
        except ConflictError:  # another one was a moment quicker
            job = database.job(name)
    check_job(job, results)
    return job


def _created(
    database: FleetDatabase,
    name: str,
    options: JobOptions,
    urls: tuple[str, str] | tuple[None, None],
) -> FleetJob:
    assert options.results is not None
    if options.results.startswith("/"):
        # Whoever may write there runs code here: the owner only, until that is changed.
        try:
            Path(options.results).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise disk_error(options.results, error) from None
    return database.create_job(name, "{}", options, *urls)


def _default_results(database: FleetDatabase, found: FleetEnvironment) -> str:
    if bucket := found.get("DEST_S3_BUCKET"):
        return f"s3://{bucket}"
    if database.folder is None:
        raise ValueError(
            "results: must say where calls and results are stored, a folder that all workers see "
            "or s3://BUCKET/PREFIX: the database is on a server"
        )
    return str(database.folder / "results")


def _queues(region: str, name: str) -> tuple[str, str]:
    from runner.aws.sqs import Sqs

    queue = TaskQueue.make(Sqs(region), name, VISIBILITY, lambda what, url: None)
    return queue.url, queue.dlq_url


def _hint(job: FleetJob, database: FleetDatabase) -> str:
    """The command that starts a worker, without a password."""
    words = ["runner-fleet", "worker", "--job-name", job.name]
    if database.folder is not None:
        words += ["--database", str(database.folder)]
        return shlex.join(words)
    return f"{DATABASE}={database.describe()} {shlex.join(words)}"
