"""``up|scale|drain``: the machines that work for a job of the fleet."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from runner.errors import ExitCode, NotFoundError, RunnerError, UsageError
from runner.fleet.cli.fleet_settings import (
    FleetEnvironment,
    add_database,
    address,
    environment,
    opened,
)
from runner.fleet.cli.tables import print_json, print_table
from runner.fleet.database import POSTGRES, FleetDatabase
from runner.fleet.machine_setup import MachineSetup
from runner.fleet.machines import (
    FleetMachine,
    chosen_to_drain,
    is_of,
    machines_needed,
    machines_of,
    new_names,
)
from runner.fleet.records import FleetJob, MachineRecord, TaskState
from runner.fleet.runner_commands import MachineLaunches, list_machines
from runner.fleet.task_document import document_of
from runner.fleet.task_store import store_address
from runner.model.durations import parse_duration
from runner.model.printable import clean

LIFETIME = "24h"

MACHINES_DATABASE = "BEC_DATABASE"
"""The variable that names the database on a machine: a document can't set one of RUNNER_."""

MOST_MACHINES = 1_000

LAUNCH_FLAGS = (
    ("--instance-type", "T[,T2…]", "instance types, in the order in which they are tried"),
    ("--spot", None, "spot instances"),
    ("--fallback-on-demand", None, "use on-demand capacity if there is no spot capacity"),
    ("--disk-size", "GiB", "size of the root volume"),
    ("--ami", "ID", "the image"),
    ("--job-user", "NAME", "the user that tasks run as"),
    ("--tag", "KEY=VALUE", "a tag; may be repeated"),
    ("--region", "REGION", "the region"),
    ("--subnet", "ID[,ID…]", "subnets"),
    ("--security-group", "ID[,ID…]", "security groups"),
    ("--no-public-ip", None, "no public address"),
    ("--iam-role", "NAME|ARN", "an instance profile"),
    ("--key-name", "NAME", "a key pair, for ssh"),
    ("--workdir", "DIR", "ship this folder: tasks may begin in it"),
    ("--include", "FILE", "ship this file of the work folder too; may be repeated"),
    ("--bundle", "FILE|s3://…", "install this bundle, not this runner's own"),
)
"""Flags of `runner launch` that go to it as they are."""

WORKER_FLAGS = (
    ("--concurrency", "N", "tasks of a machine at once (default: 1)"),
    ("--visibility-timeout", "S", "seconds without a sign of life until others take a task"),
    ("--shutdown-after-empty", "N", "end a machine's workers after N empty polls"),
    ("--model-path", "FILE", "of the machine"),
    ("--s3-source-bucket", "B", "told to tasks as S3_SOURCE_BUCKET"),
    ("--s3-dest-bucket", "B", "results go there, not to the job's"),
)
"""Flags of `runner-fleet worker` that go to it as they are."""

REPEATED = ("--tag", "--include")


def configure(nouns: Any) -> None:
    """Add the commands to the command line."""
    up = _verb(nouns, "up", "launch machines that work for a job and end themselves", _up)
    up.add_argument("--workers", type=int, required=True, metavar="N", help="so many machines")
    up.add_argument("--bucket", metavar="B", help="of the machines' logs (default: the results')")
    up.add_argument(
        "--lifetime",
        default=LIFETIME,
        metavar="DURATION",
        help=f"how long a machine works at most (default: {LIFETIME})",
    )
    up.add_argument(
        "--database-secret",
        metavar="REF",
        help="where a machine finds the database's address: ssm:NAME or secretsmanager:NAME",
    )
    up.add_argument("--dry-run", action="store_true", help="show a machine's plan, launch nothing")
    for title, flags in (("the machines", LAUNCH_FLAGS), ("their workers", WORKER_FLAGS)):
        group = up.add_argument_group(title)
        for flag, value, told in flags:
            if value is None:
                group.add_argument(flag, action="store_true", help=told)
            else:
                action = "append" if flag in REPEATED else "store"
                group.add_argument(flag, action=action, metavar=value, help=told)
    scale = _verb(nouns, "scale", "launch more machines, as `up` did, or drain some", _scale)
    how = scale.add_mutually_exclusive_group(required=True)
    how.add_argument("--to", type=int, metavar="N", help="so many machines")
    how.add_argument("--target", metavar="DURATION", help="as many as do what is left in this time")
    scale.add_argument(
        "--max", type=int, default=100, metavar="N", help="never more than these (default: 100)"
    )
    scale.add_argument("--dry-run", action="store_true", help="say what would be done")
    drain = _verb(nouns, "drain", "let workers end what they do, and take no task any more", _drain)
    drain.add_argument(
        "name", nargs="*", metavar="NAME", help="a machine (its id or name), a worker (id or name)"
    )
    drain.add_argument("--all", action="store_true", help="all workers of the job")


