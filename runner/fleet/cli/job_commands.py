"""``jobs create|list|show|update|delete|stats|tasks``."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.errors import ExitCode, RecordError, UsageError
from runner.fleet.cli.fleet_settings import FleetEnvironment, add_database, environment, opened
from runner.fleet.cli.tables import confirmed, print_json, print_table, short
from runner.fleet.records import FleetJob, FleetTask, JobOptions, StateTotals, TaskState
from runner.fleet.task_document import document_of
from runner.fleet.task_store import store_address
from runner.model.durations import parse_duration
from runner.model.messages import kind, quoted
from runner.model.records import decode
from runner.timestamps import rfc3339

_NAME = re.compile(r"[A-Za-z0-9_-]{1,70}")
"""With ``bec_`` and ``_tasks`` it is a queue's name (SQS API reference: 80 characters of these)."""


def configure(nouns: Any) -> None:
    """Add the commands to the command line."""
    jobs = nouns.add_parser("jobs", help="create, list, show, change and delete jobs")
    verbs = jobs.add_subparsers(metavar="VERB", required=True)
    create = _verb(verbs, "create", "create a job", _create)
    create.add_argument("--name", required=True, help="its name: letters, digits, - and _")
    _add_config(create)
    _add_options(create)
    _verb(verbs, "list", "list all jobs", _list)
    for name, what, execute in (
        ("show", "show a job", _show),
        ("update", "change a job's configuration, or how it is run", _update),
        ("delete", "delete a job, its tasks and its workers' records", _delete),
        ("stats", "show how many tasks are in which state", _stats),
        ("tasks", "show the tasks that ended last", _tasks),
    ):
        verb = _verb(verbs, name, what, execute)
        verb.add_argument("name", metavar="JOB")
        if name == "update":
            _add_config(verb)
            _add_options(verb)
        elif name == "delete":
            verb.add_argument("--yes", "-y", action="store_true", help="don't ask")
        elif name == "tasks":
            verb.add_argument("--limit", type=int, default=10, metavar="N", help="(default: 10)")
            verb.add_argument(
                "--status", choices=[state.value for state in TaskState], help="only those"
            )


def _verb(verbs: Any, name: str, what: str, execute: Any) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=what)
    made.set_defaults(execute=execute)
    made.add_argument("--json", action="store_true", help="print JSON")
    add_database(made)
    return made


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
    parser.add_argument("--timeout", metavar="DURATION", help="of one run of --command")


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
    if arguments.terminal_on_codes is not None:
        codes = arguments.terminal_on_codes.split(",")
        if not all(code.strip().isdecimal() and int(code) < 256 for code in codes):
            raise UsageError(
                f"--terminal-on-codes: {quoted(arguments.terminal_on_codes)} is not 3,4,…"
            )
        new["terminal_codes"] = tuple(int(code) for code in codes)
    return replace(options, **new)


def _results(where: str) -> str:
    from runner.results.stores import check_folder_word, is_s3, parse_s3

    if is_s3(where):
        parse_s3(where)
        return where.removesuffix("/")
    check_folder_word(where)
    return str(Path(where).absolute())


def _create(arguments: argparse.Namespace) -> int:
    name, found = arguments.name, environment()
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name: {quoted(name)} is not 1 to 70 letters, digits, - and _")
    config = _config(arguments) or "{}"
    options = _changed(JobOptions(), arguments)
    document_of(FleetJob(0, name, config, options))
    with opened(arguments, found) as database:
        options = replace(options, results=_bucket(options, name, found))
        if store_address(FleetJob(0, name, config, options), database.folder) is None:
            raise UsageError("--results, or BEC_DEST_S3_BUCKET, says where results are stored")
        job = database.create_job(name, config, options)
    if arguments.json:
        print_json(_told(job))
    else:
        print(f"✓ Created job: id={job.id}, name={job.name}")
    return ExitCode.DONE


def _bucket(options: JobOptions, name: str, found: FleetEnvironment) -> str | None:
    bucket = found.get("DEST_S3_BUCKET")
    return options.results or (_results(f"s3://{bucket}/{name}") if bucket else None)


