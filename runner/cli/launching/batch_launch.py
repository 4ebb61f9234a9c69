"""``launch --target batch`` and ``resume`` of a queue there: what is asked, shown and done."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.aws.clients import region_of
from runner.batch.container.commands import bootstrap_command
from runner.batch.document_check import BatchFacts, check_for_batch, notes
from runner.cli import options
from runner.cli.show.text import clean, counted
from runner.core.events import Now
from runner.core.run_mode import RunMode
from runner.errors import ConflictError, ExitCode, NotFoundError, UsageError
from runner.model import lint
from runner.model.document import FIT, QueueSpec, read_document
from runner.model.messages import quoted
from runner.results.store import ResultStore
from runner.results.stores import open_store, parse_s3
from runner.service.batch_place import in_bucket
from runner.service.result_stores import wanted
from runner.service.resume_from_store import look
from runner.targets.batch.container_commands import bundle_in
from runner.targets.batch.coordinator_options import CoordinatorOptions, options_of, read_options
from runner.targets.batch.launch_record import BatchLaunch, BatchLaunches
from runner.targets.batch.launcher import (
    CoordinatorLauncher,
    IdTakenError,
    QueueInStore,
    check_launchable,
    check_undriven,
    look_into,
)
from runner.targets.batch.resolve import BatchWord, resolve
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.launch.launcher import new_queue_id

_LAUNCH = frozenset(
    {"batch_queue", "target", "job_queue", "image", "max_parallel", "region", "wait", "dry_run",
     "json", "yes", "config", "bundle", "fresh", "retry_failed", "update", "rerun_changed"}
)  # fmt: skip
_RESUME = _LAUNCH - {"fresh"} | {"queue_id", "queue", "bucket"}

_FILES = "no machine is there that a folder could be shipped to: input_paths bring files from S3"

_MOST = 1_000_000


def launch_on_batch(arguments: argparse.Namespace) -> int:
    """Raises UsageError, ConflictError, EndedElsewhereError before anything is written."""
    _check_flags(arguments, _LAUNCH)
    document = read_document(Path(arguments.batch_queue))
    place = document.result_s3_bucket or options.settings(arguments).batch.bucket
    if place is None:
        raise UsageError(
            'result_s3_bucket: is missing; a launch needs a bucket of yours, "result_s3_bucket": '
            '"my-bucket", or `bucket` in the table [batch] of the settings: results, logs and '
            "state go there"
        )
    given = _options(arguments)
    LaunchBucket(place.removeprefix("s3://").partition("/")[0], given.region).check()
    now, new_id = time.time(), document.queue_id is None
    while True:
        queue = document if document.queue_id else document.with_id(new_queue_id(now))
        queue = in_bucket(queue, place)
        with closing(open_store(str(wanted(queue).where))) as store:
            found = look_into(store)
            if new_id and found.document is not None:
                now += 1  # another launch has this second's id
                continue
            if found.document is not None and options.again(arguments).fresh:
                check_undriven(found.launch)
            elif found.document is not None and options.again(arguments).mends:
                _check_mendable(queue, found, store, options.again(arguments))
            else:
                check_launchable(queue, store, found)
            try:
                return _launch("launch", arguments, queue, store, given, new_id=new_id)
            except IdTakenError:
                now += 1


def resume_on_batch(arguments: argparse.Namespace) -> int:
    """Start a coordinator again. Raises ConflictError where there is none to start."""
    _check_flags(arguments, _RESUME)
    before = resolve(BatchWord(arguments.queue_id, bucket=arguments.bucket)).launch
    known = read_options(before.options, "coordinator.json: options")
    given = _options(arguments, known)
    with closing(open_store(before.store)) as store:
        found = look_into(store)
        queue = _resumable(before, found, store, arguments)
        return _launch("resume", arguments, queue, store, given)


def _resumable(
    before: BatchLaunch, found: QueueInStore, store: ResultStore, arguments: argparse.Namespace
) -> QueueSpec:
    """The document that the queue goes on with."""
    again = options.again(arguments)
    if found.document is None:
        raise NotFoundError(f"there is no queue.json in {before.store}: it can't be resumed")
    if arguments.batch_queue is not None and not again.mends:
        raise UsageError("--batch-queue: goes with --retry-failed, --update or --rerun-changed")
    if again.mends:
        queue = found.document
        if arguments.batch_queue is not None:
            queue = _corrected(Path(arguments.batch_queue), before)
        _check_mendable(queue, found, store, again)
        return queue
    if found.ended:
        assert found.stored is not None
        raise ConflictError(
            f"queue '{before.queue_id}' is {found.stored.status.value}: there is nothing to go on "
            f"with\nfetch its results with: runner results {before.store}\n"
            "--retry-failed runs again what failed"
        )
    check_undriven(before)
    return found.document


def _corrected(path: Path, before: BatchLaunch) -> QueueSpec:
    """The corrected document; one that names no bucket is stored where the queue is."""
    queue = read_document(path)
    if queue.queue_id not in (None, before.queue_id):
        raise ConflictError(f"{path} is of another queue, {quoted(str(queue.queue_id))}")
    queue = queue.with_id(before.queue_id)
    if queue.result_s3_bucket is not None:
        return queue
    bucket, prefix = parse_s3(before.store)
    return replace(queue, result_s3_bucket=bucket, result_s3_prefix=prefix or None)


def _check_mendable(
    queue: QueueSpec, found: QueueInStore, store: ResultStore, again: RunMode
) -> None:
    """See that what is stored can go on with this document. Raises ConflictError, UsageError."""
    if str(wanted(queue).where) != store.describe():
        raise UsageError(f"the document's results go elsewhere than to {store.describe()}")
    if not found.ended:
        check_undriven(found.launch)
    moment = Now(time.time(), time.monotonic())
    look(queue, again, store, lambda line: None, journal=moment)


def _launch(
    verb: str,
    arguments: argparse.Namespace,
    queue: QueueSpec,
    store: ResultStore,
    given: CoordinatorOptions,
    *,
    new_id: bool = False,
) -> int:
    def say(line: str) -> None:
        print(f"runner {verb}: {clean(line)}", file=sys.stderr, flush=True)

    def command_of(store: ResultStore) -> tuple[list[str], str | None]:
        bundle = arguments.bundle or options.settings(arguments).batch.bundle
        return bootstrap_command("runner", "coordinate"), bundle_in(store.describe(), bundle, say)

    launches = BatchLaunches.of_user(os.environ)
    launcher = CoordinatorLauncher(given, store, launches, command_of, say)
    facts = launcher.check()
    known = BatchFacts(True, given.image, given.shared, facts.fargate, facts.fair_share)
    check_for_batch(queue, known)
    for line in (*lint.warnings(queue), *notes(queue, known)):
        say(f"warning: {line}")
    for line in _plan(queue, store, given, fargate=facts.fargate):
        say(line)
    if arguments.dry_run:
        say("nothing was launched: --dry-run")
        return ExitCode.DONE
    launch = launcher.launch(queue, facts, options.again(arguments), new_id=new_id)
    if arguments.json:
        print(json.dumps(_view(launch)), flush=True)
    else:
        for line in _told(launch):
            print(clean(line), flush=True)
    return _wait(launch, say) if arguments.wait else ExitCode.DONE


def _options(
    arguments: argparse.Namespace, before: CoordinatorOptions | None = None
) -> CoordinatorOptions:
    settings = options.settings(arguments).batch
    known = before.region if before is not None else settings.region
    region = region_of(arguments.region or known)
    flags = {"job_queue": arguments.job_queue, "image": arguments.image}
    flags["max_parallel"] = _parallel(arguments.max_parallel)
    return options_of(flags, settings, region, before)


def _parallel(word: str | None) -> int | None:
    if word is None:
        return None
    if word == FIT:
        return 0
    if not (word.isascii() and word.isdecimal()) or not 1 <= int(word) <= _MOST:
        raise UsageError(f"--max-parallel: must be a number from 1 to {_MOST:,}, or fit")
    return int(word)


def _check_flags(arguments: argparse.Namespace, known: frozenset[str]) -> None:
    for name, value in vars(arguments).items():
        if name not in known and value not in (None, False):
            flag = f"--{name.replace('_', '-')}"
            if name in ("workdir", "include"):
                raise UsageError(f"{flag}: {_FILES}, and an image has the program")
            raise UsageError(f"{flag} is about a machine: not with a queue on AWS Batch")


# -- what the user sees ------------------------------------------------------------------------


def _plan(
    queue: QueueSpec, store: ResultStore, given: CoordinatorOptions, *, fargate: bool
) -> list[str]:
    where = "Fargate" if fargate else "EC2"
    most = queue.max_parallel_jobs if given.max_parallel is None else given.max_parallel
    jobs = "as many at once as Batch has room for" if most in (0, FIT) else f"{most} at once"
    lines = [
        f"{counted(len(queue.jobs), 'job')} of '{queue.queue_id}' on the job queue "
        f"{given.job_queue} ({where}) in {given.region}, {jobs}",
        f"results, logs and state: {store.describe()}",
    ]
    if most == 1 and len(queue.jobs) > 1:
        lines.append("its jobs run one by one: --max-parallel N, or fit, runs more at once")
    return lines


def _view(launch: BatchLaunch) -> dict[str, Any]:
    return {
        "queue_id": launch.queue_id,
        "store": launch.store,
        "region": launch.region,
        "job_queue": launch.job_queue,
        "coordinator": launch.job,
        "launch": launch.launch,
    }


def _told(launch: BatchLaunch) -> list[str]:
    name = launch.queue_id
    return [
        f"Queue:       {name}",
        f"Coordinator: {launch.job} (a job of {launch.job_queue} in {launch.region})",
        f"Results:     {launch.store}",
        "This computer may be switched off. To look and act, from here or elsewhere:",
        f"  runner status {name}",
        f"  runner status {launch.store}",
        f"  runner logs JOB -f --on {name}",
        f"  runner wait {name}",
        f"  runner cancel --all --on {name}",
        f"  runner results {launch.store}",
    ]


def _wait(launch: BatchLaunch, say: Any) -> int:
    from runner.cli.exit_codes import of_queue
    from runner.cli.show.wait_loop import until_ended
    from runner.targets.batch.connection import BatchConnection

    there = BatchConnection(BatchWord(launch.store), say)
    queue: dict[str, Any] = {}

    def look() -> dict[str, Any]:
        return there.query("wait", timeout=20.0) if queue else there.query("status", limit=0)

    try:
        for answer in until_ended(there, "launch", look):
            before = queue.get("status")
            if answer["queue"]["status"] != before and not answer["queue"].get("mending"):
                say(f"'{launch.queue_id}' is {answer['queue']['status']}")
            queue = answer["queue"]
    except KeyboardInterrupt:
        say(f"no longer waiting; the queue goes on: runner status {launch.queue_id}")
        raise
    return of_queue(queue)
