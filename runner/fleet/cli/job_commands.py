"""``jobs create|list|show|update|delete|stats|tasks``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from runner.errors import ExitCode, UsageError
from runner.fleet.cli.fleet_settings import add_database, environment, opened
from runner.fleet.cli.job_creation import (
    add_create_flags,
    add_update_flags,
    create,
    describe_job,
    update,
)
from runner.fleet.cli.tables import confirmed, print_json, print_table, short
from runner.fleet.records import FleetTask, StateTotals, TaskState
from runner.fleet.task_store import store_address
from runner.timestamps import rfc3339


def configure(nouns: Any) -> None:
    """Add the commands to the command line."""
    jobs = nouns.add_parser("jobs", help="create, list, show, change and delete jobs")
    verbs = jobs.add_subparsers(metavar="VERB", required=True)
    add_create_flags(_verb(verbs, "create", "create a job", create))
    _verb(verbs, "list", "list all jobs", _list)
    for name, what, execute in (
        ("show", "show a job", _show),
        ("update", "change a job's configuration, or how it is run", update),
        ("delete", "delete a job, its tasks and its workers' records", _delete),
        ("stats", "show how many tasks are in which state", _stats),
        ("tasks", "show the tasks that ended last", _tasks),
        ("pause", "start no task of a job any more", _pause),
        ("resume", "end a pause", _resume),
    ):
        verb = _verb(verbs, name, what, execute)
        verb.add_argument("name", metavar="JOB")
        if name == "update":
            add_update_flags(verb)
        elif name == "pause":
            verb.add_argument("--reason", default="by hand", metavar="TEXT", help="why")
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


def _list(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        jobs = database.jobs()
    if arguments.json:
        print_json([describe_job(job) for job in jobs])
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
        print_json({**describe_job(job), "results": results})
        return ExitCode.DONE
    print(f"Job {job.id}\nName: {job.name}")
    print(f"Queue URL: {job.queue_url or f'none: {where} hands out its tasks'}")
    print(f"DLQ URL: {job.dlq_url or '-'}")
    print(f"Results: {results or '-'}")
    if job.paused:
        print(f"Paused: {job.paused}")
    if job.max_running is not None:
        print(f"Max running: {job.max_running}")
    print(f"Configuration:\n{json.dumps(json.loads(job.config), ensure_ascii=False, indent=2)}")
    return ExitCode.DONE


def _delete(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        job = database.job(arguments.name)
        totals = database.views.totals(job.id)
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
        print(f"  Results stay in {kept}: a new job of this name finds there what is done")
    return ExitCode.DONE


def _pause(arguments: argparse.Namespace) -> int:
    return _set_pause(arguments, arguments.reason or "by hand")


def _resume(arguments: argparse.Namespace) -> int:
    return _set_pause(arguments, None)


def _set_pause(arguments: argparse.Namespace, reason: str | None) -> int:
    with opened(arguments, environment()) as database:
        job = database.job(arguments.name)
        database.pause(job.id, reason)
    if arguments.json:
        print_json({"job": job.name, "paused": reason})
    else:
        print(f"✓ {'Paused' if reason else 'Resumed'} job: {job.name}")
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
        by_state = {each.state: each for each in database.views.totals(job.id)}
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
        found = list(database.views.recent(job.id, arguments.limit, state))
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
