"""``jobs create`` and ``jobs update``: how a job is described on the command line, and made.

Owns what may be the name of a job, and which queues it gets.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.errors import ExitCode, RecordError, UsageError
from runner.fleet.cli.fleet_settings import FleetEnvironment, environment, opened
from runner.fleet.cli.tables import print_json
from runner.fleet.records import FleetJob, JobOptions
from runner.fleet.task_store import store_address
from runner.model.durations import parse_duration
from runner.model.messages import kind, quoted
from runner.model.records import decode

VISIBILITY = 300
"""Seconds, of a new queue: the worker's own default."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,70}")
"""With ``bec_`` and ``_tasks`` it is a queue's name (SQS API reference: 80 characters of these)."""


def add_create_flags(parser: argparse.ArgumentParser) -> None:
    """All that a new job may be told."""
    parser.add_argument("--name", required=True, help="its name: letters, digits, - and _")
    parser.add_argument("--queue-url", metavar="URL", help="an SQS queue of yours for its tasks")
    parser.add_argument("--dlq-url", metavar="URL", help="the same for its dead letters")
    parser.add_argument("--region", metavar="R", help="make its queues there (default: BEC_REGION)")
    parser.add_argument(
        "--no-sqs", action="store_true", help="no SQS queues: the database hands out the tasks"
    )
    _add_config(parser)
    _add_options(parser)


def add_update_flags(parser: argparse.ArgumentParser) -> None:
    """What may be changed of a job."""
    _add_config(parser)
    _add_options(parser)


def _add_config(parser: argparse.ArgumentParser) -> None:
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--config", metavar="FILE", help="the configuration of its tasks, JSON")
    given.add_argument("--config-text", metavar="JSON", help="the same, as text")


def _add_options(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--template", metavar="FILE", help="the queue document that a task runs")
    what.add_argument("--command", metavar="COMMAND", help="the command that a task runs")
    parser.add_argument("--results", metavar="DIR|s3://…", help="the store of all its tasks")
    parser.add_argument("--max-attempts", type=int, metavar="N", help="(default: 3)")
    parser.add_argument(
        "--retry-delay", metavar="DURATION", help="doubled each time (default: 10s)"
    )
    parser.add_argument(
        "--terminal-on-codes", metavar="N,…", help="exit codes after which no attempt can help"
    )
    parser.add_argument(
        "--manifest-key",
        metavar="PATTERN",
        help="fetch this from the source bucket for each task: works/{w_id}/{i_id}/manifest.json",
    )
    parser.add_argument("--timeout", metavar="DURATION", help="of one run of --command")
    parser.add_argument(
        "--max-running",
        type=int,
        metavar="K",
        help="run at most K of its tasks at once, over all workers; 0: no limit (default: 0)",
    )


def _config(arguments: argparse.Namespace) -> str | None:
    """The configuration that was given, as text. Raises UsageError."""
    text, where = arguments.config_text, "--config-text"
    if arguments.config is not None:
        where = arguments.config
        try:
            text = Path(where).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"{where}: can't be read: {reason}") from None
    if text is None:
        return None
    try:
        found = decode(text, where)
    except RecordError as error:
        raise UsageError(str(error)) from None
    if not isinstance(found, dict):
        raise UsageError(f"{where}: must be an object, not {kind(found)}")
    return json.dumps(found, ensure_ascii=False)


def _changed(options: JobOptions, arguments: argparse.Namespace) -> JobOptions:
    """With what was given. Raises UsageError."""
    new: dict[str, Any] = {}
    if arguments.template is not None:
        try:
            text = Path(arguments.template).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"{arguments.template}: can't be read: {reason}") from None
        if arguments.template.endswith((".yaml", ".yml")) and text.lstrip().startswith("{"):
            text = f"--- {text}"  # what begins with a brace is taken for JSON
        new |= {"template": text, "command": None}
    if arguments.command is not None:
        new |= {"command": arguments.command, "template": None}
    if arguments.results is not None:
        new["results"] = _results(arguments.results)
    if arguments.max_attempts is not None:
        if not 1 <= arguments.max_attempts <= 100:
            raise UsageError("--max-attempts: must be 1 to 100")
        new["max_attempts"] = arguments.max_attempts
    for name in ("retry_delay", "timeout"):
        if (text := getattr(arguments, name)) is not None:
            try:
                new[name] = parse_duration(text)
            except ValueError as error:
                raise UsageError(f"--{name.replace('_', '-')}: {error}") from None
    if arguments.manifest_key is not None:
        from runner.fleet.manifests import check_pattern

        check_pattern(arguments.manifest_key)
        new["manifest_key"] = arguments.manifest_key
    if arguments.terminal_on_codes is not None:
        codes = arguments.terminal_on_codes.split(",")
        if not all(code.strip().isdecimal() and int(code) < 256 for code in codes):
            raise UsageError(
                f"--terminal-on-codes: {quoted(arguments.terminal_on_codes)} is not 3,4,…"
            )
        new["terminal_codes"] = tuple(int(code) for code in codes)
    return replace(options, **new)