def _verb(nouns: Any, name: str, what: str, execute: Any) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = nouns.add_parser(name, help=what, description=what)
    made.set_defaults(execute=execute)
    made.add_argument("--job", required=True, metavar="JOB")
    made.add_argument("--json", action="store_true", help="print JSON")
    add_database(made)
    return made


def _say(text: str) -> None:
    print(f"runner-fleet: {clean(text)}", file=sys.stderr, flush=True)


# -- up and scale ------------------------------------------------------------------------------


def _up(arguments: argparse.Namespace) -> int:
    found = environment()
    if not 1 <= arguments.workers <= MOST_MACHINES:
        raise UsageError(f"--workers: must be 1 to {MOST_MACHINES}")
    with opened(arguments, found) as database:
        job = database.job(arguments.job)
        document_of(job)
        setup = _setup(arguments, found, database, job)
        # Before the first launch: whoever scales a fleet whose `up` was cut off needs it.
        if not arguments.dry_run:
            database.update_job(job.id, options=replace(job.options, machines=setup))
        there = [] if arguments.dry_run else _working(database, job, setup)
        count = arguments.workers - len(there)
        if there:
            _say(f"{len(there)} machines work for {job.name} already, or begin to")
        if arguments.dry_run:
            name = new_names(job.name, 1, database.now())[0]
            return MachineLaunches(job.name, setup, _say).show_plan(name)
        names = new_names(job.name, max(0, count), database.now())
        made, code = _launched(database, job, setup, names)
    _tell(arguments, made, [])
    return code


def _scale(arguments: argparse.Namespace) -> int:
    if arguments.to is not None and not 0 <= arguments.to <= MOST_MACHINES:
        raise UsageError(f"--to: must be 0 to {MOST_MACHINES}")
    with opened(arguments, environment()) as database:
        job = database.job(arguments.job)
        if (setup := job.options.machines) is None:
            raise UsageError(f"no machine was launched for {job.name}: `runner-fleet up` does")
        wanted = min(arguments.max, _wanted(arguments, database, job, setup))
        there = _working(database, job, setup)
        _say(f"{job.name}: {len(there)} machines now, {wanted} wanted")
        more = new_names(job.name, max(0, wanted - len(there)), database.now())
        fewer = chosen_to_drain(there, database.workers(job.id), len(there) - wanted)
        if arguments.dry_run:
            for name in more:
                _say(f"would launch {name}")
            for machine in fewer:
                _say(f"would drain {machine.id} ({machine.name})")
            _tell(arguments, [], [])
            return ExitCode.DONE
        for machine in fewer:
            database.drain(job.id, machine.name)
        made, code = _launched(database, job, setup, more)
    _tell(arguments, made, [machine.name for machine in fewer])
    return code


def _wanted(
    arguments: argparse.Namespace, database: FleetDatabase, job: FleetJob, setup: MachineSetup
) -> int:
    if arguments.to is not None:
        return int(arguments.to)
    try:
        within = parse_duration(arguments.target)
    except ValueError as error:
        raise UsageError(f"--target: {error}") from None
    backlog = database.views.backlog(job.id)
    totals = {each.state: each for each in database.views.totals(job.id)}
    done = totals.get(TaskState.DONE)
    if done is None or not done.timed:
        raise UsageError(f"no task of {job.name} is done yet: how long one takes isn't known; --to")
    mean = done.mean_ms / 1000
    count = machines_needed(backlog, mean, within, _concurrency(setup))
    _say(f"{backlog.left} tasks are left, one takes {mean:.1f} s")
    return count


def _concurrency(setup: MachineSetup) -> int:
    words = [*setup.worker, "", ""]
    at = words.index("--concurrency") if "--concurrency" in words else -2
    return int(words[at + 1] or 1)