def _list(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        jobs = database.jobs()
    if arguments.json:
        print_json([_told(job) for job in jobs])
        return ExitCode.DONE
    rows = [
        (str(job.id), job.name, (job.queue_url or "-").rpartition("/")[2], short(job.config, 11))
        for job in jobs
    ]
    print_table(("ID", "Name", "Queue", "Config"), rows)
    return ExitCode.DONE


def _show(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        job = database.job(arguments.name)
        where = database.describe()
        results = store_address(job, database.folder)
    if arguments.json:
        print_json({**_told(job), "results": results})
        return ExitCode.DONE
    print(f"Job {job.id}\nName: {job.name}")
    print(f"Queue URL: {job.queue_url or f'none: {where} hands out its tasks'}")
    print(f"DLQ URL: {job.dlq_url or '-'}")
    print(f"Results: {results or '-'}")
    if job.paused:
        print(f"Paused: {job.paused}")
    print(f"Configuration:\n{json.dumps(json.loads(job.config), ensure_ascii=False, indent=2)}")
    return ExitCode.DONE


def _update(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    with opened(arguments, environment()) as database:
        job = database.job(arguments.name)
        options = _changed(job.options, arguments)
        if config is None and options == job.options:
            raise UsageError("nothing to change was given: --config, --command, …")
        document_of(replace(job, options=options))
        job = database.update_job(job, config=config, options=options)
    print_json(_told(job)) if arguments.json else print(f"✓ Updated job: {job.name}")
    return ExitCode.DONE


def _delete(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        job = database.job(arguments.name)
        totals = database.tasks.totals(job.id)
        busy = sum(each.count for each in totals if each.state is TaskState.RUNNING)
        if busy:
            raise UsageError(f"{busy} of its tasks are running: stop their workers first")
        count = sum(each.count for each in totals)
        question = f"Delete job {job.name} with the records of {count} tasks?"
        if not confirmed(question, yes=arguments.yes):
            return ExitCode.CANCELLED
        database.delete_job(job.id)
        kept = store_address(job, database.folder)
    if arguments.json:
        print_json({"deleted": job.name, "tasks": count, "results": kept})
    else:
        print(f"✓ Deleted job: {job.name}, with the records of {count} tasks")
        print(f"  Results stay in {kept}")
    return ExitCode.DONE


SHOWN = (
    TaskState.RUNNING,
    TaskState.DONE,
    TaskState.RETRYABLE_FAILED,
    TaskState.TERMINAL_FAILED,
    TaskState.PENDING,
    TaskState.CANCELLED,
)
"""The seed's four first."""


def _stats(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        job = database.job(arguments.name)
        by_state = {each.state: each for each in database.tasks.totals(job.id)}
    totals = [by_state[state] for state in SHOWN if state in by_state]
    count, images = sum(t.count for t in totals), sum(t.total_images for t in totals)
    errors, timed = sum(t.nb_errors for t in totals), sum(t.timed for t in totals)
    duration = sum(t.duration_ms for t in totals)
    per_task, per_page = duration / timed if timed else 0.0, duration / images if images else 0.0
    if arguments.json:
        print_json(
            {
                "job": job.name,
                "id": job.id,
                "paused": job.paused,
                "states": {t.state.value: _totals(t) for t in totals},
                "total_tasks": count,
                "total_images": images,
                "total_errors": errors,
                "avg_duration_per_task_ms": per_task,
                "avg_duration_per_page_ms": per_page,
            }
        )
        return ExitCode.DONE
    print(f"Job Statistics: {job.name} (id={job.id})\n")
    if job.paused:
        print(f"Paused: {job.paused}\n")
    heads = ("Status", "Count", "Total Images", "Total Errors", "Avg Duration (ms)")
    rows = [
        (t.state.value, str(t.count), str(t.total_images), str(t.nb_errors), _mean(t.mean_ms))
        for t in totals
    ]
    print_table(heads, rows, title="Task Execution Status", right=heads[1:])
    print("\nOverall Totals:")
    print(f"  Total Tasks: {count}\n  Total Images: {images}\n  Total Errors: {errors}")
    print(f"  Avg Duration per Task: {per_task:.2f} ms")
    print(f"  Avg Duration per Page: {per_page:.2f} ms")
    return ExitCode.DONE


def _mean(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if milliseconds else "0"


def _totals(each: StateTotals) -> dict[str, Any]:
    return {
        "count": each.count,
        "total_images": each.total_images,
        "total_errors": each.nb_errors,
        "avg_duration_ms": each.mean_ms,
    }


def _tasks(arguments: argparse.Namespace) -> int:
    if arguments.limit < 1:
        raise UsageError("--limit: must be at least 1")
    state = TaskState(arguments.status) if arguments.status else None
    with opened(arguments, environment()) as database:
        job = database.job(arguments.name)
        found = list(database.tasks.recent(job.id, arguments.limit, state))
    if arguments.json:
        print_json([_task(task) for task in found])
        return ExitCode.DONE
    print(f"Recent Task Executions: {job.name} (id={job.id})\n")
    heads = ("ID", "Volume", "Status", "Images", "Errors", "Duration (s)", "Worker")
    rows = [
        (
            str(task.id),
            task.key,
            task.state.value,
            _or_dash(task.total_images),
            _or_dash(task.nb_errors),
            "-" if task.duration_ms is None else f"{task.duration_ms / 1000:.1f}",
            task.worker or "-",
        )
        for task in found
    ]
    print_table(heads, rows, right=heads[3:6])
    return ExitCode.DONE


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _task(task: FleetTask) -> dict[str, Any]:
    times = ("enqueued_at", "started_at", "done_at", "not_before")
    return {
        "id": task.id,
        "key": task.key,
        "params": dict(task.params),
        "w_id": task.w_id,
        "i_id": task.i_id,
        "status": task.state.value,
        "attempts": task.attempts,
        "run": task.run,
        "reason": task.error,
        "worker": task.worker,
        "total_images": task.total_images,
        "nb_errors": task.nb_errors,
        "duration_ms": task.duration_ms,
        **{name: rfc3339(getattr(task, name)) for name in times},
    }


def _told(job: FleetJob) -> dict[str, Any]:
    options = job.options
    return {
        "id": job.id,
        "name": job.name,
        "queue_url": job.queue_url,
        "dlq_url": job.dlq_url,
        "paused": job.paused,
        "config": json.loads(job.config),
        "max_attempts": options.max_attempts,
        "retry_delay": options.retry_delay,
        "terminal_on_codes": list(options.terminal_codes),
        "command": options.command,
        "template": options.template,
        "results": options.results,
    }
