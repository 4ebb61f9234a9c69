"""``worker``, ``workers list|show``, ``migrate`` and ``doctor``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from runner.errors import ExitCode, NotFoundError, UsageError
from runner.fleet.cli import fleet_settings
from runner.fleet.cli.fleet_settings import FleetEnvironment, add_database, environment, opened
from runner.fleet.cli.tables import print_json, print_table
from runner.fleet.connection import schema_text
from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.manifests import source_address
from runner.fleet.protocol import ANSWER, answers_within
from runner.fleet.records import FleetJob, WorkerRecord
from runner.fleet.task_document import WORKER_FOLDER, document_of
from runner.fleet.task_store import store_address
from runner.model.printable import clean
from runner.timestamps import rfc3339

if TYPE_CHECKING:
    from runner.fleet.worker_process import WorkerSetup


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
    fleet_settings.add_source(worker)
    worker.add_argument("--s3-dest-bucket", metavar="B", help="results go there, not to the job's")
    worker.add_argument("--region", metavar="R", help="(default: BEC_REGION)")
    worker.add_argument("--name", metavar="NAME", help="names its workers: NAME-1, NAME-2 …")
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
    migrate.add_argument(
        "--sql", action="store_true", help="print schema.sql for psql instead, and change nothing"
    )
    what = "check what a fleet needs from here: database, results, permissions of its queues"
    doctor = nouns.add_parser("doctor", help=what, description=what)
    doctor.add_argument("--job-name", metavar="JOB", help="only this one (default: all)")
    doctor.add_argument("--region", metavar="R", help="(default: BEC_REGION)")
    verbs_of = ((listing, _list), (show, _show), (migrate, _migrate), (doctor, _doctor))
    for each, execute in verbs_of:
        each.set_defaults(execute=execute)
        each.add_argument("--json", action="store_true", help="print JSON")
        add_database(each)


# -- worker ------------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(clean(text), flush=True)


def _worker(arguments: argparse.Namespace) -> int:
    from runner.fleet.worker_process import run_workers  # the whole engine: no other command's

    found = environment()
    if sys.platform != "linux":
        raise UsageError(f"tasks run on Linux only, and this is {sys.platform}")
    for name, least in (("poll_wait", 0), ("visibility_timeout", 1), ("shutdown_after_empty", 0)):
        if not least <= getattr(arguments, name) <= 43_200:
            raise UsageError(f"--{name.replace('_', '-')}: must be {least} to 43200")
    if not 1 <= arguments.concurrency <= 256:
        raise UsageError("--concurrency: must be 1 to 256")
    patience = answers_within(arguments.visibility_timeout)
    with opened(arguments, found, patience) as database:
        job = database.job(arguments.job_name)
        document_of(job)
        region = arguments.region or found.region
        where = _results(arguments, job, database)
        _say("Starting BEC Worker")
        _say(f"Job: {job.name}")
        _say(f"Region: {region or '-'}")
        _say(f"Source bucket: {fleet_settings.source_bucket(arguments, found)}")
        _say(f"Dest bucket: {where}")
        run_workers(database, job, where, _setup(arguments, found), _say)
    _say("Worker completed successfully")
    _say("Worker shutdown complete")
    return ExitCode.DONE


def _setup(arguments: argparse.Namespace, found: FleetEnvironment) -> WorkerSetup:
    from runner.fleet.worker import WorkerOptions
    from runner.fleet.worker_process import WorkerSetup

    environ = {**found.own, WORKER_FOLDER: os.getcwd()}
    region = arguments.region or found.region
    source = fleet_settings.source_bucket(arguments, found)
    for name, value in (("S3_SOURCE_BUCKET", source), ("AWS_REGION", region)):
        if value:
            environ[name] = value
    model = arguments.model_path or found.get("LD_MODEL_PATH")
    if model is not None and not os.path.exists(model):
        raise UsageError(f"--model-path: there is no {model}")
    options = WorkerOptions(
        arguments.poll_wait, arguments.visibility_timeout, arguments.shutdown_after_empty
    )
    settings = fleet_settings.settings(state_dir=arguments.state_dir)
    where, name = source_address(source), arguments.name
    count = arguments.concurrency
    return WorkerSetup(settings, environ, options, count, region, model, where, name)


def _results(arguments: argparse.Namespace, job: FleetJob, database: FleetDatabase) -> str:
    if arguments.s3_dest_bucket:
        return f"s3://{arguments.s3_dest_bucket}/{job.name}"
    where = store_address(job, database.folder)
    if where is None:
        raise UsageError(f"job {job.name} has no store: `jobs update {job.name} --results …`")
    return where


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
    if arguments.sql:
        print(schema_text(), end="")
        return ExitCode.DONE
    database = open_database(fleet_settings.address(arguments, environment()))
    try:
        done = database.migrate(lambda text: print(text, file=sys.stderr, flush=True))
        where = database.describe()
    finally:
        database.close()
    if arguments.json:
        print_json({"database": where, "applied": done})
    else:
        print(f"✓ Migrated {where}: {', '.join(done) or 'it was up to date'}")
    return ExitCode.DONE


def _doctor(arguments: argparse.Namespace) -> int:
    from runner.fleet.doctor import examine_database, examine_job
    from runner.targets.ec2.account.doctor.findings import Grade, describe, format_findings

    settings, environ = fleet_settings.settings(), environment()
    database = open_database(fleet_settings.address(arguments, environ), ANSWER)
    try:
        found = examine_database(database)
        if found[0].grade is not Grade.FAIL:
            names = arguments.job_name
            jobs = [database.job(names)] if names else database.jobs()
            for job in jobs:
                region = arguments.region or environ.region
                found += examine_job(job, database, settings, region)
    finally:
        database.close()
    if arguments.json:
        print_json([describe(each) for each in found])
    else:
        print("\n".join(format_findings(found)))
    failed = any(each.grade is Grade.FAIL for each in found)
    return ExitCode.ERROR if failed else ExitCode.DONE
