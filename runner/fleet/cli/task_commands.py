"""``status``, ``logs`` and ``tasks cancel|retry``: a job's progress, and single tasks of it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from runner.errors import ExitCode, NotFoundError, UsageError
from runner.fleet.cli import fleet_settings
from runner.fleet.cli.fleet_settings import add_database, environment, opened
from runner.fleet.cli.tables import print_json, print_table
from runner.fleet.job_views import JobProgress, progress
from runner.fleet.machine_costs import cost_words
from runner.fleet.records import FleetTask
from runner.fleet.task_queue import of_job, send_unsent
from runner.fleet.task_store import TaskStore, store_address
from runner.model.durations import format_duration
from runner.model.messages import quoted


def configure(nouns: Any) -> None:
    """Add the commands to the command line."""
    what = "show how jobs are getting on: rate, time left, workers, reasons of failures"
    status = nouns.add_parser("status", help=what, description=what)
    status.set_defaults(execute=_status)
    status.add_argument("--job-name", metavar="JOB", help="only this one")
    logs = nouns.add_parser("logs", help="show what a task has printed")
    logs.set_defaults(execute=_logs)
    logs.add_argument("task", metavar="W_ID/I_ID", help="the task, as `jobs tasks` shows it")
    logs.add_argument("--run", type=int, metavar="N", help="of this run (default: the newest)")
    logs.add_argument("--stdout", action="store_true", help="only its output")
    logs.add_argument("--stderr", action="store_true", help="only its errors")
    tasks = nouns.add_parser("tasks", help="cancel tasks, or have them run again")
    verbs = tasks.add_subparsers(metavar="VERB", required=True)
    cancel = verbs.add_parser("cancel", help="cancel tasks that wait or run")
    cancel.set_defaults(execute=_cancel)
    retry = verbs.add_parser("retry", help="have failed tasks run again")
    retry.set_defaults(execute=_retry)
    for each in (cancel, retry):
        each.add_argument("tasks", metavar="W_ID/I_ID", nargs="+")
    for each in (logs, cancel, retry):
        each.add_argument("--job-name", metavar="JOB", required=True)
    for each in (status, cancel, retry):
        each.add_argument("--json", action="store_true", help="print JSON")
    for each in (status, logs, cancel, retry):
        add_database(each)


# -- status ------------------------------------------------------------------------------------


def _status(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        jobs = [database.job(arguments.job_name)] if arguments.job_name else database.jobs()
        found = [progress(database, job) for job in jobs]
    if arguments.json:
        print_json([_told(each) for each in found])
        return ExitCode.DONE
    if not found:
        print("There is no job: `runner-fleet jobs create` makes one")
    for each in found:
        _show(each)
    return ExitCode.DONE


def _show(found: JobProgress) -> None:
    job, backlog = found.job, found.backlog
    counts = ", ".join(f"{each.count} {each.state.value}" for each in found.totals) or "no tasks"
    print(f"Job {job.name}: {counts}")
    if job.paused:
        print(f"  Paused: {job.paused}")
    if job.max_running is not None:
        print(f"  At most {job.max_running} run at once: {backlog.running} do")
    if left := backlog.left:
        eta = "-" if found.eta is None else format_duration(float(round(found.eta)))
        what = "task" if left == 1 else "tasks"
        print(f"  Left: {left} {what}; rate: {found.rate * 3600:.0f} an hour; time left: {eta}")
    busy = sum(1 for each in found.workers if each.task is not None)
    print(f"  Workers: {len(found.workers)}, {busy} of them busy")
    print(f"  {cost_words(found.cost)}")
    for worker in found.silent:
        what = f" with {worker.task_key}" if worker.task_key else ""
        print(f"  Silent: worker {worker.id} ({worker.name}){what}")
    if found.failures:
        rows = [(str(each.count), each.state.value, each.reason) for each in found.failures]
        print_table(("Tasks", "Status", "Reason"), rows, right=("Tasks",))


def _told(found: JobProgress) -> dict[str, Any]:
    backlog = found.backlog
    return {
        "job": found.job.name,
        "paused": found.job.paused,
        "max_running": found.job.max_running,
        "states": {each.state.value: each.count for each in found.totals},
        "due": backlog.due,
        "waiting": backlog.waiting,
        "running": backlog.running,
        "tasks_per_hour": found.rate * 3600,
        "seconds_left": found.eta,
        "dollars": found.cost.dollars,
        "dollars_a_task": found.cost.a_task,
        "dollars_at_least": found.cost.at_least,
        "unpriced_workers": found.cost.unpriced,
        "unheard_machines": found.cost.unheard,
        "workers": len(found.workers),
        "silent_workers": [each.name for each in found.silent],
        "failures": [
            {"status": each.state.value, "reason": each.reason, "count": each.count}
            for each in found.failures
        ],
    }


# -- one task ----------------------------------------------------------------------------------


def _logs(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        job = database.job(arguments.job_name)
        task = database.tasks.named(job.id, arguments.task)
        where = store_address(job, database.folder)
    if task is None:
        raise NotFoundError(f"job {job.name} has no task {quoted(arguments.task)}")
    if where is None:
        raise UsageError(f"job {job.name} has no store")
    store = TaskStore(where, fleet_settings.settings())
    try:
        found = list(store.logs(task, arguments.run or task.run))
    finally:
        store.close()
    wanted = {"stdout", "stderr"}
    if arguments.stdout is not arguments.stderr:
        wanted = {"stdout"} if arguments.stdout else {"stderr"}
    found = [each for each in found if each.stream in wanted]
    if not found:
        raise NotFoundError(_no_logs(task, arguments.run or task.run, where))
    headings = len(found) > 1
    for log in found:
        if headings:
            sys.stdout.write(f"==> {log.job} {log.stream} <==\n")
        sys.stdout.flush()
        sys.stdout.buffer.write(log.data)
        if headings and log.data and not log.data.endswith(b"\n"):
            sys.stdout.write("\n")
    return ExitCode.DONE


def _no_logs(task: FleetTask, run: int, where: str) -> str:
    told = f"nothing is stored of run {run} of {task.key} in {where}: it is {task.state.value}"
    return f"{told} ({task.error})" if task.error else told


def _cancel(arguments: argparse.Namespace) -> int:
    with opened(arguments, environment()) as database:
        job = database.job(arguments.job_name)
        count = database.tasks.cancel(job.id, arguments.tasks, running=True)
    return _say(arguments, "cancelled", count, "wait or run")


def _retry(arguments: argparse.Namespace) -> int:
    found = environment()
    with opened(arguments, found) as database:
        job = database.job(arguments.job_name)
        count = len(database.tasks.redrive(job.id, len(arguments.tasks), arguments.tasks))
        if (queue := of_job(job, found.region)) is not None:
            send_unsent(database, queue, job)
            queue.drop_stale_letters(database)
    return _say(arguments, "retried", count, "have failed for good")


def _say(arguments: argparse.Namespace, done: str, count: int, else_: str) -> int:
    """Raises NotFoundError where some of the tasks aren't as they must be."""
    named = len(set(arguments.tasks))
    if arguments.json:
        print_json({done: count, "named": named})
    else:
        print(f"✓ {count} of {named} tasks {done}")
    if count < named:
        raise NotFoundError(f"{named - count} of the tasks are not there, or do not {else_}")
    return ExitCode.DONE