def _setup(
    arguments: argparse.Namespace, found: FleetEnvironment, database: FleetDatabase, job: FleetJob
) -> MachineSetup:
    """What was asked for, as it is kept. Raises UsageError."""
    given = vars(arguments)
    flags = _words(LAUNCH_FLAGS, given)
    if not arguments.instance_type:
        raise UsageError("--instance-type: is required")
    if arguments.concurrency is not None and not arguments.concurrency.isdecimal():
        raise UsageError("--concurrency: must be a number")
    try:
        lifetime = parse_duration(arguments.lifetime)
    except ValueError as error:
        raise UsageError(f"--lifetime: {error}") from None
    results = store_address(job, database.folder) or ""
    if not results.startswith("s3://") and not arguments.s3_dest_bucket:
        raise UsageError(
            f"results of {job.name} would stay on the machines: "
            f"`jobs update {job.name} --results s3://…`"
        )
    bucket = arguments.bucket or arguments.s3_dest_bucket or urlsplit(results).netloc
    env = {}
    if region := arguments.region or found.region:
        env["BEC_REGION"] = region
    where = address(arguments, found)
    secrets = {}
    if arguments.database_secret is not None:
        secrets[MACHINES_DATABASE] = arguments.database_secret
    elif not where.startswith(POSTGRES):
        raise UsageError(
            f"{database.describe()}: a machine can't reach a folder of this one; "
            "--database postgresql://…"
        )
    elif urlsplit(where).password:
        raise UsageError(
            "the database's password would stand in the machines' documents: put the address "
            "into Parameter Store or a secret, and name that with --database-secret"
        )
    else:
        env[MACHINES_DATABASE] = where
    return MachineSetup(
        bucket=bucket,
        lifetime=lifetime,
        flags=tuple(flags),
        worker=tuple(_words(WORKER_FLAGS, given)),
        env=env,
        secret_env=secrets,
    )


def _words(flags: Sequence[tuple[str, str | None, str]], given: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for flag, _, _ in flags:
        value = given[flag.removeprefix("--").replace("-", "_")]
        if value is True:
            words.append(flag)
        elif value not in (None, False):
            for each in value if isinstance(value, list) else [value]:
                words += [flag, str(each)]
    return words


def _working(database: FleetDatabase, job: FleetJob, setup: MachineSetup) -> list[FleetMachine]:
    """The job's machines that take tasks, or will."""
    asked = database.draining(job.id)
    return [each for each in _listed(database, job, setup) if each.name not in asked]


def _listed(database: FleetDatabase, job: FleetJob, setup: MachineSetup) -> list[FleetMachine]:
    """The job's machines that there are. What they cost is kept: EC2 soon forgets ended ones."""
    machines = machines_of(job.name, list_machines(setup.flags))
    now = database.now()
    records = [MachineRecord(m.name, m.id, m.price, m.began or now) for m in machines]
    database.note_machines(job.id, records)
    return machines


def _launched(
    database: FleetDatabase, job: FleetJob, setup: MachineSetup, names: Sequence[str]
) -> tuple[list[dict[str, Any]], int]:
    """See MachineLaunches.launch."""
    made, code = MachineLaunches(job.name, setup, _say).launch(names)
    if made:
        try:
            _listed(database, job, setup)
        except RunnerError as error:
            _say(f"what the new machines cost isn't known yet: {error}")
    return made, code


def _tell(arguments: argparse.Namespace, made: list[dict[str, Any]], drained: list[str]) -> None:
    if arguments.json:
        print_json({"launched": made, "drained": drained})
        return
    for each in made:
        print(f"✓ Launched {each.get('instance_id', '-')}: {each.get('queue_id', '-')}")
    for name in drained:
        print(f"✓ Draining {name}: it ends when its tasks have")


# -- drain -------------------------------------------------------------------------------------


def _drain(arguments: argparse.Namespace) -> int:
    if bool(arguments.name) == arguments.all:
        raise UsageError("name machines or workers, or --all")
    with opened(arguments, environment()) as database:
        job = database.job(arguments.job)
        workers = [each for each in database.workers(job.id) if each.stopped_at is None]
        names = {each.name for each in workers}
        if not arguments.all:
            machines: list[FleetMachine] = []
            if any(name.startswith("i-") for name in arguments.name):
                flags = job.options.machines.flags if job.options.machines else ()
                machines = machines_of(job.name, list_machines(flags))
            ids = {each.id: each.name for each in machines} | {str(w.id): w.name for w in workers}
            wanted = {ids.get(name, name) for name in arguments.name}
            for name in wanted:
                known = name in ids.values() or any(is_of(each, name) for each in names)
                if not known:
                    raise NotFoundError(f"no worker or machine {name!r} works for {job.name}")
            names = wanted
        for name in sorted(names):
            database.drain(job.id, name)
    if arguments.json:
        print_json({"drained": sorted(names)})
    else:
        rows = [(name, _what(name, workers)) for name in sorted(names)]
        print_table(("Draining", "Task"), rows)
    return ExitCode.DONE


def _what(name: str, workers: Sequence[Any]) -> str:
    tasks = [each.task_key for each in workers if is_of(each.name, name) and each.task_key]
    return ", ".join(tasks) or "-"
