"""The flags of verbs that have a queue's jobs run on AWS Batch, and what is made of them."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from runner.cli.batch_commands import IN_IMAGE, bundle_in, commands_with
from runner.errors import UsageError
from runner.model.settings import Settings

if TYPE_CHECKING:
    from runner.batch.definitions import Commands
    from runner.results.store import ResultStore
    from runner.service.batch_place import BatchRun

_FLAGS = {
    "job_queue": "--job-queue",
    "image": "--image",
    "region": "--region",
    "max_parallel": "--max-parallel",
    "bundle": "--bundle",
    "detach": "--detach",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("on AWS Batch")
    group.add_argument(
        "--target", choices=("batch",), help="run each attempt as a job of AWS Batch, not here"
    )
    group.add_argument("--job-queue", metavar="Q", help="the job queue; default: the settings'")
    group.add_argument("--image", metavar="I", help="the image of jobs that name none")
    group.add_argument("--region", metavar="R", help="the region of AWS")
    group.add_argument(
        "--max-parallel",
        metavar="N|fit",
        help="so many jobs at once, whatever the document says; fit: no limit of ours",
    )
    group.add_argument(
        "--bundle",
        metavar=f"FILE|{IN_IMAGE}",
        help="runner's bundle for the containers that carry files; default: built once, and kept in"
        f" the queue's bucket; {IN_IMAGE}: their image has runner",
    )
    group.add_argument(
        "--detach", action="store_true", help="a signal leaves the jobs there, and ends none"
    )


def check_flags(arguments: argparse.Namespace) -> None:
    """Raise UsageError for flags that mean nothing here."""
    if arguments.target is not None:
        if getattr(arguments, "simulate", False):
            raise UsageError("--simulate runs nothing, on AWS Batch neither: leave out --target")
        return
    for name, flag in _FLAGS.items():
        if getattr(arguments, name):
            raise UsageError(f"{flag} is for --target batch")


def batch_run(arguments: argparse.Namespace, settings: Settings) -> BatchRun:
    """The place of the run's attempts. Raises UsageError."""
    from runner.engine.batch.intents import BatchDefaults
    from runner.service.batch_place import BatchRun, BatchRunOptions, parallel_of

    given = settings.batch
    queue = arguments.job_queue or given.job_queue
    if not queue:
        raise UsageError(
            "no job queue of AWS Batch is named: --job-queue Q, or `job_queue` in the table "
            "[batch] of the settings"
        )
    plain = BatchDefaults(queue)
    target = BatchDefaults(
        queue,
        region=arguments.region or given.region,
        image=arguments.image or given.image,
        agent_image=given.agent_image or plain.agent_image,
        job_role=given.job_role,
        execution_role=given.execution_role,
        shared=given.shared,
    )
    most = None if arguments.max_parallel is None else parallel_of(arguments.max_parallel)
    commands = partial(_commands, arguments.bundle or given.bundle)
    return BatchRun(BatchRunOptions(target, commands, most, arguments.detach), settings)


def _commands(given: str | None, store: ResultStore) -> Commands:
    """What the containers run. Blocks: the first time for a bucket runner is put there."""

    def say(text: str) -> None:
        print(f"runner: {text}", file=sys.stderr)

    return commands_with(bundle_in(store.describe(), given, say))