def _max_running(arguments: argparse.Namespace) -> int | None:
    """None: it wasn't given; 0: no limit. Raises UsageError."""
    found: int | None = arguments.max_running
    if found is not None and not 0 <= found <= 1_000_000:
        raise UsageError("--max-running: must be 0 to 1000000")
    return found


def _results(where: str) -> str:
    from runner.results.stores import check_folder_word, is_s3, parse_s3

    if is_s3(where):
        parse_s3(where)
        return where.removesuffix("/")
    check_folder_word(where)
    return str(Path(where).absolute())


def _check(job: FleetJob) -> None:
    """Raise UsageError for one whose tasks can't be run."""
    from runner.fleet.task_document import document_of  # a document's parser: no look needs it

    document_of(job)


def create(arguments: argparse.Namespace) -> int:
    """``jobs create``."""
    name, found = arguments.name, environment()
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name: {quoted(name)} is not 1 to 70 letters, digits, - and _")
    config = _config(arguments) or "{}"
    options, limit = _changed(JobOptions(), arguments), _max_running(arguments)
    _check(FleetJob(0, name, config, options))
    with opened(arguments, found) as database:
        options = replace(options, results=_bucket(options, name, found))
        if store_address(FleetJob(0, name, config, options), database.folder) is None:
            raise UsageError("--results, or BEC_DEST_S3_BUCKET, says where results are stored")
        urls = _queues(arguments, found, embedded=database.folder is not None)
        job = database.create_job(name, config, options, *urls, max_running=limit or None)
    if arguments.json:
        print_json(describe_job(job))
    else:
        print(f"✓ Created job: id={job.id}, name={job.name}")
    return ExitCode.DONE


def _queues(
    arguments: argparse.Namespace, found: FleetEnvironment, *, embedded: bool
) -> tuple[str | None, str | None]:
    """The URLs of its two queues, which are made if need be; none for a database alone."""
    given = (arguments.queue_url, arguments.dlq_url)
    region = arguments.region or found.region
    if any(given):
        if not all(given) or arguments.no_sqs:
            raise UsageError("--queue-url and --dlq-url go together, and not with --no-sqs")
        return given
    if arguments.no_sqs or not region or (embedded and not arguments.region):
        return None, None
    name, quiet = arguments.name, arguments.json
    if not quiet:
        print(f"Creating SQS queues for job '{name}'...")

    def told(what: str, url: str) -> None:
        if not quiet:
            print(f"✓ Created {what}: {url}")

    from runner.aws.sqs import Sqs
    from runner.fleet.task_queue import TaskQueue

    queue = TaskQueue.make(Sqs(region), name, VISIBILITY, told)
    return queue.url, queue.dlq_url


def _bucket(options: JobOptions, name: str, found: FleetEnvironment) -> str | None:
    bucket = found.get("DEST_S3_BUCKET")
    return options.results or (_results(f"s3://{bucket}/{name}") if bucket else None)


def update(arguments: argparse.Namespace) -> int:
    """``jobs update``."""
    config, limit = _config(arguments), _max_running(arguments)
    with opened(arguments, environment()) as database:
        job = database.job(arguments.name)
        options = _changed(job.options, arguments)
        if config is None and limit is None and options == job.options:
            raise UsageError("nothing to change was given: --config, --command, …")
        _check(replace(job, options=options))
        changed = None if options == job.options else options
        database.update_job(job.id, config=config, options=changed, max_running=limit)
        job = database.job(job.name)
    print_json(describe_job(job)) if arguments.json else print(f"✓ Updated job: {job.name}")
    return ExitCode.DONE


def describe_job(job: FleetJob) -> dict[str, Any]:
    """For programs."""
    options = job.options
    return {
        "id": job.id,
        "name": job.name,
        "queue_url": job.queue_url,
        "dlq_url": job.dlq_url,
        "paused": job.paused,
        "max_running": job.max_running,
        "config": json.loads(job.config),
        "max_attempts": options.max_attempts,
        "retry_delay": options.retry_delay,
        "terminal_on_codes": list(options.terminal_codes),
        "command": options.command,
        "template": options.template,
        "results": options.results,
        "manifest_key": options.manifest_key,
    }
