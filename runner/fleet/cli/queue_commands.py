"""``queue enqueue|stats|purge|redrive``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.errors import ExitCode, UsageError
from runner.fleet.cli.fleet_settings import (
    add_database,
    add_source,
    environment,
    opened,
    source_bucket,
)
from runner.fleet.cli.items import item, read_items, volume
from runner.fleet.cli.tables import confirmed, print_json, print_table
from runner.fleet.database import FleetDatabase
from runner.fleet.manifests import ManifestSource, source_address
from runner.fleet.records import FleetJob, TaskItem, TaskState
from runner.fleet.task_queue import of_job, send_unsent
from runner.timestamps import rfc3339


def configure(nouns: Any) -> None:
    """Add the commands to the command line."""
    queue = nouns.add_parser("queue", help="fill a job's task queue, look at it, empty it")
    verbs = queue.add_subparsers(metavar="VERB", required=True)
    enqueue = _verb(verbs, "enqueue", "add tasks to a job", _enqueue)
    enqueue.add_argument(
        "--file",
        metavar="FILE",
        help="volumes, one a line (W_ID,I_ID or W_ID I_ID), or items: .csv, .jsonl",
    )
    enqueue.add_argument(
        "--volume", metavar="W_ID,I_ID", action="append", default=[], help="may be repeated"
    )
    enqueue.add_argument(
        "--item",
        metavar="KEY=VALUE",
        action="append",
        nargs="+",
        default=[],
        help="a task that is no volume, by its variables; may be repeated",
    )
    add_source(enqueue)
    _verb(verbs, "stats", "show what is in a job's task queue", _stats)
    purge = _verb(verbs, "purge", "cancel every task that waits", _purge)
    purge.add_argument("--yes", "-y", action="store_true", help="don't ask")
    redrive = _verb(verbs, "redrive", "have failed tasks run again", _redrive)
    redrive.add_argument("--source-queue-url", metavar="URL", help="the job's dead letters")
    redrive.add_argument("--dest-queue-url", metavar="URL", help="the job's tasks")
    redrive.add_argument("--max-messages", type=int, metavar="N", help="(default: all)")
    redrive.add_argument(
        "--task", metavar="KEY", action="append", default=[], help="only this one: W_ID/I_ID"
    )


def _verb(verbs: Any, name: str, what: str, execute: Any) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=what)
    made.set_defaults(execute=execute)
    made.add_argument("--job-name", metavar="JOB", required=name != "redrive")
    made.add_argument("--json", action="store_true", help="print JSON")
    add_database(made)
    return made


def _items(arguments: argparse.Namespace) -> list[TaskItem]:
    found = [volume(text, "--volume") for text in arguments.volume]
    found += [item(words, "--item") for words in arguments.item]
    if arguments.file is not None:
        found += read_items(Path(arguments.file))
    if not found:
        raise UsageError("nothing to enqueue: --file, --volume or --item says what")
    return found


def _enqueue(arguments: argparse.Namespace) -> int:
    items = _items(arguments)
    with opened(arguments, environment()) as database:
        job = database.job(arguments.job_name)
        done = database.tasks.enqueue(job.id, items)
        changed = 0
        if done.known and job.options.manifest_key is not None:
            keys = [each.key for each in items]
            source = source_address(source_bucket(arguments, environment()))
            changed = _reopen_changed(database, job, keys, source)
        queue = of_job(job, environment().region)
        sent = None if queue is None else send_unsent(database, queue, job)
        doubled = len(items) - done.new - done.known
    if arguments.json:
        told = {"enqueued": done.new, "known": done.known, "given_twice": doubled, "sent": sent}
        print_json({**told, "reopened": changed})
        return ExitCode.DONE
    print(f"✓ Enqueued {done.new} tasks")
    if done.known:
        print(f"  {done.known - changed} were there before, and stay as they are")
    if changed:
        print(f"  {changed} have another manifest than they were done with: pending again")
    if doubled:
        print(f"  {doubled} were given twice")
    if sent is not None and sent < done.new:
        print(f"  SQS accepted {sent} messages; a worker sends the others")
    return ExitCode.DONE


def _reopen_changed(database: FleetDatabase, job: FleetJob, keys: Sequence[str], where: str) -> int:
    """Tasks that were done with another manifest are pending again; how many."""
    assert job.options.manifest_key is not None
    done = database.views.done_with_manifest(job.id, keys)
    source = ManifestSource(where)
    try:
        found = source.changed(done, job.options.manifest_key, lambda text: print(text))
    finally:
        source.close()
    return sum(database.tasks.reopen(task) for task in found)


def _stats(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        job = database.job(arguments.job_name)
        backlog = database.views.backlog(job.id)
        queue = of_job(job, environment().region)
        attributes = None if queue is None else queue.stats()
    if attributes is not None:
        return _sqs_stats(attributes, as_json=arguments.json)
    if arguments.json:
        told = {"available": backlog.due, "in_flight": backlog.running, "delayed": backlog.waiting}
        print_json(told)
        return ExitCode.DONE
    created = rfc3339(job.created_at) or "-"
    rows = [
        ("Messages Available", str(backlog.due)),
        ("Messages In Flight", str(backlog.running)),
        ("Messages Delayed", str(backlog.waiting)),
        ("Created", created),
    ]
    print_table(("Metric", "Value"), rows)
    return ExitCode.DONE


SQS_STATS = {
    "Messages Available": "ApproximateNumberOfMessages",
    "Messages In Flight": "ApproximateNumberOfMessagesNotVisible",
    "Messages Delayed": "ApproximateNumberOfMessagesDelayed",
}


def _sqs_stats(attributes: Mapping[str, str], *, as_json: bool) -> int:
    counts = {name: int(attributes.get(key, 0)) for name, key in SQS_STATS.items()}
    times = {
        name: rfc3339(float(attributes[key])) if key in attributes else "-"
        for name, key in (
            ("Created", "CreatedTimestamp"),
            ("Last Modified", "LastModifiedTimestamp"),
        )
    }
    if as_json:
        names = ("available", "in_flight", "delayed", "created", "last_modified")
        print_json(dict(zip(names, [*counts.values(), *times.values()], strict=True)))
    else:
        rows = [(name, str(value)) for name, value in [*counts.items(), *times.items()]]
        print_table(("Metric", "Value"), rows)
    return ExitCode.DONE


def _purge(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        job = database.job(arguments.job_name)
        backlog = database.views.backlog(job.id)
        waits = backlog.due + backlog.waiting
        question = f"Cancel the {waits} tasks of {job.name} that wait? This is irreversible."
        if not confirmed(question, yes=arguments.yes):
            return ExitCode.CANCELLED
        cancelled = database.tasks.cancel(job.id)
        if (queue := of_job(job, environment().region)) is not None:
            queue.purge()
        running = [task.key for task in database.views.recent(job.id, 1000, TaskState.RUNNING)]
    if arguments.json:
        print_json({"cancelled": cancelled, "in_flight": running})
        return ExitCode.DONE
    print(f"✓ Purged queue of job {job.name}: {cancelled} tasks cancelled")
    if running:
        shown = ", ".join(running[:20]) + (" …" if len(running) > 20 else "")
        print(f"  {len(running)} in flight go on: {shown}")
    return ExitCode.DONE


def _job_to_redrive(arguments: argparse.Namespace, database: FleetDatabase) -> FleetJob:
    """By its name or, as the guide has it, by the URLs of its queues. Raises UsageError."""
    source, target = arguments.source_queue_url, arguments.dest_queue_url
    if source is None and target is None:
        if arguments.job_name is None:
            raise UsageError("--job-name, or --source-queue-url and --dest-queue-url, says whose")
        return database.job(arguments.job_name)
    if source is None or target is None or arguments.job_name is not None:
        raise UsageError("--source-queue-url and --dest-queue-url go together, without --job-name")
    job = database.job_of_queue(source)
    if job.queue_url != target:
        raise UsageError(f"--dest-queue-url: the tasks of job {job.name} are in {job.queue_url}")
    return job


def _redrive(arguments: argparse.Namespace) -> int:
    if arguments.max_messages is not None and arguments.max_messages < 1:
        raise UsageError("--max-messages: must be at least 1")
    with opened(arguments, environment()) as database:
        job = _job_to_redrive(arguments, database)
        most = arguments.max_messages or 2**31
        done = database.tasks.redrive(job.id, most, arguments.task)
        if done and job.paused:
            database.pause(job.id, None)
        if (queue := of_job(job, environment().region)) is not None:
            send_unsent(database, queue, job)
            queue.drop_stale_letters(database)
    if arguments.json:
        print_json({"redriven": len(done), "unpaused": bool(done and job.paused)})
        return ExitCode.DONE
    print(f"✓ Redrove {len(done)} tasks of job {job.name}")
    if done and job.paused:
        print("  The job was paused, and goes on")
    return ExitCode.DONE
